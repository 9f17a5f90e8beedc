"""What a node has of its fleet's database: its copy, how far it is, and how it catches up."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from mcproxy.change import Change, merged, next_table, table_values
from mcproxy.fleet.cache import Cache, Claim, open_cache
from mcproxy.fleet.following import NO_MARK, Mark, Mutation, mark_from, mark_of, mutations
from mcproxy.store import history, postgres
from mcproxy.store.errors import StoreError, Unavailable, UnreadableRow
from mcproxy.store.history import Revision
from mcproxy.store.records import Row
from mcproxy.store.store import Store
from mcproxy.table import Table

MAX_ROWS = 5_000  # of the audit that are followed one by one, some 0.3 s; a node further behind loads everything
KEPT_ROWS = 1_000  # of the audit that a whole load copies, for `history` without the database

log = logging.getLogger("mcproxy.fleet")


@dataclass(frozen=True, slots=True)
class Following:
    """What a node lacks, and what it leads to."""

    found: Sequence[Mutation]
    table: Table
    changes: Sequence[Change]  # of all of them, as if they were one's


class Replica:
    """The copy, and the last generation that this node has: the copy may lack it, the table in force does not."""

    def __init__(self, truth: Store, path: Path) -> None:
        """`truth` is the fleet's database. Raises StoreError if the copy can't be opened."""
        self._truth = truth
        self._skipped = ""  # which row of the audit couldn't be read, the last time
        with ExitStack() as failed:
            self._claim = Claim(path)
            failed.callback(self._claim.close)
            store, table = open_cache(path)
            failed.callback(store.close)
            self.cache = Cache(store, table)
            self.mark = self.found = _mark(store)  # what this node has; of the last poll
            failed.pop_all()

    def __repr__(self) -> str:
        return f"<Replica {self.generation} {self.cache}>"

    def close(self) -> None:
        """Close the copy, and let another process have it."""
        self.cache.store.close()
        self._claim.close()

    @property
    def generation(self) -> int:
        """The last one that this node has."""
        return self.mark[0]

    @property
    def is_behind(self) -> bool:
        """True if the last poll has found what this node has not."""
        return self.found != self.mark

    def go_on(self, mark: Mark) -> None:
        """The table of `mark` is in force, which this process has, whatever the copy has: that is mended later."""
        if mark != self.mark:
            self.mark = self.found = mark
            self.cache.problem = "a server that has not taken over has written it"

    def take(self, found: Sequence[Mutation]) -> None:
        """Write mutations to the copy, as far as it can be written."""
        if not found:
            return
        self.mark = found[-1].mark
        try:
            self.cache.store.apply_all([(each.changes, each.provenance, each.generation) for each in found])
        except StoreError as error:
            self.cache.failed(error)

    def newer(self, table: Table) -> tuple[Table, Sequence[Change]] | None:
        """The database's table and the changes that lead to it, if it isn't this one. Raises StoreError."""
        generation, rows = history.tail(self._truth, self.mark[0], MAX_ROWS)
        if (following := self.following(table, generation, rows)) is not None:
            self.take(following.found)
            return (following.table, following.changes) if following.found else None
        if generation < self.mark[0] or (rows and rows[0].generation == self.mark[0] and mark_of(rows[0]) != self.mark):
            self._refuse_another()
            log.warning(
                "the database lacks changes up to generation %d that this node has, and they are undone here: "
                "a standby that was behind has taken over, or a backup was restored", self.mark[0]
            )  # fmt: skip
        return self._whole(table)

    def refuse_another(self, mark: Mark) -> None:
        """Raise Unavailable if the database that has come to this mark is another one than this node has followed."""
        if self.mark != NO_MARK and mark != self.mark and mark[0] <= self.mark[0]:
            self._refuse_another()

    def _refuse_another(self) -> None:
        """Raise Unavailable if no change that this node knows is in the database.

        An empty or a new one must not undo everything on all nodes. A standby that was behind, and a backup, have
        most of the changes.
        """
        known = {self.mark}
        with suppress(StoreError):  # the copy is broken, which is said elsewhere
            known |= set(map(mark_of, history.revisions(self.cache.store, KEPT_ROWS)))
        if known.isdisjoint(map(mark_of, history.revisions(self._truth, KEPT_ROWS, (self.mark[0] + 1, 0)))):
            raise Unavailable(
                f"{self._truth.place}: it has no change up to generation {self.mark[0]} that this node knows, so it is "
                f"another database: {postgres.ANOTHER}"
            )

    def following(self, table: Table, generation: int, rows: Sequence[Revision]) -> Following | None:
        """The way from this table, which this node has, to the database's last generation, by the audit's rows since.

        None where it can't be followed, and everything is to be loaded.
        """
        if len(rows) >= MAX_ROWS:
            return None
        try:
            found = mutations(rows, self.mark)
            if found is None or (found[-1].generation if found else self.mark[0]) != generation:
                return None
            changes = merged(change for each in found for change in each.changes)
            return Following(found, next_table(table, changes, generation) if found else table, changes)
        except (UnreadableRow, ValueError, LookupError) as error:  # or changes that don't fit the table
            if str(error) != self._skipped:
                log.warning("a change of another node can't be followed, so the whole table is loaded: %s", error)
            self._skipped = str(error)
            return None

    def _whole(self, table: Table) -> tuple[Table, Sequence[Change]]:
        """The database's whole table, and the changes that lead to it from this one."""
        loaded = self._truth.load()
        rows = [row for row in history.latest_rows(self._truth, KEPT_ROWS) if row["generation"] <= loaded.generation]
        log.info("loaded the fleet's whole table, generation %d", loaded.generation)
        last = rows[0] if rows else None
        self.mark = mark_from(last["generation"], last["at"], last["node"], last["who"]) if last else NO_MARK
        self._rewrite(loaded, rows)
        old, new = table_values(table), table_values(loaded)
        gone = [Change(key, value, None) for key, value in old.items() if key not in new]
        return loaded, [
            *gone,
            *(Change(key, old.get(key), value) for key, value in new.items() if old.get(key) != value),
        ]

    def settle(self, table: Table) -> None:
        """Write the copy again if it lacks something; `table` is in force. Raises StoreError of the database."""
        if self.cache.problem:
            self._rewrite(table, history.latest_rows(self._truth, KEPT_ROWS))

    def _rewrite(self, table: Table, rows: Sequence[Row]) -> None:
        try:
            self.cache.store.replace(table, [row for row in rows if row["generation"] <= table.generation])
            self.cache.is_whole()
        except StoreError as error:
            self.cache.failed(error)


def _mark(store: Store) -> Mark:
    rows = history.revisions(store, 1)
    return mark_of(rows[0]) if rows else NO_MARK
