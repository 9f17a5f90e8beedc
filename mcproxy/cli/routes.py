"""`mcproxy routes`: which name leads where; and `mcproxy rollback`."""

import json
from pathlib import Path
from typing import Any

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, output, settings
from mcproxy.cli.client import EXISTS, MISSING, connected
from mcproxy.cli.options import example, json_option
from mcproxy.cli.target import target_options
from mcproxy.model import ROUTE_FIELDS, counted

_COLUMNS = ("hostname", "backend", "mode")  # of a list, for themselves; the others share one

listener_option = click.option(
    "--listener",
    default="",
    metavar="ADDR",
    help="The listener; may be left out where there is only one.",
    shell_complete=candidates.listeners,
)


@click.group(epilog=example("mcproxy routes add git.example.org 127.0.0.1:3000"))
def routes() -> None:
    """Which server name leads to which backend."""


@routes.command("list", epilog=example("mcproxy routes list", "mcproxy routes list --listener :8443 --json"))
@target_options
@json_option
@click.option(
    "--listener", default="", metavar="ADDR", help="Only this listener's.", shell_complete=candidates.listeners
)
def list_(given: Path | None, as_json: bool, listener: str) -> None:
    """List the routes."""
    with connected(given) as client:
        found = list(client.pages("ListRoutes", pb.ListRoutesRequest(listener=listener), "routes"))
    if as_json:
        output.emit_json([{"listener": each.listener, **output.plain(each.route)} for each in found])
        return
    rows = [
        (each.listener, each.route.hostname, each.route.backend, _mode(each.route), _others(each.route))
        for each in found
    ]
    output.emit_table(
        ("LISTENER", "HOST", "BACKEND", "MODE", "OPTIONS"),
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
    )
)
@target_options
@json_option
@listener_option
@settings.options(ROUTE_FIELDS)
@click.option("--replace", is_flag=True, help="Replace the route of this name, in one step.")
@click.argument("host", shell_complete=candidates.hosts)
@click.argument("backend")
def add(
    given: Path | None, as_json: bool, listener: str, replace: bool, host: str, backend: str, **options: Any
) -> None:
    """Lead connections for HOST to BACKEND ("HOST:PORT" or "unix:/path")."""
    route = pb.Route(hostname=host, backend=backend, **settings.for_message(ROUTE_FIELDS, options))
    with connected(given) as client:
        if replace:
            missing = {(MISSING, "route"): "leave out --replace to add it"}
            answer = client.call("UpdateRoute", pb.UpdateRouteRequest(listener=listener, route=route), missing)
        else:
            there = {(EXISTS, "route"): "--replace replaces it"}
            answer = client.call("AddRoute", pb.AddRouteRequest(listener=listener, route=route), there)
    output.emit_done(answer, as_json, f"{host} leads to {backend}")


@routes.command(epilog=example("mcproxy routes remove git.example.org"))
@target_options
@json_option
@listener_option
@click.argument("host", shell_complete=candidates.hosts)
def remove(given: Path | None, as_json: bool, listener: str, host: str) -> None:
    """Remove the route of HOST. Live connections go on."""
    with connected(given) as client:
        answer = client.call("RemoveRoute", pb.RemoveRouteRequest(listener=listener, hostname=host))
    output.emit_done(answer, as_json, f"removed the route of {host}")


@routes.command(epilog=example("mcproxy routes history git.example.org --limit 5"))
@target_options
@json_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, newest first.")
@click.option("--everything", is_flag=True, help="Also listeners and firewall rules.")
@click.argument("host", required=False, shell_complete=candidates.hosts)
def history(given: Path | None, as_json: bool, limit: int, everything: bool, host: str | None) -> None:
    """Show who changed what: of HOST, or of all routes."""
    request = pb.ListRevisionsRequest(what="" if everything else "route", name=host or "", page_size=min(limit, 1000))
    with connected(given) as client:
        pages = client.pages("ListRevisions", request, "revisions")
        found = [revision for _, revision in zip(range(limit), pages, strict=False)]
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (each.generation, output.moment(each.at), each.who, each.action, " ".join(each.key), _difference(each))
        for each in found
    ]
    output.emit_table(("GENERATION", "WHEN", "WHO", "ACTION", "WHAT", "CHANGE"), rows, "Nothing has been changed.")


def _difference(revision: pb.Revision) -> str:
    """What is different afterwards, field by field."""
    old: dict[str, Any] = json.loads(revision.old_json) if revision.old_json else {}
    new: dict[str, Any] = json.loads(revision.new_json) if revision.new_json else {}
    if not new:
        return "removed"
    changed = [name for name, value in new.items() if value != old.get(name) and (old or value)]
    return ", ".join(f"{name}={new[name]}" for name in changed if name not in {"hostname", "addr", "kind", "value"})


@click.command(epilog=example("mcproxy rollback 17"))
@target_options
@json_option
@click.argument("generation", type=click.IntRange(0), shell_complete=candidates.generations)
def rollback(given: Path | None, as_json: bool, generation: int) -> None:
    """Make listeners, routes and rules as they were at GENERATION. `routes history` shows generations."""
    with connected(given) as client:
        answer = client.call("Rollback", pb.RollbackRequest(generation=generation))
    output.emit_done(answer, as_json, f"back at {generation}: {counted(answer.changes, 'value')} changed")
