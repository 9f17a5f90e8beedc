"""`mcproxy nodes`: the servers that share one database."""

from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import confirm, output
from mcproxy.cli.client import connected
from mcproxy.cli.columns import Column
from mcproxy.cli.groups import Group
from mcproxy.cli.options import example, json_option
from mcproxy.cli.target import target_options

_COLUMNS = (
    Column("NODE", least=10),
    Column("VERSION", rank=2),
    Column("GENERATION"),
    Column("BEHIND"),
    Column("CONNECTIONS", rank=1),
    Column("ORDERS", rank=3),
    Column("SEEN"),
    Column("STATE"),
)
STOPPED = "stopped"  # nothing of what such a node has reported is to be mended
_WARNINGS = Column("WARNINGS")  # for pipes; a terminal has them below, in lines of their own


@click.group(cls=Group, invoke_without_command=True, epilog=example("mcproxy nodes", "mcproxy nodes remove edge3"))
@target_options
@json_option
@click.pass_context
def nodes(context: click.Context, config_file: Path | None, as_json: bool) -> None:
    """The nodes of the fleet, as they have reported themselves. One of them orders the certificates of ACME."""
    if context.invoked_subcommand is not None:
        return
    with connected(config_file) as client:
        answer = client.call("ListNodes", pb.ListNodesRequest())
    if as_json:
        output.emit_json([output.plain(each) for each in answer.nodes])
        return
    rows = [
        (
            each.name,
            each.version,
            each.generation,
            output.span(each.seconds_behind) if each.generations_behind else "-",
            each.connections,
            "yes" if each.orders_certificates else "-",
            f"{output.span(answer.now - each.seen_at)} ago",
            each.state or "-",
        )
        for each in answer.nodes
    ]
    warnings = ["; ".join(each.warnings) for each in answer.nodes]
    if not output.on_terminal():
        pairs = zip(rows, warnings, strict=True)
        output.emit_table((*_COLUMNS, _WARNINGS), [(*row, text or "-") for row, text in pairs], "")
        return
    output.emit_table(_COLUMNS, rows, "No nodes.")
    for node in answer.nodes:
        for warning in node.warnings if node.state != STOPPED else ():
            output.say(f"warning: {node.name}: {warning}")


@nodes.command(epilog=example("mcproxy nodes remove edge3"))
@target_options
@confirm.yes_option
@click.argument("name")
def remove(config_file: Path | None, yes: bool, name: str) -> None:
    """Forget the node NAME, which is gone for good; asks before it forgets one that is alive.

    One that runs is there again in ten seconds.
    """
    request = pb.RemoveNodeRequest(name=name)
    with connected(config_file) as client:
        if not yes and (risks := confirm.planned(client, "RemoveNode", request).risks):
            confirm.ask((), risks)
        client.call("RemoveNode", request)
    output.say(f"forgot node {name}")
