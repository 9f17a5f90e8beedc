"""One side may end while the other goes on for as long as it has something to say: FIN becomes FIN, each way alone."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcproxy.net.raw import unsent
from tests.e2e.conftest import MakeLink
from tests.kit.link import HELLO, Link
from tests.kit.pace import receive_slowly, slowly
from tests.kit.peers import DEADLINE, digest, pattern, read_all, receive, received, stream, until

TIMEOUT = 0.8  # seconds
ANSWER = 50 << 20  # bytes
LAST = 3 << 20  # bytes that the proxy takes although nobody reads: a pipe and the buffers of two sockets
PAUSE = 0.025  # seconds after each block of the answer: 1.25 s in all, but never so long that it could be called idle


def ends(between: Link, first: str) -> tuple[socket.socket, socket.socket]:
    """The side that ends first, and the other."""
    if first == "client":
        return between.client, between.backend
    return between.backend, between.client


def send(connection: socket.socket, parts: Iterator[bytes]) -> None:
    """All of it, and FIN."""
    for part in parts:
        connection.sendall(part)
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("first", ["client", "backend"])
def test_fin_becomes_fin(first: str, kind: str, link: MakeLink) -> None:
    between = link(kind)
    one, other = ends(between, first)
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == b"question"
    for answer in (b"this ", b"and ", b"that"):
        other.sendall(answer)
        assert receive(one, len(answer)) == answer
    other.shutdown(socket.SHUT_WR)
    assert read_all(one) == b""
    assert between.ended("closed")["reason"] == "ok"


@pytest.mark.parametrize("pace", ["slow sender", "slow reader"])
@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_slow_answer_may_take_longer_than_the_timeout(first: str, pace: str, link: MakeLink) -> None:
    """Which counts only the time in which nothing moves."""
    between = link(half_close_timeout=TIMEOUT)
    one, other = ends(between, first)
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == b""
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        parts = stream(ANSWER)
        sent = pool.submit(send, other, slowly(parts, PAUSE) if pace == "slow sender" else parts)
        came = received(one)
        assert digest(slowly(came, PAUSE) if pace == "slow reader" else came) == digest(stream(ANSWER))
        sent.result(DEADLINE)
    assert time.monotonic() - began > TIMEOUT
    line = between.ended("closed")
    moved = {"received": len(HELLO), "sent": 0}
    moved["sent" if first == "client" else "received"] += ANSWER
    assert (line["received"], line["sent"]) == (str(moved["received"]), str(moved["sent"]))


def test_both_sides_end_at_once(link: MakeLink) -> None:
    between = link()
    between.client.shutdown(socket.SHUT_WR)
    between.backend.shutdown(socket.SHUT_WR)
    assert read_all(between.client) == read_all(between.backend) == b""
    between.ended("closed")


def test_a_side_that_ends_and_leaves_gets_a_fin_for_it(link: MakeLink) -> None:
    """Closing says FIN, too; who has said all that is to say gets no RST for it."""
    between = link()
    between.client.sendall(b"question")
    assert receive(between.backend, 8) == b"question"
    between.backend.sendall(b"answer")
    between.backend.close()
    assert read_all(between.client) == b"answer"
    between.client.close()
    between.ended("closed")


@pytest.mark.parametrize("first", ["client", "backend"])
def test_what_the_kernel_still_holds_may_be_read_slowly(first: str, link: MakeLink) -> None:
    """The side that ended may have been relayed to its last byte long before the other has read it."""
    between = link(half_close_timeout=TIMEOUT)
    one, other = ends(between, first)
    send(one, iter([pattern(LAST)]))
    until(lambda: not unsent(one), "everything to be accepted")
    assert receive_slowly(other, LAST, 1.5 * TIMEOUT) == pattern(LAST)
    assert read_all(other) == b""
    other.close()
    between.ended("closed")
