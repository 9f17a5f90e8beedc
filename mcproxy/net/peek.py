"""Reads what a client has sent and leaves it in the kernel.

Bytes that are peeked at stay in the socket's receive queue (MSG_PEEK), so that a relay simply starts and a TLS
handshake finds its ClientHello. The catch: a socket with half a hello is readable all the time, and waiting for it
would spin. So SO_RCVLOWAT is set to the number of bytes that the parser needs, and the kernel wakes us when they are
there (tcp(7)). It goes back to 1 when the message is whole, or the relay would stall.
"""

from collections.abc import Callable
from socket import MSG_PEEK, SO_RCVLOWAT, SOL_SOCKET
from typing import Final, TypeVar

from gevent import sleep
from gevent.hub import get_hub

from mcproxy.model import Reason, Refused
from mcproxy.net.raw import IoWatcher, RawSocket, is_established

T = TypeVar("T")

FIRST_LOOK: Final = 16384  # bytes; hardly any hello is longer
SHORT_OF_MEMORY_PAUSE: Final = 0.02  # seconds; see below


def peek(sock: RawSocket, readable: IoWatcher, parse: Callable[[bytes], T | int], ended: Reason) -> T:
    """Wait until `parse` has a value, and return it. The bytes that it was found in stay in the kernel.

    `parse` is given everything from the start and returns a value, or how many bytes it needs at least, which must be
    more than it was given. Raises what `parse` raises, and Refused where the client ends before: with `ended`, or with
    PROBE where not a byte came, as from load balancers that check the port. Has no deadline of its own: the
    session's covers the PROXY header and the hello together.
    """
    need = 1
    try:
        while True:
            try:
                data = sock.recv(max(need, FIRST_LOOK), MSG_PEEK)
            except BlockingIOError:
                get_hub().wait(readable)
                continue
            except OSError as error:
                reason = Reason.PROBE if need == 1 else ended  # nothing has come
                raise Refused(reason, f"the client's connection failed: {error.strerror}") from error
            value = parse(data) if len(data) >= need else need
            if not isinstance(value, int):
                return value
            if not data and not is_established(sock):
                raise Refused(Reason.PROBE, "the client ended without a byte")
            if len(data) < need and not is_established(sock):
                raise Refused(ended, f"the client ended after {len(data)} bytes; at least {need} were needed")
            if len(data) < need:
                # Woken early: the kernel has no memory to queue more for this socket, and says so by making it
                # readable. Nothing but the client or the deadline will change that.
                sleep(SHORT_OF_MEMORY_PAUSE)
            if value > need:
                need = value
                sock.setsockopt(SOL_SOCKET, SO_RCVLOWAT, need)
            get_hub().wait(readable)
    finally:
        if need > 1:
            sock.setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1)
