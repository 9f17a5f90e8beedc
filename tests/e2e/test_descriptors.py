"""Running out of descriptors costs those who come too late, never those who are served, and never the server.

The real program under a real limit. That ENFILE and ECONNABORTED, which can't be had on demand, are met the same way
is shown by tests/net/test_listener.py.
"""

import resource
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mcproxy.net.shared import RESERVED_DESCRIPTORS
from tests.conftest import MakeBackend
from tests.kit.link import HELLO, NAME
from tests.kit.peers import BLOCK, another, connect, echo, free_port, pattern, push, receive, received, reset, until
from tests.kit.program import Program, environment, write_config

LIMIT = 424  # descriptors that the server may have
CROWD = 150  # clients, for which that is too few: each takes two
BULK = 20  # of them that get stuck in bulk, where each may take four more
BASE = 30  # descriptors that it has open when nobody is connected, at most


class Limited(Program):
    """The server with LIMIT descriptors; its backend echoes."""

    def __init__(self, folder: Path, target: str) -> None:
        self.port = free_port()
        routes = [{"hostname": NAME, "backend": target}]
        path = write_config(folder, {"listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}]})
        limited = ["sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh"]
        super().__init__(*limited, sys.executable, "-m", "mcproxy", "server", "-c", path, env=environment())
        try:
            self.line("started, generation")
        except BaseException:
            self.close()
            raise

    def open(self) -> set[int]:
        """The descriptors that it has open."""
        return {int(each.name) for each in Path(f"/proc/{self.process.pid}/fd").iterdir()}

    def limit(self, soft: int) -> None:
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (soft, LIMIT))

    def crowd(self, stack: ExitStack) -> Iterator[socket.socket]:
        """Clients that connect, so many as were not reset at once."""
        for _ in range(CROWD):
            with suppress(ConnectionResetError):
                yield stack.enter_context(connect(self.port))


def is_served(client: socket.socket) -> bool:
    """Whether this client is connected with the backend; False: it was reset."""
    hello = another(HELLO)
    try:
        client.sendall(hello)
        return receive(client, len(hello)) == hello
    except (ConnectionResetError, BrokenPipeError):
        return False


@pytest.fixture
def server(backend: MakeBackend, tmp_path: Path) -> Iterator[Limited]:
    with Limited(tmp_path, backend(echo).address) as running:
        yield running
        assert not [line for line in [*running.out, *running.err] if "bug in" in line or "Traceback" in line]


def works(client: socket.socket) -> bool:
    client.sendall(b"still here")
    return receive(client, 10) == b"still here"


def keeps_its_reserve(server: Limited) -> bool:
    return len(server.open()) <= LIMIT - RESERVED_DESCRIPTORS + BASE


def test_who_comes_too_late_is_refused_and_who_is_served_goes_on(server: Limited) -> None:
    with ExitStack() as stack:
        served = [client for client in server.crowd(stack) if is_served(client)]
        assert (LIMIT - RESERVED_DESCRIPTORS - BASE) // 2 <= len(served) < CROWD
        server.line("reason=descriptors", "end=refused")
        assert all(map(works, served))
        assert keeps_its_reserve(server)
    until(lambda: len(server.open()) < BASE, "all to end")
    with connect(server.port) as client:
        assert is_served(client)


def test_a_crowd_that_waits_before_it_says_hello(server: Limited) -> None:
    """Only then each of them takes a second descriptor."""
    with ExitStack() as stack:
        clients = list(server.crowd(stack))
        served = [client for client in clients if is_served(client)]
        assert len(served) >= (LIMIT - RESERVED_DESCRIPTORS - BASE) // 2
        assert all(map(works, served))
        assert keeps_its_reserve(server)


def test_a_crowd_in_the_middle_of_bulk(server: Limited) -> None:
    """Who does not read keeps a pipe each way, as long as there are descriptors for pipes; and then a buffer."""
    with ExitStack() as stack:
        clients = list(server.crowd(stack))
        bulk = [client for client in clients if is_served(client)][:BULK]
        with ThreadPoolExecutor(BULK) as pool:
            sent = list(pool.map(lambda client: push(client, pattern(BLOCK), 64 << 20), bulk))
        assert keeps_its_reserve(server)
        for client, size in zip(bulk, sent, strict=True):
            client.shutdown(socket.SHUT_WR)
            assert sum(map(len, received(client))) == size


def test_accept_that_fails_is_tried_again(server: Limited) -> None:
    """The limit is lowered under the running server, so that nothing is left for the next client."""
    with connect(server.port) as first:
        assert is_served(first)
        taken = server.open()
        server.limit(min(set(range(LIMIT)) - taken))
        with connect(server.port) as late:
            late.sendall(HELLO)
            server.line("accept failed: Too many open files")
            assert works(first)
            first.close()  # leaves two descriptors, as many as it takes
            assert receive(late, len(HELLO)) == HELLO
            assert works(late)


def test_clients_that_have_gone_before_they_are_accepted(server: Limited) -> None:
    with connect(server.port) as first:
        assert is_served(first)
        server.signal(signal.SIGSTOP)
        for _ in range(20):
            reset(connect(server.port))
        server.signal(signal.SIGCONT)
        assert works(first)
        with connect(server.port) as late:
            assert is_served(late)
