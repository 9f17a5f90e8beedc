"""One client connection, from accept to its log line.

`Session.run` is the whole story. The steps before the relay raise `Refused`, and then the client gets a RST and
nothing else. A session that is cut (by a deadline, an operator, the end of draining) has an exception thrown into it.
"""

import itertools
import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from gevent.hub import get_hub

from mcproxy.model import Backend, Connection, End, Mode, Reason, Refused, Route
from mcproxy.net.crew import Job
from mcproxy.net.peek import peek
from mcproxy.net.raw import READ, IoWatcher, RawSocket, abort
from mcproxy.net.reach import Arrival, Endpoint, reach
from mcproxy.net.relay import Relay, flush
from mcproxy.net.shared import Carrier, Cut, Shared
from mcproxy.policy import firewall, routing
from mcproxy.policy.networks import pack, unpack
from mcproxy.stats import Account, Tally
from mcproxy.table import ListenerTable
from mcproxy.wire import hello, proxy_protocol

T = TypeVar("T")

log = logging.getLogger(__name__)

VISITS = 4  # checks of an idle timeout in its length: it fires up to 1/VISITS late, never early

_DELIVERED = {End.CLOSED, End.ABUSE, End.PROBE}  # what was sent has arrived, or had time to; all else ends with a RST

_ids = itertools.count(1)


class Phase(StrEnum):
    """Where a session is."""

    ACCEPTED = "accepted"  # nothing is known but the peer's address
    PEEKING = "peeking"  # waiting for the PROXY header or the ClientHello
    DIALLING = "dialling"  # connecting to the backend
    RELAYING = "relaying"  # bytes pass both ways
    HALF_CLOSED = "half-closed"  # one side has ended, the other goes on
    FLUSHING = "flushing"  # one side was reset; the other one gets what came before
    TERMINATING = "terminating"  # l7: TLS ends here, and what ends it keeps the deadlines
    ENDED = "ended"


_CUT_REASONS = {End.SHUTDOWN: Reason.SHUTDOWN, End.KILLED: Reason.KILLED}  # told where the relay has not begun


