"""A client or a backend whose TLS brings nothing is disconnected, and neighbours are served meanwhile.

OpenSSL handles as many KeyUpdates of TLS 1.3 in one SSL_read as have come: two clients that sent nothing else kept a
server from everybody for 16 s, and its watchdog was not fed.
"""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest

from mcproxy.model import End
from tests.conftest import MakeBackend
from tests.kit.http2_peer import HOST
from tests.kit.key_updates import KeyUpdates, key_updates, secret
from tests.kit.l7_proxy import Server, SocketClient, careless
from tests.kit.pace import pause
from tests.kit.peers import DEADLINE, Authority, Handler, connect, until


def test_a_flood_of_key_updates_is_ended(authority: Authority, backend: MakeBackend) -> None:
    over, ids = threading.Event(), count(1, 2)

    def flood(client: KeyUpdates) -> None:
        while not over.is_set():
            if not client.send():
                over.wait(0.1)  # it is gone, or so is its server's patience

    with closing(Server(authority, int(backend(careless()).address.rpartition(":")[2]))) as server:

        def ended() -> list[str]:
            return [line for line in list(server.proxy.lines) if f'"end": "{End.ABUSE}"' in line]

        with (
            closing(SocketClient(server.port, authority)) as neighbour,
            KeyUpdates(server.port, HOST, "http/1.1") as one,
            KeyUpdates(server.port, HOST) as other,
        ):
            neighbour.handshake()
            one.say(b"POST /upload HTTP/1.1\r\nHost: %s\r\nContent-Length: 9\r\n\r\n" % HOST.encode())
            floods = [threading.Thread(target=flood, args=(client,), daemon=True) for client in (one, other)]
            for each in floods:
                each.start()
            until(
                lambda: served(neighbour, ids) and len(ended()) == 2, "both to be ended while the neighbour is served"
            )
            over.set()
            for each in floods:
                each.join(DEADLINE)
            assert served(neighbour, ids)
        for line in map(json.loads, ended()):
            assert "without a byte of HTTP" in line["detail"]
            assert line["client"] == "127.0.0.1"
        (upload,) = [line for line in map(json.loads, list(server.proxy.lines)) if line.get("path") == "/upload"]
        assert upload["end"] == "cut"
        assert "without a byte of HTTP" in upload["detail"], "not only that the connection broke"
        assert [thread.name for thread in threading.enumerate()].count("read guard") == 1
    assert "read guard" not in [thread.name for thread in threading.enumerate()]


HELLO_REQUESTS = b"\x16\x03\x03\x40\x00" + bytes(0x4000)  # of TLS 1.2: ignored within a handshake


def flooding(authority: Authority, where: str, keys: Path, over: threading.Event) -> Handler:
    """A backend that serves its first connection and floods the others, until `over`."""
    connections = count()

    def handle(sock: socket.socket) -> None:
        first = not next(connections)
        if where == "handshake" and not first:
            with suppress(OSError):
                while not over.is_set():
                    sock.sendall(HELLO_REQUESTS * 16)
            return
        context = authority.server_context(HOST)
        context.set_alpn_protocols(["h2"])
        context.num_tickets = 0  # each would be a record
        if not first:
            context.keylog_filename = str(keys)
        with context.wrap_socket(sock, server_side=True) as secured, suppress(OSError):
            if first:
                careless()(secured)
                return
            socket.socket.sendall(secured, key_updates(secret(keys, "SERVER"), 40_000))
            over.wait(DEADLINE)

    return handle


@pytest.mark.parametrize("where", ["session", "handshake"])
def test_a_backend_that_floods_is_left(
    where: str, authority: Authority, backend: MakeBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client gets 502 and has its line; the others are served."""
    over, ids = threading.Event(), count(1, 2)
    port = int(backend(flooding(authority, where, tmp_path / "keys", over)).address.rpartition(":")[2])
    # It is the flood that ends the handshake: a busy machine may take longer than connect_timeout, which answers 504.
    with closing(Server(authority, port, {"connect_timeout": "10m"}, backend_tls=True)) as server:
        with closing(SocketClient(server.port, authority)) as neighbour:
            neighbour.handshake()
            assert served(neighbour, ids)
            with closing(SocketClient(server.port, authority)) as client:
                client.handshake()
                client.request(1)
                until(
                    lambda: served(neighbour, ids) and any(each.status == 502 for each in server.records),
                    "the flood to be ended while the neighbour is served",
                )
            over.set()
        said = caplog.text if where == "session" else "".join(server.proxy.lines)
    assert "of CPU" in said or "1000 TLS reads" in said


def test_a_handshake_of_very_many_reads_is_ended(authority: Authority, backend: MakeBackend) -> None:
    """Each byte of it cost a step, at the expense of everybody, for as long as handshake_timeout allows."""
    port = int(backend(careless()).address.rpartition(":")[2])
    with closing(Server(authority, port, {"handshake_timeout": "10m"})) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = authority.client_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
        with suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        with connect(server.port) as client, suppress(ConnectionResetError, BrokenPipeError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(outgoing.read() + b"\x17\x03\x03\x40\x00")
            while True:
                client.sendall(b"x")
                pause(0.001)
        line = next(line for line in server.proxy.lines if f'"end": "{End.ABUSE}"' in line)
        assert json.loads(line)["detail"] == "more than 1000 TLS reads in one handshake"


def served(client: SocketClient, ids: Iterator[int]) -> bool:
    """Whether one more request is answered."""
    client.request(next(ids))
    client.expect_answer()
    return True
