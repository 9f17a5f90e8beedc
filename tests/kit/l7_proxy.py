"""A proxy with one l7 route, for HTTP/2 tests that need little else; and a raw client to it over TLS."""

import json
import shutil
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpack import Encoder

from tests.kit.http2_backends import l7_listener
from tests.kit.http2_peer import HOST, CarelessBackend, Cutter, MemoryClient, Seen
from tests.kit.peers import Authority, Backend, Handler, connect
from tests.kit.proxy import Proxy


@dataclass(frozen=True)
class Record:
    """What the log says of an exchange."""

    stream: int
    status: int
    end: str
    received: int
    sent: int


class Server:
    """A proxy whose route for HOST leads to a port of this machine; `limits` are durations of [proxy].

    The backend speaks HTTP/2, which is not found out: the first connection that it gets is the first session's.
    """

    def __init__(
        self, authority: Authority, backend_port: int, limits: dict[str, str] | None = None, backend_tls: bool = False,
        backend_protocol: str = "h2",
    ) -> None:  # fmt: skip
        more: dict[str, Any] = {"backend_protocol": backend_protocol}
        if backend_tls:
            more |= {"backend_tls": True, "backend_ca": str(authority.path)}
        listener = l7_listener({HOST: f"127.0.0.1:{backend_port}"}, authority, **more)
        self._folder = Path(tempfile.mkdtemp())
        self.proxy = Proxy({"log": {"format": "json"}, "proxy": limits or {}, "listeners": [listener]}, self._folder)
        self.port = self.proxy.port

    @property
    def records(self) -> list[Record]:
        """All exchanges that have ended."""
        return [
            Record(line["stream"], line["status"], line["end"], line["received_bytes"], line["sent_bytes"])
            for line in self._lines("request")
        ]

    @property
    def ends(self) -> list[str]:
        """How all connections that are over have ended."""
        return [line["end"] for line in self._lines("connection")]

    def _lines(self, event: str) -> list[dict[str, Any]]:
        lines = map(json.loads, list(self.proxy.lines))
        return [line for line in lines if line["event"] == event]

    def close(self) -> None:
        """Stop; nothing is left."""
        self.proxy.stop()
        shutil.rmtree(self._folder)


class SocketClient(MemoryClient):
    """The raw client over a real connection."""

    def __init__(self, port: int, authority: Authority, name: str = HOST, receive_buffer: int = 0) -> None:
        """`receive_buffer` is SO_RCVBUF, in bytes; 0: the kernel's choice."""
        context = authority.client_context()
        context.set_alpn_protocols(["h2"])
        raw = connect(port, receive_buffer=receive_buffer)
        self.sock = context.wrap_socket(raw, server_hostname=name)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.cutter = Cutter()
        self.encoder = Encoder()
        self.inbox: list[Seen] = []
        self._ended = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait(self) -> Seen | None:
        while not self.inbox and not self._ended:
            try:
                data = self.sock.recv(65_536)
            except (ConnectionResetError, ssl.SSLEOFError):
                data = b""
            self._ended = not data
            self.inbox += self.cutter.feed(data)
        return super().wait()

    @property
    def closed(self) -> bool:
        """Whether the server ends the connection: waits for that, or for a PING to come back."""
        if not self._ended:
            try:
                self.expect_ping(b"closed??")
            except (AssertionError, OSError):
                self._ended = True
        return self._ended

    def close(self) -> None:
        self.sock.close()


def careless(body: bytes = b"hello world") -> Handler:
    """A backend over a socket that checks nothing."""

    def handle(connection: socket.socket) -> None:
        backend = CarelessBackend(body)
        while data := connection.recv(65_536):
            connection.sendall(backend.receive(data))

    return handle


class Rig:
    """Makes servers and clients that end with the test."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self._servers: list[Server] = []
        self.clients: list[SocketClient | ssl.SSLSocket] = []

    def server(self, backend: Backend | int, backend_protocol: str = "h2", **limits: str) -> Server:
        port = backend if isinstance(backend, int) else int(backend.address.rpartition(":")[2])
        self._servers.append(Server(self.authority, port, limits, backend_protocol=backend_protocol))
        return self._servers[-1]

    def client(self, server: Server) -> SocketClient:
        client = SocketClient(server.port, self.authority)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for server in self._servers:
            server.close()
