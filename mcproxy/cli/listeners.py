"""`mcproxy listeners`: the addresses that clients connect to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, confirm, output, plan, settings
from mcproxy.cli.client import EXISTS, MISSING, WRONG, connected
from mcproxy.cli.groups import Group
from mcproxy.cli.options import comment_option, example, json_option
from mcproxy.cli.target import target_options
from mcproxy.model import LISTENER_FIELDS, counted


@click.group(cls=Group, epilog=example("mcproxy listeners list"))
def listeners() -> None:
    """The addresses that clients connect to."""


@listeners.command("list", epilog=example("mcproxy listeners list"))
@target_options
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """List the listeners."""
    with connected(config_file) as client:
        found = list(client.pages("ListListeners", pb.ListListenersRequest(), "listeners"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (
            each.addr,
            each.proxy_protocol,
            " ".join(each.trusted_proxies) or "-",
            each.max_connections or "-",
            " ".join(each.nodes) or "all",
        )
        for each in found
    ]
    columns = ("ADDR", "PROXY PROTOCOL", "TRUSTED PROXIES", "MAX CONNECTIONS", "NODES")
    output.emit_table(columns, rows, "No listeners; `mcproxy listeners add ADDR` adds one.")


@listeners.command(
    epilog=example(
        "mcproxy listeners add :8443",
        "mcproxy listeners add 127.0.0.1:8443 --proxy-protocol --trusted-proxy 127.0.0.0/8",
        "mcproxy listeners add 192.0.2.1:443 --node edge1 --node edge2",
    )
)
@target_options
@json_option
@settings.options(LISTENER_FIELDS)
@comment_option
@click.argument("addr")
def add(config_file: Path | None, as_json: bool, comment: str, addr: str, **options: Any) -> None:
    """Listen on ADDR ("HOST:PORT", or ":443" for every address) from now on."""
    listener = pb.Listener(addr=addr, **settings.for_message(LISTENER_FIELDS, options))
    there = {(EXISTS, "listener"): f"`mcproxy listeners set {addr}` changes what you name"}
    with connected(config_file) as client:
        answer = client.call("AddListener", pb.AddListenerRequest(listener=listener, comment=comment), there)
    output.emit_done(answer, as_json, _added(addr, listener.nodes, answer.warnings))


def _added(addr: str, nodes: Sequence[str], warnings: Sequence[str]) -> str:
    """What is done: of a fleet's listener, the node that answers doesn't know who listens there by now."""
    if nodes:
        return f"added listener {addr} of {' and '.join(nodes)}"
    return f"added listener {addr}" if warnings else f"listening on {addr}"


@listeners.command("set", epilog=example("mcproxy listeners set :443 --max-connections 1000"))
@target_options
@json_option
@settings.changes(LISTENER_FIELDS)
@comment_option
@click.argument("addr", shell_complete=candidates.listeners)
def set_(config_file: Path | None, as_json: bool, comment: str, addr: str, **options: Any) -> None:
    """Change the options that you name of the listener ADDR, and nothing else. It stays open.

    Networks or nodes that are named take the place of all that were named before. A --no- form resets what was set
    before.
    """
    named = settings.named(LISTENER_FIELDS, options)
    listener = pb.Listener(addr=addr, **settings.for_message(LISTENER_FIELDS, named))
    request = pb.UpdateListenerRequest(listener=listener, comment=comment)
    request.update_mask.paths.extend(named)
    with connected(config_file) as client:
        answer = client.call("UpdateListener", request, {(WRONG, "listener"): settings.remedy(LISTENER_FIELDS, named)})
    output.emit_done(answer, as_json, f"{addr}: {plan.details(answer.effect.changes) or 'set'}")


@listeners.command(epilog=example("mcproxy listeners remove :8443"))
@target_options
@json_option
@confirm.yes_option
@comment_option
@click.argument("addr", shell_complete=candidates.listeners)
def remove(config_file: Path | None, as_json: bool, yes: bool, comment: str, addr: str) -> None:
    """Stop listening on ADDR and remove its routes; asks first if it has any. Live connections go on."""
    with connected(config_file) as client:
        request = pb.RemoveListenerRequest(addr=addr, comment=comment)
        missing = {(MISSING, "listener"): "`mcproxy listeners list` shows those that exist"}
        answer = confirm.call(client, "RemoveListener", request, yes, missing)
    output.emit_done(answer, as_json, f"removed listener {addr} with {counted(answer.removed_routes, 'route')}")
