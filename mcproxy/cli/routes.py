"""`mcproxy routes`: which name leads where, and who has changed that."""

from pathlib import Path
from typing import Any

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import What
from mcproxy.cli import candidates, confirm, output, plan, settings
from mcproxy.cli.client import EXISTS, MISSING, WRONG, connected
from mcproxy.cli.columns import Column
from mcproxy.cli.groups import Group
from mcproxy.cli.options import comment_option, example, json_option
from mcproxy.cli.target import target_options
from mcproxy.cli.values import Count
from mcproxy.model import ROUTE_FIELDS

_COLUMNS = ("hostname", "backend", "mode")  # of a list, for themselves; the others share one
_LISTED = (
    Column("LISTENER", rank=1),
    Column("HOST", least=28),
    Column("BACKEND", least=21),
    Column("MODE"),
    Column("OPTIONS", rank=2),
)
_HISTORY = (
    Column("GENERATION"),
    Column("WHEN"),
    Column("WHO", rank=1, least=10, wraps=True),
    Column("ACTION", rank=3),
    Column("WHAT", wraps=True),
    Column("CHANGE", least=15, prose=True),
    Column("COMMENT", rank=2, prose=True),
)

listener_option = click.option(
    "--listener",
    default="",
    metavar="ADDR",
    help="The listener; may be left out if there is only one.",
    shell_complete=candidates.listeners,
)


@click.group(cls=Group, epilog=example("mcproxy routes add git.example.org 127.0.0.1:3000"))
def routes() -> None:
    """Which server name leads to which backend."""


@routes.command("list", epilog=example("mcproxy routes list", "mcproxy routes list --listener :8443 --json"))
@target_options
@json_option
@click.option(
    "--listener", default="", metavar="ADDR", help="Only this listener's.", shell_complete=candidates.listeners
)
def list_(config_file: Path | None, as_json: bool, listener: str) -> None:
    """List the routes."""
    with connected(config_file) as client:
        found = list(client.pages("ListRoutes", pb.ListRoutesRequest(listener=listener), "routes"))
    if as_json:
        output.emit_json([{"listener": each.listener, **output.plain(each.route)} for each in found])
        return
    rows = [
        (each.listener, each.route.hostname, each.route.backend, _mode(each.route), _others(each.route))
        for each in found
    ]
    output.emit_table(
        _LISTED,
        rows,
        "No routes; `mcproxy routes add HOST BACKEND` adds one.",
    )


def _mode(route: pb.Route) -> str:
    return output.word(pb.Mode.DESCRIPTOR, route.mode)


def _others(route: pb.Route) -> str:
    return settings.shown(ROUTE_FIELDS, route, _COLUMNS)


@routes.command(
    epilog=example(
        "mcproxy routes add git.example.org 127.0.0.1:3000",
        "mcproxy routes add www.example.org 127.0.0.1:8080 --mode l7 \\",
        "    --tls-cert www.pem --tls-key www.key",
        "mcproxy routes add www.example.org 127.0.0.1:8080 --mode l7 --acme",
    )
)
@target_options
@json_option
@listener_option
@settings.options(ROUTE_FIELDS)
@click.option("--replace", is_flag=True, help="Replace the route of this name, whatever it was, in one step.")
@confirm.yes_option
@comment_option
@click.argument("host", shell_complete=candidates.hosts)
@click.argument("backend")
def add(
    config_file: Path | None,
    as_json: bool,
    listener: str,
    replace: bool,
    yes: bool,
    comment: str,
    host: str,
    backend: str,
    **options: Any,
) -> None:
    """Lead connections for HOST to BACKEND ("HOST:PORT" or "unix:/path").

    On a terminal, a warning says what is wrong with the backend; the route is in force nevertheless.

    If the route exists already, nothing changes. `routes set` changes only the options that you name; --replace resets
    the others, and asks if that changes the mode.
    """
    route = pb.Route(hostname=host, backend=backend, **settings.for_message(ROUTE_FIELDS, options))
    with connected(config_file) as client:
        if replace:
            missing = {(MISSING, "route"): "leave out --replace to add it"}
            update = pb.UpdateRouteRequest(listener=listener, route=route, comment=comment, look=_looks())
            answer = confirm.call(client, "UpdateRoute", update, yes, missing)
        else:
            there = {(EXISTS, "route"): f"`mcproxy routes set {host}` changes what you name, --replace all of it"}
            request = pb.AddRouteRequest(listener=listener, route=route, comment=comment, look=_looks())
            answer = client.call("AddRoute", request, there)
    output.emit_done(answer, as_json, f"{host} leads to {backend}")
    if not as_json and (dropped := _dropped(answer.effect)):
        output.say(f"dropped: {dropped}; `routes set` would have kept it", err=True)


