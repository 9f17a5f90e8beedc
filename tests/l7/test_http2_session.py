"""Sessions over real sockets: backends that refuse, vanish, stall; clients that don't read; draining."""

import socket
import threading
from collections.abc import Iterator

import pytest

from mcproxy.l7.http2_session import Http2Session, Limits
from mcproxy.l7.stream import StreamEnd
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame
from tests.conftest import MakeBackend
from tests.l7.peer import GET, POST, CarelessBackend, Cutter
from tests.l7.serving import Server, SocketClient, careless
from tests.peers import DEADLINE, Authority, Backend, until


class Rig:
    """Makes servers and clients that end with the test."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._servers: list[Server] = []
        self._clients: list[SocketClient] = []

    def server(self, backend: Backend | int, limits: Limits | None = None) -> Server:
        port = backend if isinstance(backend, int) else int(backend.address.rpartition(":")[2])
        self._servers.append(Server(self._authority, port, limits))
        return self._servers[-1]

    def client(self, server: Server) -> SocketClient:
        self._clients.append(SocketClient(server.port, self._authority))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for server in self._servers:
            server.close()
            assert not server.sessions


@pytest.fixture
def rig(nothing_left: None, authority: Authority) -> Iterator[Rig]:
    rig = Rig(authority)
    yield rig
    rig.close()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def status(client: SocketClient) -> bytes:
    """Of the next answer, which must be one of the proxy's own."""
    head = client.find(Frame.HEADERS)
    assert head is not None
    assert head.ends
    return head.payload.partition(b"\x03")[2][:3]


def test_requests_are_served(rig: Rig, backend: MakeBackend) -> None:
    server = rig.server(backend(careless()))
    client = rig.client(server)
    client.handshake()
    for stream_id in range(1, 101, 2):
        client.request(stream_id)
        client.expect_answer()
    until(lambda: len(server.records) == 50, "50 records")
    assert {s.end for s in server.records} == {StreamEnd.DONE}


def test_a_backend_that_refuses(rig: Rig) -> None:
    client = rig.client(rig.server(unused_port()))
    client.send(PREFACE + http2.settings([]))
    client.request()
    assert status(client) == b"502"
    away = client.find(Frame.GOAWAY)
    assert away is not None
    assert away.code == ErrorCode.NO_ERROR
    assert client.wait() is None, "and the connection ends"


def test_a_backend_that_does_not_answer_the_dial(rig: Rig) -> None:
    """A listener whose queue is full lets nobody in."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        client = rig.client(rig.server(full.getsockname()[1], Limits(connect=0.5, idle=DEADLINE)))
        client.send(PREFACE + http2.settings([]))
        client.request()
        assert status(client) == b"504"
        for each in waiting:
            each.close()


def test_a_backend_that_vanishes_in_the_middle(rig: Rig, backend: MakeBackend) -> None:
    def half(connection: socket.socket) -> None:
        machine = CarelessBackend(b"x" * 1000)
        while data := connection.recv(65_536):
            out = machine.receive(data)
            if machine.answered:
                connection.sendall(out[:-500])
                return
            connection.sendall(out)

    client = rig.client(rig.server(backend(half)))
    client.handshake()
    client.request()
    reset = client.find(Frame.RST_STREAM)
    assert reset is not None
    assert reset.code == ErrorCode.INTERNAL_ERROR
    assert client.find(Frame.GOAWAY)


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
    done = 0
    while done < 100:
        client = rig.client(server)
        client.handshake()
        stream_id, last = 1, None
        while last is None and done < 100:
            client.request(stream_id)
            seen = client.wait()
            while seen is not None and not seen.ends:
                if seen.kind == Frame.GOAWAY:
                    last = int.from_bytes(seen.payload[:4], "big")
                    break
                seen = client.wait()
            if seen is None or (last is not None and stream_id > last):
                break
            done += 1
            stream_id += 2
        client.close()
    assert StreamEnd.BACKEND_GONE not in {s.end for s in server.records}
    assert sum(s.end is StreamEnd.DONE for s in server.records) >= 100


def test_a_client_that_does_not_read_stops_the_backend_not_the_proxy(rig: Rig, backend: MakeBackend) -> None:
    sent = threading.Event()

    def pour(connection: socket.socket) -> None:
        cutter = Cutter()
        connection.sendall(http2.settings([]) + http2.SETTINGS_ACK)
        data = connection.recv(65_536)[len(PREFACE) :]
        while not any(seen.kind == Frame.HEADERS for seen in cutter.feed(data)):
            data = connection.recv(65_536)
        connection.sendall(http2.headers(1, b"\x88"))
        connection.settimeout(0.5)
        try:
            for _ in range(4_000):  # 64 MB, far beyond every window
                connection.sendall(http2.data(1, b"x" * 16_384))
        except TimeoutError:
            sent.set()
            connection.recv(65_536)

    server = rig.server(backend(pour))
    client = rig.client(server)
    client.handshake()
    client.request(1, POST, end=False)
    assert sent.wait(DEADLINE), "the backend is held back"
    other = rig.client(rig.server(backend(careless())))
    other.handshake()
    other.request()
    other.expect_answer()


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
    server.each(Http2Session.drain)
    notice = client.find(Frame.GOAWAY)
    assert notice is not None
    ping = client.find(Frame.PING)
    assert ping is not None
    client.send(http2.ping(ping.payload, ack=True))
    assert client.find(Frame.GOAWAY)
    gate.set()
    client.expect_answer()
    assert client.wait() is None


def test_an_idle_connection_ends_with_goaway(rig: Rig, backend: MakeBackend) -> None:
    client = rig.client(rig.server(backend(careless()), Limits(connect=DEADLINE, idle=0.5)))
    client.handshake()
    away = client.find(Frame.GOAWAY)
    assert away is not None
    assert away.code == ErrorCode.NO_ERROR
    assert client.wait() is None


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
    until(lambda: not server.sessions, "the session to end")


def test_cutting_while_the_backend_is_dialled(rig: Rig) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        server = rig.server(full.getsockname()[1])
        client = rig.client(server)
        client.send(PREFACE + http2.settings([]))
        until(lambda: bool(server.sessions), "the session to begin")
        server.each(Http2Session.cut)
        until(lambda: not server.sessions, "the session to end")
        for each in waiting:
            each.close()
