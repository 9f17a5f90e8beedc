"""A socket with TLS: OpenSSL's connection on a raw socket, without the layers of `ssl.SSLSocket`.

`SSLSocket` is made for sockets that block: making one takes six system calls and 40 functions, and each read or write
of it passes two functions of Python. What it adds (timeouts, hidden ends, names in Unicode) nobody needs here, so this
asks the context for the C object that an SSLSocket wraps, as gevent's own sockets do. It is not documented, and has
been the same since Python 3.7; nothing else here knows of it.
"""

import ssl
from contextlib import suppress
from functools import cache
from typing import Any, Final, Protocol

from mcproxy.net.accepted import Accepted
from mcproxy.net.raw import RawSocket


class Tls(Protocol):
    """OpenSSL's side of a connection, non-blocking. What fails raises ssl.SSLError, or OSError."""

    def do_handshake(self) -> None:
        """Go on with the handshake. Raises SSLWantReadError and SSLWantWriteError until it is over."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes of one record; b"": the peer's close_notify."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Send at most one record; returns how many bytes that is."""

    def shutdown(self) -> object:
        """Send close_notify, and read the peer's if it is there. Raises SSLWantReadError if not."""

    def selected_alpn_protocol(self) -> str | None:
        """What ALPN agreed on."""


class TLSSocket(Accepted):
    """A socket, and TLS on it. Its own methods, such as `recv`, are those of the socket underneath."""

    __slots__ = ()

    tls: Tls

    def close(self) -> None:
        """Close it. Its number may be another connection's by then, and OpenSSL must not touch that."""
        self.tls = _GONE
        super().close()


_GONE: Final[Any] = None


def on(sock: RawSocket, context: ssl.SSLContext, server_name: str | None) -> TLSSocket:
    """TLS on a socket, which it takes over; as the server where there is no `server_name`. The handshake follows.

    Raises ValueError and OSError, with the socket closed.
    """
    secured = _taken_over(sock)
    try:
        secured.tls = context._wrap_socket(secured, server_name is None, server_name)  # type: ignore[attr-defined]
    except BaseException:
        secured.close()
        raise
    return secured


def _taken_over(sock: RawSocket) -> TLSSocket:
    """The same socket, where it has room for TLS; that of a backend, or of another worker's client, has none."""
    if isinstance(sock, Accepted):
        sock.__class__ = TLSSocket  # of the same layout
        assert isinstance(sock, TLSSocket)
        return sock
    secured = TLSSocket(sock.family, sock.type, sock.proto, sock.detach())
    secured.setblocking(False)
    return secured


def forget(error: OSError) -> None:
    """Empty OpenSSL's queue of errors behind an operation that has raised this; of the hub's thread, and only there.

    The queue is a thread's, not a connection's, and has to be empty before each operation (SSL_get_error(3)). Python
    empties it, but since 3.13.2 not where the system has refused something: OpenSSL 3.2 and later leave the EPIPE of a
    client that has gone there, and each read of another connection that finds nothing yet would fail with that. There
    is no call for it; OpenSSL empties the queue where a handshake goes on, and one with nobody never ends.
    """
    if isinstance(error, ssl.SSLError):
        return
    with suppress(ssl.SSLError):
        _handshake_with_nobody().do_handshake()


@cache
def _handshake_with_nobody() -> ssl.SSLObject:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="nobody.invalid")