class Session:
    """One client connection. All of it happens on the hub's thread."""

    __slots__ = (
        "_cause", "_entered", "_job", "_listener", "_moved", "_peeked", "_quiet_since", "_reached", "_relay",
        "account", "address", "admitted", "backend", "began", "carrier", "client", "deadline", "destination",
        "detail", "end", "hello", "id", "listener", "packed", "phase", "readable", "reason", "route", "shared",
        "slot", "table",
    )  # fmt: skip

    def __init__(self, shared: Shared, listener: str, tally: Tally, client: RawSocket, peer: Endpoint) -> None:
        """`listener` is its address as configured, `peer` what accept() said."""
        self.shared = shared
        self.client = client
        self.readable: IoWatcher  # made once the client is let in
        self.began = time.monotonic()
        self.table = shared.live.table  # until `_admit` takes the one that holds then, for good
        self._listener: ListenerTable | None = None  # as of that table
        self.account = Account(tally)
        self._entered = False
        self.admitted = False  # has a place among its client's connections
        self._job: Job | None = None
        self._cause: Refused | Cut | None = None  # what it was cut with before its job began
        self._peeked = b""  # the ClientHello, still in the kernel too
        self._relay: Relay | None = None
        self.carrier: Carrier | None = None
        self._moved = 0  # bytes delivered when the sweeper last looked
        self._quiet_since = 0.0  # when it first saw that number
        self.deadline = 0.0
        self.slot = 0
        self.id = next(_ids)
        self.listener = listener
        self.address = peer  # the client's
        self.destination: Endpoint | None = None  # where the client connected to, if a PROXY header told
        self.packed = b""  # the client's address, for the policies
        self.hello: hello.Hello | None = None
        self.route: Route | None = None
        self.backend: Backend | None = None  # the route's, then the one that was reached
        self._reached = False
        self.phase = Phase.ACCEPTED
        self.end = End.REFUSED
        self.reason = Reason.OK
        self.detail = ""

    def __repr__(self) -> str:
        name = self.hello.server_name if self.hello else "?"
        return f"<Session {self.id} {self.phase} {self.listener} {self.address[0]}:{self.address[1]} {name}>"

    def start(self) -> None:
        """Decide what can be decided at once; then run in a greenlet of its own, from the hub's next round on.

        A refusal costs its sender next to nothing. So where no PROXY header has to be read first, firewall and limits
        are asked before there is a watcher or a greenlet.
        """
        shared = self.shared
        shared.sessions[self.id] = self
        if not self._completes(self._let_in):
            self._leave()
            return
        self.readable = get_hub().loop.io(self.client.fileno(), READ)
        shared.not_begun += 1
        self._job = shared.crew.spawn(self.run)

    def _let_in(self) -> None:
        listener = self._enter()
        self._recognise_peer()
        if self.shared.outgoing.own.has(self.client, self.address):
            raise Refused(Reason.OWN_CONNECTION, "a route leads back to this listener; change the route's backend")
        if not listener.listener.proxy_protocol:
            self._admit()

    def run(self) -> None:
        """The life of the connection, once it is let in or has to show a PROXY header."""
        self.shared.not_begun -= 1
        try:
            self._completes(self._serve)
        finally:
            self._leave()

    def _serve(self) -> None:
        if self._cause is not None:
            raise self._cause
        if not self.admitted:
            self._read_proxy_header()
            self._admit()
        self._read_hello()
        self.end = self._terminate() if self._find_route().mode is Mode.L7 else self._pass_on()

    def _completes(self, step: Callable[[], None]) -> bool:
        """Whether a step comes to its end; if not, note why."""
        try:
            step()
        except Refused as refusal:
            self.reason, self.detail = refusal.reason, refusal.detail
            if refusal.reason is Reason.PROBE:
                self.end = End.PROBE
        except Cut as cut:
            self.end = cut.end
            if self._relay is None and self.carrier is None:
                self.reason = _CUT_REASONS[cut.end]
        except Exception:
            log.exception("bug in %r", self)
            self.end = End.ERROR
            self.reason = Reason.INTERNAL_ERROR
        else:
            return True
        return False

    def _enter(self) -> ListenerTable:
        """Take a place among all connections and those of the listener."""
        shared = self.shared
        # The lowest free number tells how many are taken; and each session will have a backend's, too.
        if max(self.client.fileno(), 2 * len(shared.sessions)) > shared.max_descriptor:
            raise Refused(Reason.DESCRIPTORS, "too few file descriptors left; raise the limit (ulimit -n)")
        self._listener = listener = self.table.listeners.get(self.listener)
        if listener is None:
            raise Refused(Reason.ROUTE_UNKNOWN, "the listener was removed")
        if reason := shared.limits.enter(self.listener, listener.listener.max_connections):
            raise Refused(reason)
        self._entered = True
        return listener

    def _recognise_peer(self) -> None:
        """Note who connected, which is the client unless a PROXY header names another."""
        self.packed = pack(self.address[0])
        if len(self.packed) == 4 and ":" in self.address[0]:  # IPv4 that came to an IPv6 socket
            self.address = (unpack(self.packed), self.address[1])

    def _read_proxy_header(self) -> None:
        """Find out whom a trusted proxy names as the client."""
        assert self._listener is not None
        if self._listener.trusted.find(self.packed) is None:
            raise Refused(Reason.PROXY_UNTRUSTED, f"{unpack(self.packed)} is not in trusted_proxies")
        header, _ = self._peek(proxy_protocol.parse, Reason.PROXY_MALFORMED)
        self.client.recv(header.size)  # all of it is there: it was peeked at
        if header.source is not None:
            self.address, self.destination = header.source, header.destination
            self.packed = pack(self.address[0])

    def _admit(self) -> None:
        """Ask the firewall, then take a place among this client's connections.

        The table is read again: a PROXY header may take long, and a rule's `--kill` meanwhile has missed this session.
        """
        self.table = self.shared.live.table
        if rule := self.table.firewall.match(self.packed, self.shared.country):
            raise Refused(firewall.REASONS[rule.kind], rule.value)
        if reason := self.shared.limits.admit(self.packed, time.monotonic()):
            raise Refused(reason)
        self.admitted = True
        self._listener = self.table.listeners.get(self.listener, self._listener)  # what it accepted outlives it

    def _read_hello(self) -> None:
        try:
            self.hello, self._peeked = self._peek(hello.Reader().parse, Reason.HELLO_TRUNCATED)
        except hello.HelloRefused as refusal:
            self.hello = refusal.hello
            raise

    def _peek(self, parse: Callable[[bytes], T | int], ended: Reason) -> tuple[T, bytes]:
        if self.phase is Phase.ACCEPTED:  # one deadline for the PROXY header and the hello together
            self.phase = Phase.PEEKING
            self.shared.sweeper.arm(self, self.shared.timeouts.handshake)
        return peek(self.client, self.readable, parse, ended)

    def _find_route(self) -> Route:
        assert self._listener is not None
        assert self.hello is not None
        self.route = route = routing.find(self._listener.routes, self.hello.server_name)
        self.backend = route.backend
        self.account.enter(self.shared.stats.route((self.listener, route.hostname)))
        return route

    def _terminate(self) -> End:
        """Hand an l7 route's connection over, its ClientHello still in the kernel."""
        self.phase = Phase.TERMINATING
        if self.shared.terminate is None:
            raise Refused(Reason.INTERNAL_ERROR, "nothing here terminates TLS")
        return self.shared.terminate(self)

    def _pass_on(self) -> End:
        """Dial the backend and relay until both sides have ended."""
        assert self.hello is not None
        shared = self.shared
        self.phase = Phase.DIALLING
        shared.sweeper.arm(self, shared.timeouts.connect)
        # The backend will choose from what the client offers; what it wants most is the best guess.
        alpn = self.hello.alpn[0] if self.hello.alpn else b""
        backend = reach(self.arrival(), alpn, self._peeked, shared.outgoing, self.reached)
        try:
            self.client.recv(len(self._peeked))  # the backend has it now
            self._relay = Relay(self.client, self.readable, backend, shared.pipes, self._half_closed, shared.crew.spawn)
            self._relay.up.moved = len(self._peeked)
            self._peeked = b""
            self._wait_for_idleness(shared.timeouts.idle)
            self._relay.run()
            end = self._flush(backend)
        except BaseException:
            abort(backend)
            raise
        backend.close()
        return end

    def hand_over(self, carrier: Carrier, client: RawSocket | None = None) -> None:
        """Let `carrier` move the bytes and keep the deadlines; `client` is the socket, where it is a new one."""
        self.carrier = carrier
        self.client = client or self.client

    def arrival(self) -> Arrival:
        """The facts that dialling its backend and l7 need."""
        assert self.route is not None
        assert self.hello is not None
        destination = self.destination
        if self.route.send_proxy_protocol and destination is None:
            destination = self.client.getsockname()[:2]
        return Arrival(self.id, self.listener, self.address, destination, self.hello, self.route)

    def reached(self, backend: Backend, took: float) -> None:
        """Count a dial that succeeded, in seconds; the first one opens the connection for those who watch."""
        self.account.dialled(took)
        self.backend = backend
        if self.phase is Phase.DIALLING:
            self.phase = Phase.RELAYING
        if not self._reached and self.shared.opened is not None:
            self.shared.opened(self)
        self._reached = True

    def _half_closed(self) -> None:
        self.phase = Phase.HALF_CLOSED
        self._wait_for_idleness(self.shared.timeouts.half_close)

    def _flush(self, backend: RawSocket) -> End:
        """After a reset, wait until the other side has what came before it; then reset that side too."""
        relay = self._relay
        if relay is None or relay.first_reset is None:
            return End.CLOSED
        by_client = relay.first_reset is self.client
        self.phase = Phase.FLUSHING
        self._wait_for_idleness(self.shared.timeouts.half_close)
        flush(backend if by_client else self.client)
        abort(backend)
        return End.CLIENT_RESET if by_client else End.BACKEND_RESET

    def _wait_for_idleness(self, limit: float) -> None:
        self._quiet_since = self.shared.sweeper.now()
        self.shared.sweeper.arm(self, limit / VISITS)

    def overdue(self, now: float) -> float | None:
        """Called by the sweeper when the deadline has come: cut, or return the next deadline."""
        timeouts = self.shared.timeouts
        if self.carrier is not None:
            return self.carrier.overdue(now)
        if self.phase is Phase.PEEKING:
            self.cut(Refused(Reason.HANDSHAKE_TIMEOUT, f"no whole ClientHello in {timeouts.handshake:g} s"))
            return None
        if self.phase is Phase.DIALLING:
            self.cut(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {timeouts.connect:g} s"))
            return None
        idle = self.phase is Phase.RELAYING
        limit = timeouts.idle if idle else timeouts.half_close
        moved = self._relay.delivered() if self._relay else 0
        if moved != self._moved:
            self._moved, self._quiet_since = moved, now
        elif now - self._quiet_since >= limit:
            self.cut(Cut(End.IDLE_TIMEOUT if idle else End.HALF_CLOSE_TIMEOUT))
            return None
        return now + limit / VISITS

    def cut(self, cause: Refused | Cut) -> None:
        """End the session wherever it waits. To be called on the hub."""
        if self.phase is Phase.ACCEPTED:
            self._cause = cause  # its job is about to begin
        if self._relay is not None:
            self._relay.stop()
        if self._job is not None:
            self._job.throw(cause)

    def _leave(self) -> None:
        """Close the sockets, release the places, and report the end."""
        shared = self.shared
        self.phase = Phase.ENDED
        if self._job is not None:
            self.readable.close()
        if self.end in _DELIVERED:
            self.client.close()
        else:
            abort(self.client)
        shared.sweeper.disarm(self)
        del shared.sessions[self.id]
        if self.admitted:
            shared.limits.release(self.packed)
        if self._entered:
            shared.limits.leave(self.listener)
        connection = self.connection()
        self._relay = self.carrier = None  # they know the session: it would be left to the collector
        self.account.end(connection)
        shared.ended(connection)

    @property
    def received(self) -> int:
        """Bytes from client to backend so far; of an l7 session, after decryption."""
        if self.carrier is not None:
            return self.carrier.received
        return self._relay.up.moved if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes from backend to client so far; of an l7 session, before encryption."""
        if self.carrier is not None:
            return self.carrier.sent
        return self._relay.down.moved if self._relay else 0

    def connection(self) -> Connection:
        """The connection's record as of now."""
        duration = time.monotonic() - self.began
        route, seen = self.route, self.hello
        return Connection(
            id=self.id,
            started=time.time() - duration,
            duration=duration,
            listener=self.listener,
            client=self.address,
            sni=seen.server_name if seen else "",
            versions=seen.versions if seen else (),
            alpn=seen.alpn if seen else (),
            ech=seen.ech if seen else False,
            route=route.hostname if route else "",
            mode=route.mode if route else "",
            backend=self.backend,
            reason=self.reason,
            detail=self.detail or (self.carrier.detail if self.carrier else ""),
            received=self.received,
            sent=self.sent,
            end=self.end,
        )
