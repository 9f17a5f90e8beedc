"""One client connection, from accept to its log line.

`Session.run` is the whole story. The steps before the relay raise `Refused`, and then the client gets a RST and
nothing else. A session that is cut (by a deadline, an operator, the end of draining) has an exception thrown into it.
"""

import itertools
import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeVar

from gevent.hub import get_hub

from mcproxy.model import Backend, Connection, End, Endpoint, Mode, Reason, Refused, Route
from mcproxy.net.crew import Job
from mcproxy.net.passing import Passing
from mcproxy.net.peek import peek
from mcproxy.net.raw import READ, IoWatcher, RawSocket, abort
from mcproxy.net.reach import Arrival
from mcproxy.net.shared import Carrier, Cut, Phase, Shared
from mcproxy.policy import firewall, routing
from mcproxy.policy.networks import pack, unpack
from mcproxy.stats import Account, Tally
from mcproxy.table import ListenerTable
from mcproxy.wire import hello, proxy_protocol

T = TypeVar("T")

log = logging.getLogger(__name__)

_DELIVERED = {End.CLOSED, End.ABUSE, End.PROBE}  # what was sent has arrived, or had time to; all else ends with a RST

_ids = itertools.count(1)


_CUT_REASONS = {End.SHUTDOWN: Reason.SHUTDOWN, End.KILLED: Reason.KILLED}  # given where nothing was relayed yet


_LEADS_BACK = "a route leads back to this listener; change the route's backend"

_EARLY = frozenset((Phase.ACCEPTED, Phase.PEEKING, Phase.DIALLING))


class Accepted(NamedTuple):
    """What is known of a connection from its beginning on."""

    id: int  # unique while the process lives, rising
    listener: str  # its address as configured
    began: float  # seconds of a monotonic clock


class Identity(NamedTuple):
    """Who the client is: the peer, until a PROXY header of a trusted one says otherwise."""

    address: Endpoint
    packed: bytes = b""  # the address, for the policies; b"": not known yet
    destination: Endpoint | None = None  # where the client connected to, if a PROXY header says so


class Place(Enum):
    """Which places the session holds, to be given back."""

    NONE = "none"
    LISTENER = "listener"  # in the whole and in its listener
    CLIENT = "client"  # and among the connections of its client


class SessionEnd(NamedTuple):
    """How a session ends."""

    end: End
    reason: Reason = Reason.OK
    detail: str = ""


