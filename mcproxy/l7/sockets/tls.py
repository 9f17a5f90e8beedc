"""A socket with TLS: OpenSSL's connection on a raw socket, without the layers of `ssl.SSLSocket`.

`SSLSocket` is made for sockets that block: making one takes six system calls and 40 functions, and each read or write
of it passes two functions of Python. What it adds (timeouts, hidden ends, names in Unicode) nobody needs here, so this
asks the context for the C object that an SSLSocket wraps, as gevent's own sockets do. It is not documented, and has
been the same since Python 3.7; nothing else here knows of it.
"""

import ssl
from typing import Any, Final, Protocol

from mcproxy.native import mypyc_attr
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


@mypyc_attr(native_class=False)
class TLSSocket(RawSocket):
    """A socket, and TLS on it. Its own methods, such as `recv`, are those of the socket underneath."""

    __slots__ = ("__weakref__", "tls")  # OpenSSL's object refers to the socket weakly

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
    secured = TLSSocket(sock.family, sock.type, sock.proto, sock.detach())
    try:
        secured.setblocking(False)
        secured.tls = context._wrap_socket(secured, server_name is None, server_name)  # type: ignore[attr-defined]
    except BaseException:
        secured.close()
        raise
    return secured
