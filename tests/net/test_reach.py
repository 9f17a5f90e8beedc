"""The way to a backend: what it is sent first, and what is reported of a dial that succeeded."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from mcproxy.model import Backend, Mode, Reason, Refused, Route
from mcproxy.net.dial import Outgoing
from mcproxy.net.reach import Arrival, reach
from mcproxy.wire.hello import Hello
from mcproxy.wire.proxy_protocol import encode_v2
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, receive

CLIENT, DESTINATION = ("192.0.2.7", 4242), ("192.0.2.1", 443)


@pytest.fixture
def server(nothing_left: None) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE)
        yield listening


def arrival(port: int, *, header: bool) -> Arrival:
    route = Route("a.test", Backend("127.0.0.1", port), Mode.L4, send_proxy_protocol=header)
    return Arrival(
        1, ":443", CLIENT, DESTINATION if header else None, Hello("a.test", (), (), ech=False, size=0), route
    )


@pytest.mark.parametrize("header", [True, False])
def test_the_backend_gets_a_header_if_the_route_asks_for_it_and_then_what_is_first(
    hub: HubThread, server: socket.socket, header: bool
) -> None:
    port = server.getsockname()[1]
    told: list[tuple[Backend, float]] = []
    dialled = hub.spawn(
        reach, arrival(port, header=header), b"h2", b"first", hub.call(Outgoing.make), lambda *what: told.append(what)
    )
    expected = (encode_v2(CLIENT, DESTINATION, authority="a.test", alpn=b"h2") if header else b"") + b"first"
    accepted, _ = server.accept()
    with accepted, closing(dialled.result(DEADLINE)):
        assert receive(accepted, len(expected)) == expected
    ((backend, took),) = told
    assert backend == Backend("127.0.0.1", port)
    assert 0 < took < DEADLINE


def test_a_dial_that_fails_is_not_told(hub: HubThread, server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    told: list[object] = []
    with pytest.raises(Refused) as refused:
        hub.spawn(
            reach, arrival(port, header=False), b"", b"", hub.call(Outgoing.make), lambda *what: told.append(what)
        ).result(DEADLINE)
    assert refused.value.reason is Reason.BACKEND_REFUSED
    assert not told
