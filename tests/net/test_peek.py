"""A message is waited for and left in the kernel, whatever pieces it comes in, and without looking twice at the same.

How often `peek` looks is counted at the socket itself: waiting for half a message must cost nothing.
"""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

from mcproxy.model import Reason, Refused
from mcproxy.net.peek import FIRST_LOOK, SHORT_OF_MEMORY_PAUSE, peek
from mcproxy.net.raw import READ, IoWatcher, RawSocket, unsent
from mcproxy.wire import hello
from tests.kit import hellos
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, push, reset, until
from tests.kit.socket_pairs import tcp_pair, turn

IDLE_TURNS = 50  # of the loop; code that spins looks in every one of them


class Counted(RawSocket):
    """Counts how often it is read."""

    looks = 0

    def recv(self, *arguments: Any) -> bytes:
        self.looks += 1
        return super().recv(*arguments)


class Peeking:
    """A client that sends and a hub where its message is waited for."""

    def __init__(self, hub: HubThread) -> None:
        self.hub = hub
        accepted, self.client = tcp_pair()
        self.sock = Counted(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.sock.setblocking(False)
        self._readable: IoWatcher = hub.call(lambda: get_hub().loop.io(self.sock.fileno(), READ))
        self.greenlet: greenlet | None = None
        self.needs: list[int] = []  # what the parser asked for

    def start(self, parse: Callable[[bytes], Any]) -> "Future[Any]":
        def ask(data: bytes) -> Any:
            value = parse(data)
            if isinstance(value, int):
                assert value > len(data)
                self.needs.append(value)
            return value

        def run() -> Any:
            self.greenlet = getcurrent()
            return peek(self.sock, self._readable, ask, Reason.HELLO_TRUNCATED)

        return self.hub.spawn(run)

    def send(self, data: bytes) -> None:
        """Returns when the other end has it."""
        self.client.sendall(data)
        until(lambda: not unsent(self.client), "the bytes to arrive")

    @property
    def low_water_mark(self) -> int:
        return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def until_it_needs(self, size: int) -> None:
        until(lambda: self.low_water_mark == size, f"{size} bytes to be waited for")

    def close(self) -> None:
        self.hub.call(self._readable.close)
        self.sock.close()
        self.client.close()


@pytest.fixture
def peeking(hub: HubThread) -> Iterator[Peeking]:
    made = Peeking(hub)
    yield made
    made.close()


def steps(*sizes: int) -> Callable[[bytes], bytes | int]:
    """A parser that finds out step by step how much it needs."""

    def parse(data: bytes) -> bytes | int:
        return next((size for size in sizes if size > len(data)), data)

    return parse


# --- it waits ---------------------------------------------------------------------------------------------------------


def test_what_is_there_already_is_seen_at_once(peeking: Peeking) -> None:
    peeking.send(b"whole")
    assert peeking.start(steps(5)).result(DEADLINE) == b"whole"
    assert peeking.sock.looks == 1
    assert peeking.sock.recv(100) == b"whole"  # it was left in the kernel


def test_what_follows_the_message_is_left(peeking: Peeking) -> None:
    peeking.send(b"wholeand more")
    assert peeking.start(lambda data: data[:5]).result(DEADLINE) == b"whole"
    assert peeking.sock.recv(100) == b"wholeand more"


def test_need_grows_with_what_is_seen(peeking: Peeking) -> None:
    found = peeking.start(steps(3, 7, 20))
    for part, need in ((b"a", 3), (b"bc", 7), (b"d", 7), (b"efg", 20)):
        peeking.send(part)
        peeking.until_it_needs(need)
    peeking.send(b"h" * 13)
    assert found.result(DEADLINE) == b"abcdefg" + b"h" * 13
    assert peeking.needs == [3, 7, 20]


@pytest.mark.parametrize("have", [1, 19])
def test_half_a_message_is_not_looked_at_again_and_again(have: int, peeking: Peeking) -> None:
    found = peeking.start(steps(20))
    peeking.send(b"." * have)
    peeking.until_it_needs(20)
    turn(peeking.hub, 3)
    looks = peeking.sock.looks
    turn(peeking.hub, IDLE_TURNS)
    assert peeking.sock.looks == looks <= 3
    peeking.send(b"." * (20 - have))
    assert len(found.result(DEADLINE)) == 20


def test_a_kernel_without_room_for_the_message_is_not_asked_again_and_again(peeking: Peeking) -> None:
    """Then the socket is readable although too little is there (tcp_data_ready), and stays so."""
    peeking.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found = peeking.start(steps(50_000))
    began = time.monotonic()
    push(peeking.client, bytes(4096), most=50_000)
    turn(peeking.hub, IDLE_TURNS)
    assert 2 <= peeking.sock.looks <= 3 + (time.monotonic() - began) / SHORT_OF_MEMORY_PAUSE
    reset(peeking.client)
    assert isinstance(found.exception(DEADLINE), Refused)


def test_a_message_in_single_bytes_is_looked_at_only_when_it_may_be_whole(peeking: Peeking) -> None:
    found = peeking.start(steps(6, 300))
    for _ in range(300):
        peeking.client.sendall(b".")
        turn(peeking.hub, 2)
    assert len(found.result(DEADLINE)) == 300
    assert peeking.sock.looks <= 5  # nothing there, the first, the sixth and the last byte


def test_a_message_may_exceed_the_first_look(peeking: Peeking) -> None:
    size = 3 * FIRST_LOOK + 1
    found = peeking.start(steps(5, size))
    peeking.client.sendall(b"." * size)
    assert len(found.result(DEADLINE)) == size


# --- the largest hellos -----------------------------------------------------------------------------------------------


LARGEST = hellos.split(
    hellos.message(hellos.server_name(b"a.test"), hellos.extension(41, b"t" * (hello.MAX_HELLO_BYTES - 100))),
    range(16384, 65536, 16384),
)
"""As large as a hello may be, in records as large as those may be."""


def one_byte_records() -> bytes:
    """As large on the wire as a hello may be, with one byte of the message in each record."""
    fixed = len(hellos.message(hellos.server_name(b"a.test"), hellos.extension(41)))
    room = hello.MAX_HELLO_BYTES // (hello.RECORD_HEADER + 1)
    whole = hellos.message(hellos.server_name(b"a.test"), hellos.extension(41, b"t" * (room - fixed)))
    return hellos.split(whole, range(len(whole)))


@pytest.mark.parametrize("data", [LARGEST, one_byte_records()], ids=["large records", "one-byte records"])
def test_the_largest_hello_in_one_go(data: bytes, peeking: Peeking) -> None:
    assert hello.MAX_HELLO_BYTES - 100 < len(data) <= hello.MAX_HELLO_BYTES
    found = peeking.start(hello.Reader().parse)
    peeking.client.sendall(data)
    value = found.result(DEADLINE)
    assert (value.server_name, value.size) == ("a.test", len(data))


@pytest.mark.parametrize("data", [LARGEST, one_byte_records()], ids=["large records", "one-byte records"])
def test_the_largest_hello_sent_byte_by_byte(data: bytes, peeking: Peeking) -> None:
    found = peeking.start(hello.Reader().parse)
    for i in range(len(data)):
        peeking.client.sendall(data[i : i + 1])
    value = found.result(DEADLINE)
    assert (value.server_name, value.size) == ("a.test", len(data))
    # One-byte records: five parts in six are headers, so a sixth of what is needed at least turns out to be missing
    # each time. That ends after the logarithm of 65536 to the base 6/5 looks, and the last bytes ask one by one.
    assert peeking.sock.looks <= 80


# --- it ends ----------------------------------------------------------------------------------------------------------


def fin(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("end", [fin, reset])
@pytest.mark.parametrize("part", [b"", b"half", b"enough for the first, not the second"])
def test_an_end_before_the_end_of_the_message_is_refused(
    end: Callable[[socket.socket], None], part: bytes, peeking: Peeking
) -> None:
    found = peeking.start(steps(10, 100))
    peeking.send(part)
    turn(peeking.hub, 3)
    end(peeking.client)
    refusal = found.exception(DEADLINE)
    assert isinstance(refusal, Refused)
    assert refusal.reason is (Reason.HELLO_TRUNCATED if part else Reason.PROBE)
    assert peeking.low_water_mark == 1


@pytest.mark.parametrize("end", [fin, reset])
@pytest.mark.parametrize("part", [b"", b"half"])
def test_the_same_if_it_ended_before_anyone_looked(
    end: Callable[[socket.socket], None], part: bytes, peeking: Peeking
) -> None:
    peeking.send(part)
    end(peeking.client)
    refusal = peeking.start(steps(10)).exception(DEADLINE)
    assert isinstance(refusal, Refused)
    assert refusal.reason is (Reason.HELLO_TRUNCATED if part else Reason.PROBE)


@pytest.mark.parametrize("end", [fin, reset])
def test_an_end_behind_a_whole_message_is_not_its_business(
    end: Callable[[socket.socket], None], peeking: Peeking
) -> None:
    peeking.send(b"whole")
    end(peeking.client)
    assert peeking.start(steps(5)).result(DEADLINE) == b"whole"


# --- and leaves the socket as it was ----------------------------------------------------------------------------------


def test_a_whole_message_leaves_the_low_water_mark_at_one(peeking: Peeking) -> None:
    found = peeking.start(steps(10))
    peeking.send(b"half")
    peeking.until_it_needs(10)
    peeking.send(b"and whole")
    found.result(DEADLINE)
    assert peeking.low_water_mark == 1


def test_a_parser_that_refuses_leaves_the_low_water_mark_at_one(peeking: Peeking) -> None:
    def parse(data: bytes) -> bytes | int:
        if len(data) < 10:
            return 10
        raise Refused(Reason.HELLO_MALFORMED)

    found = peeking.start(parse)
    peeking.send(b"half")
    peeking.until_it_needs(10)
    peeking.send(b"and whole")
    refusal = found.exception(DEADLINE)
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.HELLO_MALFORMED
    assert peeking.low_water_mark == 1


def test_cut_while_it_waits_the_low_water_mark_is_one(peeking: Peeking) -> None:
    found = peeking.start(steps(10))
    peeking.send(b"half")
    peeking.until_it_needs(10)
    assert peeking.greenlet
    peeking.hub.call(peeking.greenlet.throw, GreenletExit)
    assert isinstance(found.exception(DEADLINE), GreenletExit)
    assert peeking.low_water_mark == 1
