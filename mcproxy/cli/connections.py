"""`mcproxy connections` and `mcproxy watch`: what passes through the proxy now."""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mcproxy.admin.contract import MAX_CLOSED
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, output
from mcproxy.cli.client import connected
from mcproxy.cli.columns import Column
from mcproxy.cli.groups import Group
from mcproxy.cli.options import FAILED, example, json_option, until_interrupted
from mcproxy.cli.target import target_options
from mcproxy.cli.values import Count

_COLUMNS = (
    Column("ID"),
    Column("LISTENER", rank=4),
    Column("CLIENT", least=21),  # an IPv4 address is whole
    Column("SNI"),
    Column("BACKEND", rank=3),
    Column("STATE"),
    Column("AGE", rank=1),
    Column("RECEIVED", rank=2),
    Column("SENT", rank=2),
)


@click.group(cls=Group, epilog=example("mcproxy connections list --client 192.0.2.0/24"))
def connections() -> None:
    """Live connections."""


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which connections it is about, as `wanted`."""

    @functools.wraps(command)
    def with_filter(*, route: str, client: str, listener: str, **rest: Any) -> None:
        command(wanted=pb.ConnectionFilter(listener=listener, route=route, client=client), **rest)

    for option in (
        click.option(
            "--listener", default="", metavar="ADDR", help="Only this listener's.", shell_complete=candidates.listeners
        ),
        click.option("--client", default="", metavar="IP|CIDR", help="Only from this address or network."),
        click.option(
            "--route",
            default="",
            metavar="HOST",
            help="Only of this route, or that asked for this name.",
            shell_complete=candidates.hosts,
        ),
    ):
        with_filter = option(with_filter)
    return with_filter


@connections.command(
    "list",
    epilog=example(
        "mcproxy connections list --route git.example.org", "mcproxy connections list --client 192.0.2.0/24 --json"
    ),
)
@target_options
@json_option
@_filtered
def list_(config_file: Path | None, as_json: bool, wanted: pb.ConnectionFilter) -> None:
    """List the live connections, oldest first."""
    with connected(config_file) as client:
        found = list(client.pages("ListConnections", pb.ListConnectionsRequest(filter=wanted), "connections"))
    several = any(each.worker for each in found)
    if several:
        found.sort(key=lambda each: each.started_at)  # ids rise at each worker only
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    now = time.time()
    rows = [
        (
            each.id,
            *([each.worker] if several else []),
            each.listener,
            each.client,
            each.sni or "-",
            each.backend or "-",
            output.state(each.state),
            output.span(now - each.started_at),
            output.amount(each.received_bytes),
            output.amount(each.sent_bytes),
        )
        for each in found
    ]
    columns = (_COLUMNS[0], Column("WORKER", rank=3), *_COLUMNS[1:]) if several else _COLUMNS
    output.emit_table(columns, rows, "No connections.")


@connections.command(epilog=example("mcproxy connections close 7", "mcproxy connections close 7 8 9"))
@target_options
@click.argument(
    "ids",
    type=Count(0, 2**64 - 1),
    nargs=-1,
    required=True,
    metavar="ID...",
    shell_complete=candidates.connections,
)
def close(config_file: Path | None, ids: tuple[int, ...]) -> None:
    """Close the connections ID with a RST. Exit status 1 if one of them was not there."""
    missing: set[int] = set()
    with connected(config_file) as client:
        for start in range(0, len(ids), MAX_CLOSED):
            request = pb.CloseConnectionsRequest(ids=ids[start : start + MAX_CLOSED])
            missing.update(client.call("CloseConnections", request).missing)
    for number in dict.fromkeys(ids):
        if number in missing:
            output.say(f"mcproxy: there is no connection {number}: it may have ended", err=True)
        else:
            output.say(f"closed connection {number}")
    if missing:
        sys.exit(FAILED)


@click.command(
    epilog=example("mcproxy watch --refused --client 192.0.2.7", "mcproxy watch --route git.example.org --json")
)
@target_options
@json_option
@_filtered
@click.option("--refused", is_flag=True, help="Only refused connections.")
def watch(config_file: Path | None, as_json: bool, refused: bool, wanted: pb.ConnectionFilter) -> None:
    """Show connections as they open, end and are refused, until interrupted."""
    request = pb.WatchConnectionsRequest(filter=wanted, refused=refused)
    with until_interrupted(), connected(config_file) as client:
        for answer in client.stream("WatchConnections", request):
            for event in answer.events:
                click.echo(output.one_line(event) if as_json else _line(event))


def _line(event: pb.ConnectionEvent) -> str:
    connection = event.connection
    kind = output.word(pb.ConnectionEvent.Kind.DESCRIPTOR, event.kind)
    parts = [time.strftime("%H:%M:%S", time.gmtime(event.at)), f"{kind:8}", f"#{connection.id}"]
    parts += [connection.client, connection.listener, connection.sni or "-"]
    if connection.backend:
        parts.append(f"-> {connection.backend}")
    if event.kind == pb.ConnectionEvent.KIND_REFUSED:
        parts.append(f"{event.reason} {event.detail}".rstrip())
    if event.kind == pb.ConnectionEvent.KIND_CLOSED:
        moved = f"{output.amount(connection.received_bytes)} up, {output.amount(connection.sent_bytes)} down"
        parts.append(f"{event.end} after {event.duration_seconds:.3f} s, {moved}")
    return output.clean(" ".join(parts))
