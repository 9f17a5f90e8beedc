"""`mcproxy rollback`: everything as it was at a generation."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, confirm, output, plan
from mcproxy.cli.client import connected
from mcproxy.cli.options import FAILED, comment_option, example, json_option
from mcproxy.cli.plan import Shown
from mcproxy.cli.target import target_options
from mcproxy.cli.values import Count
from mcproxy.model import counted


@click.command(epilog=example("mcproxy rollback 17 --dry-run"))
@target_options
@json_option
@click.option("--dry-run", is_flag=True, help="Only print what would change; end with 1 if something would.")
@confirm.yes_option
@comment_option
@click.argument("generation", type=Count(0), shell_complete=candidates.generations)
def rollback(config_file: Path | None, as_json: bool, dry_run: bool, yes: bool, comment: str, generation: int) -> None:
    """Restore listeners, routes and rules as they were at GENERATION. `routes history` shows generations.

    That makes a new generation. Temporary rules that have ended since do not come back.
    """
    request = pb.RollbackRequest(generation=generation, comment=comment)
    with connected(config_file) as client:
        if dry_run:
            answer = confirm.planned(client, "Rollback", request)
            _show(answer, plan.of_messages(answer.effect.changes), as_json)
            sys.exit(FAILED if answer.changes else 0)
        answer = confirm.call(client, "Rollback", request, yes)
    done = f"back at {generation}: {counted(answer.changes, 'value')} changed"
    output.emit_done(answer, as_json, done if answer.changes else f"everything is as in generation {generation}")


def _show(answer: pb.RollbackResponse, changes: Sequence[Shown], as_json: bool) -> None:
    if as_json:
        output.emit_json(
            {
                "generation": answer.generation,
                "total": answer.changes,
                "changes": plan.as_json(changes),
            }
        )
        return
    for change in changes:
        output.say(str(change))
    if answer.effect.truncated:
        output.say(f"and {answer.changes - len(changes)} more")
    total = f"{counted(answer.changes, 'value')} to change" if answer.changes else "nothing to change"
    output.say(f"{total} (generation {answer.generation})")
