"""`mcproxy explain`: where a connection would go and why, and whether its client would be served."""

import sys
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, output
from mcproxy.cli.client import connected
from mcproxy.cli.options import FAILED, example, json_option
from mcproxy.cli.target import target_options


@click.command(epilog=example("mcproxy explain --sni git.example.org --from 192.0.2.7"))
@target_options
@json_option
@click.option(
    "--listener",
    default="",
    metavar="ADDR",
    help="May be left out if there is only one.",
    shell_complete=candidates.listeners,
)
@click.option(
    "--sni",
    required=True,
    metavar="NAME",
    help="The server name that the client asks for.",
    shell_complete=candidates.hosts,
)
@click.option("--dial", is_flag=True, help="Also connect to the backend and report how it answers.")
@click.option("--from", "ip", required=True, metavar="IP", help="The client's address.")
def explain(config_file: Path | None, as_json: bool, listener: str, sni: str, dial: bool, ip: str) -> None:
    """Show the decision that a connection would meet, step by step. Nothing is counted.

    Exit status 1 if the client would not be served: it would be refused, or its requests would fail.
    """
    with connected(config_file) as client:
        answer = client.call("Explain", pb.ExplainRequest(listener=listener, sni=sni, ip=ip, dial=dial))
    if as_json:
        output.emit_json(output.plain(answer))
    else:
        _emit(answer)
    if not all(step.passed for step in answer.steps):
        sys.exit(FAILED)


def _emit(answer: pb.ExplainResponse) -> None:
    if not answer.HasField("route"):
        output.emit_steps(answer.steps)
        output.say(f"refused: {answer.reason}")
        return
    output.emit_steps(answer.steps, "FAIL")
    failed = [step.detail for step in answer.steps if not step.passed]
    output.say(f"accepted, but {'; '.join(failed)}" if failed else f"routed to {answer.route.backend}")
