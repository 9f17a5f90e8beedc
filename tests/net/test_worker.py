"""The worker: listeners that come and go while it runs, and how it ends."""

import socket

import pytest

from mcproxy.change import listener_key
from mcproxy.model import End, FirewallRule, Listener, Reason, RuleKind
from mcproxy.net.group import open_group
from mcproxy.net.shared import Phase
from mcproxy.net.worker import SPARE_TALLIES
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from tests.conftest import MakeBackend
from tests.kit.hub import is_turned_away, messages
from tests.kit.peers import DEADLINE, another, connect, is_reset, read_all, says
from tests.kit.tables import with_value, without
from tests.kit.worker_bench import HELLO, NOWHERE, V4, V6, MakeBench, swallow, table_for

# --- listeners --------------------------------------------------------------------------------------------------------


def test_listeners_open_and_close_on_the_fly(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(says("here")).address))
    assert repr(running.worker) == "<Worker listeners=0 sessions=0>"
    with messages() as logged:
        first, second = running.open(V4), running.open(V6)
        assert running.worker.addresses == {V4: ("127.0.0.1", first), V6: ("::1", second)}
        assert running.shared.outgoing.own.ports == {first, second}
        for port, host in ((first, "127.0.0.1"), (second, "::1")):
            with connect(port, host) as client:
                client.sendall(HELLO)
                assert b"here" in read_all(client)
        running.hub.call(running.worker.close, V4)
    assert running.shared.outgoing.own.ports == {second}
    with pytest.raises(ConnectionRefusedError):
        connect(first)
    with connect(second, "::1") as client:
        client.sendall(HELLO)
        assert b"here" in read_all(client)
    assert logged == [f"info listening on {V4}", f"info listening on {V6}", f"info no longer listening on {V4}"]


def test_sessions_of_a_listener_that_was_closed_go_on(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(says("here")).address))
    with connect(running.open()) as client:
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.close, V4)
        running.hub.call(running.worker.publish, without(running.worker.shared.live.table, listener_key(V4)))
        client.sendall(HELLO)
        assert b"here" in read_all(client)
    assert running.last().end is End.CLOSED


def test_one_worker_serves_all_who_wait_for_several(bench: MakeBench, backend: MakeBackend) -> None:
    """As after a server with three workers: there are three sockets, and from now on the first one gets everybody."""
    group = open_group("127.0.0.1:0", 3)
    where, sources = group[0].getsockname(), [f"127.0.0.{last}" for last in range(1, 20)]
    assert {home(pack(each), 3) for each in sources} == {0, 1, 2}
    early = [socket.create_connection(where, DEADLINE, (each, 0)) for each in sources]
    running = bench(table_for(backend(says("here")).address), inherited=lambda _addr: group)
    assert running.open() == where[1]
    assert [addr for addr, _ in running.worker.descriptors] == [V4] * 3
    late = [socket.create_connection(where, DEADLINE, (each, 0)) for each in sources]
    for client in early + late:
        with client:
            client.sendall(HELLO)
            assert b"here" in read_all(client)
    last = [socket.create_connection(where, DEADLINE, (each, 0)) for each in sources]
    running.hub.call(running.worker.close, V4)
    for client in last:
        with client:
            client.sendall(HELLO)
            assert b"here" in read_all(client)
    with pytest.raises(ConnectionRefusedError):
        connect(where[1])


def test_an_address_that_cannot_be_bound_changes_nothing(bench: MakeBench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        addr = f"127.0.0.1:{other.getsockname()[1]}"
        running = bench(with_value(NOWHERE, Listener(addr)))
        with pytest.raises(OSError, match="in use"):
            running.hub.call(running.worker.bind, addr)
    assert running.worker.addresses == {}


def test_a_new_table_is_for_those_who_come_after_it(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(says("old")).address))
    port = running.open()
    with connect(port) as before:
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.publish, table_for(backend(says("new")).address))
        with connect(port) as after:
            after.sendall(HELLO)
            assert b"new" in read_all(after)
        before.sendall(HELLO)
        assert b"old" in read_all(before)


