"""Every wait has an end of its own, which the client and the backend see as a RST, and no wait is cut by another's."""

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcproxy.net.raw import unsent
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.e2e.conftest import MakeLink
from tests.kit.link import HELLO, Link
from tests.kit.pace import keep_going, receive_slowly
from tests.kit.peers import BLOCK, DEADLINE, connect, echo, is_reset, pattern, read_all, receive, until

SOON = "400ms"
LONG = 1.0  # seconds; more than twice as long as SOON
QUEUED = 3 << 20  # bytes that the proxy takes although nobody reads: a pipe and the buffers of two sockets


# --- handshake_timeout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", HELLO[:1], HELLO[:-1]], ids=["nothing", "one byte", "all but one byte"])
def test_a_hello_that_is_not_whole_in_time(part: bytes, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})], "proxy": {"handshake_timeout": SOON}})
    with connect(running.port) as client:
        client.sendall(part)
        assert is_reset(client)
    line = running.connection(reason="handshake_timeout")
    assert (line["end"], line["sni"], line["route"]) == ("refused", "-", "-")


def test_one_byte_every_so_often_buys_no_time(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})], "proxy": {"handshake_timeout": SOON}})
    bytewise = iter(HELLO)

    def send_one() -> bool:
        try:
            return not client.send(bytes([next(bytewise)]))
        except (ConnectionResetError, BrokenPipeError):
            return True

    with connect(running.port) as client:
        until(send_one, "a reset, long before the last byte")
    running.connection(reason="handshake_timeout")


def test_proxy_header_and_hello_share_the_time(backend: MakeBackend, proxy: MakeProxy) -> None:
    trusting = listener({"link.test": backend(echo).address}, proxy_protocol=True, trusted_proxies=["127.0.0.0/8"])
    running = proxy({"listeners": [trusting], "proxy": {"handshake_timeout": "5s"}})
    with connect(running.port) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 ")
        until(lambda: [each for each in running.sessions() if each.phase == "peeking"], "the header to be looked at")
        (session,) = running.sessions()
        deadline = session.deadline
        client.sendall(b"192.0.2.2 40000 443\r\n" + HELLO[:-1])
        until(lambda: session.facts.client == ("192.0.2.1", 40000), "the header to be read")
        assert (session.phase, session.deadline) == ("peeking", deadline)
        client.sendall(HELLO[-1:])
        assert receive(client, len(HELLO)) == HELLO


def test_a_proxy_header_that_is_not_whole_in_time(proxy: MakeProxy) -> None:
    trusting = listener({}, proxy_protocol=True, trusted_proxies=["127.0.0.0/8"])
    running = proxy({"listeners": [trusting], "proxy": {"handshake_timeout": SOON}})
    with connect(running.port) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 ")
        assert is_reset(client)
    running.connection(reason="handshake_timeout")


# --- connect_timeout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_backend_that_does_not_answer(family: socket.AddressFamily, proxy: MakeProxy, tmp_path: Path) -> None:
    """Its backlog is full: the kernel ignores who else comes."""
    with socket.socket(family) as busy:
        busy.bind(str(tmp_path / "busy.sock") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        busy.listen(0)
        waiting = [socket.socket(family) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            assert each.connect_ex(busy.getsockname()) in (0, errno.EINPROGRESS, errno.EAGAIN)
        name = busy.getsockname()
        address = f"unix:{name}" if family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
        running = proxy({"listeners": [listener({"link.test": address})], "proxy": {"connect_timeout": SOON}})
        with connect(running.port) as client:
            client.sendall(HELLO)
            assert is_reset(client)
        line = running.connection(reason="backend_timeout")
        assert (line["end"], line["route"], line["backend"]) == ("refused", "link.test", address)
        for each in waiting:
            each.close()


# --- a relay outlives both --------------------------------------------------------------------------------------------


def test_a_relay_is_not_cut_by_what_came_before_it(link: MakeLink) -> None:
    between = link(handshake_timeout=SOON, connect_timeout=SOON)
    for _ in keep_going(LONG):
        between.client.sendall(b"ping")
        assert receive(between.backend, 4) == b"ping"
        between.backend.sendall(b"pong")
        assert receive(between.client, 4) == b"pong"
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(between.backend.sendall, pattern(4 * BLOCK))
        assert receive(between.client, 4 * BLOCK) == pattern(4 * BLOCK)
        sent.result(DEADLINE)


# --- idle_timeout -----------------------------------------------------------------------------------------------------


def sides(between: Link, first: str) -> tuple[socket.socket, socket.socket]:
    return (between.client, between.backend) if first == "client" else (between.backend, between.client)


def test_when_nothing_moves_both_sides_are_reset(link: MakeLink) -> None:
    between = link(idle_timeout=SOON, handshake_timeout="1m", connect_timeout="1m")
    between.client.sendall(b"last")
    assert receive(between.backend, 4) == b"last"
    assert is_reset(between.client)
    assert is_reset(between.backend)
    assert between.ended("idle_timeout")["reason"] == "ok"


@pytest.mark.parametrize("first", ["client", "backend"])
def test_traffic_one_way_keeps_both_ways_open(first: str, link: MakeLink) -> None:
    between = link(idle_timeout=SOON)
    one, other = sides(between, first)
    for i in keep_going(LONG):
        one.sendall(bytes([i % 256]))
        assert receive(other, 1) == bytes([i % 256])
    other.sendall(b"answer")
    assert receive(one, 6) == b"answer"


@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_slow_reader_is_not_idle(first: str, link: MakeLink) -> None:
    """Although nothing passes the proxy now: bytes that it has accepted are still on their way."""
    between = link(idle_timeout=SOON)
    one, other = sides(between, first)
    one.sendall(pattern(QUEUED))
    until(lambda: not unsent(one), "everything to be accepted")
    assert receive_slowly(other, QUEUED, LONG) == pattern(QUEUED)


# --- half_close_timeout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["client", "backend"])
def test_when_nothing_moves_after_one_side_has_ended(first: str, link: MakeLink) -> None:
    between = link(half_close_timeout=SOON)
    one, other = sides(between, first)
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == b""
    assert is_reset(one)
    assert between.ended("half_close_timeout")["reason"] == "ok"
    with pytest.raises((ConnectionResetError, BrokenPipeError)):  # to read it has only the FIN
        other.sendall(b"answer")


def test_then_idle_timeout_no_longer_counts(link: MakeLink) -> None:
    between = link(idle_timeout=SOON)
    between.client.shutdown(socket.SHUT_WR)
    assert read_all(between.backend) == b""
    for _ in keep_going(LONG):
        assert between.proxy.sessions()
    between.backend.sendall(b"answer")
    assert receive(between.client, 6) == b"answer"
