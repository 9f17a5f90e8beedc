"""Letters: whole values and their descriptors, from many senders, until an end is gone."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from mcproxy.workers.letters import ChannelClosed, Letters


@pytest.fixture
def ends() -> Iterator[tuple[Letters, Letters]]:
    one, other = map(Letters, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_values_come_whole_and_in_order(ends: tuple[Letters, Letters]) -> None:
    one, other = ends
    values = [None, {"a": [1, 2]}, "x" * 3_000_000, b""]

    def send() -> None:
        for each in values:
            one.send(each)

    sender = threading.Thread(target=send)
    sender.start()
    assert [other.receive() for _ in values] == [(each, []) for each in values]
    sender.join()


def test_descriptors_come_with_their_letter(ends: tuple[Letters, Letters]) -> None:
    one, other = ends
    read, write = os.pipe()
    one.send("none")
    one.send("two", [read, write])
    one.send("none")
    os.close(read)
    os.close(write)
    assert other.receive() == ("none", [])
    value, (its_read, its_write) = other.receive()
    assert (value, os.get_inheritable(its_read)) == ("two", False)
    os.write(its_write, b"through it")
    assert os.read(its_read, 100) == b"through it"
    os.close(its_read)
    os.close(its_write)
    assert other.receive() == ("none", [])


def test_many_threads_may_send(ends: tuple[Letters, Letters]) -> None:
    one, other = ends

    def send(sender: int) -> None:
        for i in range(200):
            one.send((sender, i))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(5)]
    for each in threads:
        each.start()
    found = [other.receive()[0] for _ in range(1000)]
    for each in threads:
        each.join()
    for n in range(5):
        assert [i for sender, i in found if sender == n] == list(range(200)), "each sender's letters are in order"


def test_an_end_that_is_gone_is_noticed_by_both(ends: tuple[Letters, Letters]) -> None:
    one, other = ends
    one.close()
    with pytest.raises(ChannelClosed):
        other.receive()
    with pytest.raises(ChannelClosed):
        other.send("x" * 1_000_000)


def test_an_end_within_a_letter_is_no_value() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(bytes(8) + b"\x01"[:0])
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelClosed):
            Letters(theirs).receive()


def test_a_letter_that_is_not_read_breaks_the_channel_of_a_sender_with_a_limit() -> None:
    """A worker that is stopped must not hold up the parent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        with pytest.raises(ChannelClosed):
            Letters(ours).send("x" * 10_000_000)
