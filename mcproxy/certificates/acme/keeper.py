"""The thread that orders and renews certificates. The head of this folder has the states and what is durable when."""

import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import NamedTuple

from mcproxy.certificates import pem
from mcproxy.certificates.acme import order
from mcproxy.certificates.acme.account import Account
from mcproxy.certificates.acme.contract import Asked, Asking, CaSettings, Holder, NotDurable, Refusal, Rows
from mcproxy.certificates.acme.course import HOUR, Course, Name, named_pair
from mcproxy.certificates.acme.order import CaAccount, Order, State
from mcproxy.certificates.pem import Pair, Unusable
from mcproxy.model import Mode, Route, Tls, counted
from mcproxy.table import Table

ORDERS_AN_HOUR = 60  # over all names: Let's Encrypt allows 300 in three hours
MAX_SLEEP = 30.0  # seconds: after so long at most, a clock that was set is noticed
FOLLOW_REST = 20  # times as long as going through a table takes (16 ms for 100,000 routes), before the next one
RETRY = 5.0  # seconds after a row could not be written
QUESTIONS = 20  # when to renew, before orders are looked at again: each may take a second
CUT_OFF = "the process ended, or the disk failed, while the CA was asked for an order"
NO_SECTION = "there is no [acme] in the configuration file; add it, with accept_terms = true, and reload"
INSTALL = "the package acme is missing: pip install 'mcproxy[acme]', and restart"

log = logging.getLogger(__package__)


def missing(*, configured: bool) -> str:
    """What there has to be before a certificate can be ordered; "" if it is there."""
    if not configured:
        return NO_SECTION
    return "" if find_spec("acme") and find_spec("josepy") else INSTALL


def by_library(settings: CaSettings, account: CaAccount) -> Asked:
    """The CA, asked by Certbot's library, which is an extra. Raises ImportError."""
    from mcproxy.certificates.acme.ca import CA  # noqa: PLC0415

    return CA(settings, account.key, account.url)


