"""A read that takes too long is ended, and nothing else is touched."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from mcproxy.net.raw import RawSocket
from mcproxy.net.read_guard import ReadCut, ReadGuard
from tests.kit.peers import DEADLINE, until

LONG = 3_600.0  # seconds of CPU that no read here takes
ROUNDS = 2_000


@pytest.fixture
def guard(nothing_left: None) -> Iterator[ReadGuard]:
    guard = ReadGuard(look=0.0001)
    yield guard
    guard.close()


def pair() -> tuple[RawSocket, socket.socket]:
    """A non-blocking socket as the hub reads it, and its peer."""
    ours, theirs = socket.socketpair()
    raw = RawSocket(ours.family, ours.type, 0, ours.detach())
    raw.setblocking(False)
    return raw, theirs


@contextmanager
def watching(guard: ReadGuard, sock: RawSocket, seconds: float) -> Iterator[None]:
    """Watch what the block reads."""
    guard.begin(sock, seconds)
    try:
        yield
    finally:
        guard.over(seconds)


def read_to_the_end(sock: RawSocket) -> None:
    """Compute until there is an end, as SSL_read does while KeyUpdates come."""
    while True:
        with suppress(BlockingIOError):
            if not sock.recv(1):
                return


def test_a_read_that_computes_too_long_meets_its_end(guard: ReadGuard) -> None:
    sock, peer = pair()
    with peer:
        with pytest.raises(ReadCut, match=r"more than 0\.01 s"), watching(guard, sock, 0.01):
            read_to_the_end(sock)
        assert peer.recv(1) == b"", "the connection is gone before anybody closes it"
        assert not os.get_inheritable(sock.fileno())
        sock.close()
        other, its_peer = pair()
        with its_peer, watching(guard, other, LONG):
            its_peer.send(b"x")
            assert other.recv(1) == b"x"
        other.close()


def test_what_waits_without_computing_is_no_such_read(guard: ReadGuard) -> None:
    """A busy machine keeps the hub's thread waiting in the middle of a read; it is the CPU that counts."""
    computed = threading.Event()

    def compute() -> None:
        while time.thread_time() < 0.1:
            continue
        computed.set()

    sock, peer = pair()
    other = threading.Thread(target=compute, daemon=True)
    with peer, watching(guard, sock, 0.05):
        other.start()
        assert computed.wait(DEADLINE)
    other.join(DEADLINE)
    sock.close()


def test_a_read_that_is_over_is_left_alone(guard: ReadGuard) -> None:
    sock, peer = pair()
    with peer:
        with watching(guard, sock, LONG):
            note = guard.reading
        assert note is not None
        guard.cut(note)
        with watching(guard, sock, LONG):
            guard.cut(note)
        assert not guard.acting
        peer.send(b"x")
        assert sock.recv(1) == b"x"
    sock.close()


def test_a_descriptor_that_is_used_again_is_never_hit(guard: ReadGuard) -> None:
    """The guard ends whatever it sees twice; connections come and go under one number meanwhile."""
    cut = 0
    for turn in range(ROUNDS):
        sock, peer = pair()
        with peer:
            try:
                with watching(guard, sock, 0.0):
                    for _ in range(turn % 100):
                        with suppress(BlockingIOError):
                            sock.recv(1)
            except ReadCut:
                cut += 1
                assert sock.recv(1) == b""
            else:  # it is over, and stays as it is
                peer.send(b"x")
                assert sock.recv(1) == b"x"
        sock.close()
    assert cut < ROUNDS


def test_without_reads_it_sleeps(guard: ReadGuard) -> None:
    sock, peer = pair()
    assert repr(guard) == "<ReadGuard parked>"
    for _ in range(3):
        with peer, watching(guard, sock, LONG):
            until(lambda: not guard.parked, "the guard to wake")
        until(lambda: guard.parked, "the guard to sleep")
    sock.close()


def test_it_closes_without_having_read(nothing_left: None) -> None:
    ReadGuard().close()