class Session:
    """One client connection. All of it happens on the hub's thread."""

    __slots__ = (
        "_accepted", "_cause", "_job", "_listener", "_outcome", "_peeked", "_place", "account", "backend",
        "carrier", "client", "deadline", "hello", "identity", "phase", "readable", "route", "shared", "slot",
    )  # fmt: skip

    def __init__(self, shared: Shared, listener: str, tally: Tally, client: RawSocket, peer: Endpoint) -> None:
        """`listener` is its address as configured, `peer` what accept() said."""
        self.shared = shared
        self.client = client
        self.readable: IoWatcher  # made once the client is let in
        self.account = Account(tally)
        self.deadline = 0.0
        self.slot = 0
        self.phase = Phase.ACCEPTED
        self.identity = Identity(peer)
        self.hello: hello.Hello | None = None
        self.route: Route | None = None
        self.carrier: Carrier | None = None
        self.backend: Backend | None = None  # that was reached
        self._accepted = Accepted(next(_ids), listener, time.monotonic())
        self._listener: ListenerTable | None = None  # as of the table that was read last
        self._job: Job | None = None
        self._cause: Refused | Cut | None = None  # what it was cut with before its job began
        self._peeked = b""  # the ClientHello, from when it is read until somebody has it
        self._place = Place.NONE
        self._outcome = SessionEnd(End.REFUSED)

    def __repr__(self) -> str:
        name = self.hello.server_name if self.hello else "?"
        host, port = self.identity.address
        return f"<Session {self.id} {self.phase} {self._accepted.listener} {host}:{port} {name}>"

    @property
    def id(self) -> int:
        """Unique while the process lives, rising."""
        return self._accepted.id

    @property
    def began(self) -> float:
        """When it was accepted: seconds of a monotonic clock."""
        return self._accepted.began

    @property
    def packed(self) -> bytes:
        """The client's address; b"" before it is known."""
        return self.identity.packed

    @property
    def admitted(self) -> bool:
        """Whether it has a place among its client's connections."""
        return self._place is Place.CLIENT

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
        if self.shared.outgoing.own.has(self.client, self.identity.address):
            raise Refused(Reason.OWN_CONNECTION, _LEADS_BACK)
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
        end = self._terminate() if self._find_route().mode is Mode.L7 else self._pass_on()
        self._outcome = SessionEnd(end)

    def _completes(self, step: Callable[[], None]) -> bool:
        """Whether a step comes to its end; if not, note why."""
        try:
            step()
        except Refused as refusal:
            end = End.PROBE if refusal.reason is Reason.PROBE else End.REFUSED
            self._outcome = SessionEnd(end, refusal.reason, refusal.detail)
        except Cut as cut:
            self._outcome = SessionEnd(cut.end, _CUT_REASONS[cut.end] if self.phase in _EARLY else Reason.OK)
        except Exception:
            log.exception("bug in %r", self)
            self._outcome = SessionEnd(End.ERROR, Reason.INTERNAL_ERROR)
        else:
            return True
        return False

    def _enter(self) -> ListenerTable:
        """Take a place among all connections and those of the listener."""
        shared = self.shared
        # The lowest free number tells how many are taken; and each session will have a backend's, too.
        if max(self.client.fileno(), 2 * len(shared.sessions)) > shared.max_descriptor:
            raise Refused(Reason.DESCRIPTORS, "too few file descriptors left; raise the limit (ulimit -n)")
        addr = self._accepted.listener
        self._listener = listener = shared.live.table.listeners.get(addr)
        if listener is None:
            raise Refused(Reason.ROUTE_UNKNOWN, "the listener was removed")
        if reason := shared.limits.enter(addr, listener.listener.max_connections):
            raise Refused(reason)
        self._place = Place.LISTENER
        return listener

    def _recognise_peer(self) -> None:
        """Note who connected, which is the client unless a PROXY header names another."""
        host, port = self.identity.address
        packed = pack(host)
        if len(packed) == 4 and ":" in host:  # IPv4 that came to an IPv6 socket
            host = unpack(packed)
        self.identity = Identity((host, port), packed)

    def _read_proxy_header(self) -> None:
        """Find out whom a trusted proxy names as the client."""
        assert self._listener is not None
        if self._listener.trusted.find(self.packed) is None:
            raise Refused(Reason.PROXY_UNTRUSTED, f"{unpack(self.packed)} is not in trusted_proxies")
        header, _ = self._peek(proxy_protocol.parse, Reason.PROXY_MALFORMED)
        self.client.recv(header.size)  # all of it is there: it was peeked at
        if header.source is not None:
            self.identity = Identity(header.source, pack(header.source[0]), header.destination)

    def _admit(self) -> None:
        """Ask the firewall, then take a place among this client's connections.

        The table is read again: a PROXY header may take long, and a rule's `--kill` meanwhile has missed this session.
        """
        table = self.shared.live.table
        if rule := table.firewall.match(self.packed, self.shared.country):
            raise Refused(firewall.REASONS[rule.kind], rule.value)
        if reason := self.shared.limits.admit(self.packed, time.monotonic()):
            raise Refused(reason)
        self._place = Place.CLIENT
        self._listener = table.listeners.get(self._accepted.listener, self._listener)  # what it accepted outlives it

    def _read_hello(self) -> None:
        """Peek at the ClientHello, whose bytes stay in the kernel."""
        try:
            found, self._peeked = self._peek(hello.Reader().parse, Reason.HELLO_TRUNCATED)
        except hello.HelloRefused as refusal:
            self.hello = refusal.hello
            raise
        self.hello = found
        if self.shared.outgoing.own.goes_round(found.random):
            raise Refused(Reason.OWN_CONNECTION, _LEADS_BACK)

    def _peek(self, parse: Callable[[bytes], T | int], ended: Reason) -> tuple[T, bytes]:
        if self.phase is Phase.ACCEPTED:  # one deadline for the PROXY header and the hello together
            self.phase = Phase.PEEKING
            self.shared.sweeper.arm(self, self.shared.timeouts.handshake)
        return peek(self.client, self.readable, parse, ended)

    def _find_route(self) -> Route:
        assert self._listener is not None
        assert self.hello is not None
        self.route = route = routing.find(self._listener.routes, self.hello.server_name)
        self.account.enter(self.shared.stats.route((self._accepted.listener, route.hostname)))
        return route

    def _terminate(self) -> End:
        """Hand an l7 route's connection over, its ClientHello still in the kernel."""
        self.phase = Phase.TERMINATING
        self._peeked = b""  # OpenSSL reads them itself
        if self.shared.terminate is None:
            raise Refused(Reason.INTERNAL_ERROR, "nothing here terminates TLS")
        return self.shared.terminate(self)

    def _pass_on(self) -> End:
        """Relay an l4 route's connection."""
        assert self.hello is not None
        passing, own, random = Passing(self, self._peeked), self.shared.outgoing.own, self.hello.random
        self._peeked = b""
        self.hand_over(passing)
        own.pass_on(random)
        try:
            return passing.run(self.readable)
        finally:
            own.passed(random)

    def move_to(self, phase: Phase) -> None:
        """The session is in this phase now."""
        self.phase = phase

    def hand_over(self, carrier: Carrier, client: RawSocket | None = None) -> None:
        """Let `carrier` move the bytes and keep the deadlines; `client` is the socket, where it is a new one."""
        self.carrier = carrier
        self.client = client or self.client

    def arrival(self) -> Arrival:
        """The facts that dialling its backend and l7 need."""
        assert self.route is not None
        assert self.hello is not None
        address, _, destination = self.identity
        if self.route.send_proxy_protocol and destination is None:
            destination = self.client.getsockname()[:2]
        return Arrival(self.id, self._accepted.listener, address, destination, self.hello, self.route)

    def reached(self, backend: Backend, took: float | None) -> None:
        """Count a dial that succeeded, in seconds; None: a connection that was there already was used.

        The first one opens the connection for those who watch.
        """
        if took is not None:
            self.account.dialled(took)
        is_first, self.backend = self.backend is None, backend
        if self.phase is Phase.DIALLING:
            self.phase = Phase.RELAYING
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
        if self.phase is Phase.ACCEPTED:
            self._cause = cause  # its job is about to begin
        if self.carrier is not None:
            self.carrier.stop()
        if self._job is not None:
            self._job.throw(cause)

    def _leave(self) -> None:
        """Close the sockets, release the places, and report the end."""
        shared = self.shared
        self.phase = Phase.ENDED
        if self._job is not None:
            self.readable.close()
        if self._outcome.end in _DELIVERED:
            self.client.close()
        else:
            abort(self.client)
        shared.sweeper.disarm(self)
        del shared.sessions[self.id]
        if self._place is Place.CLIENT:
            shared.limits.release(self.identity.packed)
        if self._place is not Place.NONE:
            shared.limits.leave(self._accepted.listener)
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
        _, listener, began = self._accepted
        duration = time.monotonic() - began
        route, seen = self.route, self.hello
        end, reason, detail = self._outcome
        return Connection(
            id=self.id,
            started=time.time() - duration,
            duration=duration,
            listener=listener,
            client=self.identity.address,
            sni=seen.server_name if seen else "",
            versions=seen.versions if seen else (),
            alpn=seen.alpn if seen else (),
            ech=seen.ech if seen else False,
            route=route.hostname if route else "",
            mode=route.mode if route else "",
            backend=self.backend or (route.backend if route else None),
            reason=reason,
            detail=detail or (self.carrier.detail if self.carrier else ""),
            received=self.received,
            sent=self.sent,
            end=end,
        )