def test_a_rule_refuses_from_the_next_connection_on(bench: MakeBench) -> None:
    running = bench(NOWHERE)
    port = running.open()
    with connect(port):
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.publish, with_value(NOWHERE, FirewallRule(RuleKind.IP, "127.0.0.1")))
        assert is_turned_away(running.hub.door, port)
        running.reach(Phase.PEEKING)
    running.last()
    assert [connection.reason for connection in running.ended] == [Reason.BLOCKED_IP, Reason.PROBE]


def test_a_client_of_a_listener_that_is_in_no_table_is_refused(bench: MakeBench) -> None:
    running = bench(NOWHERE)
    port = running.open()
    running.hub.call(running.worker.publish, without(NOWHERE, listener_key(V4)))
    assert is_turned_away(running.hub.door, port)
    ended = running.last()
    assert (ended.reason, ended.detail) == (Reason.ROUTE_UNKNOWN, "the listener was removed")


def test_tallies_of_routes_that_are_gone_are_forgotten(bench: MakeBench) -> None:
    running = bench(NOWHERE)
    stats = running.worker.shared.stats
    stats.route((V4, "a.test"))
    stats.route((V4, "open.test")).begin()
    for i in range(SPARE_TALLIES - 1):
        stats.route((V4, f"{i}.test"))
    running.hub.call(running.worker.publish, NOWHERE)
    assert len(stats.routes) == SPARE_TALLIES + 1
    for i in range(10):
        stats.route(("gone", f"{i}.test"))
    running.hub.call(running.worker.publish, NOWHERE)
    assert set(stats.routes) == {(V4, "a.test"), (V4, "open.test")}


# --- draining ---------------------------------------------------------------------------------------------------------


def test_draining_waits_for_the_last_session(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(says("here")).address))
    with running.client() as client:
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.stop_listening)
        drained = running.hub.spawn(running.worker.drain, 30)
        client.sendall(HELLO)
        assert b"here" in read_all(client)
        assert not drained.done()
        client.close()
        assert drained.result(DEADLINE) is True
    assert running.last().end is End.CLOSED


def test_draining_nothing_is_done_at_once(bench: MakeBench) -> None:
    assert bench(NOWHERE).drain(30) is True


def test_who_is_left_when_the_time_is_over_is_cut(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(swallow).address))
    with running.client() as silent, running.client(HELLO) as relayed:
        running.reach(Phase.PEEKING, Phase.RELAYING)
        running.hub.call(running.worker.stop_listening)
        drained = running.hub.spawn(running.worker.drain, 5)
        running.wind(4.9)
        running.reach(Phase.PEEKING, Phase.RELAYING)
        running.wind(0.2)
        assert drained.result(DEADLINE) is False
        assert is_reset(silent)
        assert is_reset(relayed)
    assert {(each.end, each.reason) for each in running.ended} == {
        (End.SHUTDOWN, Reason.SHUTDOWN),
        (End.SHUTDOWN, Reason.OK),
    }


def test_who_has_connected_in_the_last_moment_is_served(bench: MakeBench, backend: MakeBackend) -> None:
    """The kernel has told the client that it is connected; closing the listener would reset it."""
    running = bench(table_for(backend(says("here")).address))
    port = running.open()

    def stop_before_anything_is_accepted() -> list[socket.socket]:
        clients = [connect(port) for _ in range(300)]
        for client in clients:
            client.sendall(another(HELLO))
        running.worker.stop_listening()
        return clients

    for client in running.hub.call(stop_before_anything_is_accepted):
        with client:
            assert b"here" in read_all(client)
    assert running.drain(30) is True
    assert [each.end for each in running.ended] == [End.CLOSED] * 300
    with pytest.raises(ConnectionRefusedError):
        connect(port)
