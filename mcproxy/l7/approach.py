"""How l7 sessions reach their backends: PROXY header, dial, TLS, and the version of HTTP that is spoken there."""

import ssl
import time
from typing import Final

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.sockets import channel as channels
from mcproxy.l7.sockets.backend_link import OtherVersion
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.sockets.channel import Channel, Flooded, Lost, TLSChannel, reason_of
from mcproxy.l7.sockets.pooled import H2, Made
from mcproxy.l7.sockets.probe import Answer, by_alpn, decided, judge, look
from mcproxy.model import BackendProtocol, Refused, Route, RouteKey
from mcproxy.net.raw import RawSocket
from mcproxy.net.reach import Arrival, Reached, reach
from mcproxy.net.shared import Shared

# What is wrong with a backend's certificate, by X509_V_ERR_* (x509_vfy.h).
_UNKNOWN_CA: Final = "is of no CA in {ca}; name the file of its CA in backend_ca"
_CERTIFICATE_FAULTS: Final = {
    2: _UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT
    9: "is not valid yet; check its dates and this machine's clock",  # CERT_NOT_YET_VALID
    10: "has expired, or one of its CAs has; renew it at the backend",  # CERT_HAS_EXPIRED
    18: _UNKNOWN_CA,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: _UNKNOWN_CA,  # SELF_SIGNED_CERT_IN_CHAIN
    20: _UNKNOWN_CA,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _UNKNOWN_CA,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    62: "is not for {name}; give a name that it has as backend_server_name",  # HOSTNAME_MISMATCH
}


class Approach:
    """How the sessions of one arrival reach their backend. It may outlive its session."""

    def __init__(
        self, shared: Shared, arrival: Arrival, protocol: str, contexts: Contexts, backends: Backends, reached: Reached
    ) -> None:
        """`protocol` is what ALPN agreed on with the client; `reached` is called for each dial of a relay."""
        self._shared = shared
        self.arrival = arrival
        self.protocol = protocol
        self._contexts = contexts
        self._backends = backends
        self._reached = reached

    def __repr__(self) -> str:
        return f"<Approach {self._route.backend}>"

    @property
    def _route(self) -> Route:
        return self.arrival.route

    @property
    def _key(self) -> RouteKey:
        return self.arrival.listener, self.arrival.route.hostname

    def version(self) -> str:
        """The version of HTTP that the backend speaks. Waits until that is known.

        The one that is most likely where the backend can't be reached: the requests are answered 502 or 504 then.
        """
        try:
            return self._find()
        except (Refused, Lost):
            return self._backends.last(self._key, self._route)

    def doubt(self) -> None:
        """The backend was away, or has answered in another version than was found."""
        self._backends.doubt(self._key, self._route)

    def _find(self) -> str:
        return self._backends.find(self._key, self._route, self._look, self._shared.crew.spawn)

    def _look(self, route: Route) -> Answer:
        return look(route, self._shared.outgoing, self._secure, self._shared.timeouts.connect)

    def dial(self, first: bytes) -> Channel:
        """Connect, in HTTP/2, and send `first`. Raises Refused, Lost, OtherVersion."""
        try:
            if self._route.backend_tls:
                return self._dial_tls(first)
            return Channel(reach(self.arrival, self.protocol.encode(), first, self._shared.outgoing, self._reached))
        except (Refused, Lost):
            self.doubt()
            raise

    def _dial_tls(self, first: bytes) -> Channel:
        channel = self._connect_tls(self._reached)
        agreed = channel.protocol
        if agreed != H2:
            channel.abort()
            if decided(self._route):
                raise Lost(without_http2(self._route))
            self._backends.found(self._key, self._route, by_alpn(agreed))
            raise OtherVersion("the backend speaks HTTP/1.1 now; the next connection will use that")
        channel.put(first)
        channel.flush()
        return channel

    def contradicted(self, said: bytes) -> None:
        """A relay's backend began with this in place of HTTP/2; b"": it ended at once."""
        if said:
            self._backends.found(self._key, self._route, judge(said))
        else:
            self.doubt()

    def connect(self) -> Made:
        """Connect for a line, in whatever the backend speaks. Raises Refused, Lost."""
        began = time.monotonic()
        try:
            if self._route.backend_tls:
                channel = self._connect_tls(_unnoticed)
                return Made(channel, self._agreed(channel), time.monotonic() - began, known=True)
            version = self._find()
            sock = reach(self.arrival, self.protocol.encode(), b"", self._shared.outgoing, _unnoticed)
        except (Refused, Lost):
            self.doubt()
            raise
        return Made(Channel(sock), version, time.monotonic() - began, decided(self._route) is not None)

    def _agreed(self, channel: TLSChannel) -> str:
        """What ALPN agreed on with the backend. Raises Lost, with it closed, where that is not what the route wants."""
        if self._route.backend_protocol is BackendProtocol.H2 and channel.protocol != H2:
            channel.abort()
            raise Lost(without_http2(self._route))
        answer = by_alpn(channel.protocol)
        self._backends.found(self._key, self._route, answer)
        return answer.version

    def _connect_tls(self, reached: Reached) -> TLSChannel:
        # First, because it may wait for a file, and a dial that is given up there would leave its socket open.
        self._contexts.client(self._route)
        sock = reach(self.arrival, self.protocol.encode(), b"", self._shared.outgoing, reached)
        return self._secure(self._route, sock)

    def _secure(self, route: Route, sock: RawSocket) -> TLSChannel:
        shared, context = self._shared, self._contexts.client(route)
        try:
            return channels.connect(sock, context, name_of_backend(route), shared.turns, shared.read_guard)
        except Lost as lost:
            raise Lost(backend_fault(lost, route)) from lost


def _unnoticed(_backend: object, _took: float | None) -> None:
    """The session that gets the connection counts it (sockets/lines.py)."""


def name_of_backend(route: Route) -> str:
    """What the backend is asked for, and what its certificate must be for."""
    return route.backend_server_name or route.hostname


def without_http2(route: Route) -> str:
    """Why a backend that chose no HTTP/2 can't be used, and what to do."""
    return (
        f"the backend offers no HTTP/2 in ALPN at {route.backend}; switch it on there, or set backend_protocol to auto"
    )


def backend_fault(lost: Lost, route: Route) -> str:
    """Why there is no TLS with a route's backend, whose certificate is meant, and what to do."""
    if isinstance(lost, Flooded):
        return f"TLS with the backend: {lost}"
    cause = lost.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        fault = _CERTIFICATE_FAULTS.get(cause.verify_code, "was not accepted; check backend_ca and backend_server_name")
        fault = fault.format(name=name_of_backend(route), ca=route.backend_ca or "this system's store")
        return f"the backend's certificate {fault} ({cause.verify_message.rstrip('.')})"
    if isinstance(cause, ssl.SSLError) and reason_of(cause) == "WRONG_VERSION_NUMBER":
        return f"the backend speaks no TLS at {route.backend}; backend_tls = false is for clear text ({lost})"
    # It may choose nothing, or refuse with the alert of RFC 7301, section 3.2, for which Python has no reason code.
    if cause is None or "no application protocol" in str(cause):
        return without_http2(route)
    return f"TLS with the backend: {lost}"
