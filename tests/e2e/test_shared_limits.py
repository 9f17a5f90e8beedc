"""Limits with several workers are those of the whole, exactly, however connections come and whoever dies."""

import os
import random
import signal
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from mcproxy.messages import ReadConnections, ReadStatus, Settle, WorkerState
from mcproxy.model import Listener, Reason, Route
from mcproxy.notation.address import parse_backend
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from mcproxy.table import Table
from tests.conftest import MakeBackend
from tests.kit.crowd import SETTINGS, Crowd, crowd
from tests.kit.peers import another, client_hello, echo, receive, until
from tests.kit.worker_bench import V4, table_for

HELLO = client_hello("a.test")
SOURCES = [f"127.0.0.{n}" for n in range(1, 21)]  # at home at either worker


def limited(running: Crowd, **limits: Any) -> None:
    running.courier.ask(Settle(replace(SETTINGS, **limits)))


def behind_proxy(backend: str) -> Table:
    listener = Listener(V4, proxy_protocol=True, trusted_proxies=("127.0.0.0/8",))
    return Table.build([(listener, [Route("a.test", parse_backend(backend))])])


def header(address: str) -> bytes:
    return f"PROXY TCP4 {address} 192.0.2.1 1024 443\r\n".encode()


def is_served(client: socket.socket, first: bytes = b"") -> bool:
    """Whether a client that sends this gets the backend's answer; else it was reset."""
    hello = another(HELLO)
    try:
        client.sendall(first + hello)
        return receive(client, len(hello)) == hello
    except (ConnectionResetError, BrokenPipeError):
        return False


def comes(running: Crowd, stack: ExitStack, source: str, first: bytes = b"") -> bool:
    """Whether a client from this address is served; it stays until the stack's end."""
    try:
        return is_served(stack.enter_context(running.client(source)), first)
    except ConnectionResetError:  # it was refused before connect() had returned
        return False


def served(running: Crowd, stack: ExitStack, sources: Sequence[str], first: bytes = b"") -> int:
    """How many of clients from these addresses are served at once, and stay."""
    return sum(comes(running, stack, source, first) for source in sources)


def by_client(running: Crowd) -> Counter[str]:
    return Counter(each.client.split(":")[0] for each in running.courier.ask(ReadConnections(0, 1000)))


def listeners_counters(running: Crowd) -> Any:
    return running.courier.ask(ReadStatus()).listeners[0].counters


def test_the_whole_and_a_listener_are_limited_over_all_workers(backend: MakeBackend) -> None:
    table = table_for(backend(echo).address)
    few = Table.build([(Listener(V4, max_connections=3), list(table.listeners[V4].routes.values()))])
    for made, most in ((table, 5), (few, 3)):
        with crowd(made) as running, ExitStack() as held:
            limited(running, max_connections=5)
            for _ in range(2):
                assert served(running, held, SOURCES) == most
                held.close()
                until(lambda: not running.courier.ask(ReadConnections(0, 100)), "them to end")
            limited(running, max_connections=1)
            assert served(running, held, SOURCES) == 1
            limited(running)
            assert served(running, held, SOURCES) == min(20, most - 1 if made is few else 20)


@pytest.mark.parametrize("limits", [{"max_per_ip": 3}, {"rate_per_ip": 1 / 3600, "burst_per_ip": 3}])
def test_a_client_behind_a_proxy_is_limited_whichever_worker_accepts(
    backend: MakeBackend, limits: dict[str, Any]
) -> None:
    """The kernel knows the proxy's address only."""
    with crowd(behind_proxy(backend(echo).address)) as running, ExitStack() as held:
        limited(running, **limits)
        for client in ("198.51.100.1", "198.51.100.2"):
            assert served(running, held, SOURCES, header(client)) == 3
        expected = {"198.51.100.1": 3, "198.51.100.2": 3}
        until(lambda: by_client(running) == expected, "those that were handed over to be at one place only")
        reason = Reason.LIMIT_PER_IP if "max_per_ip" in limits else Reason.RATE_PER_IP
        until(lambda: listeners_counters(running).refused == {reason: 34}, "34 to be refused")
        counters = listeners_counters(running)
        assert (counters.accepted, counters.connections) == (40, 6), "handed over or not, each is counted once"
        until(lambda: sum(f" reason={reason} " in line for line in running.lines) == 34, "a line for each")


