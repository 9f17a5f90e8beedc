"""ACME's rows as every node has them: read from the fleet's database, kept in the copy, handed to the workers.

All nodes do the same, the one that orders too: what it writes reaches its own workers through here. Accounts, and keys
of orders that are under way, are of use to the node that orders only, and no other reads them. A certificate's key goes
into the copy, since the node must serve it without the database; that file is then the owner's alone, as the one of a
single node is.

Orders are few and small, so all are read whenever the version has moved; a certificate only if its digest is another.
"""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import dataset
from sqlalchemy import delete, select

from mcproxy.certificates import pem
from mcproxy.certificates.acme import challenge
from mcproxy.certificates.acme.contract import Holder
from mcproxy.certificates.acme.course import HOUR
from mcproxy.certificates.acme.keeper import ORDERS_AN_HOUR
from mcproxy.certificates.acme.order import Kept, Order, spent
from mcproxy.certificates.pem import Certificate, Pair
from mcproxy.store import acme
from mcproxy.store.acme import (
    CERTIFICATES,
    ORDERS,
    certificate_row,
    keep_private,
    order_of,
    pair_of,
    row_of,
    unreadable,
)
from mcproxy.store.errors import StoreError
from mcproxy.store.records import INVALID, Row
from mcproxy.store.store import Store
from mcproxy.words import moment

BATCH = 200  # certificates asked for in one statement; some 5 KB each

