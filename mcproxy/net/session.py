"""One client connection, from accept to its log line.

`Session.run` is the whole story. The steps before the relay raise `Refused`, and then the client gets a RST and
nothing else. A session that is cut (by a deadline, an operator, the end of draining) has an exception thrown into it.
Who may connect is decided in `admission.py`, what is known of the connection is in `facts.py`, and a carrier moves its
bytes: `passing.py` those of an l4 route, `l7/sockets/drive.py` those of an l7 route.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from gevent.hub import get_hub

from mcproxy.model import Backend, Connection, End, Endpoint, Mode, Reason, Refused, Route
from mcproxy.net.admission import Admission
from mcproxy.net.crew import Job
from mcproxy.net.facts import Facts
from mcproxy.net.own import LEADS_BACK
from mcproxy.net.passing import Passing
from mcproxy.net.peek import peek
from mcproxy.net.raw import READ, IoWatcher, RawSocket, abort
from mcproxy.net.reach import Arrival
from mcproxy.net.shared import Carrier, Cut, Phase, Shared
from mcproxy.net.siblings import Handed, HandedOver, age
from mcproxy.policy import routing
from mcproxy.stats import Account, Tally
from mcproxy.wire import hello

log: Final = logging.getLogger(__name__)

# What was sent has arrived, or had time to; all else ends with a RST.
_DELIVERED: Final = {End.CLOSED, End.CHALLENGE, End.ABUSE, End.PROBE}
_CUT_REASONS: Final = {End.SHUTDOWN: Reason.SHUTDOWN, End.KILLED: Reason.KILLED}  # given where nothing was relayed yet
_EARLY: Final = frozenset((Phase.ACCEPTED, Phase.PEEKING, Phase.DIALLING))
# Named once: CONTRIBUTING says why.
_ACCEPTED: Final = Phase.ACCEPTED
_PEEKING: Final = Phase.PEEKING
_DIALLING: Final = Phase.DIALLING
_RELAYING: Final = Phase.RELAYING
_HANDED_OVER: Final = Phase.HANDED_OVER
_ENDED: Final = Phase.ENDED
_L7: Final = Mode.L7
_TRUNCATED: Final = Reason.HELLO_TRUNCATED


class Session:
    """One client connection. Everything here happens on the hub's thread."""

    __slots__ = (
        "_admission", "_cause", "_job", "account", "carrier", "client", "deadline", "facts", "phase", "readable",
        "shared", "slot",
    )  # fmt: skip

    def __init__(self, shared: Shared, listener: str, tally: Tally, client: RawSocket, peer: Endpoint) -> None:
        """`listener` is its address as configured, `peer` the address that accept() returned."""
        self.shared = shared
        self.client = client
        self.account = Account(tally)
        self.deadline = 0.0
        self.slot = 0
        self.phase = _ACCEPTED
        self.facts = facts = Facts(next(shared.ids), listener, peer)
        self.carrier: Carrier | None = None
        self._admission = Admission(shared, facts, client)
        self.readable: IoWatcher  # of the client's socket; made once the client is let in
        self._job: Job | None = None
        self._cause: BaseException | None = None  # the exception that cut it while no job was at work

    def __repr__(self) -> str:
        return f"<Session {self.facts} {self.phase}>"

    @property
    def admitted(self) -> bool:
        """Whether it has a place among its client's connections."""
        return self._admission.is_complete

    def start(self, handed: Handed | None = None) -> None:
        """Let the client in or refuse it; then run in a greenlet of its own, from the hub's next round on.

        `handed` is what another worker has found out, where it has handed the connection over.
        """
        shared, admission = self.shared, self._admission
        shared.sessions[self.facts.id] = self
        if not self._completes(admission.let_in if handed is None else partial(admission.take_over, handed)):
            self._leave()
            return
        self.readable = get_hub().loop.io(self.client.fileno(), READ)
        if handed is not None:
            shared.sweeper.arm(self, shared.timeouts.handshake - age(handed))
        shared.not_begun += 1
        self._job = shared.crew.spawn(self.run)

    def run(self) -> None:
        """The life of the connection, once it is let in or has to show a PROXY header."""
        self.shared.not_begun -= 1
        self._live(self._serve)

    def _live(self, step: Callable[[], None]) -> None:
        """Take a step of its life, after which it has ended or rests."""
        try:
            self._completes(step)
        finally:
            if self.carrier is None or not self.carrier.rests:
                self._leave()

    def _serve(self) -> None:
        if self._cause is not None:
            raise self._cause
        self.phase = _PEEKING
        if not self.slot:  # one that was handed over has a deadline
            self.shared.sweeper.arm(self, self.shared.timeouts.handshake)  # for the PROXY header and the hello together
        if not self._admission.is_complete:
            self._admission.read_proxy_header(self.readable)
        self._read_hello()
        end = self._terminate() if self._find_route().mode is _L7 else self._pass_on()
        if end is not None:
            self.facts.ended(end)

    def _completes(self, step: Callable[[], None]) -> bool:
        """Whether a step comes to its end; if not, note why."""
        try:
            step()
        except Refused as refusal:
            end = End.PROBE if refusal.reason is Reason.PROBE else End.REFUSED
            self.facts.ended(end, refusal.reason, refusal.detail)
        except Cut as cut:
            self.facts.ended(cut.end, _CUT_REASONS[cut.end] if self.phase in _EARLY else Reason.OK)
        except HandedOver:
            self.phase = _HANDED_OVER
        except Exception:
            log.exception("bug in %r", self)
            self.facts.ended(End.ERROR, Reason.INTERNAL_ERROR)
        else:
            return True
        return False

    def _read_hello(self) -> None:
        """Peek at the ClientHello, whose bytes stay in the kernel."""
        facts = self.facts
        try:
            facts.hello = found = peek(self.client, self.readable, hello.Reader().parse, _TRUNCATED)
        except hello.HelloRefused as refusal:
            facts.hello = refusal.hello
            raise
        if self.shared.outgoing.own.goes_round(found.random):
            raise Refused(Reason.OWN_CONNECTION, LEADS_BACK)

    def _find_route(self) -> Route:
        facts = self.facts
        assert facts.hello is not None
        facts.route = route = routing.find(self._admission.listener.routes, facts.hello.server_name)
        if route.mode is not _L7 or facts.hello.alpn != hello.CHALLENGE:  # a CA is no client of the route
            self.account.enter(self.shared.stats.route((facts.listener, route.hostname)))
        return route

    def _terminate(self) -> End | None:
        """Hand an l7 route's connection over, its ClientHello still in the kernel. None: it rests."""
        self.phase = Phase.TERMINATING
        if self.shared.terminate is None:
            raise Refused(Reason.INTERNAL_ERROR, "nothing here terminates TLS")
        return self.shared.terminate(self)

    def _pass_on(self) -> End | None:
        """Relay an l4 route's connection. None: it rests."""
        self.phase = _DIALLING
        self.carrier = passing = Passing(self)
        return passing.run(self.readable)

    def wake(self) -> None:
        """Go on after a rest, in a greenlet, from the hub's next round on."""
        self._job = self.shared.crew.spawn(partial(self._live, self._go_on))

    def _go_on(self) -> None:
        assert self.carrier is not None
        end = self.carrier.go_on(self._cause)
        if end is not None:
            self.facts.ended(end)

    def move_to(self, phase: Phase) -> None:
        """The session is in this phase now."""
        self.phase = phase

    def hand_over(self, carrier: Carrier, client: RawSocket | None = None) -> None:
        """Let `carrier` move the bytes and keep the deadlines; `client` is the socket, where it is a new one."""
        self.carrier = carrier
        self.client = client or self.client

    def arrival(self) -> Arrival:
        """The facts that dialling its backend and l7 need."""
        return self.facts.arrival(self.client)

    def reached(self, backend: Backend, took: float | None) -> None:
        """Count a dial that succeeded, in seconds; None: a connection that was there already was used.

        The first one opens the connection for those who watch.
        """
        if took is not None:
            self.account.dialled(took)
        is_first, self.facts.backend = self.facts.backend is None, backend
        if self.phase is _DIALLING:
            self.phase = _RELAYING
        if is_first and self.shared.opened is not None:
            self.shared.opened(self)

    def overdue(self, now: float) -> float | None:
        """Called by the sweeper when the deadline has come: cut, or return the next deadline."""
        if self.carrier is not None:
            return self.carrier.overdue(now)
        limit = self.shared.timeouts.handshake
        self.cut(Refused(Reason.HANDSHAKE_TIMEOUT, f"no whole ClientHello in {limit:g} s"))
        return None

    def cut(self, cause: Refused | Cut) -> None:
        """End the session wherever it waits. To be called on the hub."""
        carrier, job = self.carrier, self._job
        if job is None or not job.is_at_work:
            self._cause = cause  # for its job, which is about to begin
        if carrier is not None and carrier.rests:
            self.fail(cause)
            return
        if carrier is not None:
            carrier.stop()
        if job is not None:
            job.throw(cause)

    def fail(self, failure: BaseException) -> None:
        """End by a failure that came while it rests. On the hub: all that is left to do is to close."""
        self._cause = failure
        self._live(self._go_on)

    def _leave(self) -> None:
        """Close the sockets, give back the places, and report the end."""
        shared, facts = self.shared, self.facts
        handed_over, self.phase = self.phase is _HANDED_OVER, _ENDED
        if self._job is not None:
            self.readable.close()
        if handed_over or facts.end in _DELIVERED:
            self.client.close()
        else:
            abort(self.client)
        shared.sweeper.disarm(self)
        del shared.sessions[facts.id]
        self._admission.leave()
        if handed_over:
            self.account.hand_over()
            return
        connection = self.connection()
        self.carrier = None  # it knows the session: both would be left to the collector
        self.account.end(connection)
        shared.ended(connection)

    @property
    def received(self) -> int:
        """Bytes from client to backend so far; of an l7 session, after decryption."""
        return self.carrier.received if self.carrier else 0

    @property
    def sent(self) -> int:
        """Bytes from backend to client so far; of an l7 session, before encryption."""
        return self.carrier.sent if self.carrier else 0

    def connection(self) -> Connection:
        """The connection's record as of now."""
        carrier = self.carrier
        if carrier is None:
            return self.facts.connection(0, 0, "")
        return self.facts.connection(carrier.received, carrier.sent, carrier.detail)
