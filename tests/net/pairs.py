"""Connected pairs: a raw end for what is tested on a hub, and a blocking peer for the test."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcproxy.net.raw import RawSocket
from tests.hub import HubThread
from tests.peers import DEADLINE

Pair = tuple[RawSocket, socket.socket]  # the end under test, the peer


def tcp_pair() -> Pair:
    """Over loopback; the raw end is the accepted one, as a client's is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname(), DEADLINE)
        accepted, _ = server.accept()
    for end in (peer, accepted):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw(accepted), peer


def unix_pair() -> Pair:
    """A socketpair."""
    one, two = socket.socketpair()
    two.settimeout(DEADLINE)
    return raw(one), two


def raw(sock: socket.socket) -> RawSocket:
    """The same connection as the data path holds it."""
    found = RawSocket(int(sock.family), int(sock.type), sock.proto, sock.detach())
    found.setblocking(False)
    return found


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Whoever asks for one gets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def turn(hub: HubThread, times: int) -> None:
    """Let the hub's loop go round, looking at every descriptor each time."""
    for _ in range(times):
        hub.call(int)
