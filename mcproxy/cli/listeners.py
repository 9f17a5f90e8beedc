"""`mcproxy listeners`: the addresses that clients connect to."""

from pathlib import Path
from typing import Any

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, output, settings
from mcproxy.cli.client import connected
from mcproxy.cli.options import example, json_option
from mcproxy.cli.target import target_options
from mcproxy.model import LISTENER_FIELDS, counted


@click.group(epilog=example("mcproxy listeners list"))
def listeners() -> None:
    """The addresses that clients connect to."""


@listeners.command("list", epilog=example("mcproxy listeners list"))
@target_options
@json_option
def list_(given: Path | None, as_json: bool) -> None:
    """List the listeners."""
    with connected(given) as client:
        found = list(client.pages("ListListeners", pb.ListListenersRequest(), "listeners"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (each.addr, each.proxy_protocol, " ".join(each.trusted_proxies) or "-", each.max_connections or "-")
        for each in found
    ]
    columns = ("ADDR", "PROXY PROTOCOL", "TRUSTED PROXIES", "MAX CONNECTIONS")
    output.emit_table(columns, rows, "No listeners; `mcproxy listeners add ADDR` adds one.")


@listeners.command(
    epilog=example(
        "mcproxy listeners add :8443",
        "mcproxy listeners add 127.0.0.1:8443 --proxy-protocol --trusted-proxy 127.0.0.0/8",
    )
)
@target_options
@json_option
@settings.options(LISTENER_FIELDS)
@click.argument("addr")
def add(given: Path | None, as_json: bool, addr: str, **options: Any) -> None:
    """Listen on ADDR ("HOST:PORT", or ":443" for every address) from now on."""
    listener = pb.Listener(addr=addr, **settings.for_message(LISTENER_FIELDS, options))
    with connected(given) as client:
        answer = client.call("AddListener", pb.AddListenerRequest(listener=listener))
    output.emit_done(answer, as_json, f"listening on {addr}")


@listeners.command(epilog=example("mcproxy listeners remove :8443"))
@target_options
@json_option
@click.argument("addr", shell_complete=candidates.listeners)
def remove(given: Path | None, as_json: bool, addr: str) -> None:
    """Stop listening on ADDR and remove its routes. Live connections go on."""
    with connected(given) as client:
        answer = client.call("RemoveListener", pb.RemoveListenerRequest(addr=addr))
    output.emit_done(answer, as_json, f"removed listener {addr} with {counted(answer.removed_routes, 'route')}")
