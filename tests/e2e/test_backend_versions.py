"""A backend that speaks another version of HTTP than it did: no request fails for that, and none is sent twice."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, Frame
from tests.conftest import MakeBackend
from tests.kit.http2_peer import HOST, POST, Cutter
from tests.kit.l7_proxy import Rig, Server, SocketClient, careless
from tests.kit.peers import Authority, connect, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"
NO_HTTP2 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def rig(nothing_left: None, authority: Authority) -> Iterator[Rig]:
    rig = Rig(authority)
    yield rig
    rig.close()


def is_whole(head: bytes, body: bytes) -> bool:
    """Whether this is all of a request's body."""
    length = re.search(rb"content-length: ([0-9]+)", head)
    return len(body) >= int(length[1]) if length else b"chunked" not in head or body.endswith(b"0\r\n\r\n")


class Changing:
    """A backend that speaks HTTP/2 until it is told to speak HTTP/1.1 only, and writes down its requests."""

    def __init__(self, refuses: bytes = NO_HTTP2) -> None:
        self._refuses = refuses
        self.is_old = False
        self.requests: list[bytes] = []
        self.prefaces = 0
        self.lock = threading.Lock()

    def __call__(self, connection: socket.socket) -> None:
        if not self.is_old:
            careless()(connection)
            return
        data = b""
        while True:
            data += (more := connection.recv(65_536))
            if data.startswith(PREFACE[:4]):
                with self.lock:
                    self.prefaces += 1
                connection.sendall(self._refuses)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
                return
            if not more:
                return
            head, end, body = data.partition(b"\r\n\r\n")
            if end and is_whole(head, body):
                with self.lock:
                    self.requests.append(data)
                connection.sendall(ANSWER)
                data = b""


def ask(client: SocketClient, body: bytes) -> bytes:
    """Send a request with this body, all in one go, and return the answer's body."""
    request = http2.headers(1, client.block(POST)) + http2.data(1, body, end_stream=True)
    client.send(PREFACE + http2.settings([]) + request)
    found = client.find(Frame.DATA)
    assert found is not None
    return found.payload


@pytest.mark.parametrize("refuses", [NO_HTTP2, b"", b"<!DOCTYPE HTML><p>no"])
def test_a_backend_that_no_longer_speaks_http2(refuses: bytes, rig: Rig, backend: MakeBackend) -> None:
    """Its session begins again, with the request that the client sent once."""
    changing = Changing(refuses)
    server = rig.server(backend(changing), backend_protocol="auto")
    assert ask(rig.client(server), b"first") == b"hello world"
    changing.is_old = True
    assert ask(rig.client(server), b"second") == b"old"
    (request,) = changing.requests
    assert request.startswith(b"POST ")
    assert b"second" in request
    prefaces = changing.prefaces
    assert ask(rig.client(server), b"third") == b"old"
    assert changing.prefaces == prefaces, "what was found is remembered"
    until(lambda: [record.status for record in server.records] == [200, 200, 200], "each to be logged once")


def ask_in_http1(rig: Rig, server: Server, body: bytes) -> tuple[int, bytes]:
    """Send a request as a client of HTTP/1.1, and return the answer's status and body."""
    sock = rig.authority.client_context().wrap_socket(connect(server.port), server_hostname=HOST)
    rig.clients.append(sock)
    connection = http.client.HTTPConnection(HOST)
    connection.sock = sock
    connection.request("POST", "/", body)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("refuses", [NO_HTTP2, b"", b"<!DOCTYPE HTML><p>no"])
def test_a_client_of_http1_before_a_backend_that_no_longer_speaks_http2(
    refuses: bytes, rig: Rig, backend: MakeBackend
) -> None:
    """The request in flight was answered 502, though a server of HTTP/1.1 can't have understood it."""
    changing = Changing(refuses)
    server = rig.server(backend(changing), backend_protocol="auto")
    assert ask_in_http1(rig, server, b"first") == (200, b"hello world")
    changing.is_old = True
    assert ask_in_http1(rig, server, b"second") == (200, b"old")
    (request,) = changing.requests
    assert request.startswith(b"POST ")
    assert request.endswith(b"second")
    assert changing.prefaces == 2, "of the request, and of the look that followed"


class Vanishing:
    """A backend of HTTP/2 that, once told to, ends each connection that a request comes on, without a byte."""

    def __init__(self) -> None:
        self.vanishes = False
        self.requests = 0

    def __call__(self, connection: socket.socket) -> None:
        if not self.vanishes:
            careless()(connection)
            return
        data, cutter = b"", Cutter()
        while more := connection.recv(65_536):
            data += more
            if data == PREFACE + http2.settings([]):  # a look, which carries no request
                connection.sendall(http2.settings([]))
            seen = cutter.feed(data[len(PREFACE) :])
            data = PREFACE
            if any(each.kind == Frame.HEADERS for each in seen):
                self.requests += 1
                return


def test_a_backend_that_vanishes_and_speaks_http2_still(rig: Rig, backend: MakeBackend) -> None:
    """It may have acted on the request, before it sent a byte: the request goes once."""
    vanishing = Vanishing()
    server = rig.server(backend(vanishing), backend_protocol="auto")
    assert ask_in_http1(rig, server, b"first") == (200, b"hello world")
    vanishing.vanishes = True
    assert ask_in_http1(rig, server, b"second")[0] == 502
    assert vanishing.requests == 1


class SlowToBegin:
    """A backend of HTTP/2 that leaves its first connection, which looks what it speaks, without an answer."""

    def __init__(self) -> None:
        self.prefaces: list[bool] = []

    def __call__(self, connection: socket.socket) -> None:
        begin = connection.recv(len(PREFACE), socket.MSG_PEEK)
        self.prefaces.append(begin == PREFACE)
        if len(self.prefaces) == 1:
            while connection.recv(65_536):
                pass
        elif begin == PREFACE:
            careless()(connection)
        else:  # as nghttpd answers to what is no preface
            connection.sendall(http2.settings([]) + http2.goaway(0, http2.ErrorCode.PROTOCOL_ERROR))


def test_a_backend_that_is_slow_to_begin_http2(rig: Rig, backend: MakeBackend) -> None:
    """It is taken for one of HTTP/1.1, and shows with the first request that it isn't: nobody notices."""
    slow = SlowToBegin()
    server = rig.server(backend(slow), backend_protocol="auto")
    assert ask_in_http1(rig, server, b"first") == (200, b"hello world")
    assert slow.prefaces == [True, False, True, True], "a look, the request, another look, the request"
    assert ask_in_http1(rig, server, b"second") == (200, b"hello world")
    assert slow.prefaces[4:] == [True]
