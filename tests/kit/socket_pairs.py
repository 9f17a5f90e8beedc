"""Connected pairs: a raw end for what is tested on a hub, and a blocking peer for the test; two of them make a way."""

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from gevent.hub import get_hub

from mcproxy.net.pipes import Pipes
from mcproxy.net.raw import READ, IoWatcher, RawSocket
from mcproxy.net.relay import BUFFER, Direction, Outcome
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, push

Pair = tuple[RawSocket, socket.socket]  # the end under test, the peer
MakePair = Callable[[], Pair]

NEAR_BUFFER, FAR_BUFFER = 256 << 10, 32 << 10  # bytes, of which the kernel makes twice as much (socket(7))
MOST = 64 << 20  # bytes that are offered to a path that must not take them all


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
    """Every call fails with EMFILE."""
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


class OneWay:
    """A direction on a hub: what `near` sends comes out at `far`."""

    def __init__(self, hub: HubThread, near: MakePair = tcp_pair, far: MakePair = tcp_pair) -> None:
        self.hub = hub
        self.pipes = Pipes()
        self.source, self.near = near()
        self.sink, self.far = far()
        self._readable: IoWatcher = hub.call(lambda: get_hub().loop.io(self.source.fileno(), READ))
        self.direction = Direction(self.source, self._readable, self.sink, self.pipes)

    def start(self) -> "Future[Outcome | None]":
        return self.hub.spawn(self.direction.run)

    def stop(self) -> None:
        self.hub.call(self.direction.stop)

    def stall(self) -> "tuple[Future[Outcome | None], int]":
        """Start with a sink that takes less than is there already, so that what reads in bulk waits in the middle.

        `far` does not read. Returns how much was taken, too.
        """
        for end in (self.near, self.source):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NEAR_BUFFER)
        for end in (self.sink, self.far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FAR_BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FAR_BUFFER)
        taken = push(self.near, bytes(BUFFER), most=MOST)
        outcome = self.start()
        return outcome, taken + push(self.near, bytes(BUFFER), most=MOST)

    def close(self) -> None:
        self.stop()
        self.hub.call(self._readable.close)
        for each in (self.source, self.sink, self.near, self.far):
            each.close()
        self.pipes.close()


class Watched(RawSocket):
    """Counts how often it is asked about."""

    looks = 0

    def fileno(self) -> int:
        self.looks += 1
        return super().fileno()


@contextmanager
def connected(peer: Callable[[socket.socket], None]) -> Iterator[RawSocket]:
    """A non-blocking TCP socket whose other end `peer` has, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname(), timeout=DEADLINE)
        accepted, _ = listening.accept()
    ours = RawSocket(accepted.family, accepted.type, 0, accepted.detach())
    ours.setblocking(False)

    def run() -> None:
        with theirs:
            peer(theirs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        thread.join(DEADLINE)
        assert not thread.is_alive()
