"""Turns a call into a mutation: who makes it, why, its deadline, or that it is a dry run."""

from collections.abc import Sequence
from typing import Protocol

import grpc

from mcproxy.admin import caller
from mcproxy.admin.errors import Busy
from mcproxy.admin.mutations import Decision
from mcproxy.admin.writer import LOCK_WAIT, Mutated, Writer
from mcproxy.change import Change
from mcproxy.table import Table


class Mutation(Protocol):
    """The fields that the requests of all mutations have in common."""

    @property
    def expected_generation(self) -> int: ...  # noqa: D102

    @property
    def dry_run(self) -> bool: ...  # noqa: D102

    @property
    def comment(self) -> str: ...  # noqa: D102


def mutate(writer: Writer, context: grpc.ServicerContext, action: str, decide: Decision, request: Mutation) -> Mutated:
    """Mutate while the caller still waits, or only plan in a dry run. Raises Refusal."""
    said = caller.said(context, request.comment)
    if request.dry_run:
        return writer.plan(decide, request.expected_generation)

    def decide_in_time(table: Table, now: float) -> Sequence[Change]:
        if not context.is_active():
            raise Busy("the deadline passed while other changes were made: try again")
        return decide(table, now)

    remaining = context.time_remaining()
    wait = LOCK_WAIT if remaining is None else max(0.0, min(remaining, LOCK_WAIT))
    writer.reach(wait)
    who, expected = caller.who(context), request.expected_generation
    return writer.mutate(who, action, decide_in_time, expected, wait, said)