class Keeper:
    """All names. Its thread does everything, but any thread may call `renew`, `adopt`, `configure` and `close`."""

    def __init__(
        self, rows: Rows, holder: Holder, table: Callable[[], Table], settings: CaSettings | None,
        ask: Asking = by_library, clock: Callable[[], float] = time.time, chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """Load what is durable and hand it on. `table` is the one in force. Raises what `rows` raises."""
        self.wake = threading.Event()  # a table is new, or something was asked for
        self._outside = _Outside(rows, holder, table, ask, clock)
        self._course = Course(rows, self._publish, clock, chance, self._doubt, holder.spreading)
        self._chance = chance
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # by other threads
        self._settings = settings
        self._at: Account | None = None
        self._names: dict[str, Name] = {}
        self._wanted = _Wanted(table, clock)
        self._obstacle = ""  # why no name gets on at all
        self._budget_free_at = 0.0  # no order begins before; 0.0: none waits for the budget
        self._closing = threading.Event()
        self._load()

    def __repr__(self) -> str:
        return f"<Keeper names={len(self._names)} {self._obstacle or 'working'} closing={self._closing.is_set()}>"

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name="acme", daemon=True).start()

    def close(self) -> None:
        """Ask for nothing more. A request that is under way is not waited for: what it brings is asked for again."""
        self._closing.set()
        self.wake.set()

    def configure(self, settings: CaSettings | None) -> None:
        """Ask by these settings from now on."""

        def change() -> None:
            if settings != self._settings:
                self._settings, self._at = settings, None

        self._later(change)

    def renew(self, hostname: str) -> None:
        """Order a certificate for a name now, whatever it waits for; the CA's own pauses and the budget hold."""

        def bring_forward() -> None:
            name = self._names.get(hostname)
            if name is not None and name.order.state is State.WAITING:
                name.order = replace(name.order, next_at=self._outside.clock())
                self._outside.rows.write_order(name.order)
                self._publish(name)

        self._later(bring_forward)

    def adopt(self, route: Route) -> None:
        """Make what a route's files hold its certificate until there is one from ACME, before its table is in force.

        Nothing is adopted if the files can't be used, or if there is a certificate that is valid.
        """
        hostname, now = route.hostname, self._outside.clock()
        held = self._outside.rows.certificates().get(hostname)
        if hostname not in self._names and (pair := adopted(route, held, now)):
            waiting = Order(hostname, next_at=now)
            self._outside.rows.write_issued(waiting, pair, pem.described(pair).not_after)
            self._outside.holder.keep(Name(waiting, pair).kept())

    def _later(self, change: Callable[[], None]) -> None:
        self._asked.put(change)
        self.wake.set()

    # In the thread

    def _load(self) -> None:
        for name in self._durable():
            self._names[name.order.hostname] = name
            if name.order.state is State.ORDERING:
                self._course.fail(name, CUT_OFF)
            elif name.order.url:
                self._course.resume(name)
            else:
                self._publish(name)

    def _durable(self, wanted: Collection[str] = ()) -> Iterator[Name]:
        """Names as they are in the database: the wanted ones, which may be new, or all."""
        rows, now = self._outside.rows, self._outside.clock()
        orders, pairs = {each.hostname: each for each in rows.orders()}, rows.certificates()
        for hostname in sorted(wanted or {*orders, *pairs}):
            name = Name(orders.get(hostname) or Order(hostname, next_at=now), pairs.get(hostname))
            if hostname not in orders and name.certificate is not None:  # its route was gone for a while
                name.order = replace(name.order, next_at=order.renewed_at(name.certificate, self._chance()))
            yield name

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                pause = self.step()
            except Exception as error:  # the thread must outlive a full disk, and a bug of ours
                if self._closing.is_set():  # the database is closed meanwhile
                    return
                bug = not isinstance(error, NotDurable)
                log.error("no certificate can be ordered, next try in %.0f s: %s", RETRY, error, exc_info=bug)
                pause = RETRY
            self.wake.wait(pause)
            self.wake.clear()

    def step(self) -> float:
        """Take every name that is due one step further. Returns how many seconds there are to sleep."""
        while not self._asked.empty():
            self._asked.get()()
        if 0.0 < self._budget_free_at <= self._outside.clock():
            self._wait_for_budget(0.0)
        self._follow_table()
        at = self._find_ca() if self._names else None
        if at is None:
            return self._wanted.pause(MAX_SLEEP)
        questions = 0
        for name in self._in_turn(at, self._outside.clock()):
            now = self._outside.clock()
            questions += not _is_due(name, at.directory, now)
            if self._closing.is_set() or questions > QUESTIONS or at.paused_until > now:
                break
            self._take_on(name, at, now)
        return self._pause(at)

    def _in_turn(self, at: Account, now: float) -> list[Name]:
        """The names that are due: orders before questions when to renew, which may be many after a start.

        Of orders, those come last that only replace a certificate of another CA.
        """
        due = [name for name in self._names.values() if self._when(name, at, now) <= now]
        return sorted(due, key=lambda name: (not _is_due(name, at.directory, now), name.order.next_at))

    def _when(self, name: Name, at: Account, now: float) -> float:
        """When to go on with a name: its order, as far as the budget goes, or the question when to renew."""
        if name.order.url or name.order.state is State.ORDERING:
            return name.order.next_at
        if _is_due(name, at.directory, now):
            return max(now, self._budget_free_at)
        if name.pair is not None and not name.order.failures:
            return min(name.order.next_at, name.asked_until)
        return name.order.next_at

    def _pause(self, at: Account) -> float:
        now = self._outside.clock()
        first = min((self._when(name, at, now) for name in self._names.values()), default=now + MAX_SLEEP)
        return self._wanted.pause(min(max(first, at.paused_until, now) - now, MAX_SLEEP))

    def _follow_table(self) -> None:
        """Take up the names that the table in force wants, and drop the others."""
        wanted = self._wanted.names()
        if wanted is None:
            return
        for hostname in self._names.keys() - wanted:
            self._outside.rows.remove(hostname, self._outside.clock())
            self._outside.holder.forget(hostname)
            del self._names[hostname]
        if new := wanted - self._names.keys():
            found = list(self._durable(new))
            self._outside.rows.take_up([name.order for name in found])
            for name in found:
                self._names[name.order.hostname] = name
                self._publish(name)
        self._wanted.done()

    def _find_ca(self) -> Account | None:
        """The account at the CA, or None and an obstacle."""
        if self._settings is None:
            self._meet(NO_SECTION)
            return None
        if self._at is None:
            outside = self._outside
            self._at = Account(self._settings, outside.rows, outside.ask, outside.clock, self._chance)
            self._meet("")  # what it met before was by other settings
        if self._at.paused_until > self._outside.clock():
            self._meet(self._at.words)
        return self._at

    def _take_on(self, name: Name, at: Account, now: float) -> None:
        try:
            self._ask_about(name, at, now)
        except ImportError:
            at.stop_for(INSTALL, HOUR)
            self._meet(INSTALL)
        except Refusal as refusal:
            self._refused(name, at, refusal)
        except NotDurable:
            raise
        except Exception:  # of one name: the others go on
            log.exception("bug in the order for %s", name.order.hostname)
            self._course.fail(name, "a bug of mcproxy: its log has the traceback")
        else:
            at.recovered()
            self._meet("")

    def _refused(self, name: Name, at: Account, refusal: Refusal) -> None:
        gone = at.is_gone(refusal)
        if not gone and not refusal.whole:
            self._course.refused(name, refusal)
            return
        self._course.put_back(name)
        if gone:
            for each in self._names.values():  # their orders are gone with it
                self._course.put_back(each, State.VALIDATING, State.ISSUING)
        at.pause(refusal, gone=gone)
        self._meet(at.words)

    def _ask_about(self, name: Name, at: Account, now: float) -> None:
        ca = at.registered()
        if name.order.url and name.order.directory == at.directory:
            self._course.go_on(name, ca)
        elif name.order.state is State.ORDERING:  # its row could not be written when the CA had answered
            self._course.fail(name, CUT_OFF)
        elif not _is_due(name, at.directory, now):
            self._course.ask_when(name, ca)
        elif self._budget_free_at > now:
            return  # it was used up in this round
        elif (free_at := _budget_free_at(self._outside.rows, now)) > now:
            self._wait_for_budget(free_at)
        else:
            if _is_of_another_ca(name, at.directory):
                log.info("%s: its certificate is from %s", name.order.hostname, name.order.directory)
            at.give_email(ca)
            self._course.begin(name, ca, at.directory)

    def _wait_for_budget(self, free_at: float) -> None:
        """Begin no order before; 0.0: go on. Not durable: a restart asks the budget again."""
        self._budget_free_at = free_at
        if free_at:
            log.info("%s", order.spent(ORDERS_AN_HOUR, free_at))
        self._publish_all()

    def _meet(self, obstacle: str) -> None:
        """Have the names say why none of them gets on."""
        if obstacle == self._obstacle:
            return
        self._obstacle = obstacle
        if obstacle == NO_SECTION:
            log.warning("%s neither ordered nor renewed: %s", counted(len(self._names), "certificate"), obstacle)
        self._publish_all()

    def _publish_all(self) -> None:
        for name in self._names.values():
            self._publish(name)

    def _publish(self, name: Name) -> None:
        spent = order.spent(ORDERS_AN_HOUR, self._budget_free_at) if self._budget_free_at else ""
        kept = name.kept(self._obstacle or spent)
        self._outside.holder.keep(replace(kept, is_general=bool(self._obstacle), is_halted=self._settings is None))

    def _doubt(self) -> str:
        blocked = order.kept_out(self._outside.table().firewall)
        return f"; {blocked}" if blocked else ""


