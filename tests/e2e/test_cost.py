"""What connections and requests cost, counted in calls: a guard against work that creeps into the path of all of them.

Time would depend on the machine; the number of calls does not (much: an accept that finds nobody, a wake-up that
serves two). One connection, one message and one request of each pairing are held to the figures of costs.toml, which
`python -m tests.kit.costs --record` writes; what many do together, and bulk, to bounds of their own.
"""

import re
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcproxy.l7.bounds import BULK_SIZE, MAX_UNSENT
from mcproxy.native import COMPILED
from mcproxy.net.raw import outgoing_queue
from tests.conftest import MakeBackend
from tests.kit import costs
from tests.kit.costs import Cost
from tests.kit.peers import DEADLINE, Authority, echo, free_port, until
from tests.kit.program import bounded

MOST, LEAST = 1.1, 0.75  # of the recorded figure; below LEAST it is to be recorded again, or it would guard nothing
REQUESTS = 1_000
LARGE = 16 << 20
_IGNORED = {"futex", "getpid", "restart_syscall", "rt_sigaction", "rt_sigprocmask"}  # of threads and of strace itself


Count = Callable[..., Counter[str]]


@pytest.fixture
def count(backend: MakeBackend, tmp_path: Path) -> Count:
    """Run a load against the real program; return the system calls that the load made it do."""

    def run(load: Callable[[int], None], route: str = "") -> Counter[str]:
        with serving(tmp_path, route or f'backend = "{backend(echo).address}"') as (port, pid):
            load(port)  # once before, so that what is made once is there
            counts = tmp_path / "counts"
            with bounded("strace", "-c", "-f", "-o", counts, "-p", str(pid)) as strace:
                assert strace.stderr is not None
                strace.stderr.readline()  # "attached"
                load(port)
                strace.send_signal(signal.SIGINT)
                strace.wait(DEADLINE)
            return parse(counts.read_text())

    return run


@contextmanager
def serving(folder: Path, route: str) -> Iterator[tuple[int, int]]:
    """The real program with that route: its port, and the id of its process."""
    port = free_port()
    config = folder / "mcproxy.toml"
    config.write_text(configuration(port, route))
    program: list[str | Path] = [sys.executable, "-m", "mcproxy", "server", "-c", config]
    with (folder / "log").open("w") as log, subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT) as server:
        try:
            until(lambda: "started" in (folder / "log").read_text(), "the server to start")
            yield port, server.pid
        finally:
            server.terminate()
            assert server.wait(DEADLINE) == 0


def configuration(port: int, route: str) -> str:
    return f"""
        database.path = "mcproxy.db"
        log.level = "info"
        [[listeners]]
        addr = "127.0.0.1:{port}"
        routes = [{{ hostname = "a.test", {route} }}]
        """


def parse(table: str) -> Counter[str]:
    """What `strace -c` wrote: the last column is the call, the fourth how often."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", table, re.MULTILINE)
    return Counter({name: int(calls) for calls, name in rows if name not in {*_IGNORED, "total"}})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cost]:
    return costs.measure(tmp_path_factory.mktemp("costs"))


@pytest.mark.xdist_group("costs")
@pytest.mark.parametrize("kind", costs.CLIENTS)
def test_what_one_of_each_costs_is_what_was_recorded(found: dict[str, Cost], kind: str) -> None:
    """A connection called 119 functions once, then 166, without anybody's noticing: it cost 10 % more."""
    recorded, now = costs.recorded()[kind], found[kind]
    again = f"{kind}: {now}, recorded {recorded}; if that is meant: python -m tests.kit.costs --record"
    assert LEAST * recorded.system_calls <= now.system_calls <= MOST * recorded.system_calls, again
    if not COMPILED:  # what is compiled calls no function that Python counts
        assert LEAST * recorded.functions <= now.functions <= MOST * recorded.functions + 0.5, again


