"""One side's watchers: what they tell of, and when."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import gevent
import pytest
from gevent.hub import get_hub

from mcproxy.l7.bounds import BULK_SIZE, LONE_ANSWER, LONE_BULK, READ_SIZE
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.net.raw import RawSocket
from mcproxy.net.turns import Turns
from tests.kit.drive_stage import Later, Stage
from tests.kit.hub import pass_rounds

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


class Watched:
    """A side, its socket's far end, and what it has told."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair()
        raw = RawSocket(ours.family, ours.type, 0, ours.detach())
        raw.setblocking(False)
        self.channel = Channel(raw)
        self.told: list[Event] = []
        self.side = Side(self.channel, Event.BACKEND, self._on)

    def _on(self, event: Event) -> None:
        self.told.append(event)
        self.side.want(read=False)  # once is enough

    def hear(self) -> list[Event]:
        """What it tells within a few rounds of the hub."""
        self.told.clear()
        pass_rounds()
        return self.told

    def fill(self) -> None:
        """Until the socket takes nothing more."""
        with suppress(BlockingIOError):
            while True:
                self.channel.sock.send(bytes(1 << 16))

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
    watched.channel.close()
    watched.far.close()


def test_it_tells_of_bytes_as_long_as_they_are_wanted(watched: Watched) -> None:
    watched.far.send(b"x")
    assert watched.hear() == []
    for _ in range(2):
        watched.side.want(read=True)
        assert watched.hear() == [Event.BACKEND]
    assert watched.hear() == []
    assert repr(watched.side) == "<Side backend <Channel open received=0 sent=0> pending=0>"


def test_a_stream_that_has_ended_or_is_blocked_is_not_read(watched: Watched) -> None:
    watched.far.send(b"x")
    watched.channel.blocked = True
    watched.side.want(read=True)
    assert watched.hear() == []
    watched.channel.blocked, watched.channel.ended = False, True
    watched.side.want(read=True)
    assert watched.hear() == []


def test_it_tells_of_room_where_the_stream_wants_it(watched: Watched) -> None:
    watched.fill()
    watched.channel.wants_write = watched.channel.blocked = True
    watched.side.want(read=True)
    assert watched.hear() == []
    watched.make_room()
    assert watched.hear() == [Event.WRITABLE]
    assert not watched.channel.blocked, "the channel has been told"
    assert not watched.channel.wants_write
    assert watched.hear() == []


# Both sides in a drive: bulk has its turns


def note(seen: list[tuple[int, int]], what: tuple[Any, ...]) -> None:
    """The round in which bytes were taken, and how many; a slow run has ticks, too."""
    if what[0] == "client":
        seen.append((get_hub().loop.iteration, len(what[-1])))


def test_bulk_of_one_session_a_round(stage: Callable[..., Stage]) -> None:
    turns = Turns()
    both = [stage(turns=turns), stage(turns=turns)]
    reads: list[list[tuple[int, int]]] = [[], []]  # of each: the round, and how much
    for on, seen in zip(both, reads, strict=True):
        on.core.react = partial(note, seen)
        on.client.setblocking(False)
    poured = [0, 0]
    while min(poured) < 4 << 20:
        for i, on in enumerate(both):
            with suppress(BlockingIOError):
                poured[i] += on.client.send(bytes(1 << 17))
        gevent.sleep(0)
    both[0].until(lambda: [sum(size for _, size in seen) for seen in reads] == poured)
    bulk = [{at for (_, before), (at, _) in pairwise(seen) if before >= READ_SIZE} for seen in reads]
    assert min(map(len, bulk)) > 10
    assert not bulk[0] & bulk[1]


@pytest.mark.parametrize("side", [Event.CLIENT, Event.BACKEND])
def test_a_side_that_waits_for_its_turn_is_not_watched(side: Event, stage: Callable[..., Stage]) -> None:
    turns = Later()
    on = stage(turns=turns)
    on.core.wants_dial = True
    on.client.sendall(b"a")
    on.until(lambda: on.backends)
    far = on.client if side is Event.CLIENT else on.backends[0]
    far.sendall(bytes(READ_SIZE))  # bulk
    on.until(lambda: len(on.core.seen[-1][-1]) == READ_SIZE)
    far.sendall(b"b")
    on.until(lambda: turns.asked)
    pass_rounds()
    assert list(on.drive._its_turns.due) == [side]
    assert len(turns.asked) == 1
    turns.asked.pop()()
    assert on.core.seen[-1] == (side.value, b"b")
    far.sendall(bytes(READ_SIZE))
    on.until(lambda: len(on.core.seen[-1][-1]) == READ_SIZE)
    far.sendall(b"c")
    on.until(lambda: turns.asked)
    gevent.get_hub().loop.run_callback(on._cut, ZeroDivisionError())
    on.until(lambda: on.end)
    assert not turns.asked, "it wants none any more"


class Sized(Channel):
    """Says how much it was to read."""

    def receive(self, most: int = READ_SIZE) -> bytes:
        self.sizes.append(most)
        return super().receive(most)

    sizes: ClassVar[list[int]] = []


def test_the_only_session_reads_more_at_once(stage: Callable[..., Stage]) -> None:
    on = stage(channel=Sized)
    on.core.wants_dial = True
    on.client.sendall(b"a")
    on.until(lambda: on.backends)
    assert on.drive._link.side
    sinks = on._stream, on.drive._link.side.channel
    alone, others = (LONE_ANSWER, LONE_BULK), (BULK_SIZE, BULK_SIZE)
    for sessions, unsent, each in ((1, 0, alone), (1, 1, others), (2, 0, others), (1, 0, alone)):
        on.session.shared.sessions = [None] * sessions
        for sink in sinks:
            sink.unsent = unsent
        for far, sizes, size in zip((on.backends[0], on.client), (on.core.bulk, Sized.sizes), each, strict=True):
            assert bulk_of(far, sizes) == {size}
    on.core.kept = 1  # an answer waits for the windows of an HTTP/2 client
    bulk_of(on.backends[0], on.core.bulk)
    assert bulk_of(on.backends[0], on.core.bulk) == {BULK_SIZE}


def bulk_of(far: socket.socket, sizes: list[int]) -> set[int]:
    """The sizes of the next reads of what it sends in bulk."""
    far.setblocking(False)
    sizes.clear()
    while len(sizes) < 4:
        with suppress(BlockingIOError):
            far.send(bytes(1 << 17))
        gevent.sleep(0)
    return set(sizes) - {READ_SIZE}
