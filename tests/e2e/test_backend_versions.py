"""A backend that speaks another version of HTTP than it did: no request fails for that, and none is sent twice."""

import socket
import threading
from collections.abc import Iterator

import pytest

from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, Frame
from tests.conftest import MakeBackend
from tests.kit.http2_peer import POST
from tests.kit.l7_proxy import Rig, SocketClient, careless
from tests.kit.peers import Authority, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"
NO_HTTP2 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def rig(nothing_left: None, authority: Authority) -> Iterator[Rig]:
    rig = Rig(authority)
    yield rig
    rig.close()


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
            if end and (b"chunked" not in head or body.endswith(b"0\r\n\r\n")):
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
