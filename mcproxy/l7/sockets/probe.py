"""Finds out what a backend speaks, by a connection of its own that carries no request.

Over TLS, ALPN says it. In clear text we begin HTTP/2. A backend that speaks it answers with SETTINGS (RFC 9113, section
3.4). All else is HTTP/1.1: an error of any kind, a close, or silence, for some servers wait for the rest of what they
take for a request. Where the route sends PROXY headers, this connection's is LOCAL, the form for a proxy's own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gevent import Timeout
from gevent.hub import get_hub

from mcproxy.l7.bounds import READ_SIZE
from mcproxy.l7.sockets.channel import TLSChannel
from mcproxy.l7.sockets.pooled import H2, HTTP1
from mcproxy.model import BackendProtocol, Reason, Refused, Route
from mcproxy.net.dial import Outgoing
from mcproxy.net.raw import READ, RawSocket, abort
from mcproxy.net.reach import try_out
from mcproxy.wire.http2 import HEADER, HEADER_SIZE, PREFACE, SETTINGS_ACK, ErrorCode, Frame, goaway, settings

# Seconds in which a backend has to begin its SETTINGS; it needs nothing of us for them but the preface.
SILENCE: Final = 1.0
ENOUGH: Final = 64  # bytes of an answer: a frame's header, or a status line with its status
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
# How HTTP/1.1 was found, where there was no status line.
CLOSED: Final = "closes the connection when HTTP/2 begins"
SILENT: Final = "is silent when HTTP/2 begins"
HTML: Final = "answered HTML to HTTP/2's preface"  # as an error without a head, which Python's http.server does
NO_HTTP: Final = "answers no HTTP"

Secure = Callable[[Route, RawSocket], TLSChannel]  # does the TLS handshake with a route's backend; raises Refused, Lost


@dataclass(frozen=True, slots=True)
class Answer:
    """What a backend speaks, and how that was found."""

    version: str  # H2 or HTTP1
    how: str  # in words for operators: "ALPN", "SETTINGS", "answered 400 to HTTP/2's preface"


def look(route: Route, outgoing: Outgoing, secure: Secure, limit: float) -> Answer:
    """Connect and look, in `limit` seconds and SILENCE. Waits. Raises Refused, Lost."""
    late = Refused(Reason.BACKEND_TIMEOUT, f"no connection in {limit:g} s")
    with Timeout(limit, late):
        sock = try_out(route, outgoing)
        if route.backend_tls:
            channel = secure(route, sock)
            answer = by_alpn(channel.protocol)
            channel.end()
            channel.close()
            return answer
    try:
        sock.send(PREFACE + settings([]))  # the first bytes of a connection always fit
        answer = judge(_first_bytes(sock))
        if answer.version == H2:
            sock.send(SETTINGS_ACK + goaway(0, ErrorCode.NO_ERROR))
    except OSError:  # it was reset
        answer = Answer(HTTP1, CLOSED)
    except BaseException:
        abort(sock)
        raise
    sock.close()
    return answer


def by_alpn(protocol: str) -> Answer:
    """By what a backend chose; "" is nothing."""
    return Answer(H2 if protocol == H2 else HTTP1, "ALPN")


def _first_bytes(sock: RawSocket) -> bytes | None:
    """The first bytes that come; None: nothing does for SILENCE. Raises OSError."""
    readable = get_hub().loop.io(sock.fileno(), READ)
    silence = Timeout(SILENCE)
    try:
        with silence:
            get_hub().wait(readable)
            return sock.recv(READ_SIZE)  # all: a socket that is closed over unread bytes sends a RST
    except Timeout as timeout:
        if timeout is not silence:
            raise
        return None
    finally:
        readable.close()


def judge(data: bytes | None) -> Answer:
    """Judge a backend by the first bytes that it answers to HTTP/2."""
    if data is None:
        return Answer(HTTP1, SILENT)
    if not data:
        return Answer(HTTP1, CLOSED)
    if _begins_settings(data):
        return Answer(H2, "SETTINGS")
    if data[:1] == b"<":
        return Answer(HTTP1, HTML)
    status = _STATUS_LINE.match(data)
    return Answer(HTTP1, f"answered {status[1].decode()} to HTTP/2's preface" if status else NO_HTTP)


def _begins_settings(data: bytes) -> bool:
    """Whether this begins the first frame of a server; of less than its header, only the first byte is judged."""
    if len(data) < HEADER_SIZE:
        return data[0] == 0
    _, _, kind, _, stream_id = HEADER.unpack_from(data)
    return (kind, stream_id) == (Frame.SETTINGS, 0)


def decided(route: Route) -> Answer | None:
    """What the route itself says that its backend speaks, if anything."""
    if route.backend_protocol is BackendProtocol.AUTO:
        return None
    return Answer(H2 if route.backend_protocol is BackendProtocol.H2 else HTTP1, "backend_protocol")