@pytest.fixture
def l7_route(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """What leads to nghttpd, with a small file and a large one."""
    (tmp_path / "small").write_bytes(bytes(128))
    (tmp_path / "large").write_bytes(bytes(LARGE))
    port = free_port()
    certificate, key = authority.pair("a.test")
    with bounded("nghttpd", "--no-tls", "-d", tmp_path, str(port)):
        until(lambda: answers(port), "nghttpd to start")
        yield f'backend = "127.0.0.1:{port}", mode = "l7", tls_cert = "{certificate}", tls_key = "{key}"'


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def h2load(port: int, path: str, requests: int, streams: int, *more: str | Path) -> None:
    """On one connection."""
    done = subprocess.run(
        ["h2load", "-n", str(requests), "-m", str(streams), "-w", "24", "-W", "26", f"--connect-to=127.0.0.1:{port}",
         *more, f"https://a.test:{port}/{path}"],
        capture_output=True, check=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert f" {requests} succeeded" in done.stdout


def test_system_calls_for_requests_that_go_together(count: Count, l7_route: str) -> None:
    """Ten at a time: two times wake up, read (TLS: twice), send."""
    calls = count(lambda port: h2load(port, "small", REQUESTS, 10), l7_route)
    assert 0.6 * REQUESTS < calls.total() <= REQUESTS, calls


def test_system_calls_for_bulk(count: Count, l7_route: str) -> None:
    """A write for each record, and few small ones; reads of 128 KiB at least."""
    bodies = 4
    calls = count(lambda port: h2load(port, "large", bodies, 1), l7_route)
    assert bodies * LARGE / 16_384 < calls["write"] <= 1.15 * bodies * LARGE / 16_384, calls
    assert calls["recvfrom"] <= 3 * bodies * LARGE / BULK_SIZE, calls


def test_bulk_reuses_its_memory(l7_route: str, tmp_path: Path) -> None:
    """The buffers of each read were given back, and their pages cleared again: two for each 4 KiB that passed."""
    bodies = 4
    with serving(tmp_path, l7_route) as (port, pid):
        h2load(port, "large", bodies, 1, "--h1")
        before = page_faults(pid)
        h2load(port, "large", bodies, 1, "--h1")
        assert page_faults(pid) - before < bodies * LARGE / resource.getpagesize() / 8


def page_faults(pid: int) -> int:
    """Of a process so far, those for which nothing was read from a disk: `minflt` in proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def in_two_parts(sock: socket.socket) -> None:
    """Answer in HTTP/1.1, the body only when the head has been acknowledged: as Nagle's algorithm has it."""
    while sock.recv(65_536).endswith(b"\r\n\r\n"):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        until(lambda: not outgoing_queue(sock))
        sock.sendall(b"ok")


def test_the_first_part_of_an_answer_is_acknowledged_at_once(
    count: Count, backend: MakeBackend, authority: Authority
) -> None:
    """Each request to Python's http.server took 44 ms on a connection that was used before, for want of this.

    A loaded machine may read some answers' parts together.
    """
    certificate, key = authority.pair("a.test")
    address, requests = backend(in_two_parts).address, 50
    route = f'backend = "{address}", mode = "l7", tls_cert = "{certificate}", tls_key = "{key}"'
    route += ', backend_protocol = "http/1.1"'
    calls = count(lambda port: h2load(port, "small", requests, 1), route)
    assert calls["setsockopt"] >= requests / 2, calls


def swallow(sock: socket.socket) -> None:
    """Answer uploads of LARGE in HTTP/1.1."""
    with sock.makefile("rb") as coming:
        while head := coming.readline():
            while head not in (b"", b"\r\n"):
                head = coming.readline()
            for _ in range(LARGE // BULK_SIZE):
                coming.read(BULK_SIZE)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_system_calls_for_an_upload_to_a_backend_of_http1(
    count: Count, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    """The only session reads as much as the line to the backend holds: with half as much, it sent twice as often."""
    certificate, key = authority.pair("a.test")
    route = f'backend = "{backend(swallow).address}", mode = "l7", tls_cert = "{certificate}", tls_key = "{key}"'
    large, bodies = tmp_path / "large", 4
    large.write_bytes(bytes(LARGE))
    calls = count(
        lambda port: h2load(port, "up", bodies, 1, "--h1", "-d", large), route + ', backend_protocol = "http/1.1"'
    )
    assert bodies * LARGE / MAX_UNSENT <= calls["sendto"] <= 0.75 * bodies * LARGE / BULK_SIZE, calls
    assert calls["epoll_wait"] <= 0.75 * bodies * LARGE / BULK_SIZE, calls
