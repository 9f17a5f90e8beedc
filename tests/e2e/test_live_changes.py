"""Changes over the admin API, while connections come and stay."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import DEADLINE, Authority, connect, echo, free_port, is_reset, read_all, says, tls, until
from tests.kit.proxy import Proxy

ADDR = "127.0.0.1:0"
MUTATIONS = 300


def ask(port: int, authority: Authority, name: str) -> str:
    """Which backend answers to this name?"""
    with authority.client_context().wrap_socket(connect(port), server_hostname=name) as secured:
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return read_all(secured).decode().splitlines()[-1]


def refused(port: int, authority: Authority, name: str) -> bool:
    with connect(port) as plain:
        try:
            authority.client_context().wrap_socket(plain, server_hostname=name).close()
        except (ConnectionResetError, ssl.SSLError):
            return True
    return False


def reset_at_once(port: int) -> bool:
    """Whether a new connection gets a RST, which may come before connect() has looked."""
    try:
        with connect(port) as plain:
            return is_reset(plain)
    except ConnectionResetError:
        return True


def was_reset(client: ssl.SSLSocket) -> bool:
    """Whether the connection ends with a RST. Asked of TCP: Python's TLS takes some for an end."""
    with socket.socket(fileno=client.detach()) as plain:
        plain.settimeout(DEADLINE)
        try:
            while plain.recv(65536):
                continue
        except ConnectionResetError:
            return True
    return False


def call(admin: Any, method: str, request: Any) -> Any:
    return getattr(admin, method)(request, timeout=DEADLINE)


def counted(admin: Any) -> list[pb.RouteCounters]:
    return list(call(admin, "ListRouteCounters", pb.ListRouteCountersRequest()).routes)


def route(name: str, target: str) -> pb.Route:
    return pb.Route(hostname=name, backend=target)


