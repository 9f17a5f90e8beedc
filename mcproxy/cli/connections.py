"""`mcproxy connections` and `mcproxy watch`: what passes through the proxy now."""

import time
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.client import connected
from mcproxy.cli.columns import Column
from mcproxy.cli.options import config_option, json_option

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


@click.group()
def connections() -> None:
    """Live connections."""


@connections.command("list")
@config_option
@json_option
def list_(given: Path | None, as_json: bool) -> None:
    """List the live connections, oldest first."""
    with connected(given) as client:
        found = list(client.pages("ListConnections", pb.ListConnectionsRequest(), "connections"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    now = time.time()
    rows = [
        (
            each.id,
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
    output.emit_table(_COLUMNS, rows, "No connections.")


@connections.command()
@config_option
@click.argument("id", type=click.IntRange(0, 2**64 - 1))
def close(given: Path | None, id: int) -> None:  # noqa: A002 - the argument's name in the help
    """Cut the connection ID with a RST."""
    with connected(given) as client:
        client.call("CloseConnection", pb.CloseConnectionRequest(id=id))
    click.echo(f"closed connection {id}")


@click.command()
@config_option
@json_option
def watch(given: Path | None, as_json: bool) -> None:
    """Show connections as they open, end and are refused, until interrupted."""
    try:
        with connected(given) as client:
            for answer in client.stream("WatchConnections", pb.WatchConnectionsRequest()):
                for event in answer.events:
                    click.echo(output.one_line(event) if as_json else _line(event))
    except KeyboardInterrupt:
        return


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
