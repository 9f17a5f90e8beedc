"""The courier to all workers, where it is more than asking and merging: listeners, homes, and what is remembered."""

import errno
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from mcproxy.certificates.acme.order import Kept, Order
from mcproxy.messages import (
    BindListener,
    CloseConnections,
    CloseListener,
    FindCountry,
    Forget,
    Keep,
    ReadConnections,
    ReadFiles,
    ReadKept,
    ReadStatus,
    SetLogLevel,
    Settle,
    StartListener,
    WouldAdmit,
)
from mcproxy.model import worker_of
from mcproxy.net.group import open_group
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from tests.conftest import MakeBackend
from tests.kit.crowd import SETTINGS, Crowd, crowd
from tests.kit.peers import DEADLINE, client_hello, echo, receive, until
from tests.kit.worker_bench import V4, table_for

HELLO = client_hello("a.test")
ALL = ReadConnections(0, 10)


@pytest.fixture
def running(backend: MakeBackend) -> Iterator[Crowd]:
    with crowd(table_for(backend(echo).address)) as made:
        yield made


def test_an_address_is_bound_once_and_free_when_it_is_closed(running: Crowd) -> None:
    with pytest.raises(OSError, match=os.strerror(98)):
        running.courier.ask(BindListener(V4))
    with socket.create_server(("127.0.0.2", 0)) as other:
        taken = f"127.0.0.2:{other.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            running.courier.ask(BindListener(taken))
    for _ in range(2):
        running.courier.ask(BindListener(taken))
        running.courier.ask(StartListener(taken))
        running.courier.ask(CloseListener(taken))
    with socket.create_server(("127.0.0.2", int(taken.rpartition(":")[2]))):
        pass


def test_nobody_is_let_in_while_a_worker_is_late_to_close(running: Crowd) -> None:
    """Those whose worker had closed were connected, waited for nobody, and were reset when the last one had."""
    late = socket.socket()

    def is_answered() -> bool:
        nonlocal late
        late.close()
        late = socket.socket()
        late.setblocking(False)
        assert late.connect_ex(("127.0.0.1", running.port)) == errno.EINPROGRESS
        return bool(select.select([], [late], [], 0)[1])

    stopped = running.pids()[1]
    closing = threading.Thread(target=running.courier.ask, args=(CloseListener(V4),))
    os.kill(stopped, signal.SIGSTOP)
    try:
        closing.start()
        until(lambda: not is_answered(), "the kernel to let nobody in")
        assert closing.is_alive()
    finally:
        os.kill(stopped, signal.SIGCONT)
        closing.join(DEADLINE)
    with late:
        assert select.select([], [late], [], DEADLINE)[1]
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_sockets_that_another_server_has_go_on(running: Crowd) -> None:
    """As those of a successor: nothing that the old server does when it closes may be done to them."""
    taken = [socket.socket(fileno=os.dup(each)) for _, each in running.workers.sockets]
    running.courier.ask(CloseListener(V4))
    with ExitStack() as opened:
        for each in taken:
            opened.enter_context(each)
        opened.enter_context(running.client())


def test_a_single_socket_that_was_open_before_serves_all(backend: MakeBackend) -> None:
    """As a service manager passes it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        table = table_for(backend(echo).address)
        with crowd(table, inherited=lambda _addr: [sock.dup()]) as running:
            assert running.port == sock.getsockname()[1]
            for _ in range(10):
                with running.client() as client:
                    client.sendall(HELLO)
                    assert receive(client, len(HELLO)) == HELLO


@pytest.mark.parametrize("before", [2, 5])
def test_a_group_that_was_open_before_is_used_in_its_order(before: int, backend: MakeBackend) -> None:
    """As a server gives it to the next one, and closes its own: every client comes to its home.

    Those who wait already, on whichever of the sockets, are served; also where there are more than workers.
    """
    table = table_for(backend(echo).address)
    with ExitStack() as old:
        group = [old.enter_context(each) for each in open_group("127.0.0.1:0", before)]
        port = group[0].getsockname()[1]
        sources = [f"127.0.0.{last}" for last in range(1, 20)]
        assert {home(pack(each), before) for each in sources} == set(range(before))
        early = [socket.create_connection(("127.0.0.1", port), DEADLINE, (each, 0)) for each in sources]
        with crowd(table, inherited=lambda _addr: [each.dup() for each in group]) as running:
            assert running.port == port
            old.close()
            for client in early:
                with client:
                    client.sendall(HELLO)
                    assert receive(client, len(HELLO)) == HELLO
            running.until(lambda _infos: not running.courier.ask(ALL), "them to end")
            for number in (1, 2, 1, 2):
                with running.client_of(number) as client:
                    client.sendall(HELLO)
                    assert receive(client, len(HELLO)) == HELLO
                    (found,) = running.courier.ask(ALL)
                    assert worker_of(found.id) == number
                running.until(lambda _infos: not running.courier.ask(ALL), "it to end")


def test_limits_of_an_address_are_asked_of_its_home(running: Crowd) -> None:
    running.courier.ask(ReadFiles(certificates=False))
    running.courier.ask(Settle(replace(SETTINGS, max_per_ip=1)))
    with running.client_of(2) as client:
        client.sendall(HELLO)
        assert receive(client, len(HELLO)) == HELLO
        address = pack(client.getsockname()[0])
        assert running.courier.ask(WouldAdmit(address)) == "limit_per_ip"
    assert running.courier.ask(WouldAdmit(pack("192.0.2.1"))) is None


def test_a_status_has_what_a_worker_counted_that_can_not_answer(running: Crowd) -> None:
    """It is read where the worker counts: a flood of these calls used to cost each worker a part of its time."""
    pids = running.pids()
    with running.client() as client:
        client.sendall(HELLO)
        assert receive(client, len(HELLO)) == HELLO
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            (listener,) = running.courier.ask(ReadStatus()).listeners
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert (listener.addr, listener.accepting) == (V4, True)
        assert (listener.counters.accepted, listener.counters.connections) == (1, 1)


def test_what_acme_has_is_known_to_all(running: Crowd) -> None:
    kept = Kept(Order("a.test"))
    running.courier.ask(Keep(kept))
    assert running.courier.ask(ReadKept("a.test")) == kept
    running.courier.ask(Forget("a.test"))
    assert running.courier.ask(ReadKept("a.test")) is None


def test_one_answers_what_all_know(running: Crowd) -> None:
    assert running.courier.ask(FindCountry(b"\0\0\0\0")) is None
    assert list(running.courier.ask(CloseConnections([]))) == []


def test_a_log_level_is_that_of_all(running: Crowd) -> None:
    running.courier.ask(SetLogLevel("error"))
    with running.client_of(1) as client:
        client.sendall(HELLO)
        assert receive(client, len(HELLO)) == HELLO
    running.courier.ask(SetLogLevel("info"))
    assert not [line for line in running.lines if " verdict=" in line]
