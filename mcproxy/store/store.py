"""The database, which rules: it is loaded as a whole and changed in transactions; memory is never ahead of it.

dataset keeps one connection and one stack of transactions for each native thread; every operation here is one
`transaction()` of the calling thread, for readers too, so that no reader keeps an old snapshot of the file. Statements
are SQLAlchemy expressions over our own tables, not dataset's reflected ones: all threads drop those and read them again
whenever one of them rolls back.

A mutation is a list of changes. It first moves the one row of `head` from the generation before to its own, which
takes the write lock of SQLite, or the lock of this row of PostgreSQL: of two that start from one generation, the second
finds the row moved. It doesn't move it where a newer version has changed the schema: what that version has added, this
one would not write.

A `Place` is where the database is, and all that SQLite and PostgreSQL don't share.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import bindparam, func, select
from sqlalchemy.sql.expression import Executable

from mcproxy.change import Change, Provenance, What, merged, table_values, values
from mcproxy.model import MAX_CLAIM, MAX_COMMENT, FirewallRule, Listener, Route
from mcproxy.store import schema, sqlite
from mcproxy.store.dataset_alone import dataset
from mcproxy.store.errors import Conflict, Unavailable, UnreadableRow, Unsure
from mcproxy.store.operations import Operations
from mcproxy.store.records import (
    AUDIT,
    BY_HAND,
    HEAD,
    INVALID,
    LISTENERS,
    RECORDS,
    ROUTES,
    RULES,
    VERSIONS,
    Row,
    misread,
    to_json,
)
from mcproxy.table import Table

T = TypeVar("T", Listener, Route, FirewallRule)
ListenerRoutes = tuple[Listener, Sequence[Route]]

# In this order no row ever refers to one that isn't there.
_REMOVING = (What.ROUTE, What.LISTENER, What.RULE)
_WRITING = (What.LISTENER, What.ROUTE, What.RULE)


class Place(Protocol):
    """Where a database is. As a text, it is how messages name the database, without a password."""

    @property
    def certain(self) -> bool:
        """True if a commit that failed was not done: no connection can break while it is."""

    def guard(self) -> AbstractContextManager[None]:
        """Surround a transaction: turn errors of the database's driver into `StoreError`, with the remedy."""

    def before_commit(self, database: dataset.Database) -> None:
        """End a transaction that has written. Raises Unavailable where its commit would be lost."""

    def keep_private(self) -> bool:
        """Let only the owner read the database, which holds keys. Returns whether others could before."""


