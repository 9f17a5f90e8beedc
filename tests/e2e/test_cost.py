"""What a connection costs, counted in system calls: a guard against work that creeps into the path of all of them.

Time would depend on the machine; the number of system calls does not (much: an accept that finds nobody, a wake-up that
serves two). Measured when this was written: 27 for a connection, 6 for a message there and back.
"""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeBackend
from tests.peers import DEADLINE, Backend, client_hello, connect, echo, free_port, until
from tests.program import bounded

CONNECTIONS = 200
MESSAGES = 500
_IGNORED = {"futex", "getpid", "restart_syscall", "rt_sigaction", "rt_sigprocmask"}  # of threads and of strace itself


@pytest.fixture
def count(backend: MakeBackend, tmp_path: Path) -> Callable[[Callable[[int], None]], Counter[str]]:
    """Run a load against the real program; return the system calls that the load made it do."""

    def run(load: Callable[[int], None]) -> Counter[str]:
        port = free_port()
        config = tmp_path / "mcproxy.toml"
        config.write_text(configuration(port, backend(echo)))
        program: list[str | Path] = [sys.executable, "-m", "mcproxy", "server", "-c", config]
        with (
            (tmp_path / "log").open("w") as log,
            subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT) as server,
        ):
            try:
                until(lambda: "started" in (tmp_path / "log").read_text(), "the server to start")
                load(port)  # once before, so that what is made once is there
                counts = tmp_path / "counts"
                with bounded("strace", "-c", "-f", "-o", counts, "-p", str(server.pid)) as strace:
                    assert strace.stderr is not None
                    strace.stderr.readline()  # "attached"
                    load(port)
                    strace.send_signal(signal.SIGINT)
                    strace.wait(DEADLINE)
                return parse(counts.read_text())
            finally:
                server.terminate()
                assert server.wait(DEADLINE) == 0

    return run


def configuration(port: int, target: Backend) -> str:
    return f"""
        database.path = "mcproxy.db"
        log.level = "info"
        [[listeners]]
        addr = "127.0.0.1:{port}"
        routes = [{{ hostname = "a.test", backend = "{target.address}" }}]
        """


def parse(table: str) -> Counter[str]:
    """What `strace -c` wrote: the last column is the call, the fourth how often."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", table, re.MULTILINE)
    return Counter({name: int(calls) for calls, name in rows if name not in {*_IGNORED, "total"}})


def connections(port: int) -> None:
    """One after another: hello, its echo, FIN, FIN."""
    hello = client_hello("a.test")
    for _ in range(CONNECTIONS):
        with connect(port) as client:
            client.sendall(hello)
            assert client.recv(65536) == hello
            client.shutdown(1)
            assert client.recv(1) == b""


def messages(port: int) -> None:
    """There and back on one connection."""
    hello = client_hello("a.test")
    with connect(port) as client:
        client.sendall(hello)
        assert client.recv(65536) == hello
        for _ in range(MESSAGES):
            client.sendall(b"ping")
            assert client.recv(100) == b"ping"


def test_system_calls_for_a_connection(count: Callable[[Callable[[int], None]], Counter[str]]) -> None:
    calls = count(connections)
    assert 10 * CONNECTIONS < calls.total() <= 29 * CONNECTIONS, calls


def test_system_calls_for_a_message(count: Callable[[Callable[[int], None]], Counter[str]]) -> None:
    """There and back: two times wake up, receive, send."""
    calls = count(messages)
    assert 6 * MESSAGES <= calls.total() <= 7 * MESSAGES, calls
