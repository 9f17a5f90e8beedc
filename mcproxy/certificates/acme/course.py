"""The course of one name's order, a step at a time: what the CA is asked next, and what is durable before."""

import datetime as dt
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace

from mcproxy.certificates import judge, pem
from mcproxy.certificates.acme import challenge, order
from mcproxy.certificates.acme.contract import Asked, Lacking, OrderLost, Refusal, Rows, Seen
from mcproxy.certificates.acme.order import Kept, Order, State
from mcproxy.certificates.pem import Certificate, Pair, Unusable
from mcproxy.words import moment

HOUR = 3_600.0
MAX_ORDER = 900.0  # seconds that a CA has to decide
FIRST_POLL, LAST_POLL = 0.5, 10.0  # seconds between two looks at an order; each pause is half as long again
TELL_AGAIN = 0.25  # seconds between two looks at whether all nodes can answer a challenge
EVERYWHERE = 6.0  # seconds that a node of a fleet has to get it: one that only polls needs four
MAX_POLL = 300.0  # seconds: what a CA may ask for between two looks
ASK_AGAIN = 6 * HOUR  # between two questions when to renew, where the CA doesn't say (RFC 9773, section 4.3.3)
LEAST_ASK_AGAIN, MOST_ASK_AGAIN = 60.0, order.DAY  # seconds, whatever the CA says (section 4.3.2)
RESUMED_AGAIN = 10.0  # seconds after a validation failed that was under way when this process began
RATE_LIMITED = 3_600.0  # seconds that a name waits where a CA has had enough and doesn't say for how long

log = logging.getLogger(__package__)


class Name:
    """One name: its order as it is durable, and what only this process knows of it."""

    __slots__ = (
        "asked_until", "certificate", "challenge", "lacking", "lost", "order", "pair", "patience", "poll", "resumed",
        "told", "untold",
    )  # fmt: skip

    def __init__(self, of: Order, pair: Pair | None = None) -> None:
        self.order = of
        self.pair = pair
        self.certificate: Certificate | None = pem.described(pair) if pair else None
        self.challenge: Pair | None = None
        self.untold = ""  # the challenge's URL, until the CA is told to look
        self.told = False  # to look, by this process or by the one before
        self.resumed = False  # the validation was under way when this process began
        self.lacking: Lacking = tuple  # the nodes that can't answer it yet
        self.patience = 0.0  # until when they are waited for
        self.lost = False  # the CA has lost an order since the last certificate
        self.poll = FIRST_POLL
        self.asked_until = 0.0  # the CA has said when to renew, and need not be asked before

    def __repr__(self) -> str:
        return f"<Name {self.order}>"

    def kept(self, obstacle: str = "") -> Kept:
        """The value for the workers; `obstacle` is why no order gets on."""
        return Kept(replace(self.order, key=""), self.pair, self.certificate, self.challenge, obstacle)


