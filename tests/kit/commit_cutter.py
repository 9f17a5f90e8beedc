"""A relay in front of a PostgreSQL server that cuts a connection exactly at the COMMIT of a mutation."""

import socket
import threading
from contextlib import suppress
from enum import Enum, auto

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # a simple query, as psycopg ends a transaction
WRITES = b"UPDATE head"  # what only a mutation does
BLOCK = 1 << 16


class Cut(Enum):
    """What becomes of the next mutation's COMMIT."""

    BEFORE = auto()  # the server never gets it
    ANSWER = auto()  # the server does it, and its answer is lost
    ANSWER_AND_SERVER = auto()  # and nobody can connect any more


class CommitCutter:
    """The relay, on a port of its own. `cuts` counts what it has cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts = 0
        self._cut: Cut | None = None
        self.refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, cut: Cut) -> None:
        """Cut the connection of the next mutation at its COMMIT."""
        self._cut = cut

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            pair = client, socket.create_connection(("127.0.0.1", self._port))
            self._pairs.append(pair)
            thread = threading.Thread(target=self._relay, args=pair, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        with suppress(OSError):
            self._forward(client, server)
        _cut(client, server)
        back.join()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        writes = False
        while data := client.recv(BLOCK):
            writes = writes or WRITES in data
            if self._cut is not None and writes and COMMIT in data:
                cut, self._cut = self._cut, None
                self.cuts += 1
                self.refuses = cut is Cut.ANSWER_AND_SERVER
                if cut is not Cut.BEFORE:
                    client.shutdown(socket.SHUT_RDWR)
                    server.sendall(data)
                    server.shutdown(socket.SHUT_WR)
                    while server.recv(BLOCK):  # until it has done it, and ended
                        pass
                if self.refuses:
                    _cut(*(each for pair in self._pairs for each in pair))
                return
            writes = writes and COMMIT not in data
            server.sendall(data)

    def close(self) -> None:
        """End it, and all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        _cut(*(each for pair in self._pairs for each in pair))
        for thread in self._threads:
            thread.join()
        for each in [self._listener, *(each for pair in self._pairs for each in pair)]:
            each.close()


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(BLOCK):
            client.sendall(data)
    _cut(client)


def _cut(*connections: socket.socket) -> None:
    for each in connections:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
