"""The few things that sockets need beyond the socket module.

The data path uses the C socket type as it is: `gevent.socket` wraps every call in Python, and `socket.socket` turns
families and types into enums at every accept; together that is a third of a connection's cost.
"""

import contextlib
import fcntl
import struct
from collections.abc import Callable, Iterator
from socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SO_LINGER,
    SOL_SOCKET,
    TCP_CORK,
    TCP_INFO,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_QUICKACK,
)
from socket import SocketType as RawSocket
from termios import TIOCOUTQ
from typing import Any, Final, Protocol, TypeVarTuple

Ts = TypeVarTuple("Ts")

# libev's EV_READ and EV_WRITE.
READ: Final = 1
WRITE: Final = 2
# Seconds of silence until the kernel asks a peer whether it is there, and seconds until it asks again, 9 times (tcp(7),
# tcp_keepalive_probes). So an idle connection stays known to firewalls and address translation on its way, the shortest
# of which forget after some 2 minutes, and load balancers of clouds, after 4 minutes or 350 s; a peer that is gone
# without a word is noticed after 195 s, even where idle_timeout is hours.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL = 60, 15
_LINGER_0: Final = struct.pack("ii", 1, 0)
_TCP_ESTABLISHED, _TCP_CLOSE = 1, 7  # include/net/tcp_states.h

__all__ = [
    "READ",
    "WRITE",
    "IoWatcher",
    "RawSocket",
    "abort",
    "corked",
    "is_established",
    "is_reset",
    "keep_alive",
    "outgoing_queue",
    "pauses",
    "reset_on_close",
    "unsent",
]


class IoWatcher(Protocol):
    """A libev I/O watcher, as `hub.loop.io(fd, READ)` returns it."""

    def start(self, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        """Call back whenever the descriptor is ready, until stopped."""

    def stop(self) -> None:
        """Stop calling back."""

    def close(self) -> None:
        """Stop, and release the descriptor, which must not have been closed before."""


def keep_alive(sock: RawSocket) -> None:
    """Have the kernel ask a TCP peer that is silent. Sockets that a listening one accepts inherit it."""
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL)


def abort(sock: RawSocket) -> None:
    """Close so that the peer gets a RST, whatever is unread or unsent."""
    reset_on_close(sock)
    sock.close()


def reset_on_close(sock: RawSocket) -> None:
    """Make `close` send the peer a RST (socket(7): SO_LINGER with a time of 0)."""
    with contextlib.suppress(OSError):  # a socket that was reset may refuse options; closing is what counts
        sock.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_0)


def acknowledge(sock: RawSocket) -> None:
    """Acknowledge what has come at once (tcp(7): TCP_QUICKACK), for a peer that waits for that before it sends more."""
    with contextlib.suppress(OSError):  # not TCP
        sock.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)


@contextlib.contextmanager
def corked(sock: RawSocket) -> Iterator[None]:
    """Send in full packets until the end of the block, then the rest (tcp(7): TCP_CORK)."""
    with contextlib.suppress(OSError):  # not TCP, or gone
        sock.setsockopt(IPPROTO_TCP, TCP_CORK, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sock.setsockopt(IPPROTO_TCP, TCP_CORK, 0)


def is_established(sock: RawSocket) -> bool:
    """True if neither side of this TCP connection has ended it."""
    return _tcp_state(sock) == _TCP_ESTABLISHED


def _tcp_state(sock: RawSocket) -> int:
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0]


def is_reset(sock: RawSocket) -> bool:
    """True if the peer has reset this TCP connection, which our side has not ended."""
    return _tcp_state(sock) == _TCP_CLOSE


def unsent(sock: RawSocket) -> int:
    """Bytes that the peer has yet to acknowledge (tcp(7): SIOCOUTQ), or to read from a UNIX socket; 0 if it is gone."""
    waiting = outgoing_queue(sock)
    if waiting and sock.family != AF_UNIX and _tcp_state(sock) == _TCP_CLOSE:
        return 0  # it was reset: what the kernel still counts will never be delivered
    return waiting


def outgoing_queue(sock: RawSocket) -> int:
    """The same as the kernel counts it: a connection that was reset keeps the number that it had."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), "little")


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds to sleep between polls of something without an event: short at first, doubled each time.

    It is with the raw sockets because it is their queues that are polled: `unsent`, or a backlog that is full.
    """
    while True:
        yield first
        first = min(2 * first, longest)
