"""Copies a whole database into an empty one, from SQLite into PostgreSQL or back, and verifies the copy.

It is one transaction of the target. Before its commit all rows are read again, there and in the source: neither a row
that the target has changed nor one that the source got meanwhile passes. After the commit the target is read once more.
So there is a whole and verified copy, or the target is as empty as before.

Columns have the types that the target's own schema has, whose tables are read from it: a table of a later migration is
copied without a word here. Rows of any number pass in batches.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from sqlalchemy import MetaData, Table, delete, insert, select, update

from mcproxy.notation.server_url import ServerUrl
from mcproxy.store import postgres, schema, sqlite
from mcproxy.store.dataset_alone import dataset
from mcproxy.store.errors import StoreError, Unavailable, Unsure
from mcproxy.store.store import Store

# The first counts the schema's own migrations. The others are what nodes report, and ask of each other for a moment.
NOT_COPIED: Final = frozenset({schema.VERSION_TABLE, "nodes", "acme_head", "cut_requests", "cut_answers"})
HEAD: Final = "head"
BATCH = 1000  # rows in memory at a time; the longest, of certificates, have some 10 kB

Location = Path | ServerUrl

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was verified."""

    generation: int
    rows: Mapping[str, int]  # of each table


@dataclass(slots=True)
class Tally:
    """The number of a table's rows, and the sum of their hashes: the same in whatever order they are read."""

    rows: int = 0
    total: int = 0

    def add(self, row: Mapping[Any, Any]) -> None:
        """Count a row."""
        self.rows += 1
        hashed = blake2b(repr(sorted(row.items())).encode(), digest_size=16).digest()
        self.total = (self.total + int.from_bytes(hashed)) % (1 << 128)


Tallies = Mapping[str, Tally]


def copy(source: Location, target: Location) -> Copied:
    """Copy all of one database into another, which is empty. Raises StoreError: then the target is still empty."""
    found = _open_source(source)
    try:
        made = _open_target(target)
        try:
            return _copy(found, made)
        finally:
            made.close()
    finally:
        found.close()


def in_use(source: Location) -> bool:
    """True if a process may have a file open that is to be copied: it, or one that was killed, left its log there."""
    return isinstance(source, Path) and sqlite.has_log(source)


def _open_source(source: Location) -> Store:
    if isinstance(source, Path):
        if not source.exists():
            raise Unavailable(f"there is no database {source}")
        found = sqlite.schema_version(source)
        store = Store(sqlite.File(source), sqlite.connect_for_reading(source))
    else:
        store = postgres.attach(postgres.Server(source), "mcproxy copy", idle_timeout=0)
        try:
            found = postgres.schema_version(store)
        except BaseException:
            store.close()
            raise
    try:
        schema.refuse_newer(found or 0)
        if found != schema.VERSION:
            raise Unavailable(
                f"{store.place} is empty: nothing is to be copied" if found is None else
                f"the schema of {store.place} is older than this mcproxy: the next start of the server upgrades it"
            )  # fmt: skip
    except BaseException:
        store.close()
        raise
    return store


def _open_target(target: Location) -> Store:
    """A database of the present schema, maybe with rows. One of an older schema isn't empty, so it stays as it is."""
    if isinstance(target, Path):
        if target.exists() and target.stat().st_size and sqlite.schema_version(target) not in {None, schema.VERSION}:
            raise _filled(f"database {target}")
        return Store.open(target)
    store = postgres.attach(postgres.Server(target), "mcproxy copy", idle_timeout=0)
    try:
        if postgres.schema_version(store) not in {None, schema.VERSION}:
            raise _filled(str(store.place))
        postgres.upgrade(store)
    except BaseException:
        store.close()
        raise
    return store


def _filled(place: str) -> StoreError:
    return StoreError(f"{place} isn't empty: copy into a new one")


def _copy(source: Store, target: Store) -> Copied:
    copied: Tallies = {}
    generation = 0
    try:
        with target.transaction() as writing:
            tables = _tables(writing)
            _begin(target, writing, tables)
            with source.transaction() as reading:
                generation = int(reading.executable.execute(select(tables[HEAD].c.generation)).scalar_one())
                copied = {name: _transfer(reading, writing, table) for name, table in tables.items()}
            with source.transaction() as reading:
                _refuse_different(copied, _tallies(reading, tables), f"{source.place} was changed meanwhile")
            _refuse_different(copied, _tallies(writing, tables), f"{target.place} doesn't hold what was written to it")
            target.place.before_commit(writing)
    except Unsure as error:
        log.warning("%s; the copy is looked for", error)
    with target.transaction() as reading:
        _refuse_different(copied, _tallies(reading, tables), f"{target.place} doesn't hold what was committed to it")
    return Copied(generation, {name: tally.rows for name, tally in copied.items()})


def _tables(database: dataset.Database) -> dict[str, Table]:
    """All that are copied, each after those that its rows refer to."""
    known = MetaData()
    known.reflect(bind=database.executable)
    return {table.name: table for table in known.sorted_tables if table.name not in NOT_COPIED}


def _begin(target: Store, database: dataset.Database, tables: Mapping[str, Table]) -> None:
    """Take the database's turn, as each mutation does, and refuse one that isn't as the schema's migrations made it."""
    head = tables[HEAD]
    database.executable.execute(update(head).values(generation=head.c.generation))
    if _tallies(database, tables) != _of_a_new_one(tables):
        raise _filled(str(target.place))
    for table in reversed([*tables.values()]):
        database.executable.execute(delete(table))


def _of_a_new_one(tables: Mapping[str, Table]) -> Tallies:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "new.db")
        try:
            with store.transaction() as database:
                return _tallies(database, tables)
        finally:
            store.close()


def _transfer(reading: dataset.Database, writing: dataset.Database, table: Table) -> Tally:
    tally = Tally()
    for batch in _batches(reading, table):
        for row in batch:
            tally.add(row)
        writing.executable.execute(insert(table), batch)
    return tally


def _batches(database: dataset.Database, table: Table) -> Iterator[list[dict[str, Any]]]:
    query = select(table).execution_options(stream_results=True, yield_per=BATCH)
    with database.executable.execute(query) as result:
        for batch in result.mappings().partitions():
            yield [dict(row) for row in batch]


def _tallies(database: dataset.Database, tables: Mapping[str, Table]) -> Tallies:
    found = {name: Tally() for name in tables}
    for name, table in tables.items():
        for batch in _batches(database, table):
            for row in batch:
                found[name].add(row)
    return found


def _refuse_different(copied: Tallies, found: Tallies, what: str) -> None:
    for name, tally in copied.items():
        if found[name] != tally:
            raise StoreError(
                f"{what}: {name} has {found[name].rows} rows, {tally.rows} were copied, or their contents differ; "
                "nothing was copied: stop every server that uses either database, and copy again"
            )
