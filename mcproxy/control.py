"""The control plane of a running process: the database, the one writer, the admin API.

`Control` opens the database first, because the data path needs its table. Once the listeners have their addresses it
takes the admin API's, then makes the seed durable, and answers calls last: a start that fails leaves the database
unseeded, so that a corrected file still counts.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass

from gevent import sleep

from mcproxy.admin.expiry import Expiry
from mcproxy.admin.plane import ServerState
from mcproxy.admin.server import AdminError, AdminServer
from mcproxy.admin.service import Service
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.certificates.acme.contract import CaSettings, Certificates
from mcproxy.certificates.acme.keeper import Keeper
from mcproxy.certificates.surveyor import Survey
from mcproxy.configuration import Config
from mcproxy.fleet.fleet import Fleet, again
from mcproxy.fleet.follower import Follower
from mcproxy.fleet.orderer import Orderer
from mcproxy.fleet.share import orphaned, share
from mcproxy.fleet.standing import State
from mcproxy.plane import Plane
from mcproxy.store.acme import Records, keep_old_private
from mcproxy.store.diff import FileSeed
from mcproxy.store.errors import Conflict, StoreError
from mcproxy.store.store import Store
from mcproxy.table import Table

STOP_LIMIT = 15.0  # seconds for calls that are under way: the longest waits 5 s for the hub, 4 s for a file
STOP_CHECK = 0.01  # seconds between two looks at whether the admin API has stopped

log = logging.getLogger(__name__)


def acme_settings(config: Config) -> CaSettings | None:
    """[acme], for callers; None: there is none."""
    acme = config.acme
    return CaSettings(acme.directory, acme.email, acme.profile, acme.ca) if acme is not None else None


@dataclass(frozen=True, slots=True)
class Before:
    """What is left of the process that had the database before: another one, or this one, which has released it."""

    table: Table | None = None  # the database's as it was: loading 100,000 routes takes seconds; None: not known
    is_another: bool = False  # which has left it to this one
    released: "Control | None" = None  # this one's, whose table is still in force


NOTHING = Before()


class Database:
    """What is durable as one process has it: a file of its own, or a fleet's database with this node's copy."""

    def __init__(self, config: Config, before: Before = NOTHING) -> None:
        """Open it; `table` is its contents, or those that `seed` will write. Raises StoreError.

        A fleet's is seeded here: an address that this node can't take doesn't keep the fleet from its table.
        """
        file, known = config.database.file, before.table
        self._is_first = not before.is_another and before.released is None  # process of this node since it ended
        with ExitStack() as failed:
            self.fleet = _fleet(config, before)
            if self.fleet is None:
                self.store = Store.open(file)
                failed.callback(self.store.close)
                self.table = self.store.load() if known is None else self.store.load_after(known)
            else:
                failed.callback(self.close)
                self.store = self.fleet.cache.store
                seed = config.seed_listeners(), config.seed_rules()
                self.table = self.fleet.begin(seed) if before.released is None else before.released.in_force
            keep_old_private(self.store)
            self.file = FileSeed((config.seed_listeners(self.table), config.seed_rules()))
            is_empty = self.fleet is None and self.table.generation == 0 and before.released is None
            self.file.is_due = is_empty and bool(self.file)
            if self.file.is_due:
                self.table = Table.build(*self.file.seed(), 1)
            if self.fleet is None:
                for found in orphaned(self.table):
                    log.warning("listener %s: %s", *found)
            self.served = self.table if self.fleet is None else share(self.table, self.fleet.node)  # by this node
            failed.pop_all()

    def __repr__(self) -> str:
        return f"<Database {self.fleet or self.store}>"

    def close(self) -> None:
        """Give its connections back."""
        if self.fleet is not None and self._is_first:
            self.fleet.give_up()
        (self.fleet or self.store).close()

    def clock(self) -> float:
        """The time that the ends of rules are compared with: a fleet's by the clock of its server."""
        return time.time() if self.fleet is None else self.fleet.clock()

    def seed(self) -> None:
        """Make the seed durable if the database has never been written to. Raises StoreError."""
        if self.file.is_due and not self.store.seed(*self.file.seed(), time.time()):
            raise Conflict(f"database {self.store.path}: another process has seeded it meanwhile; start again")

    def may_lack(self, addr: str, reason: str) -> bool:
        """Take note that an address can't be listened on. Returns whether the start goes on without it: in a fleet."""
        if self.fleet is None:
            return False
        log.warning("%s; this node serves without it and tries again", reason)
        self.fleet.unbound[addr] = reason
        return True

    @property
    def lacking(self) -> Collection[str]:
        """The addresses of the table that this node doesn't listen on."""
        return self.fleet.unbound if self.fleet is not None else ()

    def alone(self) -> str:
        """How a node of a fleet stands if it doesn't follow; "" if it does."""
        standing = self.fleet.standing if self.fleet is not None else None
        return "" if standing is None or standing.state is State.FOLLOWING else f"{standing.state}: {standing.reason}"


