"""The rows of ACME: accounts, orders, the starts of the last hour, certificates with their keys.

None of them is a value of a generation: no audit, diff, rollback or export has them. A snapshot has, so that a restored
database goes on with the same account and certificates.
"""

import logging
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from sqlalchemy import TableClause, column, delete, select, table

from mcproxy.certificates.acme.course import named_pair
from mcproxy.certificates.acme.order import CaAccount, Order, State
from mcproxy.certificates.pem import Pair
from mcproxy.store.store import Store

log = logging.getLogger(__package__)

_CERTIFICATES: Final = table("certificates", *map(column, ("hostname", "chain", "key", "not_after")))
_STARTS: Final = table("acme_starts", column("hostname"), column("at"))
ACCOUNTS: Final = table("acme_accounts", *(column(each.name) for each in fields(CaAccount)))
ORDERS: Final = table("acme_orders", *(column(each.name) for each in fields(Order)))
ALL: Final = (_CERTIFICATES, _STARTS, ACCOUNTS, ORDERS)


@dataclass(frozen=True, slots=True)
class Records:
    """The rows. Every method is one transaction of the calling thread, and raises StoreError."""

    store: Store

    def account(self, directory: str) -> CaAccount | None:
        """The account at a CA."""
        with self.store.transaction() as database:
            found = list(database.query(select(ACCOUNTS).where(ACCOUNTS.c.directory == directory)))
        return CaAccount(**found[0]) if found else None

    def orders(self) -> list[Order]:
        """Every name's order."""
        with self.store.transaction() as database:
            found = list(database.query(select(ORDERS)))
        return [Order(**{**row, "state": State(row["state"])}) for row in found]

    def certificates(self) -> dict[str, Pair]:
        """Every certificate with its key, by name."""
        with self.store.transaction() as database:
            found = list(database.query(select(_CERTIFICATES)))
        rows = [(row["hostname"], row["chain"].encode(), row["key"].encode()) for row in found]
        return {row[0]: named_pair(*row) for row in rows}

    def starts(self, since: float) -> list[float]:
        """When orders began, from `since` on (seconds since the epoch)."""
        with self.store.transaction() as database:
            return [row["at"] for row in database.query(select(_STARTS.c.at).where(_STARTS.c.at >= since))]

    def write_account(self, account: CaAccount) -> None:
        """Insert or replace an account; from the first one on, only the owner can read the file."""
        if self.store.place.keep_private():
            log.warning("%s: only its owner may read it from now on (mode 0600): it holds keys", self.store.place)
        with self.store.transaction() as database:
            _replace(database, ACCOUNTS, "directory", asdict(account))

    def write_order(self, order: Order) -> None:
        """Insert or replace an order."""
        with self.store.transaction() as database:
            _replace(database, ORDERS, "hostname", _row(order))

    def write_start(self, order: Order, forget_before: float) -> None:
        """Write an order that begins, and its start. Old starts go, and expired certificates without a route."""
        with self.store.transaction() as database:
            _replace(database, ORDERS, "hostname", _row(order))
            database.executable.execute(delete(_STARTS).where(_STARTS.c.at < forget_before))
            gone = _CERTIFICATES.c.hostname.not_in(select(ORDERS.c.hostname))
            database.executable.execute(delete(_CERTIFICATES).where(gone & (_CERTIFICATES.c.not_after < forget_before)))
            database.executable.execute(_STARTS.insert(), [{"hostname": order.hostname, "at": order.began}])

    def write_issued(self, order: Order, issued: Pair, not_after: float) -> None:
        """Write a certificate with its key, and the order that waits for its renewal, together."""
        row = {
            "hostname": order.hostname, "chain": issued.chain.decode(), "key": issued.key.decode(),
            "not_after": not_after,
        }  # fmt: skip
        with self.store.transaction() as database:
            _replace(database, _CERTIFICATES, "hostname", row)
            _replace(database, ORDERS, "hostname", _row(order))

    def remove(self, hostname: str, ended_before: float) -> None:
        """Remove the order of a name whose route is gone, and its certificate once that has expired.

        Until then a route that comes back, by a rollback say, finds it.
        """
        expired = (_CERTIFICATES.c.hostname == hostname) & (_CERTIFICATES.c.not_after < ended_before)
        with self.store.transaction() as database:
            database.executable.execute(delete(ORDERS).where(ORDERS.c.hostname == hostname))
            database.executable.execute(delete(_CERTIFICATES).where(expired))


def _row(order: Order) -> dict[str, Any]:
    return {**asdict(order), "state": str(order.state)}


def _replace(database: Any, rows: TableClause, key: str, row: dict[str, Any]) -> None:
    """An update, else an insert, in the caller's transaction: an upsert has a form of its own in each dialect."""
    changed = rows.update().where(rows.c[key] == row[key]).values({name: row[name] for name in row if name != key})
    if not database.executable.execute(changed).rowcount:
        database.executable.execute(rows.insert(), [row])
