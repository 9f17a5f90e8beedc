"""Sockets that this process has connected: a client that is one of them came by a route that leads back here.

One connection that goes round would become thousands in a second. `check` and `routes add` refuse a backend that is
literally a listener of ours; a name, or a way over two listeners, shows only when the connection arrives. Then the
client's address is the local address of a socket of ours, and the other way round.

The port of each socket that connects to a port that a listener has, at whatever address, is noted with its descriptor,
and nothing is noted when it closes: a port that is found is proven by asking the descriptor for its addresses. Local
ports are shared between sockets to different places (so the other side is compared too), and of those the last one is
known: where that misses, the connection goes round once more, by another port.

A connection whose addresses are translated on its way (NAT, or a relay) is recognised by its ClientHello, which an l4
session passes on byte for byte: its random is unique (RFC 8446, section 4.1.2), and is counted while the session lives.
So a loop ends after MAX_COPIES rounds. A client that sends one random in more connections at once has the next refused,
which harms only itself; to harm another one it has to see that one's hello on its way, and then a RST is cheaper.

What is not recognised: an l7 route with `backend_tls` that leads back here through NAT. Each round is a TLS connection
of its own, with a random of ours that OpenSSL doesn't reveal. It stays slow, a new connection for each request that
goes round, and `proxy.connect_timeout` and `max_connections` bound it.
"""

import socket
from collections import OrderedDict
from typing import Final

from mcproxy.model import Endpoint
from mcproxy.net.raw import RawSocket

MAX_NOTED: Final = 16_384  # ports, some 200 bytes each: more than the 4096 that may wait to be accepted at a listener
# Sessions at once with one ClientHello. One would do to end a loop at its first round; but programs that test a server
# send one hello again and again, a few at a time, and 16 sessions of a loop do no harm.
MAX_COPIES: Final = 16
LEADS_BACK: Final = "a route leads back to this listener; change the route's backend"  # the detail of such a refusal


class OwnSockets:
    """The local ports of sockets that connect, the latest last, and the hellos that are passed on.

    Everything here happens on the hub's thread.
    """

    def __init__(self) -> None:
        self.ports: frozenset[int] = frozenset()  # that this process listens on; the worker sets them
        self._descriptors: OrderedDict[int, int] = OrderedDict()  # by port
        self._copies: dict[bytes, int] = {}  # l4 sessions by the random of their ClientHello

    def __repr__(self) -> str:
        return f"<OwnSockets noted={len(self._descriptors)} hellos={len(self._copies)}>"

    def pass_on(self, random: bytes) -> None:
        """Count a ClientHello by its random, before it is passed on; until `passed`."""
        self._copies[random] = self._copies.get(random, 0) + 1

    def passed(self, random: bytes) -> None:
        """Stop counting it: its session has ended."""
        if left := self._copies.pop(random) - 1:
            self._copies[random] = left

    def goes_round(self, random: bytes) -> bool:
        """Whether a ClientHello that has come has been passed on MAX_COPIES times."""
        return self._copies.get(random, 0) >= MAX_COPIES

    def note(self, sock: RawSocket) -> None:
        """Remember a TCP socket that has begun to connect to one of `ports`: no other can come back untranslated."""
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
