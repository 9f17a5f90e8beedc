"""Deaths of workers: each is replaced, knows what its predecessor knew, and loses only its own connections."""

import logging
import os
import resource
import signal
import socket
from collections.abc import Callable

import pytest

from mcproxy.change import Change, route_key
from mcproxy.messages import ReadRoutes, ReadStatus, WorkerInfo, WorkerState
from mcproxy.model import End, Route
from mcproxy.notation.address import parse_backend
from tests.conftest import MakeBackend
from tests.kit.crowd import Crowd, crowd
from tests.kit.peers import client_hello, echo, read_all, receive, says, until
from tests.kit.worker_bench import V4, table_for


def serves_again(number: int, old: int) -> Callable[[list[WorkerInfo]], bool]:
    """A condition for `Crowd.until`."""

    def condition(infos: list[WorkerInfo]) -> bool:
        info = infos[number - 1]
        return info.state is WorkerState.SERVING and info.pid not in (0, old)

    return condition


def killed(running: Crowd, number: int, how: signal.Signals = signal.SIGKILL) -> int:
    pid = running.pids()[number - 1]
    os.kill(pid, how)
    running.until(serves_again(number, pid), f"worker {number} to be replaced")
    return pid


def ended(client: socket.socket) -> bool:
    """Whether a connection has ended; a kernel that cleans up after a process may send a FIN or a RST."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_only_its_own_connections_are_lost(backend: MakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    hello = client_hello("a.test")
    with crowd(table_for(backend(echo).address)) as running, running.client_of(1) as one, running.client_of(2) as two:
        for client in (one, two):
            client.sendall(hello)
            assert receive(client, len(hello)) == hello
        pid = killed(running, 1)
        until(lambda: f"worker 1, process {pid}, has ended: killed by SIGKILL" in caplog.messages)
        assert ended(one)
        two.sendall(b"still here")
        assert receive(two, 10) == b"still here"
        with running.client_of(1) as again:
            again.sendall(hello)
            assert receive(again, len(hello)) == hello
        assert [each.restarts for each in running.infos()] == [1, 0]
        assert "SIGKILL" in running.infos()[0].failure


def test_its_successor_knows_everything(backend: MakeBackend) -> None:
    with crowd(table_for(backend(says("here")).address)) as running:
        new = Route("new.test", parse_backend(backend(says("new")).address))
        running.publish(Change(route_key(V4, "new.test"), None, new))
        for number in (1, 2):
            killed(running, number)
        assert all(b"new" in running.served(f"127.0.0.{n}", "new.test") for n in range(1, 11))


def test_connections_that_wait_in_its_queue_are_served_by_its_successor(backend: MakeBackend) -> None:
    with crowd(table_for(backend(says("here")).address)) as running:
        pid = running.pids()[0]
        os.kill(pid, signal.SIGSTOP)
        waiting = [running.client_of(1) for _ in range(20)]
        for client in waiting:
            client.sendall(client_hello("a.test"))
        os.kill(pid, signal.SIGKILL)
        for client in waiting:
            with client:
                assert b"here" in read_all(client)


def test_no_counter_falls_and_no_id_comes_twice(backend: MakeBackend) -> None:
    with crowd(table_for(backend(echo).address)) as running:
        hello, seen = client_hello("a.test"), 0

        def accepted() -> int:
            return running.courier.ask(ReadStatus()).listeners[0].counters.accepted

        for number in (1, 2, 1):
            with running.client_of(number) as client:
                client.sendall(hello)
                assert receive(client, len(hello)) == hello
                until(lambda seen=seen: accepted() == seen + 1)  # type: ignore[misc]
                seen += 1
                running.courier.ask(ReadRoutes())
                killed(running, number)
                assert accepted() == seen
                (route,) = running.courier.ask(ReadRoutes())
                assert (route.counters.accepted, route.counters.connections) == (seen, 0)
        (listener,) = running.courier.ask(ReadStatus()).listeners
        assert listener.counters.ended == {End.LOST: 3}
        ids = [word for line in running.lines for word in line.split() if word.startswith("id=")]
        assert len(set(ids)) == len(ids)


def test_a_hub_that_is_stuck_leaves_its_traceback_and_is_replaced(
    backend: MakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mcproxy")
    with crowd(table_for(backend(says("here")).address), patience=1.0) as running:
        pid = running.pids()[1]
        os.kill(pid, signal.SIGSTOP)  # SIGABRT waits too, so that SIGKILL has to follow
        running.until(serves_again(2, pid), "the stopped one to be replaced")
        assert any(each.startswith(f"worker 2, process {pid}, has not turned for") for each in caplog.messages)
        killed(running, 1, signal.SIGABRT)
        until(lambda: "worker 1: Fatal Python error: Aborted" in caplog.messages, "its traceback")
        assert b"here" in running.served()


def test_a_pause_of_the_parent_is_not_one_of_the_workers(
    backend: MakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A parent that was stopped for longer than its patience replaced all workers when it went on."""
    with crowd(table_for(backend(says("here")).address)) as running:
        keeping, pids = running.workers._keeping, running.pids()
        looked: list[float] = []

        def look() -> None:  # in the thread that keeps the workers, as it goes on after a minute without beats
            keeping.ticked_at -= 60
            for slot in keeping._team.slots:
                slot.process.beat_at -= 60
            looked.append(keeping.ticked_at)

        keeping._news.put(look)
        until(lambda: looked and keeping.ticked_at > looked[0] + 60, "it to look")
        assert running.pids() == pids
        assert b"here" in running.served()
        assert not any("has not turned" in each for each in caplog.messages)


