"""The PROXY header that an l7 route's backend gets before anything else, TLS included."""

import queue
import socket
from typing import Any

import pytest

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import h2, l7_listener, says
from tests.kit.peers import DEADLINE, Authority, connect, receive, tls

ALPN, AUTHORITY = b"\x01", b"\x02"
SIZE_OF_ADDRESSES = 12  # IPv4, and two ports


@pytest.mark.parametrize("backend_tls", [False, True], ids=["h2c", "backend_tls"])
@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (["h3", "h2"], b"h2"), (["http/1.1", "h2"], b"h2"), (["h3", "http/1.1"], b"http/1.1"), ([], b""),
    ],
)  # fmt: skip
def test_the_protocol_that_was_agreed_on_is_told(
    offered: list[str],
    agreed: bytes,
    backend_tls: bool,
    backend: MakeBackend,
    authority: Authority,
    proxy: MakeProxy,
) -> None:
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    context = authority.server_context("one.test")
    context.set_alpn_protocols(["h2"])
    served = h2(says("one"))

    def serve(sock: socket.socket) -> None:
        header = receive(sock, 16)
        told.put(receive(sock, int.from_bytes(header[14:], "big")))
        (tls(context, served) if backend_tls else served)(sock)

    more: dict[str, Any] = {"backend_protocol": "h2"}  # so that the only connection is the client's
    if backend_tls:
        more |= {"backend_tls": True, "backend_ca": str(authority.path)}
    listener = l7_listener({"one.test": backend(serve).address}, authority, send_proxy_protocol=True, **more)
    trusting = authority.client_context()
    if offered:
        trusting.set_alpn_protocols(offered)
    with trusting.wrap_socket(connect(proxy({"listeners": [listener]}).port), server_hostname="one.test") as client:
        if agreed != b"h2":
            client.sendall(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        tlvs = told.get(timeout=DEADLINE)[SIZE_OF_ADDRESSES:]
    name = AUTHORITY + b"\x00\x08one.test"
    assert tlvs == (ALPN + len(agreed).to_bytes(2, "big") + agreed if agreed else b"") + name
