"""Dials in greenlets of their own: connected, failed, late, given up at every point."""

import socket
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub

from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.dialling import Dial, Dialling
from mcproxy.net.crew import Crew
from mcproxy.net.raw import RawSocket

get_hub().join(timeout=0)  # its descriptors are there before anything is counted


def turn() -> None:
    """Everything here happens in callbacks: after a few turns of the loop it has."""
    for _ in range(5):
        gevent.sleep(0)


@pytest.fixture
def crew(nothing_left: None) -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.close()
    gevent.sleep(0)


class Dialled:
    """A dial that takes a while, and what became of it."""

    def __init__(self, crew: Crew, dial: Dial | None = None) -> None:
        self.gate = Event()
        self.first: list[bytes] = []
        self.over: list[bool] = []
        self.far: socket.socket | None = None
        self.dialling = Dialling(dial or self._connect, b"first", 0.0, lambda: self.over.append(True))
        self.dialling.start(crew)

    def _connect(self, first: bytes) -> Channel:
        self.first.append(first)
        self.gate.wait()
        ours, self.far = socket.socketpair()
        return Channel(RawSocket(ours.family, ours.type, 0, ours.detach()))


def test_a_dial_that_connects(crew: Crew) -> None:
    one = Dialled(crew)
    one.dialling.put(b"")
    one.dialling.put(b"more")
    assert (one.dialling.waiting, one.dialling.unsent) == ([b"more"], 4)
    turn()
    assert repr(one.dialling) == "<Dialling under way>"
    one.gate.set()
    turn()
    assert (one.first, one.over) == ([b"first"], [True])
    assert one.far is not None
    one.dialling.fail(TimeoutError("too late to matter"))
    turn()
    assert one.dialling.failure is None
    assert "Channel open" in repr(one.dialling)
    one.dialling.abandon()
    assert "under way" in repr(one.dialling)
    assert one.far.recv(1) == b"", "it is closed with it"
    one.far.close()


def test_a_dial_that_fails(crew: Crew) -> None:
    failure = ConnectionError("no")

    def dial(_first: bytes) -> Channel:
        raise failure

    one = Dialled(crew, dial)
    turn()
    assert one.dialling.failure is failure
    assert one.over == [True]


@pytest.mark.parametrize("started", [False, True])
def test_a_dial_that_takes_too_long(crew: Crew, started: bool) -> None:
    one = Dialled(crew)
    if started:
        turn()
    late = TimeoutError("late")
    one.dialling.fail(late)
    one.dialling.fail(TimeoutError("once is enough"))
    turn()
    assert one.dialling.failure is late
    assert one.over == [True]


@pytest.mark.parametrize("started", [False, True])
def test_a_dial_that_is_given_up_tells_nobody(crew: Crew, started: bool) -> None:
    one = Dialled(crew)
    if started:
        turn()
    one.dialling.abandon()
    turn()
    assert one.over == []
    assert one.far is None


def test_a_connection_that_comes_as_it_is_given_up_is_closed(crew: Crew) -> None:
    one = Dialled(crew)
    turn()
    one.gate.set()
    get_hub().loop.run_callback(one.dialling.abandon)
    turn()
    assert one.dialling.channel is None
    if one.far is not None:
        assert one.far.recv(1) == b""
        one.far.close()