def test_a_nursery_that_is_stuck_is_replaced(backend: MakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    """The worker that it was to fork was starting for as long as the nursery was stopped."""
    with crowd(table_for(backend(says("here")).address), patience=1.0) as running:
        nursery = running.workers._keeping._nursery._process
        nursery.send_signal(signal.SIGSTOP)
        killed(running, 1)
        assert nursery.returncode == -signal.SIGKILL
        assert any(f"the nursery, process {nursery.pid}, has forked no worker for" in each for each in caplog.messages)
        assert not any("process 0" in each for each in caplog.messages)
        assert b"here" in running.served()


def test_a_publication_waits_for_nobody_who_is_stuck(backend: MakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    with crowd(table_for(backend(says("here")).address)) as running:
        pid = running.pids()[0]
        os.kill(pid, signal.SIGSTOP)
        new = Route("new.test", parse_backend(backend(says("new")).address))
        running.publish(Change(route_key(V4, "new.test"), None, new))
        assert any("worker 1 has not taken generation 1 and is replaced" in each for each in caplog.messages)
        running.until(serves_again(1, pid), "it to be replaced")
        assert all(b"new" in running.served(f"127.0.0.{n}", "new.test") for n in range(1, 11))


def test_a_nursery_that_dies_stops_nobody(backend: MakeBackend) -> None:
    with crowd(table_for(backend(says("here")).address)) as running:
        nursery = running.workers._keeping._nursery._process
        nursery.kill()
        nursery.wait()
        assert b"here" in running.served()
        killed(running, 1)
        assert b"here" in running.served()


def test_workers_drain_and_end_when_their_parent_has_gone(backend: MakeBackend) -> None:
    hello = client_hello("a.test")
    with crowd(table_for(backend(echo).address)) as running, running.client_of(1) as client:
        client.sendall(hello)
        assert receive(client, len(hello)) == hello
        pids = running.pids()
        handles = [os.pidfd_open(pid) for pid in pids]
        running.workers._team.stopping = True
        for slot in running.workers._team.slots:  # what their kernel does when the parent is killed
            assert slot.remote is not None
            slot.remote.close()
        for handle in handles:
            until(lambda handle=handle: _is_gone(handle), "the workers to end")  # type: ignore[misc]
            os.close(handle)
        assert ended(client)


def _is_gone(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_that_can_not_be_started_is_tried_again(backend: MakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    """The thread that replaces workers must outlive a time without descriptors."""
    with crowd(table_for(backend(says("here")).address)) as running:
        pid = running.pids()[0]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            os.kill(pid, signal.SIGKILL)
            until(lambda: any("worker 1 can't be started (Too many open files)" in each for each in caplog.messages))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        running.until(serves_again(1, pid), "it to be started")
        assert b"here" in running.served()