def adopted(route: Route, held: Pair | None, now: float) -> Pair | None:
    """What a route's files hold, if it can be served until ACME has brought a certificate; `held` is what it has."""
    if held is not None and pem.described(held).not_after > now:
        return None
    try:
        read = pem.read_pair(route.tls_cert, route.tls_key)
        pair = named_pair(route.hostname, read.chain, read.key)
        pem.fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except Unusable as error:
        log.warning("%s: its files can't be served until ACME has brought a certificate: %s", route.hostname, error)
        return None
    return pair


class _Wanted:
    """The names that the table in force wants. All routes are gone through, so changes in quick succession share it."""

    def __init__(self, table: Callable[[], Table], clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._latest: Table | None = None  # that was gone through
        self._done: Table | None = None  # whose names were taken up
        self._began = self._next_at = 0.0

    def __repr__(self) -> str:
        return f"<_Wanted {self._done}>"

    def names(self) -> set[str] | None:
        """The names; None if there is nothing new, or not yet."""
        table, now = self._table(), self._clock()
        if table is self._done or now < self._next_at:
            return None
        self._latest, self._began = table, now
        routes = (route for each in table.listeners.values() for route in each.routes.values())
        return {route.hostname for route in routes if route.mode is Mode.L7 and route.tls is Tls.ACME}

    def done(self) -> None:
        """They were taken up."""
        self._done, now = self._latest, self._clock()
        self._next_at = now + FOLLOW_REST * (now - self._began)

    def pause(self, most: float) -> float:
        """Seconds until there may be something new, `most` at most."""
        if self._table() is self._done:
            return most
        return min(most, max(self._next_at - self._clock(), 0.0))


class _Outside(NamedTuple):
    """Whatever is not the keeper's own."""

    rows: Rows
    holder: Holder
    table: Callable[[], Table]
    ask: Asking
    clock: Callable[[], float]


def _budget_free_at(rows: Rows, now: float) -> float:
    """When another order may begin."""
    starts = sorted(rows.starts(now - HOUR))
    return starts[-ORDERS_AN_HOUR] + HOUR if len(starts) >= ORDERS_AN_HOUR else now


def _is_of_another_ca(name: Name, directory: str) -> bool:
    return name.pair is not None and order.of_another_ca(name.order, directory)


def _is_due(name: Name, directory: str, now: float) -> bool:
    """Whether an order is to begin, or to go on, at the CA with this directory.

    A certificate of another CA, such as one for trials, is replaced at once; it serves until then.
    """
    return name.order.next_at <= now or _is_of_another_ca(name, directory)