class Course:
    """Takes orders on. Every call asks the CA, and may raise Refusal and NotDurable: then the order is as it was."""

    def __init__(
        self, rows: Rows, publish: Callable[[Name], None], clock: Callable[[], float], chance: Callable[[], float],
        doubt: Callable[[], str] = lambda: "", spreading: Callable[[], Lacking] = lambda: tuple,
    ) -> None:  # fmt: skip
        """`publish` hands on what is kept of a name; `doubt` is what may keep the CA out, to follow a failure.

        `spreading` returns what finds the nodes that don't have yet what is durable now.
        """
        self._rows = rows
        self._publish = publish
        self._clock = clock
        self._chance = chance
        self._doubt = doubt
        self._spreading = spreading
        self._silent_until = 0.0  # the CA doesn't answer when to renew, whatever the name

    def __repr__(self) -> str:
        return f"<Course {self._rows}>"

    def begin(self, name: Name, ca: Asked, directory: str) -> None:
        """Order a certificate with a new key."""
        now, hostname = self._clock(), name.order.hostname
        new = Order(hostname, State.ORDERING, directory, key=challenge.new_key(), next_at=now, began=now)
        old = name.order  # whose failures count until there is a certificate
        begun = replace(new, failures=old.failures, failure=old.failure, failed_at=old.failed_at)
        self._rows.write_start(begun, now - HOUR)
        self._set(name, begun)
        log.info("%s: %s from %s", hostname, State.ORDERING, directory)
        is_its_own = name.pair is not None and old.directory in ("", directory)
        renewed = name.pair.chain if name.pair is not None and is_its_own else None
        self._move(name, State.VALIDATING, url=ca.order(hostname, renewed))

    def resume(self, name: Name) -> None:
        """Go on with an order of an earlier process. Its challenge is answered from now on: the CA may be looking."""
        held = name.order
        log.info("%s: goes on with its order, which is %s since %s", held.hostname, held.state, moment(held.began))
        if held.challenge:
            name.challenge, name.resumed = self._answer(held), True
        self._publish(name)

    def _answer(self, to: Order) -> Pair:
        return challenge.answer(to.hostname, to.challenge, dt.datetime.fromtimestamp(self._clock(), dt.UTC))

    def go_on(self, name: Name, ca: Asked) -> None:
        """Look at an order at the CA, and do what is next."""
        if name.untold:
            self._tell(name, ca)
            return
        try:
            seen = ca.look(name.order.url)
        except OrderLost as refusal:
            self._order_again(name, refusal)
            return
        match seen.status:
            case "pending":
                if not self._validate(name, ca, seen):
                    return
            case "ready":
                ca.finalize(seen.finalize, challenge.request_for(name.order.hostname, name.order.key))
                self._move(name, State.ISSUING)
            case "valid":
                self._take(name, ca.download(seen.certificate))
            case "invalid":
                self._fail_validation(name, f"{seen.problem}{self._doubt()}")
                return
        if name.order.url and self._clock() > name.order.began + MAX_ORDER:
            self.fail(name, f"the CA has not decided in {MAX_ORDER / 60:.0f} minutes")
        elif name.order.url:
            pause = max(min(seen.retry_after, MAX_POLL), name.poll)
            name.order = replace(name.order, next_at=self._clock() + pause)  # not durable: a restart looks at once
            name.poll = min(name.poll * 1.5, LAST_POLL)

    def _validate(self, name: Name, ca: Asked, seen: Seen) -> bool:
        """Be ready to answer the challenge, then have the CA look, once. True if that is done."""
        if name.told or not seen.challenge:
            return True
        expecting = replace(name.order, challenge=ca.key_authorization(seen.token))
        if name.challenge is None or name.order.challenge != expecting.challenge:
            self._rows.write_order(expecting)
            name.challenge = self._answer(expecting)
            self._set(name, expecting)
        name.told = seen.is_looking  # by the process before: a CA that gets two requests looks twice
        if name.told:
            return True
        name.untold, name.lacking, name.patience = seen.challenge, self._spreading(), self._clock() + EVERYWHERE
        return self._tell(name, ca)

    def _tell(self, name: Name, ca: Asked) -> bool:
        """Have the CA look once every node can answer, for it may ask any of them. Returns whether it was asked to."""
        now, lacking = self._clock(), name.lacking()
        if lacking and now < name.patience:
            name.order = replace(name.order, next_at=now + TELL_AGAIN)
            return False
        if lacking:
            log.warning(
                "%s: the CA is told to look though some nodes may not answer yet: %s",
                name.order.hostname, ", ".join(sorted(lacking)),
            )  # fmt: skip
        url, name.untold = name.untold, ""
        name.order = replace(name.order, next_at=now + name.poll)
        ca.begin(url)
        name.told = True
        return True

    def _order_again(self, name: Name, refusal: OrderLost) -> None:
        """Not a failed try, but only once: a CA that loses every order would get one after the other."""
        if name.lost:
            self.fail(name, str(refusal))
            return
        name.lost = True
        again = order.lost(name.order, self._clock())
        self._rows.write_order(again)
        self._set(name, again)
        log.warning("%s: %s; another one is made", name.order.hostname, refusal)

    def _take(self, name: Name, chain: bytes) -> None:
        """Judge a chain as a file is judged, and make it durable before it is in use."""
        hostname = name.order.hostname
        pair = named_pair(hostname, chain, name.order.key.encode())
        try:
            pem.fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
        except Unusable as error:
            self.fail(name, f"the CA's certificate can't be used: {error}")
            return
        certificate = pem.described(pair)
        for finding in judge.findings(certificate, hostname, self._clock()):
            if finding.problem:
                clock = f"this machine's clock says {moment(self._clock())}"
                self.fail(name, f"the CA's certificate can't be used: {finding} ({clock})")
                return
            log.warning("%s: %s", hostname, finding)
        waiting = order.issued(name.order, order.renewed_at(certificate, self._chance(), name.order.began))
        self._rows.write_issued(waiting, pair, certificate.not_after)
        name.pair, name.certificate, name.asked_until, name.lost = pair, certificate, 0.0, False
        self._set(name, waiting)
        log.info("%s: certificate of %s until %s", hostname, certificate.issuer, moment(certificate.not_after))

    def _fail_validation(self, name: Name, failure: str) -> None:
        """Not a failed try where this process may be why, as nobody answered before it began; but only once an hour."""
        now, old = self._clock(), name.order
        if not name.resumed or (old.failure and now - old.failed_at < HOUR):
            self.fail(name, failure)
            return
        words = f"mcproxy began while the CA was validating, which failed: {failure}"
        again = order.interrupted(old, words, now, now + RESUMED_AGAIN)
        self._rows.write_order(again)
        self._set(name, again)
        log.warning("%s: %s; another order is made in %.0f s", old.hostname, words, RESUMED_AGAIN)

    def fail(self, name: Name, failure: str, retry_after: float = 0.0) -> None:
        """The order has failed: the next try is a new one."""
        failed = order.failed(name.order, failure, self._clock(), self._chance(), retry_after)
        self._rows.write_order(failed)
        self._set(name, failed)
        serves = "; the old certificate stays in use" if name.pair is not None else ""
        log.error(
            "%s: the order failed, try %d, next one at %s: %s%s",
            name.order.hostname, failed.failures, moment(failed.next_at), failed.failure, serves,
        )  # fmt: skip

    def ask_when(self, name: Name, ca: Asked) -> None:
        """Ask the CA when to renew (RFC 9773). A time within its window stays, so that it is chosen once."""
        assert name.pair is not None
        assert name.certificate is not None
        now = self._clock()
        if now < self._silent_until:
            name.asked_until = self._silent_until
            return
        name.asked_until = now + ASK_AGAIN  # also after a refusal: the certificate is renewed in time without an answer
        try:
            window = ca.renewal(name.pair.chain)
        except Refusal as refusal:
            if refusal.whole:  # it would be the same for each name, and may take half a minute for each
                self._silent_until = name.asked_until = now + max(HOUR, refusal.retry_after)
            log.info("%s: the CA doesn't say when to renew: %s", name.order.hostname, refusal)
            return
        if window is None:
            return
        begin, end, again = window
        name.asked_until = now + min(max(again or ASK_AGAIN, LEAST_ASK_AGAIN), MOST_ASK_AGAIN)
        if not begin <= name.order.next_at <= end:
            chosen = order.renewed_within(name.certificate, begin, end, self._chance(), name.order.began)
            moved = replace(name.order, next_at=chosen)
            if moved == name.order:
                return
            self._rows.write_order(moved)
            self._set(name, moved)
            log.info("%s: the CA wants it renewed at %s", name.order.hostname, moment(moved.next_at))

    def put_back(self, name: Name, *states: State) -> None:
        """Give up an order that is in one of these states, by default `ordering`; no try of the name's is used up."""
        if name.order.state in (states or (State.ORDERING,)):
            waiting = order.lost(name.order, self._clock())
            self._rows.write_order(waiting)
            self._set(name, waiting)

    def refused(self, name: Name, refusal: Refusal) -> None:
        """A request about this name was refused."""
        limited = RATE_LIMITED if refusal.code == "rateLimited" else 0.0
        self.fail(name, str(refusal), refusal.retry_after or limited)

    def _move(self, name: Name, state: State, url: str = "") -> None:
        moved = replace(name.order, state=state, url=url or name.order.url)
        self._rows.write_order(moved)
        name.poll = FIRST_POLL
        self._set(name, moved)
        log.info("%s: %s", name.order.hostname, state)

    def _set(self, name: Name, now: Order) -> None:
        name.order = now
        if now.state is State.WAITING:
            name.challenge, name.untold, name.told, name.resumed = None, "", False, False
        self._publish(name)


def named_pair(hostname: str, chain: bytes, key: bytes) -> Pair:
    """A chain and its key, under the name that messages have for them."""
    what = f"the certificate of {hostname} from ACME"
    return Pair(what, what, chain, key)
