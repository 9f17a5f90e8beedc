"""What has been delivered and when nothing moves, on real sockets and with no clock but the test's."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import pytest

from mcproxy.net.delivery import LONGEST_SHUT, READ_RATE, VISITS, Progress, owed
from mcproxy.net.raw import RawSocket
from tests.kit.peers import push, reset, until, vanish
from tests.kit.socket_pairs import Watched, tcp_pair, unix_pair

LIMIT = 1.0  # seconds
SMALL = 65_536  # bytes of a receive buffer


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[RawSocket, socket.socket]]:
    ours, peer = tcp_pair() if request.param == "tcp" else unix_pair()
    yield ours, peer
    ours.close()
    peer.close()


@pytest.fixture
def tcp() -> Iterator[tuple[RawSocket, socket.socket]]:
    ours, peer = tcp_pair()
    yield ours, peer
    ours.close()
    peer.close()


def fill(ours: RawSocket) -> None:
    """Send until the kernel takes no more for a while: the peer's buffer is full, too."""
    push(cast("socket.socket", ours), bytes(4096), 64 << 20)
    ours.setblocking(False)


def take_some(ours: RawSocket, peer: socket.socket) -> None:
    """Read until the kernel says so on our side."""
    before = owed(ours).acknowledged

    def taken() -> bool:
        peer.recv(1 << 13)
        return owed(ours).acknowledged > before

    until(taken, "some to be taken")


def looks(progress: Progress, ours: RawSocket, *times: float) -> list[bool]:
    return [progress.stalled(LIMIT, (ours,), now) for now in times]


def test_a_peer_owes_what_it_has_not_taken(pair: tuple[RawSocket, socket.socket]) -> None:
    ours, peer = pair
    assert owed(ours).waiting == 0
    fill(ours)
    before = owed(ours)
    assert before.waiting > 0
    take_some(ours, peer)
    assert owed(ours).acknowledged > before.acknowledged
    peer.setblocking(False)

    def all_is_taken() -> bool:
        with suppress(BlockingIOError):
            peer.recv(1 << 20)
        return not owed(ours).waiting

    until(all_is_taken, "all to be acknowledged")


def test_a_peer_that_has_reset_owes_nothing(tcp: tuple[RawSocket, socket.socket]) -> None:
    ours, peer = tcp
    fill(ours)
    reset(peer)
    until(lambda: not owed(ours).waiting, "the reset to arrive")


def test_nothing_moves_for_the_limit(tcp: tuple[RawSocket, socket.socket]) -> None:
    ours, _ = tcp
    progress = Progress()
    assert progress.moved(5, 10.0)
    assert not progress.moved(5, 10.2)
    assert looks(progress, ours, 10.2, 10.5, 10.9, 11.0) == [False, False, False, True]
    assert progress.moved(6, 11.1)
    assert looks(progress, ours, 11.9, 12.1) == [False, True]
    progress.restart()
    assert progress.moved(6, 13.0), "a quiet time begins with the next look"
    progress.begin(14.0)
    assert looks(progress, ours, 14.9, 15.0) == [False, True]
    assert repr(progress) == "<Progress since=14>"


def test_a_session_is_asked_once_if_all_is_delivered_and_never_before_a_part_of_the_limit() -> None:
    ours, peer = unix_pair()
    watched = Watched(ours.family, ours.type, ours.proto, ours.detach())
    with peer:
        progress, counts = Progress(), list[int]()
        progress.moved(5, 0.0)
        for now, stalls in ((LIMIT / VISITS / 2, False), (0.3, False), (0.6, False), (0.9, False), (1.1, True)):
            assert progress.stalled(LIMIT, (watched,), now) is stalls
            counts.append(watched.looks)
        assert counts == [0, 1, 1, 1, 1]
    watched.close()


def test_what_is_acknowledged_moves_a_session(pair: tuple[RawSocket, socket.socket]) -> None:
    """Before, l7 counted what the kernel accepted, which may be nothing for long."""
    ours, peer = pair
    fill(ours)
    progress = Progress()
    progress.moved(5, 0.0)
    now = 0.5
    for _ in range(10):
        assert looks(progress, ours, now) == [False]
        take_some(ours, peer)
        now += 0.9 * LIMIT
    assert not progress.moved(5, now)
    last = now + LONGEST_SHUT
    assert looks(progress, ours, now, last) == [False, True]


def test_a_shut_window_has_time_to_open(tcp: tuple[RawSocket, socket.socket]) -> None:
    """A peer that reads steadily acknowledges nothing until a part of its buffer is free."""
    ours, peer = tcp
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    fill(ours)
    until(lambda: owed(ours).allowance, "the window to be shut")
    allowance = owed(ours).allowance
    assert 1 / READ_RATE < allowance < LONGEST_SHUT
    progress = Progress()
    progress.moved(5, 0.0)
    began = LIMIT / 2  # the first look at what it owes
    limit = allowance / 4
    assert [progress.stalled(limit, (ours,), began + each) for each in (allowance / 2, 1.4 * allowance)] == [False] * 2
    assert progress.stalled(limit, (ours,), began + 2 * allowance)


def test_a_peer_that_has_vanished_has_no_such_time(tcp: tuple[RawSocket, socket.socket]) -> None:
    ours, peer = tcp
    vanish(peer)
    fill(ours)
    assert owed(ours).waiting
    assert not owed(ours).allowance
    progress = Progress()
    progress.moved(5, 0.0)
    assert looks(progress, ours, 0.5, 1.4, 1.5) == [False, False, True]
