"""Cuts connections on all nodes: what one node asks, and what each one answers, are rows.

    asked node      its own connections are cut -> a row of `cut_requests` -> waits for answers
    other nodes     notification, or poll -> the rule comes into force -> connections are cut -> a row of `cut_answers`

For a dry run, nodes only count; its rule is nowhere in force, so its request's generation is 0.

A request has the generation from which the rule is in force. A node follows at least so far first, so that nobody whom
the rule blocks comes in after the cut. It stays for MAX_AGE seconds: a node that was away for less still cuts, though
the one that asked has given up waiting, and has named it as one that didn't answer.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import dataset

from mcproxy.fleet.nodes import ALIVE
from mcproxy.messages import PlaneBusy
from mcproxy.model import FirewallRule, RuleKind, counted
from mcproxy.store.errors import Conflict, StoreError, Unavailable
from mcproxy.store.store import Store

WAIT = 6.0  # seconds for answers: a node that only polls needs four
FIRST_LOOK, LAST_LOOK = 0.02, 0.25  # seconds between two looks at the answers; it doubles
MAX_AGE = 60.0  # seconds

_NOW = "extract(epoch FROM clock_timestamp())"
_FORGET = (
    f"DELETE FROM cut_answers WHERE request IN (SELECT id FROM cut_requests WHERE asked_at < {_NOW} - {MAX_AGE})",  # noqa: S608 - ours
    f"DELETE FROM cut_requests WHERE asked_at < {_NOW} - {MAX_AGE}",  # noqa: S608 - ours
)
_ASK = f"""INSERT INTO cut_requests (id, node, kind, value, generation, only_counts, asked_at)
    VALUES (%(id)s, %(node)s, %(kind)s, %(value)s, %(generation)s, %(only_counts)s, {_NOW})"""  # noqa: S608 - ours
_OTHERS = f"""SELECT name FROM nodes
    WHERE name <> %(node)s AND identity <> '' AND seen_at > {_NOW} - {ALIVE}"""  # noqa: S608 - ours; "": it has ended
_ANSWERS = "SELECT node, connections FROM cut_answers WHERE request = %(id)s"
_DUE = f"""SELECT id, kind, value, generation, only_counts FROM cut_requests
    WHERE node <> %(node)s AND asked_at > {_NOW} - {MAX_AGE}
    AND NOT EXISTS (SELECT 1 FROM cut_answers WHERE request = cut_requests.id AND cut_answers.node = %(node)s)
    ORDER BY asked_at"""  # noqa: S608 - ours
_ANSWER = "INSERT INTO cut_answers (request, node, connections) VALUES (%(id)s, %(node)s, %(connections)s)"

log = logging.getLogger(__name__)


class Hands(Protocol):
    """The part of the data plane that finds connections which a rule matches."""

    def kill_matching(self, rule: FirewallRule) -> int:
        """Cut them, and return their number."""

    def count_matching(self, rule: FirewallRule) -> int:
        """Their number."""


@dataclass(frozen=True, slots=True)
class CutElsewhere:
    """What the other nodes have cut, or counted."""

    connections: int
    unanswered: Sequence[str] = ()  # nodes that were alive and have not answered


class Cutter:
    """One node's part. Any native thread may call it."""

    def __init__(self, truth: Store, node: str, notification: Callable[[], str]) -> None:
        """`notification` returns the statement that has the other nodes look, or ""."""
        self._truth = truth
        self._node = node
        self._notification = notification

    def __repr__(self) -> str:
        return f"<Cutter {self._node}>"

    def ask(
        self, rule: FirewallRule, generation: int, wait: float = WAIT, pause: Callable[[float], object] = time.sleep
    ) -> CutElsewhere:
        """Have the other nodes cut the connections that a rule matches, which is in force from a generation on.

        Waits `wait` seconds at most for their answers. Raises Unavailable where they can't be asked.
        """
        try:
            return self._answered(rule, generation, wait, pause)
        except StoreError as error:
            raise Unavailable(
                f"the rule is in force and this node has cut its connections; the other nodes were not asked: {error}"
            ) from error

    def count(self, rule: FirewallRule, wait: float = WAIT) -> CutElsewhere:
        """Have the other nodes count the connections that a rule would match, which stay. Raises StoreError."""
        return self._answered(rule, 0, wait, time.sleep)

    def _answered(
        self, rule: FirewallRule, generation: int, wait: float, pause: Callable[[float], object]
    ) -> CutElsewhere:
        end, look, number = time.monotonic() + wait, FIRST_LOOK, uuid.uuid4().hex
        others = self._ask(number, rule, generation)
        answers: dict[str, int] = {}
        while others - answers.keys() and time.monotonic() < end:
            pause(look)
            look = min(look * 2, LAST_LOOK)
            with suppress(StoreError):  # answers that can no longer be read count as missing
                answers = self._answers(number)
        return CutElsewhere(sum(answers.values()), tuple(sorted(others - answers.keys())))

    def answer(self, in_force: int, hands: Hands) -> bool:
        """Cut, or count, what other nodes have asked for, as far as its rules are in force. Raises StoreError.

        `in_force` is the generation that is. Returns whether nothing is left to do.
        """
        with self._truth.transaction() as database:
            due = database.executable.exec_driver_sql(_DUE, {"node": self._node}).all()
        now = [row for row in due if row.generation <= in_force]
        for row in now:
            try:
                rule = FirewallRule(RuleKind(row.kind), row.value)
                connections = hands.count_matching(rule) if row.only_counts else hands.kill_matching(rule)
            except PlaneBusy as error:
                log.warning("the connections that %s %s matches are cut later: %s", row.kind, row.value, error)
                return False
            with suppress(Conflict), self._truth.transaction() as database:
                values = {"id": row.id, "node": self._node, "connections": connections}
                database.executable.exec_driver_sql(_ANSWER, values)
            if not row.only_counts:
                cut = counted(connections, "connection")
                log.info("cut %s that %s %s matches, for another node", cut, row.kind, row.value)
        return len(now) == len(due)

    def _ask(self, number: str, rule: FirewallRule, generation: int) -> set[str]:
        values = {
            "id": number, "node": self._node, "kind": str(rule.kind), "value": rule.value, "generation": generation,
            "only_counts": not generation,
        }  # fmt: skip
        with suppress(Conflict), self._truth.transaction() as database:
            for statement in _FORGET:
                database.executable.exec_driver_sql(statement)
        with self._truth.transaction() as database:
            run: Any = database.executable.exec_driver_sql
            run(_ASK, values)
            others = {row[0] for row in run(_OTHERS, {"node": self._node})}
            self._notify(database)
        return others

    def _notify(self, database: dataset.Database) -> None:
        if statement := self._notification():
            database.executable.exec_driver_sql(statement)

    def _answers(self, number: str) -> dict[str, int]:
        with self._truth.transaction() as database:
            found = database.executable.exec_driver_sql(_ANSWERS, {"id": number})
            return {row.node: row.connections for row in found}