def test_a_header_that_comes_late_is_followed_by_the_other_worker(backend: MakeBackend) -> None:
    """The first worker has waited for the socket; its epoll must not report what comes to the second one."""
    with crowd(behind_proxy(backend(echo).address)) as running, ExitStack() as held:
        limited(running, max_per_ip=100)
        clients = [held.enter_context(running.client(source)) for source in SOURCES]
        until(lambda: len(running.courier.ask(ReadConnections(0, 100))) == len(clients), "all to be accepted")
        assert all(is_served(each, header("198.51.100.1")) for each in clients)
        assert len({each.id % 100 for each in running.courier.ask(ReadConnections(0, 100))}) == 1, "its home"
        for each in clients:
            each.sendall(b"more")
            assert receive(each, 4) == b"more"


def test_a_single_socket_for_all_has_the_same_limits(backend: MakeBackend) -> None:
    """A service manager's: whichever worker is faster accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as single:
        single.setblocking(False)
        with crowd(table_for(backend(echo).address), inherited=lambda _addr: [single.dup()]) as running:
            limited(running, max_per_ip=2)
            for source in SOURCES:
                with ExitStack() as held:
                    assert served(running, held, [source] * 5) == 2


def test_a_worker_that_is_killed_gives_its_places_back(backend: MakeBackend) -> None:
    with crowd(table_for(backend(echo).address)) as running, ExitStack() as held:
        limited(running, max_connections=2)
        one, two = (next(each for each in SOURCES if home(pack(each), 2) == number) for number in (0, 1))
        assert [comes(running, held, one) for _ in range(3)] == [True, True, False]
        pid = running.pids()[0]
        os.kill(pid, signal.SIGKILL)
        running.until(lambda infos: infos[0].state is WorkerState.SERVING and infos[0].pid not in (0, pid), "another")
        assert [comes(running, held, two) for _ in range(3)] == [True, True, False]


def test_few_addresses_are_spread_where_no_address_is_limited(backend: MakeBackend) -> None:
    with crowd(table_for(backend(echo).address)) as running, ExitStack() as held:
        assert served(running, held, ["127.0.0.1"] * 300) == 300
        each = Counter(found.id % 100 for found in running.courier.ask(ReadConnections(0, 400)))
        assert min(each.values()) >= 90, "at most twice as many at one"
        limited(running, max_per_ip=1000)
        assert served(running, held, ["127.0.0.1"] * 50) == 50
        again = Counter(found.id % 100 for found in running.courier.ask(ReadConnections(0, 400)))
        assert sorted((again - each).values()) == [50], "all at its home, once its connections count"


class Crush:
    """Clients that come and go at once, and how many were inside at most: in all, and of each address."""

    def __init__(self, running: Crowd, *, proxied: bool) -> None:
        self.running = running
        self.proxied = proxied
        self.inside: Counter[str] = Counter()
        self.most = 0
        self.most_of_one = 0
        self.outcomes: Counter[bool] = Counter()
        self._lock = threading.Lock()

    def visit(self, seed: int) -> None:
        chosen = random.Random(seed)
        address = f"127.1.{chosen.randrange(4)}.{chosen.randrange(1, 51)}"
        first, source = (header(address), f"127.0.0.{seed % 9 + 1}") if self.proxied else (b"", address)
        with ExitStack() as held:
            served = comes(self.running, held, source, first)
            with self._lock:
                self.outcomes[served] += 1
                self.inside[address] += served
                self.most = max(self.most, self.inside.total())
                self.most_of_one = max(self.most_of_one, self.inside[address])
            with self._lock:
                self.inside[address] -= served


@pytest.mark.parametrize("proxied", [False, True])
def test_a_crush_of_addresses_never_exceeds_a_limit(backend: MakeBackend, proxied: bool) -> None:
    address = backend(echo).address
    with crowd(behind_proxy(address) if proxied else table_for(address)) as running:
        limited(running, max_connections=9, max_per_ip=1)
        crush = Crush(running, proxied=proxied)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(crush.visit, range(1500)))
        assert crush.outcomes.total() == 1500
        assert crush.most <= 9
        assert crush.most_of_one == 1
        assert crush.outcomes[True] > 100
        until(lambda: listeners_counters(running).connections == 0, "all to have ended")
        counters = listeners_counters(running)
        assert (counters.accepted, sum(counters.ended.values())) == (1500, 1500)
        with ExitStack() as held:
            firsts = [header(f"198.51.100.{n}") if proxied else b"" for n in range(1, 21)]
            found = [comes(running, held, source, first) for source, first in zip(SOURCES, firsts, strict=True)]
            assert sum(found) == 9, "and every place was given back"
