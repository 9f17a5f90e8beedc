"""The rows of ACME: accounts, orders, the starts of the last hour, certificates with their keys.

A fleet's are on its server, where all nodes read them and one writes (fleet/lead.py).

None of them is a value of a generation: no audit, diff, rollback or export has them. A snapshot has, so that a restored
database goes on with the same account and certificates.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import dataset
from sqlalchemy import TableClause, column, delete, select, table

from mcproxy.certificates.acme.course import named_pair
from mcproxy.certificates.acme.order import CaAccount, Order, State
from mcproxy.certificates.pem import Pair
from mcproxy.model import counted
from mcproxy.store import snapshot, sqlite
from mcproxy.store.errors import Conflict, UnreadableRow
from mcproxy.store.records import BY_HAND, INVALID, Row, reason
from mcproxy.store.store import Store
from mcproxy.words import quoted

log = logging.getLogger(__package__)

MAX_NAMED = 5  # files in a sentence
TRIES = 5  # of a transaction, where another node of the fleet has written at the same moment
CERTIFICATES: Final = table("certificates", *map(column, ("hostname", "chain", "key", "not_after", "digest")))
STARTS: Final = table("acme_starts", column("hostname"), column("at"))
ACCOUNTS: Final = table("acme_accounts", *(column(each.name) for each in fields(CaAccount)))
ORDERS: Final = table("acme_orders", *(column(each.name) for each in fields(Order)))
ALL: Final = (CERTIFICATES, STARTS, ACCOUNTS, ORDERS)


def _nothing(*_database: dataset.Database) -> None:
    """One node has nobody to agree with."""


@dataclass(frozen=True, slots=True)
class Records:
    """The rows. Every method is one transaction of the calling thread, and raises StoreError.

    One that writes has `before` called in its transaction, and `after` when it is committed.
    """

    store: Store
    before: Callable[[dataset.Database], None] = _nothing
    after: Callable[[], None] = _nothing

    def account(self, directory: str) -> CaAccount | None:
        """The account at a CA."""
        with self.store.transaction() as database:
            found = list(database.query(select(ACCOUNTS).where(ACCOUNTS.c.directory == directory)))
        return CaAccount(**found[0]) if found else None

    def orders(self) -> list[Order]:
        """Every name's order."""
        with self.store.transaction() as database:
            return [order_of(row) for row in database.query(select(ORDERS))]

    def certificates(self) -> dict[str, Pair]:
        """Every certificate with its key, by name."""
        with self.store.transaction() as database:
            return {row["hostname"]: pair_of(row) for row in database.query(select(CERTIFICATES))}

    def starts(self, since: float) -> list[float]:
        """When orders began, from `since` on (seconds since the epoch)."""
        with self.store.transaction() as database:
            return [row["at"] for row in database.query(select(STARTS.c.at).where(STARTS.c.at >= since))]

    def write_account(self, account: CaAccount) -> None:
        """Insert or replace an account; from the first one on, only the owner can read the file."""
        keep_private(self.store)
        self._write(lambda database: replace(database, ACCOUNTS, "directory", asdict(account)))

    def write_order(self, order: Order) -> None:
        """Insert or replace an order."""
        self._write(lambda database: replace(database, ORDERS, "hostname", row_of(order)))

    def take_up(self, orders: Collection[Order]) -> None:
        """Insert orders of names that are new; one that has an order already keeps it."""

        def insert(database: dataset.Database) -> None:
            there = {row["hostname"] for row in database.query(select(ORDERS.c.hostname))}
            if rows := [row_of(order) for order in orders if order.hostname not in there]:
                database.executable.execute(ORDERS.insert(), rows)

        if orders:
            self._write(insert)

    def write_start(self, order: Order, forget_before: float) -> None:
        """Write an order that begins, and its start. Old starts go, and expired certificates without a route."""

        def begin(database: dataset.Database) -> None:
            replace(database, ORDERS, "hostname", row_of(order))
            database.executable.execute(delete(STARTS).where(STARTS.c.at < forget_before))
            gone = CERTIFICATES.c.hostname.not_in(select(ORDERS.c.hostname))
            database.executable.execute(delete(CERTIFICATES).where(gone & (CERTIFICATES.c.not_after < forget_before)))
            database.executable.execute(STARTS.insert(), [{"hostname": order.hostname, "at": order.began}])

        self._write(begin)

    def write_issued(self, order: Order, issued: Pair, not_after: float) -> None:
        """Write a certificate with its key, and the order that waits for its renewal, together."""

        def put(database: dataset.Database) -> None:
            replace(database, CERTIFICATES, "hostname", certificate_row(order.hostname, issued, not_after))
            replace(database, ORDERS, "hostname", row_of(order))

        self._write(put)

    def remove(self, hostname: str, ended_before: float) -> None:
        """Remove the order of a name whose route is gone, and its certificate once that has expired.

        Until then a route that comes back, by a rollback say, finds it.
        """
        expired = (CERTIFICATES.c.hostname == hostname) & (CERTIFICATES.c.not_after < ended_before)

        def take_out(database: dataset.Database) -> None:
            database.executable.execute(delete(ORDERS).where(ORDERS.c.hostname == hostname))
            database.executable.execute(delete(CERTIFICATES).where(expired))

        self._write(take_out)

    def _write(self, change: Callable[[dataset.Database], None]) -> None:
        for left in reversed(range(TRIES)):
            try:
                with self.store.transaction() as database:
                    self.before(database)
                    change(database)
            except Conflict:
                if not left:
                    raise
            else:
                self.after()
                return