class Store:
    """An open database. Its methods may be called from any native thread."""

    def __init__(self, place: Place, database: dataset.Database) -> None:
        self.place = place
        self.failures = 0  # transactions that could not be done, ever
        self._database = database
        self._changing = threading.Condition()  # of the two below
        self._users = 0  # transactions that are under way
        self._closed = False

    @classmethod
    def open(cls, path: Path, busy_timeout: float = sqlite.BUSY_TIMEOUT) -> "Store":
        """Open a file and bring its schema up to date; creates it if it is missing.

        Raises NewerSchema and NotOurs without touching the file, and Unavailable.
        """
        found = sqlite.schema_version(path) if path.exists() and path.stat().st_size else None
        schema.refuse_newer(found or 0)
        file = sqlite.File(path)
        store = cls(file, sqlite.connect(path, busy_timeout))
        try:
            store.migrate(found)
            file.opened = sqlite.identity(path)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        assert isinstance(self.place, sqlite.File)
        return self.place.path

    def migrate(self, found: int | None) -> None:
        """Bring the schema from a version, None of an empty database, up to date. Raises StoreError."""
        if found != schema.VERSION:
            with self.transaction() as database:
                schema.migrate(Operations(database.executable), found)

    def close(self) -> None:
        """Wait for the transactions that are under way, then give all connections back.

        No transaction begins afterwards, in whatever thread: another process may own the database by then. Not to be
        called in a transaction.
        """
        with self._changing:
            self._closed = True
            self._changing.wait_for(lambda: not self._users)
        self._database.close()

    def __repr__(self) -> str:
        return f"<Store {self.place}{' closed' if self._closed else ''}>"

    @contextmanager
    def transaction(self) -> Iterator[dataset.Database]:
        """One transaction of this thread: committed at the end, rolled back on any exception. Raises StoreError.

        Unsure is for a commit whose result is unknown.
        """
        committing = False
        try:
            with self._use(), self.place.guard():
                try:
                    with self._database as database:
                        yield database
                        committing = True
                except BaseException:
                    self.failures += 1
                    self._forget_connection()
                    raise
        except Unavailable as error:
            if committing and not self.place.certain:
                raise Unsure(str(error)) from error
            raise

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._changing:
            if self._closed:
                raise Unavailable(f"{self.place}: this process has closed it")
            self._users += 1
        try:
            yield
        finally:
            with self._changing:
                self._users -= 1
                self._changing.notify_all()

    def _forget_connection(self) -> None:
        # A commit that failed leaves dataset with a connection that is still in its transaction.
        with self._database.lock:
            connection = self._database.connections.pop(threading.get_ident(), None)
        if connection is not None:
            connection.invalidate()
            connection.close()

    def load(self) -> Table:
        """Everything, compiled. Raises StoreError."""
        with self.transaction() as database:
            generation = last_generation(database)
            routes: dict[str, list[Route]] = {}
            for row in database.query(select(ROUTES)):
                routes.setdefault(row["listener"], []).append(self.value(Route, What.ROUTE, row))
            listeners = [self.value(Listener, What.LISTENER, row) for row in database.query(_ordered(What.LISTENER))]
            rules = [self.value(FirewallRule, What.RULE, row) for row in database.query(select(RULES))]
        return Table.build([(each, routes.get(each.addr, ())) for each in listeners], rules, generation)

    def value(self, kind: type[T], what: What, row: Row) -> T:
        """The value in a row. Raises UnreadableRow."""
        try:
            value = RECORDS[what].value(row)
        except INVALID as error:
            raise UnreadableRow(f"{self.place}: {misread(what, row, error)}; {BY_HAND}") from None
        assert isinstance(value, kind)
        return value

    def load_after(self, known: Table) -> Table:
        """What `load` returns; `known`, if that is the table of the generation in the database."""
        with self.transaction() as database:
            generation = last_generation(database)
        return known if generation == known.generation else self.load()

    def seed(
        self, listeners: Iterable[ListenerRoutes], rules: Iterable[FirewallRule], at: float, node: str = ""
    ) -> bool:
        """Fill a database that has never been written to, in one transaction. Returns whether it did."""
        changes = [Change(key, None, value) for key, value in values(listeners, rules).items()]
        with self.transaction() as database:
            untouched = last_generation(database) == 0
        if untouched and changes:
            self.apply(changes, Provenance("seed", "seed", at, node=node), 1)
            return True
        return False

    def apply(self, changes: Sequence[Change], provenance: Provenance, generation: int) -> None:
        """Make a mutation durable under its new generation. After an exception the database is unchanged.

        Raises Conflict if the generation before is not the last one, NewerSchema, and Unavailable.
        """
        self.apply_all([(changes, provenance, generation)])

    def apply_all(self, mutations: Sequence[tuple[Sequence[Change], Provenance, int]]) -> None:
        """Make several, one generation after the other, durable in one transaction. Raises the same."""
        with self.transaction() as database:
            self.write(database, mutations)
            self.place.before_commit(database)

    def write(self, database: dataset.Database, mutations: Sequence[tuple[Sequence[Change], Provenance, int]]) -> None:
        """The same, in a transaction of the caller's. A value that several have changed is written once."""
        self._move(database, mutations[0][2] - 1, mutations[-1][2])
        _write(database, AUDIT.insert(), [row for each in mutations for row in _audit_rows(*each)])
        changes, *further = (each for each, *_ in mutations)
        changes = merged(chain(changes, *further)) if further else changes
        for what in _REMOVING:
            self._remove(database, what, [change for change in changes if change.new is None])
        for what in _WRITING:
            self._insert(database, what, [change for change in changes if change.old is None])
            self._update(database, what, [change for change in changes if change.old and change.new])

    def _move(self, database: dataset.Database, old: int, new: int) -> None:
        version = select(func.max(VERSIONS.c.version))
        ours = version.scalar_subquery() <= schema.VERSION
        moved = HEAD.update().where(HEAD.c.generation == old, ours).values(generation=new)
        if not database.executable.execute(moved).rowcount:
            schema.refuse_newer(database.executable.execute(version).scalar_one())
            raise self._conflict()

    def replace(self, table: Table, audit: Sequence[Row]) -> None:
        """Make this database hold a table and rows of the audit, and nothing else of them. Raises StoreError."""
        values = [Change(key, None, value) for key, value in table_values(table).items()]
        with self.transaction() as database:
            _write(database, HEAD.update(), [{"generation": table.generation}])
            for rows in (ROUTES, LISTENERS, RULES, AUDIT):
                database.executable.execute(rows.delete())
            for what in _WRITING:
                self._insert(database, what, values)
            if audit:
                _write(database, AUDIT.insert(), [dict(row) for row in audit])
            self.place.before_commit(database)

    def _remove(self, database: dataset.Database, what: What, changes: list[Change]) -> None:
        record = RECORDS[what]
        keys = [record.key(change.key) for change in changes if change.key.what is what]
        if keys:
            clauses = [record.table.c[name] == bindparam(f"key_{name}") for name in keys[0]]
            self._expect(
                len(keys), _write(database, record.table.delete().where(*clauses), [_prefixed(key) for key in keys])
            )

    def _insert(self, database: dataset.Database, what: What, changes: list[Change]) -> None:
        record = RECORDS[what]
        rows = [record.row(change.key, change.new) for change in changes if change.key.what is what and change.new]
        if rows:
            _write(database, record.table.insert(), rows)

    def _update(self, database: dataset.Database, what: What, changes: list[Change]) -> None:
        record = RECORDS[what]
        keyed = [
            (record.row(change.key, change.new), record.key(change.key))
            for change in changes
            if change.key.what is what and change.new
        ]
        if keyed:
            row, key = keyed[0]
            others = [name for name in row if name not in key]
            clauses = [record.table.c[name] == bindparam(f"key_{name}") for name in key]
            statement = record.table.update().where(*clauses).values({name: bindparam(name) for name in others})
            rows = [{name: row[name] for name in others} | _prefixed(key) for row, key in keyed]
            self._expect(len(rows), _write(database, statement, rows))

    def _expect(self, expected: int, changed: int) -> None:
        if changed != expected:
            raise self._conflict()

    def _conflict(self) -> Conflict:
        return Conflict(f"{self.place}: {sqlite.CHANGED}")

    def next_expiry(self) -> float | None:
        """When the next rule ends, in seconds since the epoch."""
        with self.transaction() as database:
            found = database.query(select(func.min(RULES.c.expires_at).label("at")))
            at: float | None = next(iter(found))["at"]
            return at


