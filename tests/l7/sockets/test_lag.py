"""Which peers lag, on real sockets and with no clock but the test's."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.lag import Lag
from tests.kit.peers import until
from tests.kit.socket_pairs import tcp_pair, unix_pair

LIMIT = 10.0  # seconds


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Channel, socket.socket]]:
    ours, peer = tcp_pair() if request.param == "tcp" else unix_pair()
    yield Channel(ours), peer
    ours.close()
    peer.close()


def fill(channel: Channel) -> None:
    """Send until neither kernel takes more."""
    while not channel.wants_write:
        channel.send(bytes(1 << 16))


def take(channel: Channel, peer: socket.socket) -> None:
    """Read some, until our kernel knows."""
    before = channel.undelivered

    def taken() -> bool:
        peer.recv(1 << 14)
        return channel.undelivered < before

    until(taken, "some to be taken")


def test_a_slow_reader_lags_for_as_long_as_it_reads(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    lag = Lag()
    assert not lag.look(channel, LIMIT, 0.0)
    fill(channel)
    assert not lag.look(channel, LIMIT, 1.0), "all of that may be on its way"
    assert repr(lag).startswith("<Lag <Progress")
    for now in range(2, 6):
        take(channel, peer)
        assert lag.look(channel, LIMIT, float(now))
    peer.setblocking(False)

    def all_taken() -> bool:
        channel.flush()
        with suppress(BlockingIOError):
            peer.recv(1 << 20)
        return not (channel.unsent or channel.undelivered)

    until(all_taken, "the rest to be taken")
    assert not lag.look(channel, LIMIT, 6.0)
    assert repr(lag) == "<Lag none>"


def test_one_that_has_stopped_does_not_lag(pair: tuple[Channel, socket.socket]) -> None:
    channel, _ = pair
    lag = Lag()
    fill(channel)
    assert channel.unsent
    seen = [lag.look(channel, LIMIT, now) for now in (0.0, 1.0, 9.0, 9.5, 9.9, 200.0)]
    assert seen == [False, True, True, False, True, False], "9.5: it was looked at just now"


def test_a_connection_that_is_busy_does_not_lag() -> None:
    """What came since the last look may be on its way, with what TLS and the kernel add to it."""
    ours, peer = unix_pair()
    channel, lag = Channel(ours), Lag()
    for now in range(100):
        channel.send(b"x" * 100)
        assert not lag.look(channel, LIMIT, float(now))
        peer.recv(100)
    channel.send(b"x")
    assert not lag.look(channel, LIMIT, 100.0)
    assert lag.look(channel, LIMIT, 101.0), "now it is older"
    ours.close()
    peer.close()
