"""The worker that a connection belongs to, and what becomes of one on its way there."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from mcproxy.net.siblings import MANY, Handed, Siblings, age
from mcproxy.policy.homes import home
from mcproxy.policy.limits import Clients
from mcproxy.policy.networks import pack
from mcproxy.policy.shared_limits import SERVING, WHOLE
from mcproxy.workers.common import Common, joined
from tests.kit.hub import HubThread

NO_LIMIT, LIMITED = Clients(0, 0, 0), Clients(1, 0, 0)
HANDED = Handed("127.0.0.1:0", ("192.0.2.1", 1024), None, pack("192.0.2.1"), 12.5)


@pytest.fixture
def common(nothing_left: None) -> Iterator[Common]:
    with closing(Common(3)) as made:
        yield made


@pytest.fixture
def crowd(common: Common) -> Iterator[list[Siblings]]:
    made = [joined(n, [os.dup(each) for each in common.descriptors(n - 1)]).siblings for n in (1, 2, 3)]
    yield made
    for each in made:
        each.close()


def test_an_address_that_is_limited_has_one_home(crowd: list[Siblings]) -> None:
    packed = pack("192.0.2.1")
    its_home = home(packed, 3)
    assert [each.better(packed, LIMITED) for each in crowd] == [None if n == its_home else its_home for n in range(3)]
    assert [each.better(packed, NO_LIMIT) for each in crowd] == [None] * 3


def test_one_with_many_more_gives_to_the_one_with_the_fewest_that_serves(common: Common, crowd: list[Siblings]) -> None:
    packed, cells = pack("192.0.2.1"), common.cells
    for each in crowd:
        each.serve(on=True)
    cells.add(WHOLE, 0, MANY + 1)
    cells.add(WHOLE, 1, 10)
    assert [each.better(packed, NO_LIMIT) for each in crowd] == [2, None, None]
    assert crowd[0].better(packed, Clients(0, 1, 1)) == (home(packed, 3) or None), "a rate is a limit"
    crowd[2].serve(on=False)
    assert crowd[0].better(packed, NO_LIMIT) == 1
    cells.add(WHOLE, 1, MANY)
    assert crowd[0].better(packed, NO_LIMIT) is None, "it has not twice as many"


def test_a_connection_goes_on_at_the_other_one(crowd: list[Siblings], hub: HubThread) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            assert crowd[1].receive() is None
            assert hub.call(crowd[0].send, 1, ours, HANDED)
        found = crowd[1].receive()
        assert found is not None
        client, handed = found
        assert handed == HANDED
        assert age(handed) == pytest.approx(time.monotonic() - 12.5, abs=60)
        theirs.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert not os.get_inheritable(client.fileno())
        client.close()


def test_what_is_in_the_inbox_of_one_that_died_is_its_successors(
    common: Common, crowd: list[Siblings], hub: HubThread
) -> None:
    """The parent holds both ends."""
    ours, theirs = socket.socketpair()
    with theirs, ours:
        assert hub.call(crowd[0].send, 1, ours, HANDED)
        crowd[1].close()
        crowd[1] = joined(2, [os.dup(each) for each in common.descriptors(1)]).siblings
        found = crowd[1].receive()
        assert found is not None
        found[0].close()


def test_an_inbox_is_bounded(crowd: list[Siblings], hub: HubThread) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            sent = 0
            while hub.call(crowd[0].send, 2, ours, HANDED):
                sent += 1
                assert sent < 10_000
            assert sent > 100, "it takes a burst"
        while (found := crowd[2].receive()) is not None:
            found[0].close()
            sent -= 1
        assert sent == 0
        assert theirs.recv(1) == b"", "nobody holds it"


def test_it_shows_what_it_knows(common: Common, crowd: list[Siblings]) -> None:
    crowd[1].serve(on=True)
    assert common.cells.each(SERVING) == [0, 1, 0]
    assert repr(crowd[1]) == "<Siblings own=1 <Cells workers=3 connections=0>>"