def _looks() -> bool:
    """True if the server should look at the backend: a person reads warnings, a script must not wait a second each."""
    return output.on_terminal()


def _dropped(effect: pb.Effect) -> str:
    """The settings of a route that its replacement resets."""
    defaults = {field.name: field.default for field in ROUTE_FIELDS if field.has_default}
    gone = [
        plan.setting(name, change.old[name])
        for change in plan.of_messages(effect.changes)
        if change.old and change.new
        for name, default in defaults.items()
        if change.old.get(name, default) != default == change.new.get(name, default)
    ]
    return ", ".join(gone)


@routes.command("set", epilog=example("mcproxy routes set git.example.org --backend 127.0.0.1:3005"))
@target_options
@json_option
@listener_option
@settings.changes(ROUTE_FIELDS)
@comment_option
@click.argument("host", shell_complete=candidates.hosts)
def set_(config_file: Path | None, as_json: bool, listener: str, comment: str, host: str, **options: Any) -> None:
    """Change the options that you name of the route of HOST, and nothing else.

    Live connections go on as they are. A --no- form resets what was set before.
    """
    named = settings.named(ROUTE_FIELDS, options)
    route = pb.Route(hostname=host, **settings.for_message(ROUTE_FIELDS, named))
    request = pb.UpdateRouteRequest(listener=listener, route=route, comment=comment, look=_looks())
    request.update_mask.paths.extend(named)
    with connected(config_file) as client:
        answer = client.call("UpdateRoute", request, {(WRONG, "route"): settings.remedy(ROUTE_FIELDS, named)})
    output.emit_done(answer, as_json, f"{host}: {plan.details(answer.effect.changes) or 'set'}")


@routes.command(epilog=example("mcproxy routes remove git.example.org"))
@target_options
@json_option
@listener_option
@comment_option
@click.argument("host", shell_complete=candidates.hosts)
def remove(config_file: Path | None, as_json: bool, listener: str, comment: str, host: str) -> None:
    """Remove the route of HOST. Live connections go on."""
    with connected(config_file) as client:
        request = pb.RemoveRouteRequest(listener=listener, hostname=host, comment=comment)
        answer = client.call("RemoveRoute", request)
    output.emit_done(answer, as_json, f"removed the route of {host}")


@routes.command(epilog=example("mcproxy routes history git.example.org --limit 5"))
@target_options
@json_option
@click.option("--limit", type=Count(1), default=50, show_default=True, help="How many, newest first.")
@click.option("--everything", is_flag=True, help="Also listeners and firewall rules.")
@click.argument("host", required=False, shell_complete=candidates.hosts)
def history(config_file: Path | None, as_json: bool, limit: int, everything: bool, host: str | None) -> None:
    """Show who changed what: of HOST, or of all routes."""
    request = pb.ListRevisionsRequest(what="" if everything else "route", name=host or "", page_size=min(limit, 1000))
    with connected(config_file) as client:
        pages = client.pages("ListRevisions", request, "revisions")
        found = [revision for _, revision in zip(range(limit), pages, strict=False)]
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (
            each.generation,
            output.moment(each.at),
            _who(each),
            each.action,
            _what(each),
            _difference(each),
            each.comment or "-",
        )
        for each in found
    ]
    output.emit_table(_HISTORY, rows, "Nothing has been changed.")


def _who(revision: pb.Revision) -> str:
    who = revision.who
    if output.on_terminal() and who.startswith("user:"):
        who = who.split(":")[1] or who  # the number is for programs
    claim, node = revision.claim, revision.node  # of a fleet
    return f"{who}{f' for {claim}' if claim else ''}{f' on {node}' if node else ''}"


def _what(revision: pb.Revision) -> str:
    """The value that was changed; of a route, what comes first survives a narrow terminal."""
    return " on ".join(reversed(revision.key)) if revision.what == What.ROUTE else " ".join(revision.key)


def _difference(revision: pb.Revision) -> str:
    """The fields that were set or changed."""
    if revision.what not in set(What):
        return plan.UNREADABLE_HERE
    change = plan.of_revision(revision)
    details = ", ".join(change.details())
    return details or {"+": "added", "-": "removed"}.get(change.sign, "")
