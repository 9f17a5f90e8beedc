"""Upgrades before an HTTP/1.1 backend: WebSocket of either client, other protocols, and halves that end."""

import base64
import hashlib
import socket

import pytest
from hpack import Decoder

from mcproxy.wire import http2
from mcproxy.wire.http2 import Frame, Setting
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import l7_listener
from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import SocketClient
from tests.kit.peers import Authority, Handler, connect
from tests.kit.proxy import Proxy

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BIG = bytes(range(256)) * 40_960  # 10 MiB


def accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def read_head(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        assert part, data
        data += part
    return data


def field(head: bytes, name: bytes) -> bytes:
    lines = [line.partition(b": ") for line in head.split(b"\r\n")]
    return next((value for each, _, value in lines if each.lower() == name), b"")


def echo(heads: list[bytes], wrong: bool = False) -> Handler:
    """A backend that changes to what it is asked for, and sends back what comes; at its end it says "bye"."""

    def handle(connection: socket.socket) -> None:
        head = read_head(connection)
        heads.append(head)
        answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + field(head, b"upgrade")
        if key := field(head, b"sec-websocket-key"):
            answer += b"\r\nSec-WebSocket-Accept: " + accept(b"x" if wrong else key)
        connection.sendall(answer + b"\r\n\r\n")
        while data := connection.recv(1 << 18):
            connection.sendall(data)
        connection.sendall(b"bye")

    return handle


def running(handler: Handler, backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> Proxy:
    route = {HOST: backend(handler).address}
    return proxy({"listeners": [l7_listener(route, authority, backend_protocol="http/1.1")]})


@pytest.mark.parametrize("protocol", [b"websocket", b"Foo/2"])
def test_an_upgrade_of_an_http1_client(
    protocol: bytes, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    heads: list[bytes] = []
    server = running(echo(heads), backend, authority, proxy)
    with authority.client_context().wrap_socket(connect(server.port), server_hostname=HOST) as client:
        client.sendall(
            b"GET /chat HTTP/1.1\r\nHost: %b\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, %b\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\nearly"
            % (HOST.encode(), protocol)
        )
        head = read_head(client)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert field(head, b"upgrade") == protocol
        assert field(head, b"sec-websocket-accept") == accept(b"AAAAAAAAAAAAAAAAAAAAAA==")
        assert field(heads[0], b"upgrade") == protocol, "no h2c"
        assert field(heads[0], b"connection") == b"Upgrade"
        client.settimeout(30)
        got = b""
        sent = 0
        while len(got) < len(b"early" + BIG):
            if sent < len(BIG):
                client.sendall(BIG[sent : sent + 262_144])
                sent += 262_144
            got += client.recv(1 << 18)
        assert got == b"early" + BIG


def open_tunnel(client: SocketClient, stream_id: int) -> int:
    """Ask for a WebSocket; returns the status."""
    client.request(
        stream_id,
        [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", HOST),
            (":path", "/chat"), ("sec-websocket-version", "13"),
        ],
        end=False,
    )  # fmt: skip
    head = client.find(Frame.HEADERS, stream_id)
    assert head is not None
    (_, status), *_ = Decoder().decode(head.payload)  # the first block that this connection got
    return int(status)


def test_a_websocket_of_an_http2_client(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    heads: list[bytes] = []
    server = running(echo(heads), backend, authority, proxy)
    client = SocketClient(server.port, authority)
    client.handshake()
    try:
        assert open_tunnel(client, 1) == 200
        assert heads[0].startswith(b"GET /chat HTTP/1.1\r\n")
        assert len(base64.b64decode(field(heads[0], b"sec-websocket-key"))) == 16
        client.send(http2.data(1, b"\x81\x02hi"))
        data = client.find(Frame.DATA, 1)
        assert data is not None
        assert data.payload == b"\x81\x02hi"
        client.send(http2.data(1, b"", end_stream=True))
        data = client.find(Frame.DATA, 1)
        assert data is not None
        assert data.payload == b"bye", "the client's end reaches the backend, whose half goes on"
    finally:
        client.close()


def test_a_backend_that_did_not_understand_opens_no_tunnel(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    server = running(echo([], wrong=True), backend, authority, proxy)
    client = SocketClient(server.port, authority)
    client.handshake()
    try:
        assert open_tunnel(client, 1) == 502
    finally:
        client.close()


def test_websockets_are_offered_to_http2_clients(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    server = running(echo([]), backend, authority, proxy)
    client = SocketClient(server.port, authority)
    client.send(http2.PREFACE + http2.settings([]))
    try:
        settings = client.find(Frame.SETTINGS)
        assert settings is not None
        assert (Setting.ENABLE_CONNECT_PROTOCOL, 1) in http2.parse_settings(settings.payload)
    finally:
        client.close()


def test_what_comes_before_a_tunnel_is_open_is_no_request(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """The client's first bytes come before the answer; the backend declines, and may not find them behind the head."""
    got: list[bytes] = []

    def declines(connection: socket.socket) -> None:
        got.append(b"")
        while data := connection.recv(65_536):
            got[-1] += data
            if got[-1].endswith(b"\r\n\r\n"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno")

    server = running(declines, backend, authority, proxy)
    hidden = b"GET /hidden HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode()
    client = SocketClient(server.port, authority)
    client.handshake()
    try:
        head = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", HOST),
            (":path", "/chat"), ("sec-websocket-version", "13"),
        ]  # fmt: skip
        block = client.encoder.encode(head)
        client.send(http2.headers(1, block, end_stream=False) + http2.data(1, hidden))
        assert client.find(Frame.HEADERS, 1) is not None
        client.request(
            3, [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/next")], end=True
        )
        assert client.find(Frame.HEADERS, 3) is not None
    finally:
        client.close()
    with authority.client_context().wrap_socket(connect(server.port), server_hostname=HOST) as other:
        upgrade = b"Connection: Upgrade\r\nUpgrade: foo\r\n"
        other.sendall(b"GET /foo HTTP/1.1\r\nHost: %b\r\n%b\r\n%b" % (HOST.encode(), upgrade, hidden))
        assert b"200 OK" in read_head(other)
    assert len(got) >= 1
    assert not [each for each in got if hidden[:30] in each], (
        "as bytes; as a request, judged and written anew, it may be"
    )
