"""HTTP/2 sessions that don't go well: backends that refuse, vanish, stall; clients that don't read; draining."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from mcproxy.l7.core import ExchangeEnd
from mcproxy.model import End
from mcproxy.net.shared import Cut
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame
from tests.conftest import MakeBackend
from tests.kit.http2_peer import GET, POST, CarelessBackend, Cutter
from tests.kit.l7_proxy import Rig, SocketClient, careless
from tests.kit.peers import DEADLINE, Authority, free_port, push, receive, until

MUCH = 64 << 20  # bytes, several times what the kernel takes for two connections


@pytest.fixture
def rig(nothing_left: None, authority: Authority) -> Iterator[Rig]:
    rig = Rig(authority)
    yield rig
    rig.close()


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener whose queue is full, so that it lets nobody in."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def status(client: SocketClient) -> bytes:
    """Of the next answer, which must be one of the proxy's own."""
    head = client.find(Frame.HEADERS)
    assert head is not None
    assert head.ends
    return head.payload.partition(b"\x03")[2][:3]


def expect_goaway(client: SocketClient, code: ErrorCode) -> None:
    away = client.find(Frame.GOAWAY)
    assert away is not None
    assert away.code == code


def test_a_backend_that_refuses_is_502_and_the_next_connection_tries_again(rig: Rig) -> None:
    server = rig.server(free_port())
    for _ in range(2):
        client = rig.client(server)
        client.send(PREFACE + http2.settings([]))
        client.request()
        assert status(client) == b"502"
        expect_goaway(client, ErrorCode.NO_ERROR)
        assert client.wait() is None, "and the connection ends"
    until(lambda: [s.status for s in server.records] == [502, 502], "2 records")


def test_a_backend_that_does_not_answer_the_dial_is_504(rig: Rig, full: int) -> None:
    client = rig.client(rig.server(full, connect_timeout="500ms"))
    client.send(PREFACE + http2.settings([]))
    client.request()
    assert status(client) == b"504"


def test_the_client_is_answered_while_the_backend_is_dialled(rig: Rig, full: int) -> None:
    server = rig.server(full)
    client = rig.client(server)
    client.send(PREFACE + http2.settings([]))
    client.request(1, POST, end=False)
    client.request(3, [*GET[:3], (":authority", "other.test")])
    assert status(client) == b"421"
    client.expect_ping()
    assert "Dialling under way" in repr(server.proxy.sessions()[0].carrier)
    client.close()
    until(lambda: server.ends == [End.CLOSED.value], "the session to end with its client, long before the dial")


def test_a_backend_that_vanishes_in_the_middle_is_no_clean_end(rig: Rig, backend: MakeBackend) -> None:
    def half(connection: socket.socket) -> None:
        machine = CarelessBackend(b"x" * 1000)
        while data := connection.recv(65_536):
            out = machine.receive(data)
            if machine.answered:
                connection.sendall(out[:-500])
                return
            connection.sendall(out)

    server = rig.server(backend(half))
    client = rig.client(server)
    client.handshake()
    client.request()
    reset = client.find(Frame.RST_STREAM)
    assert reset is not None
    assert reset.code == ErrorCode.INTERNAL_ERROR
    expect_goaway(client, ErrorCode.NO_ERROR)
    until(lambda: [s.end for s in server.records] == [ExchangeEnd.BACKEND_GONE.value], "the record")


def test_a_backend_that_says_goaway_every_few_requests(rig: Rig, backend: MakeBackend) -> None:
    """As nginx does at keepalive_requests: a client that repeats what was refused loses nothing."""

    def serve(connection: socket.socket) -> None:
        machine = CarelessBackend()
        while data := connection.recv(65_536):
            out = machine.receive(data)
            if len(machine.answered) >= 5:
                connection.sendall(out + http2.goaway(max(machine.answered), ErrorCode.NO_ERROR))
                return
            connection.sendall(out)

    server = rig.server(backend(serve))
    for _ in range(20):
        client = rig.client(server)
        client.handshake()
        for stream_id in range(1, 10, 2):
            client.request(stream_id)
            client.expect_answer()
        away = client.find(Frame.GOAWAY)
        assert away is not None
        assert int.from_bytes(away.payload[:4], "big") == 9
        assert client.wait() is None
    until(lambda: len(server.records) == 100, "the records")
    assert {s.end for s in server.records} == {ExchangeEnd.DONE.value}


