"""Reads the audit: who changed what, and the changes that lead back.

The audit only ever grows, by some 400 bytes for each changed value (10,000 changes a day: 1.5 GB a year); its bound is
the disk, and a full disk refuses mutations and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select

from mcproxy.change import Change, Key, Said, Value, What, current
from mcproxy.model import FirewallRule
from mcproxy.store.dataset_alone import dataset
from mcproxy.store.errors import UnreadableRow
from mcproxy.store.records import AUDIT, BY_HAND, Row, from_json, reason
from mcproxy.store.store import Store, last_generation
from mcproxy.table import Table

Position = tuple[int, int]  # generation, sequence


@dataclass(frozen=True, slots=True)
class Revision:
    """One row of the audit."""

    generation: int
    sequence: int
    at: float  # seconds since the epoch
    who: str
    action: str
    what: str
    scope: str
    name: str
    old: str | None  # JSON
    new: str | None  # JSON
    said: Said
    node: str = ""  # of a fleet, that the change was made on

    @property
    def key(self) -> Key:
        """What was changed. Raises UnreadableRow."""
        try:
            return Key(What(self.what), self.scope, self.name)
        except ValueError as error:
            raise self._unreadable("what", error) from None

    def before(self) -> Value | None:
        """The value before. Raises UnreadableRow."""
        return self._value("old", self.old)

    def after(self) -> Value | None:
        """The value after. Raises UnreadableRow."""
        return self._value("new", self.new)

    def _value(self, column: str, text: str | None) -> Value | None:
        try:
            return from_json(self.key.what, text)
        except ValueError as error:
            raise self._unreadable(column, error) from None

    def _unreadable(self, column: str, error: Exception) -> UnreadableRow:
        row = f"the row with generation {self.generation}, sequence {self.sequence}"
        return UnreadableRow(f"table {AUDIT.name}, {row}, column {column} can't be read: {reason(error)}; {BY_HAND}")


def revisions(
    store: Store, limit: int, before: Position | None = None, what: str = "", scope: str = "", name: str = ""
) -> list[Revision]:
    """At most `limit` rows before a position, newest first; the filters may be empty. Raises StoreError."""
    query = select(AUDIT).order_by(AUDIT.c.generation.desc(), AUDIT.c.sequence.desc()).limit(limit)
    for column, wanted in ((AUDIT.c.what, what), (AUDIT.c.scope, scope), (AUDIT.c.name, name)):
        if wanted:
            query = query.where(column == wanted)
    if before is not None:
        generation, sequence = before
        query = query.where(
            or_(
                AUDIT.c.generation < generation,
                and_(AUDIT.c.generation == generation, AUDIT.c.sequence < sequence),
            )
        )
    with store.transaction() as database:
        return [_revision(row) for row in database.query(query)]


def way_back(store: Store, table: Table, generation: int, now: float) -> list[Change]:
    """The changes that lead from `table` back to `generation`, without temporary rules that have ended.

    Raises ValueError if there is no such generation before the table's, or if the audit doesn't go back so far, as in
    the copy of a node that has joined a fleet; and StoreError.
    """
    if not 0 <= generation < table.generation:
        raise ValueError(f"there is no generation {generation} before the present one, {table.generation}")
    wanted: dict[Key, Value | None] = {}
    known: set[int] = set()
    for revision in _since(store, generation):
        known.add(revision.generation)
        # The oldest change after that generation knows what was there before it.
        wanted.setdefault(revision.key, revision.before())
    if missing := set(range(generation + 1, table.generation + 1)) - known:
        raise ValueError(
            f"the changes up to generation {max(missing)} are not in this server's audit, which begins later; "
            "roll back to a later one, or on a node that has been in the fleet for longer"
        )
    changes = []
    for key, value in wanted.items():
        target = None if _has_ended(value, now) else value
        present = current(table, key)
        if present != target:
            changes.append(Change(key, present, target))
    return changes


def tail(store: Store, generation: int, limit: int) -> tuple[int, list[Revision]]:
    """The last generation, and at most `limit` rows of `generation` and those after it, oldest first.

    Raises StoreError.
    """
    with store.transaction() as database:
        return last_generation(database), rows_from(database, generation, limit)


def rows_from(database: dataset.Database, generation: int, limit: int) -> list[Revision]:
    """At most `limit` rows of `generation` and those after it, oldest first, in a transaction of the caller's."""
    query = select(AUDIT).where(AUDIT.c.generation >= generation)
    query = query.order_by(AUDIT.c.generation, AUDIT.c.sequence).limit(limit)
    return [_revision(row) for row in database.query(query)]


def latest_rows(store: Store, limit: int) -> list[Row]:
    """The last rows of the audit as they are stored, newest first. Raises StoreError."""
    query = select(AUDIT).order_by(AUDIT.c.generation.desc(), AUDIT.c.sequence.desc()).limit(limit)
    with store.transaction() as database:
        return list(database.query(query))


def _since(store: Store, generation: int) -> Iterator[Revision]:
    query = select(AUDIT).where(AUDIT.c.generation > generation).order_by(AUDIT.c.generation, AUDIT.c.sequence)
    with store.transaction() as database:
        yield from map(_revision, database.query(query))


def _has_ended(value: Value | None, now: float) -> bool:
    return isinstance(value, FirewallRule) and value.expires_at is not None and value.expires_at <= now


def _revision(row: Any) -> Revision:
    said = Said(row["claim"], row["comment"])
    return Revision(
        row["generation"], row["sequence"], row["at"], row["who"], row["action"], row["what"], row["scope"],
        row["name"], row["old"], row["new"], said, row["node"],
    )  # fmt: skip
