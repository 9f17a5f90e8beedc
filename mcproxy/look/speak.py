"""Checks what a connected backend speaks: TLS, its certificate, HTTP/2. Blocking sockets, with a deadline.

Each function returns a step, or raises what the socket raises. Deadlines are on `time.monotonic()`.
"""

import ssl
import time
from socket import socket

from mcproxy.certificates import peer
from mcproxy.l7.sockets.channel import Lost
from mcproxy.l7.approach import backend_fault, name_of_backend
from mcproxy.messages import Step
from mcproxy.model import Route
from mcproxy.wire import http2 as frames
from mcproxy.wire.http2 import ConnectionFault, Frame, Setting
from mcproxy.words import quoted

TLS, HTTP = "backend TLS", "backend HTTP"
ANSWERED_502 = "requests will be answered 502"
_REMEDY = "switch HTTP/2 on there, or make the route l4"
LEAST = 0.001  # seconds of a socket's timeout: 0 would make it non-blocking

name_of = name_of_backend


def milliseconds(seconds: float) -> str:
    """A short time for people."""
    return f"{seconds * 1000:.1f} ms"


def _left(deadline: float) -> float:
    return max(LEAST, deadline - time.monotonic())


def shake_hands(sock: socket, context: ssl.SSLContext, name: str, deadline: float) -> ssl.SSLSocket:
    """Do a client's handshake. Takes the socket over. Raises OSError; the socket is closed then."""
    sock.settimeout(_left(deadline))
    return context.wrap_socket(sock, server_hostname=name)


def _anything() -> ssl.SSLContext:
    """A context that accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def any_tls(sock: socket, name: str, deadline: float) -> Step:
    """The TLS that an l4 client would find that asks for `name`; it is not judged."""
    try:
        with shake_hands(sock, _anything(), name, deadline) as tls:
            return Step(TLS, True, f"{_terms(tls)}, certificate {_certificate(tls)}")
    except OSError as error:
        return Step(TLS, True, f"no handshake for {name} ({_said(error)}); not judged: l4 passes any protocol")


def shown(sock: socket, name: str, deadline: float) -> str:
    """The backend's certificate, accepted or not, as the end of a sentence; "" if there is none."""
    try:
        with shake_hands(sock, _anything(), name, deadline) as tls:
            return f"; it shows one {_certificate(tls)}"
    except OSError:
        return ""


def refusal(error: OSError, route: Route) -> str:
    """Why the TLS handshake with an l7 route's backend failed, in the words of a request's log line."""
    lost = Lost(_said(error))
    lost.__cause__ = error
    return f"{ANSWERED_502}: {backend_fault(lost, route)}"


def agreed(tls: ssl.SSLSocket, route: Route) -> Step:
    """Judge a handshake that succeeded: it has to have chosen HTTP/2."""
    if tls.selected_alpn_protocol() != "h2":
        return Step(TLS, False, f"{ANSWERED_502}: {backend_fault(Lost('no h2'), route)}")
    verified = f"verified by {route.backend_ca or 'the CAs of this system'} for {name_of(route)}"
    return Step(TLS, True, f"{_terms(tls)}, certificate {_certificate(tls)}, {verified}")


def http2(sock: socket, deadline: float) -> Step:
    """Exchange SETTINGS (RFC 9113, section 3.4), the least that an HTTP/2 backend answers."""
    began = time.monotonic()
    try:
        sock.settimeout(_left(deadline))
        sock.sendall(frames.PREFACE + frames.settings([]))
        pairs = dict(_settings(sock, deadline))
        took = time.monotonic() - began
        sock.sendall(frames.SETTINGS_ACK + frames.goaway(0, frames.ErrorCode.NO_ERROR))
    except (OSError, ConnectionFault, _NotHttp2) as error:
        return Step(HTTP, False, f"{ANSWERED_502}: {_said(error)}")
    at_once = pairs.get(Setting.MAX_CONCURRENT_STREAMS)
    limit = "" if at_once is None else f", {at_once} requests at once"
    websocket = "WebSocket" if pairs.get(Setting.ENABLE_CONNECT_PROTOCOL) else "no WebSocket (RFC 8441)"
    return Step(HTTP, True, f"HTTP/2, SETTINGS in {milliseconds(took)}{limit}, {websocket}")


class _NotHttp2(Exception):
    """It answers in another protocol."""


def _settings(sock: socket, deadline: float) -> list[tuple[int, int]]:
    """The first frame, which must be SETTINGS. Raises OSError, ConnectionFault, _NotHttp2."""
    head = _receive(sock, frames.HEADER_SIZE, deadline)
    if head.startswith(b"HTTP/"):
        raise _NotHttp2(f"the backend speaks HTTP/1 only: {_REMEDY}")
    high, low, kind, flags, stream_id = frames.HEADER.unpack(head)
    size = high << 8 | low
    if (kind, flags & frames.Flag.ACK, stream_id) != (Frame.SETTINGS, 0, 0) or size > frames.MAX_FRAME_SIZE:
        raise _NotHttp2(f"the backend doesn't answer in HTTP/2 but with {quoted(head.decode('latin-1'))}: {_REMEDY}")
    return frames.parse_settings(_receive(sock, size, deadline))


def _receive(sock: socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(_left(deadline))
        piece = sock.recv(size - len(data))
        if not piece:
            raise _NotHttp2(f"the backend closes the connection when HTTP/2 begins: {_REMEDY}")
        data += piece
    return data


def _terms(tls: ssl.SSLSocket) -> str:
    return f"{tls.version()}, ALPN {tls.selected_alpn_protocol() or 'none'}"


def _certificate(tls: ssl.SSLSocket) -> str:
    return peer.described(tls.getpeercert(binary_form=True) or b"")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)
