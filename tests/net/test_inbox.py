"""Sessions that another worker has handed over go on as if they had been accepted here."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from mcproxy.model import End, Reason
from mcproxy.net.inbox import Inbox
from mcproxy.net.listener import MAX_ACCEPT
from mcproxy.net.shared import Phase
from mcproxy.net.siblings import Handed, Siblings
from mcproxy.policy.networks import pack
from mcproxy.workers.common import Common, joined
from tests.conftest import MakeBackend
from tests.kit.peers import echo, receive, until
from tests.kit.worker_bench import HELLO, NOWHERE, V4, Bench, MakeBench, table_for


@pytest.fixture
def crowd(nothing_left: None) -> Iterator[list[Siblings]]:
    with closing(Common(2)) as common, ExitStack() as closed:
        made = [joined(n, [os.dup(each) for each in common.descriptors(n - 1)]).siblings for n in (1, 2)]
        for each in made:
            closed.callback(each.close)
        yield made


def opened(running: Bench, siblings: Siblings) -> Inbox:
    inbox = Inbox(running.shared, siblings)
    running.hub.call(inbox.open)
    return inbox


def handed() -> Handed:
    return Handed(V4, ("192.0.2.1", 1024), ("192.0.2.9", 443), pack("192.0.2.1"), time.monotonic() - 3.0)


def hand_over(running: Bench, siblings: Siblings, what: Handed) -> socket.socket:
    """A client whose connection was handed over."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        assert running.hub.call(siblings.send, 1, ours, what)
    return theirs


def test_it_goes_on_with_what_is_known(bench: MakeBench, backend: MakeBackend, crowd: list[Siblings]) -> None:
    running = bench(table_for(backend(echo).address))
    inbox = opened(running, crowd[1])
    with hand_over(running, crowd[0], handed()) as client:
        client.sendall(HELLO)
        assert receive(client, len(HELLO)) == HELLO
        tally = running.shared.stats.listener(V4)
        assert (tally.total, tally.open) == (0, 1), "its beginning was counted by the one that accepted it"
    ended = running.last()
    assert (ended.client, ended.listener, ended.end) == (("192.0.2.1", 1024), V4, End.CLOSED)
    assert ended.duration > 3.0, "since it was accepted"
    running.hub.call(inbox.close)


def test_its_time_for_a_hello_goes_on(bench: MakeBench, crowd: list[Siblings]) -> None:
    running = bench(NOWHERE)
    inbox = opened(running, crowd[1])
    with hand_over(running, crowd[0], handed()) as client:
        running.reach(Phase.PEEKING)
        running.wind(8.0)  # 3 s were over
        assert client.recv(1) == b"", "over"
    assert running.last().reason is Reason.HANDSHAKE_TIMEOUT
    running.hub.call(inbox.close)


def test_many_are_taken_few_at_a_time(bench: MakeBench, crowd: list[Siblings]) -> None:
    running = bench(NOWHERE)
    clients = [hand_over(running, crowd[0], handed()) for _ in range(3 * MAX_ACCEPT)]
    inbox = opened(running, crowd[1])
    until(lambda: len(running.shared.sessions) == len(clients), "all to be taken")
    for each in clients:
        each.close()
    until(lambda: not running.shared.sessions, "all to end")
    running.hub.call(inbox.close)
    assert repr(inbox).startswith("<Inbox open=False ")


def test_one_of_a_listener_that_is_gone_is_refused(bench: MakeBench, crowd: list[Siblings]) -> None:
    running = bench(NOWHERE)
    inbox = opened(running, crowd[1])
    with hand_over(running, crowd[0], replace(handed(), listener="127.0.0.1:1")) as client:
        assert client.recv(1) == b"", "over"
    assert running.last().reason is Reason.ROUTE_UNKNOWN
    running.hub.call(inbox.close)
