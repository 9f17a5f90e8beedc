"""A node's turn: it locks the row of `head`, takes what it lacks, decides, and writes, all in one transaction.

The others that want to write meanwhile wait for the row, in the order in which they came. Without the lock they would
all decide, and all but one of them for nothing: of ten nodes with 50 changes a second each decided twice or more.

The transaction is READ COMMITTED, unlike all others: its statements see what was committed until the lock was given.
Nobody changes the table's rows or the audit without that lock, so all of them see the same. A node of an older version
decides without it, and has a `Conflict` where it came second; so has this one, where it lacks more than it can follow
row by row.
"""

from collections.abc import Sequence
from dataclasses import replace

import dataset

from mcproxy.change import Change, Provenance, merged, next_table
from mcproxy.fleet.following import Mutation
from mcproxy.fleet.replica import MAX_ROWS, Following, Replica
from mcproxy.store import history
from mcproxy.store.errors import Conflict
from mcproxy.store.store import headless
from mcproxy.table import Table

_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
_LOCK = "SELECT generation FROM head FOR UPDATE"


class Turn:
    """The turn, which ends with the transaction."""

    def __init__(self, replica: Replica, following: Following, node: str) -> None:
        self.table = following.table  # the database's, to decide on
        self.outcome: tuple[Table, Sequence[Change]] | None = None  # what this node has then, and is to put in force
        self.mutation: Mutation | None = None  # of this node
        self._next: Table | None = None
        self._following = following
        self._replica = replica
        self._node = node

    def __repr__(self) -> str:
        return f"<Turn {self.table.generation} lacks={self.lacks} {self.mutation}>"

    @property
    def lacks(self) -> bool:
        """True if the database has more than this node."""
        return bool(self._following.found) and self.outcome is None

    def catch_up(self) -> bool:
        """Have in the copy now what this node lacks. Returns whether there was something."""
        if not self.lacks:
            return False
        self._replica.take(self._following.found)
        self.outcome = self.table, self._following.changes
        return True

    def decide(self, changes: Sequence[Change], provenance: Provenance) -> None:
        """Have a mutation made at the end. Raises ValueError if its table can't be compiled."""
        generation = self.table.generation + 1
        self._next = next_table(self.table, changes, generation)
        self.mutation = Mutation(generation, replace(provenance, node=self._node), changes)

    def end(self) -> None:
        """Take what was decided, which is committed now, and what this node lacked."""
        if self.mutation is None or self._next is None:
            return
        followed = self._following.changes
        self._replica.take([*(self._following.found if self.lacks else ()), self.mutation])
        self.outcome = self._next, merged([*followed, *self.mutation.changes]) if followed else self.mutation.changes


def begin(database: dataset.Database, replica: Replica, table: Table, node: str) -> Turn:
    """Lock, and read what the table of this node lacks. Raises Conflict where everything is to be loaded first."""
    database.executable.exec_driver_sql(_COMMITTED)
    generation = database.executable.exec_driver_sql(_LOCK).scalar()
    if generation is None:
        raise headless()
    following = replica.following(table, generation, history.rows_from(database, replica.generation, MAX_ROWS))
    if following is None:
        raise Conflict("the database has more changes, or other ones, than this node can follow one by one")
    return Turn(replica, following, node)