def read_table(path: Path) -> Table:
    """The contents of a database file, whether a server has it open or not; changes nothing. Raises StoreError."""
    if not path.exists():
        raise Unavailable(f"there is no database {path} yet: the first start of `mcproxy server` makes it")
    found = sqlite.schema_version(path)
    schema.refuse_newer(found or 0)
    if found != schema.VERSION:
        raise Unavailable(f"the schema of {path} is older than this mcproxy: the next start of the server upgrades it")
    store = Store(sqlite.File(path), sqlite.connect_for_reading(path))
    try:
        return store.load()
    finally:
        store.close()


def last_generation(database: dataset.Database) -> int:
    """The last one, in a transaction of the caller's. Raises UnreadableRow."""
    for row in database.query(select(HEAD)):
        return int(row["generation"])
    raise headless()


def headless() -> UnreadableRow:
    """The error where the one row of `head` is missing."""
    return UnreadableRow(f"table {HEAD.name} has no row, which has the last generation: restore a backup")


def _ordered(what: What) -> Executable:
    record = RECORDS[what]
    return select(record.table).order_by(record.table.c[record.name])


def _audit_rows(changes: Iterable[Change], provenance: Provenance, generation: int) -> list[dict[str, Any]]:
    return [
        {
            "generation": generation,
            "sequence": sequence,
            "at": provenance.at,
            "who": provenance.who[: schema.MAX_WHO],
            "action": provenance.action[: schema.MAX_ACTION],
            "claim": provenance.said.claim[:MAX_CLAIM],
            "comment": provenance.said.comment[:MAX_COMMENT],
            "node": provenance.node,
            "what": str(change.key.what),
            "scope": change.key.scope,
            "name": change.key.name,
            "old": to_json(change.key.what, change.old),
            "new": to_json(change.key.what, change.new),
        }
        for sequence, change in enumerate(changes)
    ]


def _prefixed(key: dict[str, str]) -> dict[str, str]:
    return {f"key_{name}": value for name, value in key.items()}


def _write(database: dataset.Database, statement: Any, rows: list[dict[str, Any]]) -> int:
    return int(database.executable.execute(statement, rows).rowcount)
