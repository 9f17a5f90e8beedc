"""Turns a call into a mutation: who makes it, why, its deadline, or that it is a dry run."""

import time
from collections.abc import Callable, Sequence
from random import uniform
from typing import Protocol, TypeVar

import grpc

from mcproxy.admin import caller
from mcproxy.admin.errors import Busy, Raced
from mcproxy.admin.mutations import Decision
from mcproxy.admin.writer import LOCK_WAIT, Mutated, Writer
from mcproxy.change import Change
from mcproxy.table import Table

T = TypeVar("T")
TRIES = 8  # of a change; two that race part with the second, and 20 change one value with all of them
LONGEST_PAUSE = 0.05  # seconds before a change is decided again, at random: those that race part


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


def decided_again(change: Callable[[], T], pause: Callable[[float], object] = time.sleep) -> T:
    """Make a change that reads a value and then mutates; again, some times, where the value was another one by then.

    One that expects a generation is refused at once, by that. Raises Refusal.
    """
    for _ in range(TRIES - 1):
        try:
            return change()
        except Raced:
            pause(uniform(0.0, LONGEST_PAUSE))  # noqa: S311 - no secret
    return change()
