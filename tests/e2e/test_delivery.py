"""What a backend has sent reaches a client that goes on reading, however slowly, however the connection ends.

The kernel takes megabytes at once, long before a slow client has them. Timers that counted from there cut clients that
read steadily, and a connection that was closed meanwhile answered their next WINDOW_UPDATE with a RST, which destroys
what is on its way (mcproxy/net/delivery.py). In all of this the buffers are small, so that the tests take seconds.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mcproxy.model import End
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame, Setting
from tests.conftest import MakeBackend
from tests.kit.http2_peer import GET, HOST, CarelessBackend, Cutter
from tests.kit.l7_proxy import Rig, Server, SocketClient, careless
from tests.kit.pace import pause
from tests.kit.peers import DEADLINE, Authority, connect, receive, until, vanish

SMALL = 65_536  # bytes of a client's receive buffer
BODY = 3_000_000  # bytes that our kernel takes at once, and a small receive buffer doesn't
UPLOAD = 983_040  # bytes that a kernel takes at once, and a slow backend reads in 6 s
LARGE = 12_000_000  # and bytes that it doesn't take at once
FULL = 1_500_000  # bytes of a receive buffer of which a sixteenth is much to a slow reader; the kernel doubles it
PIECE = 16_384
LONGER_THAN_LINGERING = 4.0  # seconds in which a client sends nothing: twice what it has once it has everything

ASK = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode()

After = Callable[[socket.socket], None]


class Answering:
    """A backend that answers each request with so many bytes, then does something else."""

    def __init__(self, size: int, after: After = lambda _connection: None) -> None:
        self._length = size
        self._after = after
        self.answered = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        backend, cutter = CarelessBackend(b""), Cutter()
        while data := connection.recv(65_536):
            out = backend.receive(data)
            head = next((seen for seen in cutter.feed(out) if seen.kind == Frame.HEADERS), None)
            if head is None:
                connection.sendall(out)
                continue
            connection.sendall(out[: -9 - 9 - len(head.payload)])
            block = backend.encoder.encode([(":status", "200"), ("content-length", str(self._length))])
            connection.sendall(http2.headers(head.stream_id, block))
            for _ in range(self._length // PIECE):
                connection.sendall(http2.data(head.stream_id, bytes(PIECE)))
            connection.sendall(http2.data(head.stream_id, bytes(self._length % PIECE), end_stream=True))
            self.answered.set()
            self._after(connection)
            if connection.fileno() < 0:
                return


def says_goaway(connection: socket.socket) -> None:
    connection.sendall(http2.goaway(1, ErrorCode.NO_ERROR))


def says_fin(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


class Askers(Rig):
    """Makes clients with small receive buffers, which have asked for an answer."""

    def http2(self, server: Server, receive_buffer: int = SMALL) -> SocketClient:
        """A client whose windows hold any answer, which has asked for one."""
        client = SocketClient(server.port, self.authority, receive_buffer=receive_buffer)
        self.clients.append(client)
        client.send(PREFACE + http2.settings([(Setting.INITIAL_WINDOW_SIZE, 1 << 30)]))
        client.send(http2.window_update(0, 1 << 30))
        client.request()
        return client

    def http1(self, server: Server, receive_buffer: int = SMALL, ask: bytes = ASK) -> ssl.SSLSocket:
        """A client that has asked for an answer."""
        context = self.authority.client_context()
        raw = connect(server.port, receive_buffer=receive_buffer)
        client = context.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False)
        self.clients.append(client)
        client.sendall(ask)
        return client


@pytest.fixture
def rig(nothing_left: None, authority: Authority) -> Iterator[Askers]:
    rig = Askers(authority)
    yield rig
    rig.close()


def data_of(client: SocketClient, updates: bool = True) -> Iterator[int]:
    """The sizes of an answer's pieces; for each there is a WINDOW_UPDATE, as most clients do."""
    while seen := client.wait():
        if seen.kind == Frame.SETTINGS and not seen.flags & 1:
            client.send(http2.SETTINGS_ACK)
        if seen.kind == Frame.PING and not seen.flags & 1:
            client.send(http2.ping(seen.payload, ack=True))
        if seen.kind == Frame.DATA:
            if updates:
                client.send(http2.window_update(0, len(seen.payload)))
            yield len(seen.payload)
            if seen.ends:
                return


