"""One side's watchers: what they tell of, and when."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import gevent
import pytest

from mcproxy.l7.side import Event, Side
from mcproxy.l7.tls import Stream
from mcproxy.net.raw import RawSocket

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


class Watched:
    """A side, its socket's far end, and what it has told."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair()
        raw = RawSocket(ours.family, ours.type, 0, ours.detach())
        raw.setblocking(False)
        self.stream = Stream(raw)
        self.told: list[Event] = []
        self.side = Side(self.stream, Event.BACKEND, self._on)

    def _on(self, event: Event) -> None:
        self.told.append(event)
        self.side.want(read=False)  # once is enough

    def hear(self) -> list[Event]:
        """What it tells within a few rounds of the hub."""
        self.told.clear()
        gevent.sleep(0.002)
        return self.told

    def fill(self) -> None:
        """Until the socket takes nothing more."""
        with suppress(BlockingIOError):
            while True:
                self.stream.sock.send(bytes(1 << 16))

    def make_room(self) -> None:
        self.far.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.far.recv(1 << 20)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.side.close()
    watched.stream.close()
    watched.far.close()


def test_it_tells_of_bytes_as_long_as_they_are_wanted(watched: Watched) -> None:
    watched.far.send(b"x")
    assert watched.hear() == []
    for _ in range(2):
        watched.side.want(read=True)
        assert watched.hear() == [Event.BACKEND]
    assert watched.hear() == []
    assert repr(watched.side) == "<Side backend <Stream open received=0 sent=0>>"


def test_a_stream_that_has_ended_or_is_blocked_is_not_read(watched: Watched) -> None:
    watched.far.send(b"x")
    watched.stream.blocked = True
    watched.side.want(read=True)
    assert watched.hear() == []
    watched.stream.blocked, watched.stream.ended = False, True
    watched.side.want(read=True)
    assert watched.hear() == []


def test_it_tells_of_room_where_the_stream_wants_it(watched: Watched) -> None:
    watched.fill()
    watched.stream.wants_write = watched.stream.blocked = True
    watched.side.want(read=True)
    assert watched.hear() == []
    watched.make_room()
    assert watched.hear() == [Event.WRITABLE]
    assert not watched.stream.blocked, "the stream has been told"
    assert not watched.stream.wants_write
    assert watched.hear() == []
