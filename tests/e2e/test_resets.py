"""RST becomes RST, after everything that was accepted before it has been delivered.

A UNIX socket knows no RST: there the end that follows is the one of a closed socket.
"""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcproxy.net.raw import unsent
from tests.e2e.conftest import MakeLink
from tests.kit.link import HELLO, Link
from tests.kit.pace import receive_slowly
from tests.kit.peers import BLOCK, DEADLINE, is_reset, pattern, read_all, receive, reset, until

QUEUED = 3 << 20  # bytes that the proxy takes although nobody reads: a pipe and the buffers of two sockets
TIMEOUT = 0.8  # seconds
SIDES = ["client", "backend"]


def ends(between: Link, first: str) -> tuple[socket.socket, socket.socket]:
    """The side that resets, and the other."""
    if first == "client":
        return between.client, between.backend
    return between.backend, between.client


def send(connection: socket.socket, data: bytes) -> None:
    """Returns when the proxy has accepted it."""
    connection.sendall(data)
    until(lambda: not unsent(connection), "everything to be accepted")


def send_on(connection: socket.socket) -> None:
    """Ends with the connection."""
    while True:
        connection.sendall(pattern(BLOCK))


@pytest.mark.parametrize("first", SIDES)
def test_an_idle_relay_is_reset(first: str, link: MakeLink) -> None:
    between = link()
    one, other = ends(between, first)
    reset(one)
    assert is_reset(other)
    assert between.ended(f"{first}_reset")["reason"] == "ok"


def test_a_unix_socket_is_closed(link: MakeLink) -> None:
    between = link("unix")
    reset(between.client)
    assert read_all(between.backend) == b""
    between.ended("client_reset")


def test_a_unix_socket_that_is_closed_unread_resets_the_client(link: MakeLink) -> None:
    between = link("unix")
    between.client.sendall(b"never read")
    until(lambda: between.backend.recv(1, socket.MSG_PEEK), "the bytes to arrive")
    between.backend.sendall(b"the answer")
    between.backend.close()
    assert receive(between.client, 10) == b"the answer"
    assert is_reset(between.client)
    between.ended("backend_reset")


@pytest.mark.parametrize("size", [10, 100_000, QUEUED])
@pytest.mark.parametrize("first", SIDES)
def test_what_was_accepted_before_is_delivered(first: str, size: int, link: MakeLink) -> None:
    between = link()
    one, other = ends(between, first)
    send(one, pattern(size))
    reset(one)
    assert receive(other, size) == pattern(size)
    assert is_reset(other)
    line = between.ended(f"{first}_reset")
    assert (int(line["received"]) - len(HELLO), int(line["sent"])) == ((size, 0) if first == "client" else (0, size))


@pytest.mark.parametrize("first", SIDES)
def test_a_slow_reader_gets_all_of_it(first: str, link: MakeLink) -> None:
    """Even where that takes longer than half_close_timeout, which counts only the time in which nothing moves."""
    between = link(half_close_timeout=TIMEOUT)
    one, other = ends(between, first)
    send(one, pattern(QUEUED))
    reset(one)
    assert receive_slowly(other, QUEUED, 1.5 * TIMEOUT) == pattern(QUEUED)
    assert is_reset(other)
    between.ended(f"{first}_reset")


@pytest.mark.parametrize("first", SIDES)
def test_who_never_reads_it_is_reset_at_half_close_timeout(first: str, link: MakeLink) -> None:
    between = link(half_close_timeout=TIMEOUT)
    one, other = ends(between, first)
    send(one, pattern(QUEUED))
    reset(one)
    between.ended("half_close_timeout")
    with pytest.raises(ConnectionResetError):
        read_all(other)


@pytest.mark.parametrize("first", SIDES)
def test_both_sides_reset_with_bytes_on_the_way(first: str, link: MakeLink) -> None:
    """Then nobody is left to wait for."""
    between = link()
    one, other = ends(between, first)
    send(one, pattern(QUEUED))
    reset(one)
    reset(other)
    until(lambda: not between.proxy.sessions(), "the session to end")
    assert between.proxy.connection(sni="link.test")["end"] in ("client_reset", "backend_reset")


def test_a_backend_that_answers_and_closes_while_the_client_still_sends(link: MakeLink) -> None:
    between = link()
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(send_on, between.client)
        until(lambda: between.backend.recv(1, socket.MSG_PEEK), "the bytes to arrive")
        send(between.backend, pattern(QUEUED))
        between.backend.close()  # with bytes unread: that is a RST
        assert receive(between.client, QUEUED) == pattern(QUEUED)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sent.result(DEADLINE)
    between.ended("backend_reset")


def test_a_backend_that_has_said_fin_and_is_gone(link: MakeLink) -> None:
    """It reads what has come, answers and closes. What the client sends after that is answered with a RST."""
    between = link()
    between.client.sendall(b"question")
    assert receive(between.backend, 8) == b"question"
    between.backend.sendall(b"answer")
    between.backend.close()
    assert read_all(between.client) == b"answer"
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        until(lambda: between.client.send(b"more") and False, "a reset")
    between.ended("backend_reset")


@pytest.mark.parametrize("first", SIDES)
def test_a_reset_after_fin(first: str, link: MakeLink) -> None:
    """Who has sent FIN and then goes for good is found out by what is sent to it."""
    between = link()
    one, other = ends(between, first)
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == b""
    reset(one)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        until(lambda: other.send(b"answer") and False, "a reset")
    between.ended(f"{first}_reset")