class Pouring:
    """A backend whose answer on stream 1 is far beyond every window."""

    def __init__(self) -> None:
        self.held_back = threading.Event()
        self.poured = 0

    def __call__(self, connection: socket.socket) -> None:
        cutter = Cutter()
        connection.sendall(http2.settings([]) + http2.SETTINGS_ACK)
        receive(connection, len(PREFACE))
        while not any(seen.kind == Frame.HEADERS for seen in cutter.feed(connection.recv(65_536))):
            pass
        connection.sendall(http2.headers(1, b"\x88"))
        self.poured = push(connection, http2.data(1, b"x" * 16_375), MUCH)
        self.held_back.set()
        connection.recv(65_536)


def test_a_client_that_does_not_read_stops_the_backend_not_the_proxy(rig: Rig, backend: MakeBackend) -> None:
    pouring = Pouring()
    server = rig.server(backend(pouring))
    client = rig.client(server)
    client.handshake()
    client.send(http2.window_update(0, 1 << 30))
    client.request(1, POST, end=False)
    client.send(http2.window_update(1, 1 << 30))
    assert pouring.held_back.wait(DEADLINE)
    assert pouring.poured < MUCH // 2, "no more than what the sockets hold"
    other = rig.client(rig.server(backend(careless())))
    other.handshake()
    other.request()
    other.expect_answer()


def test_an_answer_beyond_the_client_s_windows_is_not_read(rig: Rig, backend: MakeBackend) -> None:
    """What its windows allow fits into the kernel's buffers: nothing but MAX_HELD holds the backend back."""
    pouring = Pouring()
    client = rig.client(rig.server(backend(pouring)))
    client.handshake()
    client.request(1, POST, end=False)
    assert pouring.held_back.wait(DEADLINE)
    assert pouring.poured < MUCH // 2
    got = 0
    while got < 65_535:
        piece = client.find(Frame.DATA)
        assert piece is not None
        got += len(piece.payload)
    assert got == 65_535
    client.expect_ping()


def test_draining_ends_the_connection_when_its_requests_are_done(rig: Rig, backend: MakeBackend) -> None:
    gate = threading.Event()

    def slow(connection: socket.socket) -> None:
        machine = CarelessBackend()
        while data := connection.recv(65_536):
            out = machine.receive(data)
            if machine.answered:
                assert gate.wait(DEADLINE)
            connection.sendall(out)

    server = rig.server(backend(slow))
    client = rig.client(server)
    client.handshake()
    client.request()
    client.expect_ping()
    server.proxy.begin_stop()
    expect_goaway(client, ErrorCode.NO_ERROR)
    ping = client.find(Frame.PING)
    assert ping is not None
    client.send(http2.ping(ping.payload, ack=True))
    away = client.find(Frame.GOAWAY)
    assert away is not None
    assert int.from_bytes(away.payload[:4], "big") == 1
    gate.set()
    client.expect_answer()
    assert client.wait() is None
    client.close()
    server.proxy.stop()
    assert server.proxy.clean
    assert server.ends == [End.CLOSED.value]


def test_an_idle_connection_ends(rig: Rig, backend: MakeBackend) -> None:
    server = rig.server(backend(careless()), idle_timeout="500ms")
    client = rig.client(server)
    client.handshake()
    expect_goaway(client, ErrorCode.NO_ERROR)
    client.request()
    client.expect_answer()  # it was on its way
    expect_goaway(client, ErrorCode.NO_ERROR)
    assert client.wait() is None
    client.close()
    until(lambda: server.ends == [End.IDLE_TIMEOUT.value], "the connection's line")


def test_a_client_that_goes_ends_the_backend_connection(rig: Rig, backend: MakeBackend) -> None:
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        careless()(connection)
        over.set()

    server = rig.server(backend(serve))
    client = rig.client(server)
    client.handshake()
    client.request(1, GET)
    client.expect_answer()
    client.close()
    assert over.wait(DEADLINE)
    until(lambda: server.ends == [End.CLOSED.value], "the session to end")


def test_cutting_while_the_backend_is_dialled(rig: Rig, full: int) -> None:
    server = rig.server(full)
    client = rig.client(server)
    client.send(PREFACE + http2.settings([]))
    until(server.proxy.sessions, "the session to begin")
    (session,) = server.proxy.sessions()
    until(lambda: session.carrier is not None and "Dialling" in repr(session.carrier), "the dial")
    server.proxy.call(session.cut, Cut(End.KILLED))
    until(lambda: server.ends == [End.KILLED.value], "the session to end")
    assert client.wait() is None


def test_the_smallest_frames_all_arrive_in_many_turns(rig: Rig, backend: MakeBackend) -> None:
    server = rig.server(backend(careless()))
    client = rig.client(server)
    client.handshake()
    client.request(1, POST, end=False)
    count = 20_000
    client.send(http2.data(1, b"x") * count + http2.data(1, b"", end_stream=True))
    until(lambda: [(s.received, s.end) for s in server.records] == [(count, ExchangeEnd.DONE.value)], "its record")
