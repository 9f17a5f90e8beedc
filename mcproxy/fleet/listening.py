"""The connection that listens for notifications, and asks for the generation.

A notification ends a wait, and says only what to look at. The connection commits each statement by itself, so a pooler
that carries it, or a server without LISTEN, loses nothing but notifications.
"""

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from mcproxy.fleet.clock import Reading
from mcproxy.fleet.cutting import MAX_AGE
from mcproxy.fleet.following import Mark, mark_from
from mcproxy.fleet.lead import LEAD_GONE, ORDERS, Head
from mcproxy.fleet.nodes import RELEASE, Report, claim
from mcproxy.store import postgres
from mcproxy.store.errors import NotOurs

CHANNEL = "mcproxy"
SLICE = 0.25  # seconds of one wait, after which others that may end it are asked; the server sees nothing of it

_POLL = f"""SELECT head.generation, (SELECT max(version) FROM schema_version),
    extract(epoch FROM clock_timestamp())::double precision, audit.at, audit.node, audit.who,
    acme_head.version, acme_head.orderer, EXISTS (SELECT 1 FROM nodes WHERE {ORDERS}
        AND nodes.seen_at > extract(epoch FROM clock_timestamp()) - {LEAD_GONE}),
    EXISTS (SELECT 1 FROM cut_requests WHERE asked_at > extract(epoch FROM clock_timestamp()) - {MAX_AGE})
    FROM head CROSS JOIN acme_head LEFT JOIN audit ON audit.generation = head.generation
    ORDER BY audit.sequence LIMIT 1"""  # noqa: S608 - ours

log = logging.getLogger(__name__)


class Topic(StrEnum):
    """What a notification is about."""

    TABLE = "table"
    CERTIFICATES = "certificates"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Position:
    """What a poll finds."""

    mark: Mark  # of the last generation
    schema_version: int
    clock: Reading  # of the database's
    acme: Head
    cuts: bool  # another node may want connections cut


class Ear:
    """The connection. A context manager; its methods raise StoreError."""

    def __init__(self, server: postgres.Server, node: str, *, notifies: bool = True) -> None:
        """`notifies` is false for a server without notifications."""
        from psycopg import NotSupportedError  # noqa: PLC0415 - an extra

        self._not_supported = NotSupportedError
        self._server = server
        self._node = node
        with server.errors():
            self._connection = postgres.connect(server.url, f"mcproxy {node} follower")
        self.notifies = notifies and self._listens()

    def __repr__(self) -> str:
        return f"<Ear {self._server} notifies={self.notifies}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def _listens(self) -> bool:
        with self._server.errors():
            try:
                self._connection.execute(f"LISTEN {CHANNEL}")
            except self._not_supported as error:
                log.info("%s has no notifications, so this node only polls: %s", self._server, error)
                return False
        return True

    def poll(self) -> Position:
        """Ask where the database is."""
        with self._server.errors():
            asked = time.monotonic()
            row = self._connection.execute(_POLL).fetchone()
            answered = time.monotonic()
        if row is None:
            raise NotOurs(f"{self._server} has no generation: restore a backup")
        generation, version, clock, at, node, who, *acme, cuts = row
        return Position(
            mark_from(generation, at, node, who), version, Reading.between(clock, asked, answered), Head(*acme), cuts
        )

    def tell(self, report: Report) -> None:
        """Write this node's row. Raises NameTaken."""
        with self._server.errors():
            claim(self._connection.execute, report)

    def leave(self, report: Report) -> None:
        """Give this node's name back, without waiting for an answer. The server sees it before the connection's end."""
        with self._server.errors():
            values = [report.name.encode(), report.identity.encode()]
            self._connection.pgconn.send_query_params(RELEASE.encode(), values)
            self._connection.pgconn.flush()

    def wait(self, seconds: float, known: int = 0) -> Collection[Topic]:
        """Wait for other nodes' notifications, `seconds` at most; returns what they are about. Takes all that came.

        This node has generation `known`: a notification of that or an earlier one is about nothing.
        """
        with self._server.errors():
            heard = [each.payload.split(" ") for each in self._connection.notifies(timeout=seconds, stop_after=1)]
        return {_topic(rest) for node, *rest in heard if node != self._node and not _is_known(rest, known)}


def _topic(rest: Sequence[str]) -> Topic:
    """An older node names none, and a newer one may name another: the table is looked at in both cases."""
    return Topic(rest[0]) if rest and rest[0] in set(Topic) else Topic.TABLE


def _is_known(rest: Sequence[str], known: int) -> bool:
    """An older node names no generation."""
    return len(rest) > 1 and rest[0] == Topic.TABLE and rest[1].isdecimal() and int(rest[1]) <= known


def notification(node: str, topic: Topic = Topic.TABLE, generation: int | None = None) -> str:
    """The statement that wakes all that listen; it carries the node's name, so that its own ear sleeps on.

    That of a change names its generation, since a node may have it already, and needn't ask.
    """
    return f"NOTIFY {CHANNEL}, '{node} {topic}{'' if generation is None else f' {generation}'}'"