def body_of(client: ssl.SSLSocket) -> Iterator[int]:
    """The sizes of the pieces of an HTTP/1.1 answer's body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while left:
        got = len(client.recv(min(left, PIECE)))
        assert got, f"ended {left} bytes early"
        yield got
        left -= got


def ended(server: Server) -> list[tuple[str, int]]:
    return [(record.end, record.sent) for record in server.records]


@pytest.mark.parametrize("ends", ["goaway", "fin", "drain"])
def test_a_slow_client_gets_all_when_its_connection_is_to_end(ends: str, rig: Askers, backend: MakeBackend) -> None:
    """2 s after the kernel had taken the last byte the connection was closed, and the rest was lost."""
    answering = Answering(BODY, {"goaway": says_goaway, "fin": says_fin, "drain": lambda _: None}[ends])
    server = rig.server(backend(answering), shutdown_timeout="50s")
    client = rig.http2(server)
    assert answering.answered.wait(DEADLINE)
    if ends == "drain":
        server.proxy.begin_stop()
    pause(LONGER_THAN_LINGERING)
    assert "done" not in dict(ended(server)), "it has not been delivered"
    assert sum(data_of(client)) == BODY
    assert client.find(Frame.GOAWAY) is not None
    assert client.find(Frame.DATA) is None, "and the connection ends"
    client.close()
    until(lambda: server.ends == [End.CLOSED.value], "the session to end")
    assert ended(server) == [("done", BODY)]
    if ends == "drain":
        server.proxy.stop()
        assert server.proxy.clean


def test_a_slow_client_of_http1_that_asks_for_more_meanwhile(rig: Askers, backend: MakeBackend) -> None:
    """Its next request met a closed socket, whose RST destroyed the answer under way; now it is the last one."""
    answering = Answering(BODY)
    server = rig.server(backend(answering), shutdown_timeout="50s")
    client = rig.http1(server)
    assert answering.answered.wait(DEADLINE)
    server.proxy.begin_stop()
    pause(LONGER_THAN_LINGERING)
    body = body_of(client)
    got = next(body)
    client.sendall(b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert got + sum(body) == BODY
    assert sum(body_of(client)) == BODY
    assert client.recv(1) == b""
    client.close()
    until(lambda: server.ends == [End.CLOSED.value], "the session to end")
    assert ended(server) == [("done", BODY)] * 2
    server.proxy.stop()
    assert server.proxy.clean


@pytest.mark.parametrize("protocol", ["http2", "http1"])
def test_a_steady_reader_is_not_idle(protocol: str, rig: Askers, backend: MakeBackend) -> None:
    """Though for long nothing is acknowledged: a large buffer that was full has room again when a part of it is free.

    Here that takes 11 s. It was cut after some 7, of which it had 1 for being idle and 5 to leave.
    """
    server = rig.server(backend(Answering(LARGE)), idle_timeout="1s")
    if protocol == "http2":
        body = data_of(rig.http2(server, receive_buffer=FULL), updates=False)
    else:
        body = body_of(rig.http1(server, receive_buffer=FULL))
    got = 0
    for _ in range(14):
        got += next(body)
        pause(1.0)
        assert not server.ends
    assert got + sum(body) == LARGE


@pytest.mark.parametrize("protocol", ["http2", "http1"])
def test_a_backend_that_reads_an_upload_slowly_does_not_hang(
    protocol: str, authority: Authority, backend: MakeBackend, nothing_left: None
) -> None:
    """The kernel had taken the body for it at once; idle_timeout later its client had 504, while it read on."""

    def slow(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(PIECE)
        left = UPLOAD - len(got.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(receive(connection, min(left, PIECE)))
            pause(0.1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port, rig = int(backend(slow).address.rpartition(":")[2]), Askers(authority)
    with closing(rig), closing(Server(authority, port, {"idle_timeout": "3s"}, backend_protocol="http/1.1")) as server:
        if protocol == "http1":
            client = rig.http1(server, ask=b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % UPLOAD)
            client.sendall(bytes(UPLOAD))
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        else:
            asker = rig.client(server)
            asker.handshake()
            asker.request(1, [(":method", "POST"), *GET[1:]], end=False)
            for start in range(0, UPLOAD, PIECE):
                asker.send(http2.data(1, bytes(PIECE), end_stream=start + PIECE == UPLOAD))
            asker.expect_answer()
        until(lambda: server.records, "its line")
        assert [(each.status, each.received) for each in server.records] == [(200, UPLOAD)]


def test_a_client_that_never_reads_on_is_cut(rig: Askers, backend: MakeBackend) -> None:
    answering = Answering(BODY, says_goaway)
    server = rig.server(backend(answering), idle_timeout="1s")
    client = rig.http2(server)
    assert answering.answered.wait(DEADLINE)
    until(lambda: server.ends == [End.IDLE_TIMEOUT.value], "the session to be cut")
    assert ended(server) == [("client gone", BODY)], "it was sent, and not delivered"
    with pytest.raises((ConnectionResetError, ssl.SSLError)):
        sum(data_of(client))


def test_a_client_that_has_vanished_is_cut_and_its_answer_was_not_delivered(rig: Askers, backend: MakeBackend) -> None:
    answering = Answering(BODY, says_goaway)
    server = rig.server(backend(answering), idle_timeout="1s")
    client = rig.http2(server)
    vanish(client.sock)
    until(lambda: server.ends == [End.IDLE_TIMEOUT.value], "the session to be cut")
    assert ended(server)[-1][0] != "done"


@pytest.mark.parametrize("backend_protocol", ["h2", "http/1.1"])
def test_an_answer_is_done_for_a_client_that_leaves_without_our_goodbye(
    backend_protocol: str, rig: Askers, backend: MakeBackend
) -> None:
    """curl 8.14 sends GOAWAY and closes: our GOAWAY meets a closed socket, and counted as an answer that it lacks."""
    answer = careless() if backend_protocol == "h2" else in_http1
    server = rig.server(backend(answer), backend_protocol=backend_protocol, idle_timeout="1s")
    client = rig.http2(server)
    assert sum(data_of(client)) == 11
    vanish(client.sock)
    client.send(http2.goaway(0, ErrorCode.NO_ERROR))
    until(lambda: server.ends, "the session to end")
    assert ended(server) == [("done", 11)]


def in_http1(connection: socket.socket) -> None:
    """A backend that says hello world in HTTP/1.1."""
    while connection.recv(65_536):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world")
