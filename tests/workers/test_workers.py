"""Real workers: they serve as one, and what they have counted, logged and reported comes together."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from mcproxy.change import Change, route_key
from mcproxy.messages import (
    BindListener,
    CloseConnections,
    EventKind,
    PlaneStopping,
    ReadConnections,
    ReadRoutes,
    ReadStatus,
    Watch,
)
from mcproxy.model import Route
from mcproxy.notation.address import parse_backend
from mcproxy.table import Table
from mcproxy.workers.clerk import BEAT
from mcproxy.workers.workers import LEAST_PATIENCE, PATIENCE, patience_for
from tests.conftest import MakeBackend
from tests.kit.crowd import Crowd, crowd
from tests.kit.peers import client_hello, echo, is_reset, receive, says, until
from tests.kit.worker_bench import V4, table_for

SOURCES = [f"127.0.0.{n}" for n in range(1, 21)]


@pytest.fixture
def here(backend: MakeBackend) -> Table:
    return table_for(backend(says("here")).address)


@pytest.fixture
def running(here: Table) -> Iterator[Crowd]:
    with crowd(here) as made:
        yield made


def test_all_serve_and_their_counters_are_one(running: Crowd) -> None:
    for source in SOURCES:
        assert b"here" in running.served(source)
    until(lambda: running.courier.ask(ReadStatus()).listeners[0].counters.ended, "their ends to be counted")
    until(lambda: sum(running.courier.ask(ReadStatus()).listeners[0].counters.ended.values()) == len(SOURCES))
    status = running.courier.ask(ReadStatus())
    assert status.listeners[0].counters.accepted == len(SOURCES)
    assert [(each.number, each.state) for each in status.workers] == [(1, "serving"), (2, "serving")]
    assert len({each.pid for each in status.workers}) == 2
    (route,) = running.courier.ask(ReadRoutes())
    assert (route.hostname, route.counters.accepted) == ("a.test", len(SOURCES))
    until(lambda: sum(" verdict=routed " in each for each in running.lines) == len(SOURCES), "a line for each")
    assert all(each.endswith("\n") for each in running.lines)


def test_a_change_is_in_force_everywhere_when_it_is_answered(running: Crowd, backend: MakeBackend) -> None:
    new = Route("new.test", parse_backend(backend(says("new")).address))
    running.publish(Change(route_key(V4, "new.test"), None, new))
    assert all(b"new" in running.served(source, "new.test") for source in SOURCES)
    running.publish(Change(route_key(V4, "new.test"), new, None))
    for source in SOURCES:
        with running.client(source) as client:
            client.sendall(client_hello("new.test"))
            assert is_reset(client)


def test_connections_are_listed_and_cut_wherever_they_are(backend: MakeBackend) -> None:
    hello = client_hello("a.test")
    with crowd(table_for(backend(echo).address)) as running, running.client_of(1) as one, running.client_of(2) as two:
        for client in (one, two):
            client.sendall(hello)
            assert receive(client, len(hello)) == hello
        listed = running.courier.ask(ReadConnections(0, 10))
        assert sorted(each.id % 100 for each in listed) == [1, 2], "an id shows the worker"
        assert [each.id for each in running.courier.ask(ReadConnections(listed[0].id, 10))] == [listed[1].id]
        ids = [each.id for each in listed]
        assert running.courier.ask(CloseConnections([*ids, 99])) == sorted(ids)
        assert is_reset(one)
        assert is_reset(two)


def test_events_of_all_are_reported_while_they_are_watched(running: Crowd) -> None:
    running.served()
    until(lambda: any(" verdict=routed " in each for each in running.lines), "its end")  # else it is reported, too
    assert not running.events
    running.courier.ask(Watch(on=True))
    for source in SOURCES:
        running.served(source)
    until(lambda: sum(each.kind is EventKind.CLOSED for each in running.events) == len(SOURCES))
    assert len({each.connection.id for each in running.events}) == len(SOURCES)


def test_a_drain_waits_for_all_and_opens_nothing_more(running: Crowd, here: Table) -> None:
    assert running.workers.turns()
    assert running.workers.drain(5.0) is True
    with pytest.raises(PlaneStopping):
        running.courier.ask(BindListener("127.0.0.1:0"))
    with pytest.raises(ConnectionRefusedError):
        running.client()


def test_no_worker_is_stuck_between_two_beats() -> None:
    """A watchdog of 0.9 s made the patience 0.45 s, less than a beat: each worker was killed again and again."""
    assert [patience_for(watchdog) for watchdog in (0.0, 0.9, 10.0, 60.0)] == [PATIENCE, LEAST_PATIENCE, 5.0, PATIENCE]
    assert LEAST_PATIENCE >= 4 * BEAT


def test_at_once_means_every_connection(backend: MakeBackend) -> None:
    """A second signal ended the parent only: its workers drained, for shutdown_timeout."""
    hello = client_hello("a.test")
    with crowd(table_for(backend(echo).address)) as running, running.client_of(1) as one, running.client_of(2) as two:
        for client in (one, two):
            client.sendall(hello)
            assert receive(client, len(hello)) == hello
        running.workers.end_at_once()
        for client in (one, two):
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_a_drain_that_had_to_cut_says_so(backend: MakeBackend) -> None:
    hello = client_hello("a.test")
    with crowd(table_for(backend(echo).address)) as running, running.client_of(2) as client:
        client.sendall(hello)
        assert receive(client, len(hello)) == hello
        assert running.workers.drain(0.1) is False
        assert is_reset(client)
