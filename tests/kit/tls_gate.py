"""`openssl s_client` behind a gate, which lets through as many of its server's TLS records as a test wants."""

import socket
import subprocess
import threading
from contextlib import suppress
from typing import IO

from tests.kit.peers import DEADLINE


class Gate:
    """Serves as a client for one connection; see `tests.kit.peers.Handler`. Whatever the client sends goes through."""

    def __init__(self) -> None:
        self.open = True
        self.records = threading.Semaphore(0)  # so many go through a closed one
        self.told: list[bytes] = []  # by s_client, on standard error
        self.got: list[bytes] = []  # and on standard output
        self._commands: IO[bytes] | None = None

    def say(self, line: bytes) -> None:
        """A line of s_client's input: a command of its own, else for the server."""
        assert self._commands
        self._commands.write(line + b"\n")

    def __call__(self, server: socket.socket) -> None:
        pipe = subprocess.PIPE
        with socket.create_server(("127.0.0.1", 0)) as listening:
            command = ["openssl", "s_client", "-nbio", "-servername", "one.test"]
            command += ["-connect", f"127.0.0.1:{listening.getsockname()[1]}"]
            with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as client:
                assert client.stdin
                assert client.stdout
                assert client.stderr
                self._commands = client.stdin
                near, _ = listening.accept()
                with near, server.makefile("rb") as records:
                    ways = [
                        threading.Thread(target=self._forth, args=(near, server)),
                        threading.Thread(target=self._keep, args=(client.stdout, self.got)),
                        threading.Thread(target=self._keep, args=(client.stderr, self.told)),
                    ]
                    for way in ways:
                        way.start()
                    self._back(records, near)
                    near.shutdown(socket.SHUT_WR)
                    for way in ways:
                        way.join(DEADLINE)

    @staticmethod
    def _forth(near: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 16):
                server.sendall(data)

    @staticmethod
    def _keep(pipe: IO[bytes], where: list[bytes]) -> None:
        while data := pipe.read(1 << 16):
            where.append(data)

    def _back(self, records: IO[bytes], near: socket.socket) -> None:
        while head := records.read(5):
            body = records.read(int.from_bytes(head[3:], "big"))
            while not self.open and not self.records.acquire(timeout=0.01):
                continue
            near.sendall(head + body)