def _fleet(config: Config, before: Before) -> Fleet | None:
    """The fleet that this node is in; None: it is in none. Raises StoreError."""
    if before.released is not None:
        released = before.released.database.fleet
        return again(released) if released is not None else None
    if config.database.url is None:
        return None
    return Fleet(config.database.url, config.node.shown, config.database.file, succeeds=before.is_another)


class Control:
    """Database, writer, expiry and admin API of one process."""

    def __init__(self, config: Config, before: Before = NOTHING) -> None:
        """Open the database, as `Database` does. Raises StoreError."""
        self.hangs = False  # something of it has not ended in time
        self.database = Database(config, before)
        self._config = config
        self._open = ExitStack()  # what to close, last one first
        self._open.callback(self.database.close)
        self._plane: Plane | None = None
        self._server: AdminServer | None = None
        self._writer: Writer | None = None
        self._keeper: Certificates | None = None
        self._orderer: Orderer | None = None  # the same, in a fleet
        self.survey = Survey(lambda: self._served)

    def __repr__(self) -> str:
        return f"<Control {self.database} {self._server}>"

    @property
    def in_force(self) -> Table:
        """The durable table."""
        return self._writer.table if self._writer is not None else self.database.table

    @property
    def _served(self) -> Table:
        """The part of it that this node serves."""
        return self._writer.served if self._writer is not None else self.database.served

    def prepare(self, plane: Plane) -> None:
        """Take the admin API's address, if there is one, without answering calls yet. Raises AdminError."""
        self._plane = plane
        held = self.database
        self._writer = writer = Writer(held.store, held.table, plane, held.clock, held.fleet)
        try:
            plane.orders.keeper = self._keeper = self._make_keeper(plane, lambda: writer.table)
        except StoreError as error:
            raise AdminError(f"{self._config.database.key}: {error}") from error
        if self._config.grpc is not None:
            watchers = Watchers(plane)
            with ExitStack() as failed:
                failed.callback(watchers.close)
                self._server = AdminServer(self._config.grpc, Service(self._writer, plane, watchers, held.file))
                failed.pop_all()
            self.before_close(self._server.close)  # which closes the watchers

    def _make_keeper(self, plane: Plane, table: Callable[[], Table]) -> Certificates:
        settings = acme_settings(self._config)
        if self.database.fleet is None:
            return Keeper(Records(self.database.store), plane.orders, table, settings)
        self._orderer = self.database.fleet.orderer(plane.orders, table, settings)
        return self._orderer

    def open(self) -> None:
        """Begin to make changes: expired rules are removed, and the admin API answers; and survey certificates."""
        assert self._writer is not None, "prepare comes first"
        assert self._keeper is not None
        self.before_close(Expiry(self._writer).close)
        if self.database.fleet is not None:
            assert self._plane is not None
            follower = Follower(self.database.fleet, self._writer.follow, orderer=self._orderer, hands=self._plane)
            self.before_close(follower.close)
        self._keeper.start()
        self.before_close(self._keeper.close)
        self.survey.start()
        self.before_close(self.survey.close)
        if self._server is not None:
            self._server.open()

    def take(self, config: Config) -> None:
        """Take a configuration that was read again: its seed, and the admin API's certificates.

        Raises AdminError; then the old certificates stay in use.
        """
        self.database.file.read((config.seed_listeners(self.in_force), config.seed_rules()))
        if self._keeper is not None:
            self._keeper.configure(acme_settings(config))
        if self._server is not None and config.grpc is not None:
            self._server.reload(config.grpc)

    def drain(self) -> None:
        """Report that connections are no longer accepted."""
        if self._plane is not None:
            self._plane.state = ServerState.DRAINING
        if self._server is not None:
            self._server.drain()

    def before_close(self, end: Callable[[], object]) -> None:
        """Have `end` called first when everything ends."""
        self._open.callback(end)

    def close(self, limit: float = STOP_LIMIT, pause: Callable[[float], object] = sleep) -> None:
        """End everything while the calling thread goes on by `pause`, seconds: calls that wait for it get their answer.

        It takes `limit` seconds at most: a call may wait for a disk that is gone. Then `hangs` is true.
        """
        closing = threading.Thread(target=self.close_at_once, name="control-close", daemon=True)
        closing.start()
        end = time.monotonic() + limit
        while closing.is_alive() and time.monotonic() < end:
            pause(STOP_CHECK)
        self.hangs = closing.is_alive()
        if self.hangs:
            log.error("the admin API or the database has not ended in %g s; the process ends without it", limit)

    def close_at_once(self) -> None:
        """End everything, blocking the calling thread."""
        self._open.close()

    def release(self) -> None:
        """End everything, blocking the calling thread; what a node holds in its fleet is left to another process."""
        if self.database.fleet is not None:
            self.database.fleet.hands_over = True
        if self._orderer is not None:
            self._orderer.hands_over = True
        self.close_at_once()
