"""The way into l7: TLS with the route's certificate, then HTTP by what ALPN agreed on.

`Terminator` is what `Shared.terminate` is set to. The ClientHello is still in the kernel, so the handshake just starts;
the deadline of the hello is that of the whole handshake. A client that offers protocols in ALPN and none that we speak
is refused before it (RFC 7301, section 3.2), so that TLS meant for another service never finds HTTP here; no ALPN at
all is HTTP/1.1.
"""

import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.approach import Approach
from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Record
from mcproxy.l7.relay.relay import Relay
from mcproxy.l7.sockets import channel as channels
from mcproxy.l7.sockets.backend_link import BeginAgain
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.sockets.channel import Channel, Flooded, Lost, TLSChannel
from mcproxy.l7.sockets.drive import Drive
from mcproxy.l7.sockets.lines import Lines
from mcproxy.l7.sockets.pool import Pools
from mcproxy.l7.sockets.pooled import H2, HTTP1
from mcproxy.l7.sockets.probe import decided
from mcproxy.model import End, Origin, Reason, Refused, Route
from mcproxy.net.reach import Arrival
from mcproxy.net.shared import OpenSession
from mcproxy.notation.name import InvalidName, normalise
from mcproxy.tuning import keep_memory
from mcproxy.wire.hello import CHALLENGE

PROTOCOLS: Final[tuple[str, ...]] = ("h2", "http/1.1", "http/1.0")  # of ALPN, best first
_OFFERS: Final = frozenset(protocol.encode() for protocol in PROTOCOLS)


class _Handshake:
    """The session's carrier while TLS is being agreed on, and until it is known what the backend speaks."""

    __slots__ = ("_session", "detail", "is_over")

    received = 0
    sent = 0
    rests = False

    def __init__(self, session: OpenSession) -> None:
        self._session = session
        self.detail = ""  # why the client was disconnected, where it was
        self.is_over = False  # the handshake; what follows has limits of its own

    def overdue(self, now: float) -> float | None:  # noqa: ARG002 - the Carrier's
        """The time for the hello and the handshake is over."""
        if self.is_over:
            return None
        limit = self._session.shared.timeouts.handshake
        self._session.cut(Refused(Reason.HANDSHAKE_TIMEOUT, f"no whole TLS handshake in {limit:g} s"))
        return None

    def rest(self) -> bool:
        """Never: it has a deadline."""
        return False

    def go_on(self, cause: BaseException | None) -> End | None:
        """Not after a rest."""
        raise AssertionError(f"it never rests: {cause}")

    def drain(self) -> None:
        """The session looks at `Shared.draining` later."""

    def stop(self) -> None:
        """Nothing: the handshake runs in the session's greenlet."""


