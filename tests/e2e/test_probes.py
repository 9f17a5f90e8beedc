"""Load balancers' checks: connect, perhaps a PROXY header of the balancer's own, and close. None of it is a refusal."""

import logging
import socket
from collections.abc import Iterator

import pytest

from mcproxy.model import Reason
from mcproxy.wire import proxy_protocol
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.peers import client_hello, connect, echo, receive, reset, until
from tests.kit.proxy import Proxy

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
V1_UNKNOWN_LONG = b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"  # the specification's longest
# A network load balancer's of AWS: LOCAL, no family, and TLVs (0x03 is a checksum, 0x04 padding).
V2_LOCAL_AWS = SIGNATURE + b"\x20\x00\x00\x0a" + b"\x04\x00\x07" + bytes(7)
V2_LOCAL_ADDRESSES = SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12)  # to be skipped, whatever they are
HEADERS = {
    "v2 LOCAL": proxy_protocol.LOCAL_V2,
    "v2 LOCAL of AWS": V2_LOCAL_AWS,
    "v2 LOCAL with addresses": V2_LOCAL_ADDRESSES,
    "v1 UNKNOWN": V1_UNKNOWN,
    "v1 UNKNOWN with addresses": V1_UNKNOWN_LONG,
}


@pytest.fixture(autouse=True)
def debug() -> Iterator[None]:
    """Lines of probes are of level debug."""
    package = logging.getLogger("mcproxy")
    level = package.level
    package.setLevel(logging.DEBUG)
    yield
    package.setLevel(level)


def front(proxy: MakeProxy, headers: bool, backend: str = "127.0.0.1:9") -> Proxy:
    options = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]} if headers else {}
    return proxy({"listeners": [listener({"a.test": backend}, **options)]})


def check_probe(running: Proxy) -> None:
    """One probe has been seen, told of once, and is counted as nothing else."""
    fields = running.connection(reason=Reason.PROBE)
    assert (fields["verdict"], fields["end"]) == ("probe", "probe")
    (line,) = [line for line in running.lines if " connection id=" in line]
    assert " debug connection " in line
    counters = running.call(next(iter(running.app.worker.shared.stats.listeners.values())).read)
    assert (dict(counters.refused), dict(counters.ended), counters.accepted) == ({}, {"probe": 1}, 1)


@pytest.mark.parametrize("headers", [False, True], ids=["no header needed", "header needed"])
@pytest.mark.parametrize("ends", ["FIN", "RST"])
def test_connect_and_close(ends: str, headers: bool, proxy: MakeProxy) -> None:
    """It was refused and reset, and the alert for refused clients fired on a quiet site."""
    running = front(proxy, headers)
    client = connect(running.port)
    until(running.sessions, "the session")
    if ends == "RST":
        reset(client)
    else:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""  # FIN, not RST
        client.close()
    check_probe(running)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_of_the_balancers_own_and_close(header: bytes, proxy: MakeProxy) -> None:
    running = front(proxy, headers=True)
    with connect(running.port) as client:
        client.sendall(header)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    check_probe(running)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_hello_behind_such_a_header_is_served_by_the_connections_own_addresses(
    header: bytes, proxy: MakeProxy, backend: MakeBackend
) -> None:
    """PROXY protocol, sections 2.1 and 2.2: the receiver must use the real connection's endpoints."""
    running = front(proxy, headers=True, backend=backend(echo).address)
    hello = client_hello("a.test")
    with connect(running.port) as client:
        address = "{}:{}".format(*client.getsockname())
        client.sendall(header + hello)
        assert receive(client, len(hello)) == hello
    assert running.connection(verdict="routed")["client"] == address


def test_part_of_a_hello_is_no_probe(proxy: MakeProxy) -> None:
    running = front(proxy, headers=False)
    with connect(running.port) as client:
        client.sendall(client_hello("a.test")[:1])
        client.shutdown(socket.SHUT_WR)
        running.connection(reason=Reason.HELLO_TRUNCATED)
