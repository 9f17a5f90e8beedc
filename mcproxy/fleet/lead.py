"""Which node orders certificates, and which nodes have what it has written: the one row of `acme_head`.

**Why a row and not an advisory lock.** A session's advisory lock belongs to a connection. A pooler that hands
connections from one transaction to the next would have somebody else hold it, CockroachDB has none, and a node whose
connection broke would go on believing that it has it. The row names the node that orders, by its identity. Every
transaction that writes one of ACME's rows moves the row's version, and one of the node that orders also checks that it
is still named there. So a node that was frozen or cut off, and was replaced meanwhile, writes nothing more. What it may
still do is ask the CA: that makes an order which nobody goes on with.

**When another node takes over.** The lease is the row that each node writes about itself every BEAT seconds: when that
of the node that orders hasn't been written for LEAD_GONE seconds, by the database's clock, the next node that looks
puts itself there. A node that ends gives the place up.

**Who can answer a challenge.** Each node writes the version that its workers have into its own row.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import dataset

from mcproxy.certificates.acme.contract import Lacking
from mcproxy.fleet.nodes import ALIVE, BEAT
from mcproxy.store.errors import Conflict, StoreError
from mcproxy.store.store import Store

LEAD_GONE = 3 * BEAT  # seconds

# Of a node. One that has ended has no identity, and so has the row where nobody orders.
ORDERS = "nodes.identity = acme_head.orderer AND nodes.identity <> ''"

_NOW = "extract(epoch FROM clock_timestamp())"
_CLAIM = f"""UPDATE acme_head SET orderer = %(me)s WHERE orderer = %(me)s OR NOT EXISTS (
    SELECT 1 FROM nodes WHERE {ORDERS} AND nodes.seen_at > {_NOW} - {LEAD_GONE})"""  # noqa: S608
_RELEASE = "UPDATE acme_head SET orderer = '' WHERE orderer = %(me)s"
_MOVE = "UPDATE acme_head SET version = version + 1"
_FENCED = f"{_MOVE} WHERE orderer = %(me)s RETURNING version"
_LACKING = f"""SELECT name FROM nodes WHERE identity NOT IN (%(me)s, '') AND seen_at > {_NOW} - {ALIVE}
    AND acme_version < %(version)s"""  # noqa: S608


class Replaced(StoreError):
    """Another node orders certificates now."""


@dataclass(frozen=True, slots=True)
class Head:
    """The row, as a poll finds it."""

    version: int
    orderer: str  # the identity of a node; "": nobody
    is_there: bool  # that node is alive


class Lead:
    """One node's view of the place. Its methods raise StoreError."""

    def __init__(self, truth: Store, me: str, notification: Callable[[], str]) -> None:
        """`me` is this node's identity; `notification` the statement that has the others look, or ""."""
        self._truth = truth
        self.me = me
        self._notification = notification
        self._version = 0  # of the last transaction as the node that orders

    def __repr__(self) -> str:
        return f"<Lead {self.me} version={self._version}>"

    def claim(self) -> bool:
        """Take the place if it is free. Returns whether this node orders now; not so where another one came first."""
        try:
            return bool(self._do(_CLAIM))
        except Conflict:
            return False

    def release(self) -> None:
        """Give the place up, if this node has it."""
        self._do(_RELEASE)

    def fence(self, database: dataset.Database) -> None:
        """Begin a transaction of the node that orders. Raises Replaced."""
        found = database.executable.exec_driver_sql(_FENCED, {"me": self.me}).first()
        if found is None:
            raise Replaced("another node orders certificates now")
        self._version = int(found[0])
        self._notify(database)

    def move(self, database: dataset.Database) -> None:
        """Begin a transaction of any node that writes one of ACME's rows."""
        database.executable.exec_driver_sql(_MOVE)
        self._notify(database)

    def spreading(self) -> Lacking:
        """What returns the other living nodes that lack what this node has written last."""
        values = {"me": self.me, "version": self._version}

        def lacking() -> Collection[str]:
            with self._truth.transaction() as database:
                return [row[0] for row in database.executable.exec_driver_sql(_LACKING, values)]

        return lacking

    def _notify(self, database: dataset.Database) -> None:
        if statement := self._notification():
            database.executable.exec_driver_sql(statement)

    def _do(self, statement: str) -> Any:
        with self._truth.transaction() as database:
            return database.executable.exec_driver_sql(statement, {"me": self.me}).rowcount
