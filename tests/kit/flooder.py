"""A program that holds many connections to a port which do nothing, and renews at once each one that is ended.

`python -m tests.kit.flooder PORT COUNT silent|half ADDRESSES`: the connections send nothing, or a ClientHello and
nothing more. They come from so many addresses beside 127.0.0.1, by turns; from 127.0.0.1 if that is 0.
It prints a line once it has begun, and then each thousand connections that it has renewed.
"""

import itertools
import selectors
import socket
import sys
from contextlib import suppress

from tests.kit.peers import client_hello

IP_BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7): the port is chosen by the connection


class Flooder:
    """The connections."""

    def __init__(self, port: int, hello: bytes, addresses: int) -> None:
        self._port = port
        self._addresses = itertools.cycle([f"127.0.1.{1 + each}" for each in range(addresses)] or ["127.0.0.1"])
        self._hello = hello
        self._selector = selectors.DefaultSelector()
        self._ended = 0

    def hold(self, count: int) -> None:
        """Go on for ever."""
        for _ in range(count):
            self._open()
        print("flooding", flush=True)
        while True:
            for key, events in self._selector.select():
                self._serve(key.fileobj, events)

    def _open(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((next(self._addresses), 0))
        with suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self._port))
        self._selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _serve(self, sock: object, events: int) -> None:
        assert isinstance(sock, socket.socket)
        try:
            if events & selectors.EVENT_WRITE:  # it is connected
                self._selector.modify(sock, selectors.EVENT_READ)
                sock.sendall(self._hello)
            if not events & selectors.EVENT_READ or sock.recv(1 << 16):
                return
        except OSError:
            pass  # it was reset, which is an end too
        self._selector.unregister(sock)
        sock.close()
        self._ended += 1
        if self._ended % 1_000 == 0:
            print("renewed", self._ended, flush=True)
        self._open()


def main() -> None:
    """Take the arguments."""
    port, count, kind, addresses = sys.argv[1:]
    hello = client_hello("localhost", ("h2",)) if kind == "half" else b""
    Flooder(int(port), hello, int(addresses)).hold(int(count))


if __name__ == "__main__":
    main()
