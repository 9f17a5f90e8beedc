"""A node's part in ordering the fleet's certificates: one node has a keeper, all have what it brings.

    any node    adopts a route's files, asks for a renewal     rows of the database
    one node    has a `Keeper`, which orders and renews        rows of the database, with the place of `lead.py`
    all nodes   answer challenges and serve certificates       what their `Mirror` reads there

The node that orders has the keeper for as long as it follows the database without a break: after one it takes the place
again, or another node has, and begins with what is durable, as after a restart. That is needed where the database has
lost its last changes in a failover. The CA is told to look at a challenge once every living node has it
(`course.EVERYWHERE` bounds that).
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import dataset
from sqlalchemy import column, delete, select, table

from mcproxy.certificates import pem
from mcproxy.certificates.acme import keeper
from mcproxy.certificates.acme.contract import Asking, CaSettings, Lacking
from mcproxy.certificates.acme.keeper import MAX_SLEEP, RETRY, Keeper
from mcproxy.certificates.acme.order import Kept, Order
from mcproxy.certificates.pem import Pair
from mcproxy.fleet.lead import Head, Lead, Replaced
from mcproxy.fleet.mirror import Mirror
from mcproxy.model import Route
from mcproxy.store.acme import CERTIFICATES, Records, pair_of
from mcproxy.store.errors import StoreError
from mcproxy.store.store import Store
from mcproxy.table import Table

_RENEWALS = table("acme_renewals", column("hostname"))

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeRecords(Records):
    """The rows of ACME of a fleet, with what one node asks of the one that orders."""

    def held(self, hostname: str) -> Pair | None:
        """The certificate of a name."""
        with self.store.transaction() as database:
            query = select(CERTIFICATES).where(CERTIFICATES.c.hostname == hostname)
            return next((pair_of(row) for row in list(database.query(query))), None)

    def ask_renewal(self, hostname: str) -> None:
        """Have a name ordered now."""

        def put(database: dataset.Database) -> None:
            database.executable.execute(delete(_RENEWALS).where(_RENEWALS.c.hostname == hostname))
            database.executable.execute(_RENEWALS.insert(), [{"hostname": hostname}])

        self._write(put)

    def renewals(self) -> Sequence[str]:
        """The names that are to be ordered now."""
        with self.store.transaction() as database:
            return [row["hostname"] for row in database.query(select(_RENEWALS))]

    def forget_renewals(self, hostnames: Sequence[str]) -> None:
        """They have been taken up."""

        def take_out(database: dataset.Database) -> None:
            database.executable.execute(delete(_RENEWALS).where(_RENEWALS.c.hostname.in_(hostnames)))

        self._write(take_out)


class Everywhere:
    """The workers of all nodes, for the keeper: what it writes gets to them by their mirrors."""

    def __init__(self, lead: Lead) -> None:
        self._lead = lead

    def __repr__(self) -> str:
        return f"<Everywhere {self._lead}>"

    def keep(self, _kept: Kept) -> None:
        """The mirrors do this."""

    def forget(self, _hostname: str) -> None:
        """The mirrors do this."""

    def spreading(self) -> Lacking:
        """What returns the nodes that don't have yet what was written last."""
        return self._lead.spreading()


class _Outside(NamedTuple):
    """Whatever is not the orderer's own."""

    table: Callable[[], Table]
    follows_since: Callable[[], float]
    clock: Callable[[], float]
    ask: Asking


