"""A route that leads back to mcproxy itself: one connection stays one, and the second says what is wrong.

A backend that is literally a listener is refused when it is written (policy/loops.py); by name, nobody can know before.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest
from hpack import Decoder

from mcproxy.model import Reason
from mcproxy.net.own import MAX_COPIES
from mcproxy.wire.http2 import Frame
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.http2_backends import l7_listener
from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import SocketClient
from tests.kit.peers import DEADLINE, Authority, client_hello, connect, echo, free_port, read_all, receive, until
from tests.kit.proxy import parse_line


def listeners(kind: str) -> list[dict[str, Any]]:
    one, other = free_port(), free_port()
    if kind == "two listeners":
        return [
            listener({"a.test": f"localhost:{other}"}, addr=f"127.0.0.1:{one}"),
            listener({"a.test": f"localhost:{one}"}, addr=f"127.0.0.1:{other}"),
        ]
    made = listener({"a.test": f"localhost:{one}"}, addr=f"127.0.0.1:{one}" if kind == "name" else f":{one}")
    if kind == "PROXY header":
        made |= {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8", "::1"]}
        made["routes"][0]["send_proxy_protocol"] = True
    return [made]


@pytest.mark.parametrize("kind", ["name", "every address", "two listeners", "PROXY header"])
def test_one_connection_does_not_become_thousands(kind: str, proxy: MakeProxy, backend: MakeBackend) -> None:
    """18,390 descriptors in three seconds, from one connection."""
    port = int(backend(echo).address.rpartition(":")[2])
    made = listeners(kind)
    for each in made:
        each["routes"].append({"hostname": "b.test", "backend": f"localhost:{port}"})
    running = proxy({"listeners": made, "proxy": {"max_connections": 50}})
    header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1024 443\r\n" if kind == "PROXY header" else b""
    hello, other = client_hello("a.test"), client_hello("b.test")
    with connect(running.port) as client:
        client.sendall(header + hello)
        with suppress(ConnectionResetError):
            assert read_all(client) == b""
    refused = running.connection(reason=Reason.OWN_CONNECTION)
    assert refused["client"].startswith("127.0.0.1:")
    assert "leads back" in refused["detail"]
    until(lambda: not running.sessions(), "all of it to end")
    assert len([line for line in running.lines if " connection id=" in line]) == 2
    with connect(running.port) as client:  # a route to a backend on this machine is none of that kind
        client.sendall(header + other)
        assert receive(client, len(other)) == other


def relay(ports: list[int]) -> Callable[[socket.socket], None]:
    """A relay to the first of `ports`, which is known later: what it connects has other addresses, as through NAT."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def handle(near: socket.socket) -> None:
        with connect(ports[0]) as far:
            back = threading.Thread(target=copy, args=(far, near), daemon=True)
            back.start()
            copy(near, far)
            back.join(DEADLINE)

    return handle


@pytest.mark.parametrize("count", [1, 2])
def test_a_way_round_that_hides_our_addresses(count: int, proxy: MakeProxy, backend: MakeBackend) -> None:
    """A loop through NAT was not recognised: it took all places that there were."""
    ports: list[int] = []
    nat, ours = backend(relay(ports)).address, [free_port() for _ in range(count)]
    made = [listener({"a.test": nat}, addr=f"127.0.0.1:{ours[0]}")]
    made += [listener({"a.test": f"localhost:{ours[0]}"}, addr=f"127.0.0.1:{port}") for port in ours[1:]]
    ports.append(ours[-1])
    running = proxy({"listeners": made, "proxy": {"max_connections": 50}})
    with connect(running.port) as client:
        client.sendall(client_hello("a.test"))
        with suppress(ConnectionResetError):
            assert read_all(client) == b""
    assert "leads back" in running.connection(reason=Reason.OWN_CONNECTION)["detail"]
    until(lambda: not running.sessions(), "all of it to end")
    assert len([line for line in running.lines if " connection id=" in line]) <= MAX_COPIES + 1


def test_a_way_round_in_tls_is_bounded_by_max_connections(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority
) -> None:
    """It is not recognised: each round is a TLS connection of its own. The last one is refused, and so the request."""
    ports: list[int] = []
    route = l7_listener(
        {HOST: backend(relay(ports)).address}, authority, backend_tls=True, backend_ca=str(authority.path),
        backend_protocol="h2",  # or what is spoken there would be found out first, on the same way round
    )  # fmt: skip
    running = proxy({"listeners": [route], "proxy": {"max_connections": 20}})
    ports.append(running.port)
    with closing(SocketClient(running.port, authority)) as client:
        client.handshake()
        client.request(1)
        head = client.find(Frame.HEADERS)
        assert head is not None
        assert (b":status", b"502") in [(name, value) for name, value in Decoder().decode(head.payload, raw=True)]
    until(lambda: not running.sessions(), "all of it to end")
    connections = [parse_line(line) for line in list(running.lines) if " connection id=" in line]
    assert len([each for each in connections if each["verdict"] == "routed"]) == 20
    assert {each["reason"] for each in connections} == {"ok", Reason.LIMIT_TOTAL}
