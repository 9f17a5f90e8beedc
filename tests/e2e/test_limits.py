"""The limits on connections, in all, on one listener and from one address, and on their rate: no more, and no fewer.

The clients that hold places here have connected and sent nothing. A place is free again when its connection has ended.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mcproxy.model import Reason
from mcproxy.net.shared import Phase
from mcproxy.policy.limits import Limits
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.hellos import hello, server_name
from tests.kit.hub import knock
from tests.kit.peers import DEADLINE, connect, free_port, is_reset, read_all, reset, until
from tests.kit.proxy import Proxy
from tests.kit.verdicts import HELLO, routes, verdict

TRUSTING = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}


def sessions(running: Proxy, phase: Phase) -> int:
    return [each.phase for each in running.sessions()].count(phase)


@contextmanager
def holding(running: Proxy, count: int, source: str = "127.0.0.1", port: int = 0) -> Iterator[list[socket.socket]]:
    """So many places are taken by clients from there."""
    with ExitStack() as stack:
        before = sessions(running, Phase.PEEKING)
        host = "::1" if ":" in source else "127.0.0.1"
        where = (host, port or running.port)
        clients = [stack.enter_context(socket.create_connection(where, DEADLINE, (source, 0))) for _ in range(count)]
        until(lambda: sessions(running, Phase.PEEKING) == before + count, "the sessions to begin")
        yield clients
    until(lambda: sessions(running, Phase.PEEKING) == before, "the places to be given back")


def test_in_all(backend: MakeBackend, proxy: MakeProxy) -> None:
    both = [listener(routes(backend)), {**listener(routes(backend)), "addr": "[::1]:0"}]
    running = proxy({"listeners": both, "proxy": {"max_connections": 3}})
    with holding(running, 2), holding(running, 1, "::1", running.ports[1]):
        assert verdict(running, "127.0.0.2") == Reason.LIMIT_TOTAL
        assert verdict(running, "::1", port=running.ports[1]) == Reason.LIMIT_TOTAL
    assert verdict(running) == Reason.OK
    assert verdict(running, "::1", port=running.ports[1]) == Reason.OK


def test_of_one_listener(backend: MakeBackend, proxy: MakeProxy) -> None:
    both = [listener(routes(backend), max_connections=2), {**listener(routes(backend)), "addr": "[::1]:0"}]
    running = proxy({"listeners": both})
    with holding(running, 2), holding(running, 5, "::1", running.ports[1]):
        assert verdict(running, "127.0.0.2") == Reason.LIMIT_LISTENER
        assert verdict(running, "::1", port=running.ports[1]) == Reason.OK
    assert verdict(running) == Reason.OK


def test_from_one_address(backend: MakeBackend, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener(routes(backend))], "firewall": {"max_connections_per_ip": 2}})
    with holding(running, 2), holding(running, 1, "127.0.0.2"):
        assert verdict(running) == Reason.LIMIT_PER_IP
        assert verdict(running, "127.0.0.2") == Reason.OK
        assert verdict(running, "127.0.0.3") == Reason.OK
    assert verdict(running) == Reason.OK


def test_one_address_is_one_on_every_listener(backend: MakeBackend, proxy: MakeProxy) -> None:
    both = [listener(routes(backend)), {**listener(routes(backend)), "addr": ":0"}]
    running = proxy({"listeners": both, "firewall": {"max_connections_per_ip": 1}})
    with holding(running, 1):
        assert verdict(running, port=running.ports[1]) == Reason.LIMIT_PER_IP


@contextmanager
def named(running: Proxy, header: bytes) -> Iterator[None]:
    """A connection whose PROXY header is this is open."""
    before = len(running.sessions())
    with connect(running.port) as client:
        client.sendall(header)
        until(lambda: any(each.facts.destination for each in running.sessions()[before:]), "the header to be read")
        yield
    until(lambda: len(running.sessions()) == before, "the place to be given back")


def test_the_address_that_counts_is_the_one_in_a_trusted_header(backend: MakeBackend, proxy: MakeProxy) -> None:
    document = {"listeners": [listener(routes(backend), **TRUSTING)], "firewall": {"max_connections_per_ip": 1}}
    running = proxy(document)
    header = b"PROXY TCP4 192.0.2.%d 192.0.2.9 %d 443\r\n"
    with named(running, header % (1, 1001)):
        with named(running, header % (2, 1002)):
            assert verdict(running, sends=header % (1, 1003) + HELLO, client="192.0.2.1:1003") == Reason.LIMIT_PER_IP
        assert verdict(running, sends=header % (2, 1004) + HELLO, client="192.0.2.2:1004") == Reason.OK
    assert verdict(running, sends=header % (1, 1005) + HELLO, client="192.0.2.1:1005") == Reason.OK


def test_ipv6_addresses_count_by_their_64(backend: MakeBackend, proxy: MakeProxy) -> None:
    document = {"listeners": [listener(routes(backend), **TRUSTING)], "firewall": {"max_connections_per_ip": 1}}
    running = proxy(document)
    header = b"PROXY TCP6 2001:db8:0:%d::%d 2001:db8::9 %d 443\r\n"
    with named(running, header % (1, 1, 1001)):
        near, far = (header % (1, 2, 1002), "[2001:db8:0:1::2]:1002"), (header % (2, 1, 1003), "[2001:db8:0:2::1]:1003")
        assert verdict(running, sends=near[0] + HELLO, client=near[1]) == Reason.LIMIT_PER_IP
        assert verdict(running, sends=far[0] + HELLO, client=far[1]) == Reason.OK


# A token in an hour: none comes back while the test runs.
@pytest.mark.parametrize(("burst", "at_once"), [(1, 1), (3, 3)])
def test_how_fast_from_one_address(burst: int, at_once: int, backend: MakeBackend, proxy: MakeProxy) -> None:
    firewall = {"connection_rate_per_ip": 1 / 3600, "connection_burst_per_ip": burst}
    running = proxy({"listeners": [listener(routes(backend))], "firewall": firewall})
    assert [verdict(running) for _ in range(at_once + 2)] == [Reason.OK] * at_once + [Reason.RATE_PER_IP] * 2
    assert verdict(running, "127.0.0.2") == Reason.OK


def test_who_was_too_fast_may_come_again(backend: MakeBackend, proxy: MakeProxy) -> None:
    firewall = {"connection_rate_per_ip": 2, "connection_burst_per_ip": 1}
    running = proxy({"listeners": [listener(routes(backend))], "firewall": firewall})
    until(lambda: verdict(running) == Reason.RATE_PER_IP, "one too many in half a second")
    until(lambda: verdict(running) == Reason.OK, "a new token")


def test_how_fast_counts_the_address_in_a_trusted_header(backend: MakeBackend, proxy: MakeProxy) -> None:
    firewall = {"connection_rate_per_ip": 1 / 3600, "connection_burst_per_ip": 1}
    running = proxy({"listeners": [listener(routes(backend), **TRUSTING)], "firewall": firewall})
    header = b"PROXY TCP4 192.0.2.%d 192.0.2.9 %d 443\r\n"
    wanted = [(1, Reason.OK), (1, Reason.RATE_PER_IP), (2, Reason.OK), (2, Reason.RATE_PER_IP)]
    for port, (host, reason) in enumerate(wanted, 1001):
        assert verdict(running, sends=header % (host, port) + HELLO, client=f"192.0.2.{host}:{port}") == reason


def test_a_refused_client_takes_no_place_and_no_token(backend: MakeBackend, proxy: MakeProxy) -> None:
    limits = {"max_connections_per_ip": 1, "connection_rate_per_ip": 1 / 3600, "connection_burst_per_ip": 2}
    document = {"listeners": [listener(routes(backend), max_connections=1)], "proxy": {"max_connections": 1}}
    running = proxy({**document, "firewall": {"blocked_ips": ["127.0.0.2"], **limits}})
    for _ in range(5):
        assert verdict(running, "127.0.0.2") == Reason.BLOCKED_IP
    with holding(running, 1):
        for _ in range(5):
            assert verdict(running) == Reason.LIMIT_TOTAL
    assert verdict(running) == Reason.OK  # the second token
    state = running.app.worker.shared.limits
    assert isinstance(state, Limits)
    assert (state.connections, state.by_listener) == (0, {})


def one_place(known: dict[str, str], **times: str) -> dict[str, Any]:
    """A configuration with one place in all, on the listener and for an address."""
    return {
        "listeners": [listener(known, max_connections=1)],
        "proxy": {"max_connections": 1, **times},
        "firewall": {"max_connections_per_ip": 1},
    }


def test_a_place_is_given_back_when_an_idle_connection_is_cut(backend: MakeBackend, proxy: MakeProxy) -> None:
    running = proxy(one_place({"idle.test": backend(read_all).address}, idle_timeout="100ms"))
    for done in range(2):
        with knock(running.app.data.door, running.port, hello(server_name(b"idle.test"))) as client:
            assert is_reset(client)
        assert running.connection(done, end="idle_timeout")["reason"] == "ok"
        until(lambda: not running.sessions(), "the session to end")


@pytest.mark.parametrize("ending", ["served", "fin", "reset", "late", "garbage", "unknown", "no backend"])
def test_places_are_given_back_however_a_connection_ends(ending: str, backend: MakeBackend, proxy: MakeProxy) -> None:
    known = {**routes(backend), "gone.test": f"127.0.0.1:{free_port()}"}
    running = proxy(one_place(known, handshake_timeout="100ms"))
    name = {"unknown": b"unknown.test", "no backend": b"gone.test"}.get(ending)
    sends = hello(server_name(name)) if name else {"served": HELLO, "garbage": b"GET /"}.get(ending, b"")
    client = knock(running.app.data.door, running.port, sends)
    if ending == "served":
        assert b"here" in read_all(client)
    elif ending == "reset":
        until(running.sessions, "the session")
        reset(client)
    elif ending == "fin":
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b"", "a client that ends without a byte is a probe: FIN, not RST"
    else:
        assert is_reset(client)
    client.close()
    until(lambda: not running.sessions(), "the session to end")
    assert verdict(running) == Reason.OK
