"""Much goes through, both ways at once and unchanged; and a side that does not read stops the one that sends."""

import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeLink
from tests.kit.link import FAMILIES, HELLO
from tests.kit.peers import BLOCK, DEADLINE, digest, pattern, push, receive, received, stream

SIZE = 100 << 20  # bytes each way
OFFERED = 256 << 20  # bytes, to a side that does not read
# Bytes that the kernel may hold for a stalled connection: four buffers, of which each may grow to tcp_wmem or tcp_rmem.
HELD = 96 << 20
GROWTH = 24 << 20  # bytes by which this process, proxy and test, may grow meanwhile


def exchange(connection: socket.socket) -> str:
    """Send everything and FIN, and receive meanwhile; the hash of what came."""
    with ThreadPoolExecutor() as pool:
        came = pool.submit(lambda: digest(received(connection)))
        for part in stream(SIZE):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        return came.result(DEADLINE)


@pytest.mark.parametrize("kind", FAMILIES)
def test_100_mb_both_ways_at_once(kind: str, link: MakeLink) -> None:
    between = link(kind)
    with ThreadPoolExecutor() as pool:
        there = pool.submit(exchange, between.backend)
        back = exchange(between.client)
    assert [there.result(DEADLINE), back] == [digest(stream(SIZE))] * 2
    line = between.ended("closed")
    assert (line["received"], line["sent"]) == (str(SIZE + len(HELLO)), str(SIZE))


def memory() -> int:
    """Bytes of this process that are in memory."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * resource.getpagesize()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("slow", ["client", "backend"])
def test_who_does_not_read_stops_who_sends(slow: str, kind: str, link: MakeLink) -> None:
    between = link(kind)
    reader, sender = between.client, between.backend
    if slow == "backend":
        reader, sender = sender, reader
    block, before = pattern(BLOCK), memory()
    taken = push(sender, block, OFFERED)
    assert taken < HELD
    assert memory() - before < GROWTH
    sender.shutdown(socket.SHUT_WR)
    assert sum(map(len, received(reader))) == taken


def test_who_does_not_read_stops_only_who_sends(link: MakeLink) -> None:
    """The way back of the same connection goes on, and so do the others."""
    between = link()
    push(between.client, pattern(BLOCK), OFFERED)
    other, its_backend = between.connect()
    for one, two in ((between.backend, between.client), (other, its_backend), (its_backend, other)):
        one.sendall(b"still here")
        assert receive(two, 10) == b"still here"
