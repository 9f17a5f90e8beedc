"""Thousands of connections may be open and idle at once; each of them works when it is needed again."""

import resource
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mcproxy.model import End
from mcproxy.net.shared import Phase
from tests.conftest import MakeProxy, listener
from tests.kit.link import HELLO, NAME
from tests.kit.peers import DEADLINE, another, connect, receive, reset, until

COUNT = 2000
ENDS = 4  # descriptors a connection, with client, proxy and backend in one process
SPARE = 500  # descriptors for all else


class EchoForMany:
    """A backend that serves any number of connections in one thread."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=COUNT)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._server:
                    self._selector.register(sock.accept()[0], selectors.EVENT_READ)
                elif data := sock.recv(65536):
                    sock.sendall(data)
                else:
                    self._selector.unregister(sock)
                    sock.close()

    def close(self) -> None:
        """End; every connection is gone afterwards."""
        self._over.set()
        self._thread.join(DEADLINE)
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@pytest.fixture
def many(nothing_left: None) -> Iterator[EchoForMany]:
    """With enough descriptors for them all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = ENDS * COUNT + SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), max(hard, needed)))
    backend = EchoForMany()
    yield backend
    backend.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_at_once(many: EchoForMany, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({NAME: many.address})]})
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(running.port)) for _ in range(COUNT)]
        hellos = [another(HELLO) for _ in clients]
        for client, hello in zip(clients, hellos, strict=True):
            client.sendall(hello)
        for client, hello in zip(clients, hellos, strict=True):
            assert receive(client, len(hello)) == hello
        assert [each.phase for each in running.sessions()] == [Phase.RELAYING] * COUNT
        for i, client in enumerate(clients):
            client.sendall(b"%08d" % i)
        for i, client in enumerate(clients):
            assert receive(client, 8) == b"%08d" % i
    until(lambda: not running.sessions(), "all to end")
    assert len(running.lines) == COUNT


def test_thousands_that_have_said_nothing_yet(many: EchoForMany, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({NAME: many.address})]})
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(running.port)) for _ in range(COUNT)]
        until(lambda: len(running.sessions()) == COUNT, "all to be accepted")
        assert {each.phase for each in running.sessions()} == {Phase.PEEKING}
        hellos = [another(HELLO) for _ in clients[::2]]
        for client, hello in zip(clients[::2], hellos, strict=True):
            client.sendall(hello)
        for client in clients[1::2]:
            reset(client)
        for client, hello in zip(clients[::2], hellos, strict=True):
            assert receive(client, len(hello)) == hello
    until(lambda: not running.sessions(), "all to end")
    stats = running.call(next(iter(running.app.worker.shared.stats.listeners.values())).read)
    assert stats.ended[End.PROBE] == COUNT // 2
