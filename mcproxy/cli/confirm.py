"""Asks before a change that is easily made by mistake.

The server decides which those are: the same call with dry_run answers with the changes, and with `risks` that a person
should agree to first. On a terminal the command asks; elsewhere it needs --yes, and without that does nothing.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from mcproxy.cli import output, plan
from mcproxy.cli.client import NO_REMEDIES, Client, Remedies
from mcproxy.cli.options import FAILED, INVALID, fail

SHOWN_LINES = 20  # lines of what would change that still leave the question on the screen

yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")


def planned(client: Client, method: str, request: Any, remedies: Remedies = NO_REMEDIES) -> Any:
    """The answer to the same call with dry_run: nothing changes."""
    question = type(request)()
    question.CopyFrom(request)
    question.dry_run = True
    return client.call(method, question, remedies)


def call(client: Client, method: str, request: Any, yes: bool, remedies: Remedies = NO_REMEDIES) -> Any:
    """Make a call, with `yes` or once a person has agreed to the risks that the server sees in it."""
    if not yes:
        answer = planned(client, method, request, remedies)
        if answer.effect.risks:
            ask(map(str, plan.of_messages(answer.effect.changes)), answer.effect.risks)
            request.expected_generation = answer.generation  # what was agreed to, and nothing else
    return client.call(method, request, remedies)


def ask(changes: Iterable[str], risks: Sequence[str]) -> None:
    """Show what would change, and go on only where a person agrees."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail(
            f"mcproxy: {'; '.join(map(output.clean, risks))}; there is no terminal to ask on: add --yes to do it",
            INVALID,
        )
    lines = list(changes)
    for line in [*lines[:SHOWN_LINES], *([f"and {len(lines) - SHOWN_LINES} more"] if len(lines) > SHOWN_LINES else [])]:
        output.say(line, err=True)
    output.say("; ".join(risks), err=True)
    if not click.confirm("Do it?", err=True):
        fail("mcproxy: nothing has changed", FAILED)
