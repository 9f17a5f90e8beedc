"""A client and a backend with a proxy between them, each end in the test's own hands."""

import socket
from pathlib import Path
from queue import Queue
from typing import Any

from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.peers import DEADLINE, Backend, client_hello, connect, receive

NAME = "link.test"
HELLO = client_hello(NAME)
FAMILIES = {"tcp": socket.AF_INET, "ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}


class Link:
    """Relayed connections; `backend` is the other end of `client`. What is relayed begins after the hello."""

    def __init__(self, make_backend: MakeBackend, make_proxy: MakeProxy, folder: Path, kind: str, **options: Any):
        """`kind` is that of the backend's address; options are the keys of [proxy]."""
        self._accepted: Queue[socket.socket] = Queue()
        path = {"path": str(folder / "backend.sock")} if kind == "unix" else {}
        self.server: Backend = make_backend(self._take, FAMILIES[kind], **path)
        self.proxy = make_proxy({"listeners": [listener({NAME: self.server.address})], "proxy": options})
        self._open: list[socket.socket] = []
        self.client, self.backend = self.connect()

    def _take(self, connection: socket.socket) -> None:
        taken = socket.socket(fileno=connection.detach())
        taken.settimeout(DEADLINE)
        self._accepted.put(taken)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client and its backend, between which the hello has passed."""
        client = connect(self.proxy.port)
        self._open.append(client)
        client.sendall(HELLO)
        backend = self._accepted.get(timeout=DEADLINE)
        self._open.append(backend)
        assert receive(backend, len(HELLO)) == HELLO
        return client, backend

    def ended(self, end: str) -> dict[str, str]:
        """Wait for the log line of a connection that ended in this way."""
        return self.proxy.connection(sni=NAME, end=end)

    def close(self) -> None:
        """Close what the test has not closed."""
        for each in self._open:
            each.close()