_SHOWN = [column for column in ORDERS.columns if column.name != "key"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate, and what its row calls it."""

    digest: str
    pair: Pair
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Found:
    """What the database has, as far as a node needs it."""

    version: int
    orders: Mapping[str, Order]  # without keys
    digests: Mapping[str, str]  # of the certificates of these names
    changed: Mapping[str, Held]  # of these, those that this node had not
    obstacle: "Obstacle"


class Obstacle(NamedTuple):
    """Why orders don't get on."""

    words: str = ""  # "": they do
    is_general: bool = False  # those that are under way don't, too


class Mirror:
    """What this node has. Any native thread may call it."""

    def __init__(self, truth: Store, copy: Store, holder: Holder, clock: Callable[[], float]) -> None:
        """Hand on what the copy has. Raises StoreError of the copy. `clock` is the database's."""
        self.version = -1  # that the workers have; -1: not asked yet
        self.changed: Callable[[], None] = lambda: None  # called when something is new
        self._truth = truth
        self._copy = copy
        self._holder = holder
        self._clock = clock
        self._lock = threading.Lock()
        self._obstacle = Obstacle()
        self._copy_fails = False
        self._answers: dict[str, tuple[str, Pair]] = {}  # to challenges, each with its key authorization
        self._orders, self._held = _in_copy(copy)
        for name in self._orders:
            self._hand_on(name)

    def __repr__(self) -> str:
        return f"<Mirror names={len(self._orders)} version={self.version}>"

    def has(self, hostname: str) -> bool:
        """Whether a name has an order."""
        return hostname in self._orders

    def doubt(self) -> None:
        """Look again at the next poll, whatever the version is."""
        self.version = -1

    def sync(self) -> None:
        """Take over what the database has. When this returns the workers have it. Raises StoreError."""
        with self._lock:
            found = self._ask()
            gone = self._orders.keys() - found.orders.keys()
            before = self._seen()
            self._held = {name: found.changed.get(name) or self._held[name] for name in found.digests}
            self._orders, self._obstacle = dict(found.orders), found.obstacle
            after = self._seen()
            if before != after or self._copy_fails:
                self._write()
            for name in gone:
                self._answers.pop(name, None)
                self._holder.forget(name)
            for name, seen in after.items():
                if seen != before.get(name):
                    self._hand_on(name)
            is_new, self.version = found.version != self.version, found.version
        if is_new:
            self.changed()

    def catch_up(self) -> None:
        """The same, where the database may be gone again by now: then the next poll does it."""
        with suppress(StoreError):
            self.sync()

    def _seen(self) -> dict[str, tuple[Order, Held | None, Obstacle]]:
        return {name: (order, self._held.get(name), self._obstacle) for name, order in self._orders.items()}

    def _ask(self) -> Found:
        with self._truth.transaction() as database:
            version = int(database.executable.exec_driver_sql("SELECT version FROM acme_head").scalar_one())
            orders = [order_of({**row, "key": ""}) for row in database.query(select(*_SHOWN))]
            wanted = CERTIFICATES.c.hostname.in_(select(ORDERS.c.hostname))
            tags = database.query(select(CERTIFICATES.c.hostname, CERTIFICATES.c.digest).where(wanted))
            digests = {row["hostname"]: row["digest"] for row in tags}
            lacking = [name for name, digest in digests.items() if self._digest(name) != digest]
            changed = {row["hostname"]: _held(row) for row in _certificates(database, lacking)}
            obstacle = self._find_obstacle(database)
        return Found(version, {order.hostname: order for order in orders}, digests, changed, obstacle)

    def _digest(self, hostname: str) -> str | None:
        held = self._held.get(hostname)
        return held.digest if held is not None else None

    def _find_obstacle(self, database: dataset.Database) -> Obstacle:
        accounts, at, now = acme.ACCOUNTS.c, acme.STARTS.c.at, self._clock()
        query = select(accounts.failure, accounts.paused_until).where(accounts.paused_until > now)
        for row in list(database.query(query.order_by(accounts.paused_until.desc()).limit(1))):
            return Obstacle(f"{row['failure']}; next try at {moment(row['paused_until'])}", is_general=True)
        begun = select(at).where(at > now - HOUR).order_by(at.desc()).offset(ORDERS_AN_HOUR - 1).limit(1)
        for row in list(database.query(begun)):
            return Obstacle(spent(ORDERS_AN_HOUR, row["at"] + HOUR))
        return Obstacle()

    def _hand_on(self, hostname: str) -> None:
        order, held = self._orders[hostname], self._held.get(hostname)
        pair, certificate = (held.pair, held.certificate) if held is not None else (None, None)
        self._holder.keep(Kept(order, pair, certificate, self._answer(order), *self._obstacle))

    def _answer(self, order: Order) -> Pair | None:
        if not order.challenge:
            self._answers.pop(order.hostname, None)
            return None
        known, answer = self._answers.get(order.hostname, ("", None))
        if answer is None or known != order.challenge:
            now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
            answer = challenge.answer(order.hostname, order.challenge, now)
            self._answers[order.hostname] = order.challenge, answer
        return answer

    def _write(self) -> None:
        """Write the copy, as far as it can be written."""
        try:
            if self._held:
                keep_private(self._copy)
            with self._copy.transaction() as database:
                _replace_all(database, self._orders, self._held)
        except StoreError as error:
            if not self._copy_fails:
                log.error("the copy of certificates can't be written; a restart would start with old ones: %s", error)
            self._copy_fails = True
        else:
            self._copy_fails = False


def _in_copy(copy: Store) -> tuple[dict[str, Order], dict[str, Held]]:
    with copy.transaction() as database:
        orders = [replace(order_of(row), challenge="") for row in database.query(select(ORDERS))]
        held = {row["hostname"]: _held(row) for row in database.query(select(CERTIFICATES))}
    return {order.hostname: order for order in orders}, held


def _replace_all(database: dataset.Database, orders: Mapping[str, Order], held: Mapping[str, Held]) -> None:
    there = {
        row["hostname"]: row["digest"]
        for row in database.query(select(CERTIFICATES.c.hostname, CERTIFICATES.c.digest))
    }  # fmt: skip
    stale = [name for name, digest in there.items() if name not in held or held[name].digest != digest]
    for names in _batches(stale):
        database.executable.execute(delete(CERTIFICATES).where(CERTIFICATES.c.hostname.in_(names)))
    new = [
        {**certificate_row(name, each.pair, each.certificate.not_after), "digest": each.digest}
        for name, each in held.items() if there.get(name) != each.digest
    ]  # fmt: skip
    if new:
        database.executable.execute(CERTIFICATES.insert(), new)
    database.executable.execute(delete(ORDERS))
    if orders:
        database.executable.execute(ORDERS.insert(), [row_of(order) for order in orders.values()])


def _held(row: Row) -> Held:
    """The certificate in a row. Raises UnreadableRow."""
    try:
        pair = pair_of(row)
        return Held(row["digest"], pair, pem.described(pair))
    except INVALID as error:
        raise unreadable(CERTIFICATES, row, error) from None


def _certificates(database: dataset.Database, names: Sequence[str]) -> Iterator[Row]:
    for some in _batches(names):
        yield from list(database.query(select(CERTIFICATES).where(CERTIFICATES.c.hostname.in_(some))))


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), BATCH):
        yield names[first : first + BATCH]
