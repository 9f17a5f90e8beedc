"""The way into l7: TLS with the route's certificate, then HTTP by what ALPN agreed on.

`Terminator` is what `Shared.terminate` is set to. The ClientHello is still in the kernel, so the handshake just starts;
the deadline of the hello is that of the whole handshake. A client that offers protocols in ALPN and none that we speak
is refused before it (RFC 7301, section 3.2), so that TLS meant for another service never finds HTTP here; no ALPN at
all is HTTP/1.1.
"""

import ssl
import time
from collections.abc import Callable

from mcproxy.certificates.contexts import CHALLENGE_PROTOCOL, Contexts
from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Core, Record
from mcproxy.l7.relay.relay import Relay
from mcproxy.l7.sockets import channel as channels
from mcproxy.l7.sockets.channel import Channel, Flooded, Lost
from mcproxy.l7.sockets.drive import Drive
from mcproxy.model import End, Origin, Reason, Refused, Route
from mcproxy.net.reach import Arrival, reach
from mcproxy.net.shared import OpenSession
from mcproxy.notation.name import InvalidName, normalise

PROTOCOLS = ("h2", "http/1.1", "http/1.0")  # of ALPN, best first
# What is wrong with a backend's certificate, by X509_V_ERR_* (x509_vfy.h).
_UNKNOWN_CA = "is of no CA in {ca}; name the file of its CA in backend_ca"
_CERTIFICATE_FAULTS = {
    2: _UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT
    9: "is not valid yet; check its dates and this machine's clock",  # CERT_NOT_YET_VALID
    10: "has expired, or one of its CAs has; renew it at the backend",  # CERT_HAS_EXPIRED
    18: _UNKNOWN_CA,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: _UNKNOWN_CA,  # SELF_SIGNED_CERT_IN_CHAIN
    20: _UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _UNKNOWN_CA,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    62: "is not for {name}; give a name that it has as backend_server_name",  # HOSTNAME_MISMATCH
}
_CHALLENGE = (CHALLENGE_PROTOCOL.encode(),)
_OFFERS = frozenset(protocol.encode() for protocol in PROTOCOLS)


class _Handshake:
    """The session's carrier while TLS is being agreed on."""

    received = sent = 0

    def __init__(self, session: OpenSession) -> None:
        self._session = session
        self.detail = ""  # why the client was disconnected, where it was

    def overdue(self, now: float) -> float | None:  # noqa: ARG002 - the Carrier's
        """The time for the hello and the handshake is over."""
        limit = self._session.shared.timeouts.handshake
        self._session.cut(Refused(Reason.HANDSHAKE_TIMEOUT, f"no whole TLS handshake in {limit:g} s"))
        return None

    def drain(self) -> None:
        """The session looks at `Shared.draining` later."""

    def stop(self) -> None:
        """Nothing: the handshake runs in the session's greenlet."""


class Terminator:
    """Runs l7 sessions."""

    def __init__(self, contexts: Contexts, record_for: Callable[[Origin], Record]) -> None:
        """`record_for` returns what takes the exchanges of a connection as they end."""
        self._contexts = contexts
        self._record_for = record_for

    def __repr__(self) -> str:
        return f"<Terminator {self._contexts!r}>"

    def __call__(self, session: OpenSession) -> End:
        """Run a session whose hello has been peeked at. Raises Refused where it does not get to HTTP."""
        arrival = session.arrival()
        route, offered = arrival.route, arrival.hello.alpn
        if offered == _CHALLENGE:
            return self._answer_challenge(session, route)
        if offered and not _OFFERS & frozenset(offered):
            raise Refused(Reason.TLS_FAILED, "it offers no protocol that is spoken here")
        handshake = _Handshake(session)
        session.hand_over(handshake)
        context = self._contexts.server(arrival.listener, route)
        try:
            channel = channels.accept(session.client, context, session.shared.turns, session.shared.read_guard)
        except Flooded as flood:
            handshake.detail = str(flood)
            return End.ABUSE
        except Lost as lost:
            raise Refused(Reason.TLS_FAILED, str(lost)) from lost
        core = _core(channel.protocol, route, arrival.client[0])
        dial = self._dialler(session, arrival, channel.protocol)
        record = self._record_for(_origin(arrival, channel.protocol))
        drive = Drive(session, channel, core, dial, record)
        session.hand_over(drive, channel.sock)
        return drive.run()

    def _answer_challenge(self, session: OpenSession, route: Route) -> End:
        """Show a CA that the name leads here (RFC 8737): the handshake is all there is."""
        handshake = _Handshake(session)
        session.hand_over(handshake)
        context = self._contexts.challenge(route)
        try:
            channel = channels.accept(session.client, context, session.shared.turns, session.shared.read_guard)
        except (Flooded, Lost) as lost:
            raise Refused(Reason.TLS_FAILED, f"an ACME challenge: {lost}") from lost
        handshake.detail = "an ACME challenge was answered"
        session.hand_over(handshake, channel.sock)
        channel.end()
        return End.CLOSED

    def _dialler(self, session: OpenSession, arrival: Arrival, protocol: str) -> Callable[[bytes], Channel]:
        """How a session reaches its backend: the PROXY header before anything else, then TLS if the route wants it."""
        route, alpn = arrival.route, protocol.encode()

        def connect(first: bytes) -> Channel:
            outgoing, to_send = session.shared.outgoing, b"" if route.backend_tls else first
            # First, because it may wait for a file, and a dial that is given up there would leave its socket open.
            context = self._contexts.client(route) if route.backend_tls else None
            backend = reach(arrival, alpn, to_send, outgoing, session.reached)
            if context is None:
                return Channel(backend)
            turns, guard = session.shared.turns, session.shared.read_guard
            try:
                channel = channels.connect(backend, context, name_of_backend(route), turns, guard)
            except Lost as lost:
                raise Lost(backend_fault(lost, route)) from lost
            channel.put(first)
            channel.flush()
            return channel

        return connect


def _core(protocol: str, route: Route, address: str) -> Core:
    """The HTTP that ALPN chose."""
    leads_here, now = _leads_to(route), time.monotonic()
    if protocol == "h2":
        return Relay(route.hostname, address, leads_here, now)
    return Bridge(route.hostname, address, leads_here, now)


def name_of_backend(route: Route) -> str:
    """What the backend is asked for, and what its certificate must be for."""
    return route.backend_server_name or route.hostname


def backend_fault(lost: Lost, route: Route) -> str:
    """Why there is no TLS with a route's backend, whose certificate is meant, and what to do."""
    cause = lost.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE_FAULTS.get(cause.verify_code, "was not accepted; check backend_ca and backend_server_name")
        fault = fault.format(name=name_of_backend(route), ca=route.backend_ca or "this system's store")
        return f"the backend's certificate {fault} ({cause.verify_message.rstrip('.')})"
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return f"the backend speaks no TLS at {route.backend}; backend_tls = false is for h2c ({lost})"
    # It may choose nothing, or refuse with the alert of RFC 7301, section 3.2, for which Python has no reason code.
    if cause is None or "no application protocol" in str(cause):
        return f"the backend offers no HTTP/2 in ALPN at {route.backend}; switch it on there, or make the route l4"
    return f"TLS with the backend: {lost}"


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
    spoken = "h2" if protocol == "h2" else "http/1.1"
    return Origin(arrival.id, spoken, arrival.listener, arrival.client, arrival.route.hostname)
