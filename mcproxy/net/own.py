"""Sockets that this process has connected: a client that is one of them came by a route that leads back here.

One connection that goes round would become thousands in a second. `check` and `routes add` refuse a backend that is
literally a listener of ours; a name, or a way over two listeners, shows only when the connection arrives. Then the
client's address is the local address of a socket of ours, and the other way round.

The port of each socket that connects is noted with its descriptor, and nothing is noted when it closes: a port that is
found is proven by asking the descriptor for its addresses. Local ports are shared between sockets to different places
(so the other side is compared too), and of those the last one is known: where that misses, the connection goes round
once more, by another port. A connection whose addresses are translated on its way (NAT) is not recognised.
"""

import socket
from collections import OrderedDict

from mcproxy.model import Endpoint
from mcproxy.net.raw import RawSocket

MAX_NOTED = 16_384  # ports, some 200 bytes each: more than the 4096 that may wait to be accepted at a listener


class OwnSockets:
    """The local ports of sockets that connect, the latest last. Everything here happens on the hub's thread."""

    def __init__(self) -> None:
        self._descriptors: OrderedDict[int, int] = OrderedDict()  # by port

    def __repr__(self) -> str:
        return f"<OwnSockets noted={len(self._descriptors)}>"

    def note(self, sock: RawSocket) -> None:
        """Remember a TCP socket that has begun to connect."""
        port = sock.getsockname()[1]
        self._descriptors[port] = sock.fileno()
        self._descriptors.move_to_end(port)
        if len(self._descriptors) > MAX_NOTED:
            self._descriptors.popitem(last=False)

    def has(self, client: RawSocket, peer: Endpoint) -> bool:
        """Whether the other end of an accepted connection, whose address is `peer`, is one of them."""
        descriptor = self._descriptors.get(peer[1])
        if descriptor is None:
            return False
        try:
            ours = socket.socket(fileno=descriptor)
        except OSError:
            return False  # it is closed, and the number may be anything now
        try:
            local, remote = ours.getsockname(), ours.getpeername()
            return _same(local, peer) and _same(remote, client.getsockname())
        except OSError:
            return False  # not connected, or not a socket with addresses
        finally:
            ours.detach()


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether these are one address and port; an IPv6 socket shows IPv4 with a prefix."""
    return len(one) > 1 and len(other) > 1 and one[1] == other[1] and _plain(one[0]) == _plain(other[0])


def _plain(address: object) -> str:
    return str(address).removeprefix("::ffff:")