class Orderer:
    """The part. Its thread has the keeper; any thread may call the public methods."""

    def __init__(
        self, truth: Store, lead: Lead, mirror: Mirror, table: Callable[[], Table], settings: CaSettings | None,
        follows_since: Callable[[], float], clock: Callable[[], float], ask: Asking = keeper.by_library,
    ) -> None:  # fmt: skip
        """`follows_since` is when this node began to follow the database, 0.0: it doesn't follow."""
        self.mirror = mirror
        self._lead = lead
        self._settings = settings
        self._outside = _Outside(table, follows_since, clock, ask)
        self._any = NodeRecords(truth, lead.move, mirror.catch_up)
        self._leading = NodeRecords(truth, lead.fence, mirror.catch_up)
        self._head = Head(0, "", is_there=True)  # by the last poll
        self._keeper: Keeper | None = None  # while this node orders
        self._since = 0.0  # `follows_since` of then
        self.wake = threading.Event()
        self._closing = threading.Event()
        self.hands_over = False  # to another process of this node, which is to have the place
        mirror.changed = self.wake.set

    def __repr__(self) -> str:
        return f"<Orderer {self._keeper or 'of another node'}>"

    def found(self, head: Head) -> None:
        """Take what a poll has found; raises StoreError."""
        self._head = head
        if head.version != self.mirror.version:
            self.mirror.sync()
        if head.orderer == self._lead.me or not head.is_there:
            self.wake.set()

    def renew(self, hostname: str) -> None:
        """Order a certificate for a name now, by whichever node orders. Raises StoreError."""
        self._any.ask_renewal(hostname)

    def adopt(self, route: Route) -> None:
        """Serve what a route's files hold until there is a certificate from ACME, on all nodes. Raises StoreError."""
        self.mirror.sync()
        now = self._outside.clock()
        if self.mirror.has(route.hostname):
            return
        if pair := keeper.adopted(route, self._any.held(route.hostname), now):
            self._any.write_issued(Order(route.hostname, next_at=now), pair, pem.described(pair).not_after)

    def configure(self, settings: CaSettings | None) -> None:
        """Ask by these settings from now on."""
        self._settings = settings
        if self._keeper is not None:
            self._keeper.configure(settings)
        self.wake.set()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name="acme", daemon=True).start()

    def close(self) -> None:
        """Ask for nothing more, and give the place up, if to nobody. A request that is under way is not waited for."""
        self._closing.set()
        self.wake.set()
        if self._keeper is not None and self._outside.follows_since():
            self._keeper.close()
            if not self.hands_over:
                with suppress(StoreError):  # then it is free when this node has been away for some time
                    self._lead.release()

    # In the thread

    def _run(self) -> None:
        said = ""  # the last failure: a database may be away for hours
        while not self._closing.is_set():
            try:
                pause, said = self.step(), ""
            except StoreError as error:
                if self._closing.is_set():  # the database is closed meanwhile
                    return
                if str(error) != said:
                    log.error("no certificate can be ordered, trying again every %.0f s: %s", RETRY, error)
                pause, said = RETRY, str(error)
            except Exception:  # the thread must outlive a bug of ours
                log.exception("no certificate can be ordered, next try in %.0f s", RETRY)
                pause = RETRY
            self.wake.wait(pause)
            self.wake.clear()

    def step(self) -> float:
        """Order what is due if this node does that. Returns how many seconds there are to sleep. Raises StoreError."""
        since, settings = self._outside.follows_since(), self._settings
        if not since or settings is None or keeper.missing(configured=True):
            self._keeper = None
            if since and self._head.orderer == self._lead.me:
                self._lead.release()
            return MAX_SLEEP
        if self._since != since or self._head.orderer != self._lead.me:
            self._keeper = None
        try:
            leading = self._keeper or self._begin(settings, since)
            if leading is None:
                return MAX_SLEEP
            if asked := self._leading.renewals():
                for hostname in asked:
                    leading.renew(hostname)
                self._leading.forget_renewals(asked)
            return leading.step()
        except Replaced:
            log.warning("another node orders the fleet's certificates from now on")
            self._keeper = None
            return MAX_SLEEP

    def _begin(self, settings: CaSettings, since: float) -> Keeper | None:
        head = self._head
        if head.orderer != self._lead.me and head.is_there:
            return None
        if not self._lead.claim():
            return None
        self._head = Head(head.version, self._lead.me, is_there=True)
        everywhere, outside = Everywhere(self._lead), self._outside
        self._since = since
        self._keeper = Keeper(self._leading, everywhere, outside.table, settings, outside.ask, outside.clock)
        log.info("this node orders the fleet's certificates from now on")
        return self._keeper