def keep_private(store: Store) -> None:
    """Let only the owner read a database that is about to hold keys."""
    if store.place.keep_private():
        log.warning("%s: only its owner may read it from now on (mode 0600): it holds keys", store.place)


def keep_old_private(store: Store) -> None:
    """The same of a database that held keys before the start: it may have been copied back with other modes."""
    if holds_keys(store):
        keep_private(store)
        if found := exposure(store):
            log.warning("%s", found)


def exposure(store: Store) -> str:
    """Which files with keys others than their owner may use, and what to do; "" if there are none.

    The database is one that only its owner can correct; snapshots beside it are the operator's. Raises StoreError.
    """
    found = [*sqlite.exposed(store.path), *snapshot.exposed(store.path)]
    return open_to_others(found) if found and holds_keys(store) else ""


def holds_keys(store: Store) -> bool:
    """Whether there is a key in the database, of an account or of a certificate."""
    with store.transaction() as database:
        return any(list(database.query(select(each).limit(1))) for each in (ACCOUNTS, CERTIFICATES))


def open_to_others(files: Sequence[Path]) -> str:
    """That others than their owner may use files with keys, and what to do."""
    paths = " ".join(map(str, files[:MAX_NAMED]))
    if len(files) > MAX_NAMED:
        paths += f" and {counted(len(files) - MAX_NAMED, 'other file')} beside them"
    if len(files) == 1:
        return f"{paths} holds keys, and others than its owner may use it: chmod 600 {paths}, as its owner or root"
    return f"others than the owner may use files that hold keys: chmod 600 {paths}, as the owner or root"


def order_of(row: Row) -> Order:
    """The order in a row. Raises UnreadableRow."""
    try:
        return Order(**{**row, "state": State(row["state"])})
    except INVALID as error:
        raise unreadable(ORDERS, row, error) from None


def unreadable(rows: TableClause, row: Row, error: Exception) -> UnreadableRow:
    """The error of a row that is not as mcproxy writes it."""
    named = f"the row with hostname {quoted(str(row['hostname']))}"
    return UnreadableRow(f"table {rows.name}, {named} can't be read: {reason(error)}; {BY_HAND}")


def row_of(order: Order) -> dict[str, Any]:
    """The row of an order."""
    return {**asdict(order), "state": str(order.state)}


def pair_of(row: Row) -> Pair:
    """The certificate in a row."""
    return named_pair(row["hostname"], row["chain"].encode(), row["key"].encode())


def certificate_row(hostname: str, pair: Pair, not_after: float) -> dict[str, Any]:
    """The row of a certificate."""
    return {
        "hostname": hostname, "chain": pair.chain.decode(), "key": pair.key.decode(), "not_after": not_after,
        "digest": pair.digest,
    }  # fmt: skip


def replace(database: dataset.Database, rows: TableClause, key: str, row: dict[str, Any]) -> None:
    """An update, else an insert, in the caller's transaction: an upsert has a form of its own in each dialect."""
    changed = rows.update().where(rows.c[key] == row[key]).values({name: row[name] for name in row if name != key})
    if not database.executable.execute(changed).rowcount:
        database.executable.execute(rows.insert(), [row])
