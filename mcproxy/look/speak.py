"""Checks what a connected backend speaks: TLS, its certificate, HTTP. Blocking sockets, with a deadline.

What it speaks is found out as the data path does (l7/sockets/probe.py), without a request. Each function returns a
step, or raises what the socket raises. Deadlines are on `time.monotonic()`.
"""

import ssl
import time
from socket import socket

from mcproxy.l7.approach import backend_fault, name_of_backend, without_http2
from mcproxy.l7.sockets.channel import Lost
from mcproxy.l7.sockets.pooled import H2
from mcproxy.l7.sockets.probe import ENOUGH, NO_HTTP, SILENCE, judge
from mcproxy.messages import Step
from mcproxy.model import BackendProtocol, Route
from mcproxy.wire import http2 as frames
from mcproxy.wire.http2 import ConnectionFault, Frame, Setting
from mcproxy.words import quoted

TLS, HTTP = "backend TLS", "backend HTTP"
ANSWERED_502 = "requests will be answered 502"
_REMEDY = "switch HTTP/2 on there, or set backend_protocol to auto"
_STATUS_LINE = len("HTTP/1.1 400")
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
    """Judge a handshake that succeeded: it has to have chosen what the route wants."""
    if route.backend_protocol is BackendProtocol.H2 and tls.selected_alpn_protocol() != H2:
        return Step(TLS, False, f"{ANSWERED_502}: {without_http2(route)}")
    verified = f"verified by {route.backend_ca or 'the CAs of this system'} for {name_of(route)}"
    return Step(TLS, True, f"{_terms(tls)}, certificate {_certificate(tls)}, {verified}")


def http_over(tls: ssl.SSLSocket, deadline: float) -> Step:
    """What is spoken over TLS, which ALPN has chosen."""
    chosen = tls.selected_alpn_protocol()
    if chosen != H2:
        return Step(HTTP, True, f"HTTP/1.1 ({'ALPN' if chosen else 'nothing chosen in ALPN'})")
    began = time.monotonic()
    return _http2(tls, _first_bytes(tls, deadline) or b"", began, deadline)


def http(sock: socket, wanted: BackendProtocol, deadline: float) -> Step:
    """What is spoken in clear text, judged by what the route wants."""
    began = time.monotonic()
    first = _first_bytes(sock, min(deadline, began + SILENCE))
    answer = judge(first)
    if answer.version == H2:
        step = _http2(sock, first or b"", began, deadline)
        asked = "; asked in HTTP/1.1, as backend_protocol wants" if wanted is BackendProtocol.HTTP1 else ""
        return Step(HTTP, step.passed, f"{step.detail}{asked}")
    if answer.how == NO_HTTP:
        begins = quoted((first or b"").decode("latin-1"))
        return Step(HTTP, False, f"{ANSWERED_502}: the backend speaks no HTTP: its answer begins with {begins}")
    if wanted is BackendProtocol.H2:
        return Step(HTTP, False, f"{ANSWERED_502}: the backend speaks HTTP/1.1 ({answer.how}); {_REMEDY}")
    return Step(HTTP, True, f"HTTP/1.1 ({answer.how})")


def _first_bytes(sock: socket, deadline: float) -> bytes | None:
    """Begin HTTP/2 (RFC 9113, section 3.4); return the first bytes of the answer, as many as have to be judged.

    None: nothing comes; b"": the connection is closed.
    """
    data = b""
    try:
        sock.settimeout(_left(deadline))
        sock.sendall(frames.PREFACE + frames.settings([]))
        while len(data) < (frames.HEADER_SIZE if data[:1] == b"\0" else _STATUS_LINE):
            sock.settimeout(_left(deadline))
            piece = sock.recv(ENOUGH)
            if not piece:
                break
            data += piece
    except TimeoutError:
        return data or None
    except OSError:  # it was reset
        pass
    return data


def _http2(sock: socket, first: bytes, began: float, deadline: float) -> Step:
    """Read the SETTINGS that begin with `first`, and say goodbye."""
    try:
        pairs = dict(_settings(sock, first, deadline))
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


def _settings(sock: socket, first: bytes, deadline: float) -> list[tuple[int, int]]:
    """The first frame, which must be SETTINGS; `first` begins it. Raises OSError, ConnectionFault, _NotHttp2."""
    data = _receive(sock, first, frames.HEADER_SIZE, deadline)
    high, low, kind, flags, stream_id = frames.HEADER.unpack_from(data)
    size = high << 8 | low
    if (kind, flags & frames.Flag.ACK, stream_id) != (Frame.SETTINGS, 0, 0) or size > frames.MAX_FRAME_SIZE:
        begins = quoted(data[: frames.HEADER_SIZE].decode("latin-1"))
        raise _NotHttp2(f"the backend doesn't begin HTTP/2 with SETTINGS but with {begins}")
    end = frames.HEADER_SIZE + size
    return frames.parse_settings(_receive(sock, data, end, deadline)[frames.HEADER_SIZE : end])


def _receive(sock: socket, data: bytes, size: int, deadline: float) -> bytes:
    """At least `size` bytes, of which `data` are there."""
    while len(data) < size:
        sock.settimeout(_left(deadline))
        piece = sock.recv(size - len(data))
        if not piece:
            raise _NotHttp2("the backend closes the connection within its SETTINGS")
        data += piece
    return data


def _terms(tls: ssl.SSLSocket) -> str:
    return f"{tls.version()}, ALPN {tls.selected_alpn_protocol() or 'none'}"


def _certificate(tls: ssl.SSLSocket) -> str:
    from mcproxy.certificates import peer  # noqa: PLC0415 - with cryptography, once it is needed

    return peer.described(tls.getpeercert(binary_form=True) or b"")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error)
