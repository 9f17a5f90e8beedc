"""Closing with a RST, and asking the kernel about a connection."""

import socket
from collections.abc import Iterator
from itertools import islice

import pytest

from mcproxy.net import raw
from mcproxy.net.raw import abort, corked, is_established, pauses, unsent
from tests.kit.peers import connect, is_reset, reset, until


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = connect(server.getsockname()[1])
        accepted, _ = server.accept()
    with client, accepted:
        yield client, accepted


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("unread", [b"", b"unread"])
def test_abort_resets_whatever_is_unread(pair: Pair, unread: bytes) -> None:
    client, accepted = pair
    client.sendall(unread)
    until(lambda: not unsent(client), "bytes to arrive")
    abort(accepted)
    assert is_reset(client)


def test_abort_of_a_closed_socket_is_harmless(pair: Pair) -> None:
    _, accepted = pair
    accepted.close()
    abort(accepted)
    assert accepted.fileno() == -1


def test_what_is_sent_corked_leaves_together(pair: Pair) -> None:
    client, accepted = pair
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setblocking(False)
    with corked(client):
        client.send(b"one ")
        client.send(b"two")
        with pytest.raises(BlockingIOError):
            accepted.recv(9)
    accepted.setblocking(True)
    assert accepted.recv(9) == b"one two"


def test_a_fin_ends_being_established(pair: Pair) -> None:
    client, accepted = pair
    assert is_established(accepted)
    client.shutdown(socket.SHUT_WR)
    until(lambda: not is_established(accepted), "the FIN to arrive")


def test_unsent_counts_what_the_peer_has_no_room_for(pair: Pair) -> None:
    client, accepted = pair
    accepted.setblocking(False)
    sent = accepted.send(bytes(64 << 20))
    assert 0 < sent < 64 << 20
    assert unsent(accepted) > 0
    while sent:
        sent -= len(client.recv(1 << 20))
    until(lambda: not unsent(accepted), "everything to be acknowledged")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nothing_is_unsent_to_a_peer_that_is_gone(kind: str, pair: Pair) -> None:
    one, other = pair if kind == "tcp" else socket.socketpair()
    one.setblocking(False)
    one.send(bytes(64 << 20))
    assert unsent(one)
    reset(other)
    until(lambda: not unsent(one), "the reset to arrive")
    one.close()


def test_a_reset_is_told_from_a_fin(pair: Pair) -> None:
    client, accepted = pair
    assert not raw.is_reset(accepted)
    reset(client)
    until(lambda: raw.is_reset(accepted), "the RST to arrive")


def test_a_fin_is_no_reset(pair: Pair) -> None:
    client, accepted = pair
    client.shutdown(socket.SHUT_WR)
    until(lambda: not is_established(accepted), "the FIN to arrive")
    assert not raw.is_reset(accepted)


def test_pauses_grow_up_to_the_longest() -> None:
    assert list(islice(pauses(0.25, 1.5), 5)) == [0.25, 0.5, 1, 1.5, 1.5]
