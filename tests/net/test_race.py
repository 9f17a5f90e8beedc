"""A race: the first address that accepts wins and gets the first bytes; the others are closed and reported."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from mcproxy.net.lookups import Address
from mcproxy.net.race import Race
from mcproxy.net.raw import RawSocket
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, receive

FIRST = b"first bytes"


@pytest.fixture
def swallows(nothing_left: None) -> Iterator[Address]:
    """An address that answers nobody: its backlog is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield int(socket.AF_INET), server.getsockname()


def begin(address: Address) -> RawSocket:
    sock = RawSocket(address[0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.connect_ex(address[1])
    return sock


def no_route(address: Address) -> RawSocket:
    raise OSError(101, f"no route to {address[1][0]}")


def at(host: str, like: Address) -> Address:
    """The same port of another host."""
    return int(socket.AF_INET), (host, like[1][1])


def run(
    first: bytes, begin: Callable[[Address], RawSocket], lost: list[tuple[Address, OSError]], addresses: list[Address]
) -> tuple[Address, RawSocket, int] | None:
    """A race, in the thread of its hub."""
    return Race(first, begin, lambda *what: lost.append(what)).run(addresses)


@pytest.mark.parametrize("first", [FIRST, b""], ids=["first bytes", "none"])
def test_a_silent_address_has_a_head_start_and_no_more(first: bytes, hub: HubThread, swallows: Address) -> None:
    lost: list[tuple[Address, OSError]] = []
    good, dead = at("127.0.0.2", swallows), at("127.0.0.3", swallows)
    with socket.create_server(good[1]) as server:
        server.settimeout(DEADLINE)
        won = hub.spawn(run, first, begin, lost, [swallows, dead, good]).result(DEADLINE)
        assert won is not None
        address, sock, sent = won
        with closing(sock), server.accept()[0] as accepted:
            assert (address, sent) == (good, len(first))
            assert receive(accepted, len(first)) == first
    assert [address for address, _ in lost] == [dead, swallows]
    assert str(lost[0][1]) == "[Errno 111] Connection refused"
    assert "no answer in " in str(lost[1][1])


def test_where_every_address_fails_nobody_wins(hub: HubThread, nothing_left: None) -> None:
    lost: list[tuple[Address, OSError]] = []
    addresses = [(int(socket.AF_INET), (f"127.0.0.{i}", 9)) for i in range(1, 4)]
    assert hub.spawn(run, FIRST, no_route, lost, addresses).result(DEADLINE) is None
    assert [address for address, _ in lost] == addresses
