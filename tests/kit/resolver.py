"""A resolver for tests, in the place of the system's."""

import socket
import threading
from typing import Any

from tests.kit.peers import DEADLINE


class Resolver:
    """Answers as the system does, until it is told what to answer, or to be silent for a while."""

    def __init__(self) -> None:
        self.addresses: list[str] | None = None  # of every name; None: what the system says
        self.failure: socket.gaierror | None = None
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, host: str, *arguments: Any) -> list[Any]:
        """As getaddrinfo()."""
        self.asked.append(host)
        addresses, failure = self.addresses, self.failure
        self.answers.wait(DEADLINE)
        if failure is not None:
            raise failure
        if addresses is None:
            return socket.getaddrinfo(host, *arguments)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
            for each in addresses
        ]
