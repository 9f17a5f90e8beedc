"""WebSocket from an HTTP/1.1 client to an HTTP/2 backend (RFC 8441)."""

import base64
import hashlib
import os
import socket
import ssl
import threading

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import Seen, echo, h2, l7_listener
from tests.kit.peers import DEADLINE, Authority, connect
from tests.kit.proxy import Proxy

KEY = base64.b64encode(os.urandom(16))
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def tls(running: Proxy, authority: Authority) -> ssl.SSLSocket:
    return authority.client_context().wrap_socket(connect(running.port), server_hostname="one.test")


def read(sock: ssl.SSLSocket, until: bytes) -> bytes:
    got = b""
    while not got.endswith(until):
        part = sock.recv(1)
        assert part, got
        got += part
    return got


def test_a_tunnel_both_ways(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    heads: list[dict[str, str]] = []
    ended = threading.Event()

    def on_head(seen: Seen) -> None:
        heads.append(seen.fields)
        seen.head(200, [("sec-websocket-protocol", "chat")])

    def on_data(seen: Seen) -> None:
        seen.data(seen.body)
        seen.body = b""

    def on_end(seen: Seen) -> None:
        ended.set()
        if not seen.reset:
            seen.data(b"bye", end=True)

    address = backend(h2(on_end, on_head, on_data, websockets=True)).address
    running = proxy({"listeners": [l7_listener({"one.test": address}, authority)]})
    with tls(running, authority) as client:
        client.sendall(UPGRADE)
        head = read(client, b"\r\n\r\n")
        accept = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: " + accept + b"\r\n" in head
        assert b"sec-websocket-protocol: chat\r\n" in head
        big = os.urandom(1 << 20)
        sender = threading.Thread(target=client.sendall, args=(big,))
        sender.start()
        got = b""
        while len(got) < len(big):
            got += client.recv(1 << 16)
        sender.join(DEADLINE)
        assert got == big
        socket.socket.shutdown(client, socket.SHUT_WR)
        assert ended.wait(DEADLINE)
        assert read(client, b"bye") == b"bye", "the other direction goes on"
    assert (heads[0][":method"], heads[0][":protocol"], heads[0][":scheme"]) == ("CONNECT", "websocket", "https")
    line = running.connection(protocol="http/1.1")
    assert (line["method"], line["status"], line["received"]) == ('"GET"', "101", str(1 << 20))


def test_without_a_backend_for_it_the_answer_is_501(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(echo)).address}, authority)]})
    with tls(running, authority) as client:
        client.sendall(UPGRADE)
        assert read(client, b"\r\n\r\n").startswith(b"HTTP/1.1 501 Not Implemented\r\n")
        read(client, b"501 Not Implemented\n")
        client.sendall(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        assert read(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n"), "the connection goes on"
