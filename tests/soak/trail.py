"""What a client has done on one connection, and what the proxy has logged of it: by these a failure explains itself."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from mcproxy.lines import timestamp

# include/net/tcp_states.h, where the client itself has ended nothing.
STATES = {1: "open", 7: "reset by the proxy", 8: "ended by the proxy"}


@dataclass
class Trail:
    """A client's connection. Times are seconds of the monotonic clock."""

    port: int = 0  # the client's; 0: there is no connection
    opened: float = field(default_factory=time.monotonic)
    since: str = field(default_factory=lambda: timestamp(time.time()))  # the same as the proxy's log has it
    answered: int = 0  # requests
    latest: float = 0.0  # when the latest of them was
    step: str = "the TLS handshake"  # what the client does now
    end: str = ""  # how the kernel saw the connection when it failed

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """That of a socket which has just connected."""
        return cls(sock.getsockname()[1])

    def served(self) -> float:
        """A request came back as it should. Returns when."""
        self.answered += 1
        self.latest = time.monotonic()
        return self.latest

    def failed(self, sock: socket.socket) -> None:
        """Note how the kernel sees the connection: Python's `ssl` may take a RST for the end, as http.client then does.

        Before Python 3.11.9 and 3.12.3 it always does (CPython issue 115627).
        """
        self.end = "closed by the client"
        if sock.fileno() != -1:
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            self.end = STATES.get(state, f"in TCP's state {state}")

    def shown(self, now: float) -> str:
        """In words."""
        if not self.port:
            return "it had no connection"
        latest = f", the latest {now - self.latest:.2f} s ago" if self.answered else ""
        return (
            f"port {self.port}, connected {now - self.opened:.2f} s ago, {self.answered} requests answered{latest}; "
            f"failed in {self.step}; the connection was {self.end or 'open'}"
        )

    def among(self, lines: Iterable[str]) -> list[str]:
        """Those of a proxy's lines that are of this connection."""
        mark = f" client=127.0.0.1:{self.port} "
        return [line for line in lines if mark in line and line[: len(self.since)] >= self.since]
