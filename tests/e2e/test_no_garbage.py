"""A session that has ended is gone at once: nothing of it waits for the cyclic collector, which would stop the hub."""

import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcproxy.l7.bridge.backend_line import BackendLine
from mcproxy.l7.sockets.drive import Drive
from mcproxy.net.session import Session
from mcproxy.wire.http2 import Frame
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.http2_backends import h2, l7_listener, says
from tests.kit.http2_peer import GET, HOST
from tests.kit.l7_proxy import SocketClient
from tests.kit.peers import Authority, client_hello, connect, echo, free_port, read_all, until

SESSIONS = 5
Ask = Callable[[int, Authority], None]


@pytest.fixture
def uncollected() -> Iterator[Callable[[], list[Any]]]:
    """Without a collector: the sessions that are still there, but those that earlier tests have kept."""

    def alive() -> list[Any]:
        return [each for each in gc.get_objects() if type(each) in (Session, Drive, BackendLine)]

    gc.collect()
    gc.disable()
    before = set(map(id, kept := alive()))
    yield lambda: [each for each in alive() if id(each) not in before]
    gc.enable()
    del kept


def old(sock: socket.socket) -> None:
    """A server of HTTP/1.1, which refuses another version."""
    while head := read_until_end(sock):
        status = b"200 OK" if b"HTTP/1.1" in head else b"400 Bad Request"
        sock.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)


def read_until_end(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n") and (data := sock.recv(1)):
        head += data
    return head


def over_l4(port: int, _authority: Authority) -> None:
    with connect(port) as client:
        client.sendall(client_hello("plain.test"))
        assert client.recv(65_536)


def over_http2(port: int, authority: Authority) -> None:
    client = SocketClient(port, authority)
    client.handshake()
    client.request()
    assert client.find(Frame.HEADERS)
    client.close()


def over_http1(port: int, authority: Authority) -> None:
    with authority.client_context().wrap_socket(connect(port), server_hostname=HOST) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200")


def over_http2_to_http1(port: int, authority: Authority) -> None:
    client = SocketClient(port, authority, "old.test")
    client.handshake()
    client.request(1, [*GET[:3], (":authority", "old.test")])
    assert client.find(Frame.HEADERS)
    client.close()


def over_http1_to_http1(port: int, authority: Authority) -> None:
    with authority.client_context().wrap_socket(connect(port), server_hostname="old.test") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: old.test\r\nConnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200")


def over_http1_to_nobody(port: int, authority: Authority) -> None:
    with authority.client_context().wrap_socket(connect(port), server_hostname="gone.test") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: gone.test\r\nConnection: close\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 502")


def over_http2_to_nobody(port: int, authority: Authority) -> None:
    client = SocketClient(port, authority, "gone.test")
    client.handshake()
    client.request(1, [*GET[:3], (":authority", "gone.test")])
    assert client.find(Frame.HEADERS)
    client.close()


def unknown_name(port: int, _authority: Authority) -> None:
    with connect(port) as client:
        client.sendall(client_hello("nobody.test"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def broken_off(port: int, authority: Authority) -> None:
    with connect(port) as client:
        client.sendall(client_hello(HOST)[:-1])


@pytest.mark.parametrize(
    "ask",
    [
        over_l4, over_http2, over_http1, over_http2_to_http1, over_http1_to_http1, over_http1_to_nobody,
        over_http2_to_nobody, unknown_name, broken_off,
    ],
)  # fmt: skip
def test_what_has_ended_is_gone(
    ask: Ask, proxy: MakeProxy, backend: MakeBackend, authority: Authority, uncollected: Callable[[], list[Any]]
) -> None:
    """Memory grew by a third in an hour: clients of HTTP/1.1 left lines of HTTP/2, dials that failed whole sessions."""
    routes = {
        HOST: backend(h2(says("here"))).address, "old.test": backend(old).address,
        "gone.test": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    served = l7_listener(routes, authority)
    served["routes"] += listener({"plain.test": backend(echo).address})["routes"]
    running = proxy({"listeners": [served]})
    for _ in range(SESSIONS):
        ask(running.port, authority)
    until(lambda: sum(" connection " in line for line in running.lines) == SESSIONS, "the sessions to end")
    until(lambda: not uncollected(), "nothing of them to be left")