def test_a_client_that_has_the_answer_sees_the_effect(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    """Back and forth between two backends, a connection straight after each answer; others come all the while."""
    one = backend(tls(authority.server_context("a.example.org"), says("one")))
    two = backend(tls(authority.server_context("a.example.org"), says("two")))
    fixed = backend(tls(authority.server_context("b.example.org"), says("fixed")))
    routes = {"a.example.org": one.address, "b.example.org": fixed.address}
    running = proxy({"listeners": [listener(routes)], "grpc": grpc_section(tmp_path)})
    stop, others, wrong = threading.Event(), list[str](), list[str]()

    def come() -> None:
        while not stop.is_set():
            for name, answers in (("a.example.org", {"one", "two"}), ("b.example.org", {"fixed"})):
                answer = ask(running.port, authority, name)
                others.append(answer)
                if answer not in answers:
                    wrong.append(f"{name}: {answer}")

    traffic = threading.Thread(target=come)
    traffic.start()
    try:
        with stub(tmp_path) as admin:
            for number in range(MUTATIONS):
                name, target = (("one", one), ("two", two))[number % 2]
                call(admin, "UpdateRoute", pb.UpdateRouteRequest(route=route("a.example.org", target.address)))
                if number % 10 == 0:
                    assert ask(running.port, authority, "a.example.org") == name
                    assert ask(running.port, authority, "a.example.org") == name
    finally:
        stop.set()
        traffic.join(DEADLINE)
    assert not wrong
    assert others


def test_a_route_comes_and_goes_and_its_connections_stay(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    repeats = backend(tls(authority.server_context("a.example.org"), echo))
    running = proxy({"listeners": [listener({})], "grpc": grpc_section(tmp_path)})
    with stub(tmp_path) as admin:
        assert refused(running.port, authority, "a.example.org")
        call(admin, "AddRoute", pb.AddRouteRequest(route=route("a.example.org", repeats.address)))
        client = authority.client_context().wrap_socket(connect(running.port), server_hostname="a.example.org")
        with client:
            call(admin, "RemoveRoute", pb.RemoveRouteRequest(hostname="a.example.org"))
            assert refused(running.port, authority, "a.example.org")
            client.sendall(b"still here")
            assert client.recv(100) == b"still here"


def test_listeners_open_and_close_on_the_fly(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    repeats = backend(tls(authority.server_context("a.example.org"), echo))
    running = proxy({"listeners": [listener({})], "grpc": grpc_section(tmp_path)})
    port = free_port()
    addr = f"127.0.0.1:{port}"
    with stub(tmp_path) as admin:
        call(admin, "AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=addr)))
        call(admin, "AddRoute", pb.AddRouteRequest(listener=addr, route=route("a.example.org", repeats.address)))
        with authority.client_context().wrap_socket(connect(port), server_hostname="a.example.org") as client:
            call(admin, "RemoveListener", pb.RemoveListenerRequest(addr=addr))
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            client.sendall(b"still here")
            assert client.recv(100) == b"still here"
            gone = call(admin, "GetStatus", pb.GetStatusRequest()).listeners[1]
            assert (gone.addr, gone.accepting, gone.connections) == (addr, False, 1)
            assert [each.listener for each in counted(admin)] == [addr]
        until(lambda: not running.sessions(), "the last connection to end")
        assert [each.addr for each in call(admin, "GetStatus", pb.GetStatusRequest()).listeners] == [ADDR]
        assert counted(admin) == []
        assert addr not in call(admin, "GetMetrics", pb.GetMetricsRequest()).text
    assert list(running.app.worker.addresses) == [ADDR]


def test_an_address_in_use_leaves_no_trace(proxy: MakeProxy, tmp_path: Path) -> None:
    running = proxy({"listeners": [listener({})], "grpc": grpc_section(tmp_path)})
    with socket.socket() as taken, stub(tmp_path) as admin:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(grpc.RpcError) as caught:
            call(admin, "AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=addr)))
        answer: Any = caught.value
        assert answer.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert answer.details() == f"can't listen on {addr}: another program listens there"
        assert [each.addr for each in call(admin, "ListListeners", pb.ListListenersRequest()).listeners] == [ADDR]
        assert call(admin, "GetStatus", pb.GetStatusRequest()).generation == 1
    assert list(running.app.worker.addresses) == [ADDR]


@pytest.fixture
def established(proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path) -> tuple[Proxy, str]:
    """A proxy with a backend that repeats what it hears, as a.example.org."""
    repeats = backend(tls(authority.server_context("a.example.org"), echo))
    document = {"listeners": [listener({"a.example.org": repeats.address})], "grpc": grpc_section(tmp_path)}
    return proxy(document), "a.example.org"


def test_a_rule_with_kill_cuts_whom_it_matches_and_lets_nobody_in(
    established: tuple[Proxy, str], authority: Authority, tmp_path: Path
) -> None:
    running, name = established
    with stub(tmp_path) as admin:
        client = authority.client_context().wrap_socket(connect(running.port), server_hostname=name)
        with client:
            other = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_CIDR, value="10.0.0.0/8", kill=True)
            assert call(admin, "AddFirewallRule", other).killed == 0
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="127.0.0.1", ttl_seconds=600, kill=True)
            assert call(admin, "AddFirewallRule", request).killed == 1
            assert was_reset(client)
        assert reset_at_once(running.port)
        removal = pb.RemoveFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="127.0.0.1")
        call(admin, "RemoveFirewallRule", removal)
        assert not refused(running.port, authority, name)


def test_connections_are_seen_listed_and_cut(
    established: tuple[Proxy, str], authority: Authority, tmp_path: Path
) -> None:
    running, name = established
    with stub(tmp_path) as admin:
        stream = admin.WatchConnections(pb.WatchConnectionsRequest())
        while call(admin, "GetStatus", pb.GetStatusRequest()).watchers != 1:
            continue
        events = (event for answer in stream for event in answer.events)
        with authority.client_context().wrap_socket(connect(running.port), server_hostname=name) as client:
            opened = next(events)
            assert (opened.kind, opened.connection.sni) == (pb.ConnectionEvent.KIND_OPENED, name)
            wanted = pb.ListConnectionsRequest(filter=pb.ConnectionFilter(route=name, client="127.0.0.0/8"))
            (live,) = call(admin, "ListConnections", wanted).connections
            wanted.filter.client = "192.0.2.1"
            assert not call(admin, "ListConnections", wanted).connections
            assert (live.id, live.route, live.state) == (opened.connection.id, name, "relaying")
            call(admin, "CloseConnection", pb.CloseConnectionRequest(id=live.id))
            assert was_reset(client)
        closed = next(events)
        assert (closed.kind, closed.end) == (pb.ConnectionEvent.KIND_CLOSED, "killed")
        assert closed.connection.received_bytes > 0
        assert refused(running.port, authority, "no.example.org")
        told = next(events)
        assert (told.kind, told.reason) == (pb.ConnectionEvent.KIND_REFUSED, "route_unknown")
        stream.cancel()
        counters = call(admin, "ListRouteCounters", pb.ListRouteCountersRequest()).routes
        assert [(each.hostname, each.accepted, each.connections) for each in counters] == [(name, 1, 0)]
        text = call(admin, "GetMetrics", pb.GetMetricsRequest()).text
        labels = f'{{listener="{ADDR}",reason="route_unknown",verdict="refused"}}'
        assert f"mcproxy_connections_finished_total{labels} 1.0\n" in text


def test_an_explanation_is_what_happens(established: tuple[Proxy, str], authority: Authority, tmp_path: Path) -> None:
    running, name = established
    with stub(tmp_path) as admin:
        for asked in (name, "no.example.org"):
            told = call(admin, "Explain", pb.ExplainRequest(sni=asked, ip="127.0.0.1")).reason
            assert (told == "ok") is not refused(running.port, authority, asked)
            assert running.connection(sni=asked)["reason"] == told