class Terminator:
    """Runs l7 sessions."""

    def __init__(self, contexts: Contexts, backends: Backends, record_for: Callable[[Origin], Record]) -> None:
        """`record_for` returns what takes the exchanges of a connection as they end."""
        self.contexts = contexts
        self._backends = backends
        self._pools = Pools()
        self._record_for = record_for
        self._keeps_memory = False

    def __repr__(self) -> str:
        return f"<Terminator {self.contexts!r}>"

    def release(self) -> None:
        """Close the connections to backends that are idle: the worker has stopped."""
        self._pools.retire()

    def __call__(self, session: OpenSession) -> End | None:
        """Run a session whose hello has been peeked at. None: it rests. Raises Refused where it doesn't get to HTTP."""
        arrival = session.arrival()
        route, offered = arrival.route, arrival.hello.alpn
        if offered == CHALLENGE:
            return self._answer_challenge(session, route)
        if offered and not _OFFERS & frozenset(offered):
            raise Refused(Reason.TLS_FAILED, "it offers no protocol that is spoken here")
        handshake = _Handshake(session)
        session.hand_over(handshake)
        context = self.contexts.server(arrival.listener, route)
        try:
            channel = _accept(session, context)
        except Flooded as flood:
            handshake.detail = str(flood)
            return End.ABUSE
        except Lost as lost:
            raise Refused(Reason.TLS_FAILED, str(lost)) from lost
        handshake.is_over = True
        session.hand_over(handshake, channel.sock)
        return self._run(session, arrival, channel)

    def _run(self, session: OpenSession, arrival: Arrival, channel: TLSChannel) -> End | None:
        """Proxy HTTP; begin again if the backend turns out to speak another version than was known."""
        if not self._keeps_memory:
            self._keeps_memory = True
            threading.Thread(target=keep_memory, name="memory", daemon=True).start()  # it reads a library
        protocol = channel.protocol
        approach = Approach(session.shared, arrival, protocol, self.contexts, self._backends, session.reached)
        record = self._record_for(_origin(arrival, protocol))
        if protocol != H2 or approach.version() != H2:
            return _serve(session, channel, self._bridged(session, channel, approach, record))
        contradicted = None if decided(arrival.route) else approach.contradicted
        drive = Drive(session, channel, _relay(arrival), approach.dial, record, contradicted=contradicted)
        try:
            return _serve(session, channel, drive)
        except BeginAgain as again:
            pending = again.kept
        if approach.version() != H2:
            return _serve(session, channel, self._bridged(session, channel, approach, record, pending))
        return _serve(session, channel, Drive(session, channel, _relay(arrival), _vanished, record, pending=pending))

    def _answer_challenge(self, session: OpenSession, route: Route) -> End:
        """Show a CA that the name leads here (RFC 8737): the handshake is all there is."""
        handshake = _Handshake(session)
        session.hand_over(handshake)
        context = self.contexts.challenge(route)
        try:
            channel = _accept(session, context)
        except (Flooded, Lost) as lost:
            raise Refused(Reason.TLS_FAILED, f"an ACME challenge: {lost}") from lost
        handshake.detail = "an ACME challenge was answered"
        session.hand_over(handshake, channel.sock)
        channel.end()
        return End.CHALLENGE

    def _bridged(
        self, session: OpenSession, channel: TLSChannel, approach: Approach, record: Record, pending: bytes = b""
    ) -> Drive:
        """The drive for all pairings but HTTP/2 to HTTP/2."""
        arrival = approach.arrival
        route = arrival.route
        core = Bridge(_spoken(approach.protocol), route.hostname, arrival.client[0], _leads_to(route), time.monotonic())
        pool = self._pools.of(session.shared, arrival.listener, route)
        lines = Lines(session, core, pool, approach.connect, approach.doubt)
        return Drive(session, channel, core, lines, record, pending=pending)


def _accept(session: OpenSession, context: ssl.SSLContext) -> TLSChannel:
    shared = session.shared
    return channels.accept(session.client, context, shared.turns, shared.read_guard, session.readable)


def _relay(arrival: Arrival) -> Relay:
    return Relay(arrival.route.hostname, arrival.client[0], _leads_to(arrival.route), time.monotonic())


def _vanished(_first: bytes) -> Channel:
    """Once more would be too often: a backend of HTTP/2 that vanishes may have acted on its requests."""
    raise Lost("the backend closed its connection")


def _serve(session: OpenSession, channel: TLSChannel, drive: Drive) -> End | None:
    session.hand_over(drive, channel.sock)
    return drive.go_on()


def _leads_to(route: Route) -> Callable[[bytes], bool]:
    """Whether a host of a request leads to the same route (RFC 9110, section 7.4). Names match exactly."""

    def leads_here(host: bytes) -> bool:
        try:
            return normalise(host.decode("ascii")) == route.hostname
        except (InvalidName, UnicodeDecodeError):
            return False

    return leads_here


def _origin(arrival: Arrival, protocol: str) -> Origin:
    """What all exchanges of a session have in common; `protocol` is what ALPN chose, if anything."""
    return Origin(arrival.id, _spoken(protocol), arrival.listener, arrival.client, arrival.route.hostname)


def _spoken(protocol: str) -> str:
    """The version of HTTP that a client speaks which chose this in ALPN."""
    return H2 if protocol == H2 else HTTP1
