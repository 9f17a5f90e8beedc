"""A worker process by its channel alone: what it answers, reports, and how it ends."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy.change import Change, route_key
from mcproxy.messages import ReadConnections, ReadStatus, StartListener
from mcproxy.model import Route
from mcproxy.notation.address import parse_backend
from mcproxy.policy.shared_limits import FIRST
from mcproxy.table import Table
from mcproxy.workers.birth import Nursery
from mcproxy.workers.clerk import PART, Answered, Asked, Beat, Beginning, BindAt, Follow, Part, Ready
from mcproxy.workers.common import Common
from mcproxy.workers.letters import ChannelClosed, Letters
from tests.conftest import MakeBackend
from tests.kit.crowd import SETTINGS
from tests.kit.peers import client_hello, connect, echo, receive, until
from tests.kit.worker_bench import V4, table_for


class Parent:
    """The other end of a worker's channel."""

    def __init__(self, nursery: Nursery, table: Table, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.letters = Letters(ours)
        self.log = folder / "log"
        with theirs, self.log.open("wb") as log, (folder / "errors").open("wb") as errors:
            nursery.fork(3, [theirs.fileno(), log.fileno(), errors.fileno()])
        with closing(Common(3)) as common:
            descriptors = common.descriptors(2)
            self.letters.send(Beginning(table, SETTINGS, "info", "", 50, 0.1, len(descriptors)), descriptors)
        assert self.next(Ready) == Ready()

    def next(self, kind: type[Any]) -> Any:
        """The next letter of this kind."""
        while True:
            letter, _ = self.letters.receive()
            if isinstance(letter, kind):
                return letter

    def ask(self, request: Any, *descriptors: int) -> Any:
        self.letters.send(Asked(1, request), descriptors)
        answered = self.next(Answered)
        if answered.error is not None:
            raise answered.error
        return answered.answer

    def ended(self) -> bool:
        """Whether it ends once its channel has; what it still sends is read."""
        try:
            self.next(int)
        except ChannelClosed:
            return True
        return False


@pytest.fixture
def parent(backend: MakeBackend, tmp_path: Path) -> Iterator[Parent]:
    nursery = Nursery(lambda _letter: None)
    made = Parent(nursery, table_for(backend(echo).address), tmp_path)
    yield made
    made.letters.close()
    nursery.close()


def test_it_serves_on_the_socket_that_it_is_given(parent: Parent) -> None:
    hello = client_hello("a.test")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        parent.ask(BindAt(V4, FIRST), sock.fileno())
        parent.ask(StartListener(V4))
        port = sock.getsockname()[1]
    with connect(port) as client:
        client.sendall(hello)
        assert receive(client, len(hello)) == hello
        (info,) = parent.ask(ReadConnections(0, 10))
        assert info.id % 100 == 3, "the worker"
        assert info.id >= 5003, "and above all that its predecessor used"
        assert parent.next(Beat).connections >= 0
    (listener,) = parent.ask(ReadStatus()).listeners
    assert listener.counters.accepted == 1


def test_a_long_list_comes_in_parts(parent: Parent) -> None:
    """Pickled whole, it would hold up the hub for as long as that takes."""
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
        parent.ask(BindAt(V4, FIRST), sock.fileno())
        parent.ask(StartListener(V4))
        for _ in range(PART + 6):
            stack.enter_context(connect(sock.getsockname()[1]))
        until(lambda: parent.next(Beat).connections == PART + 6, "all to be accepted")
        parent.letters.send(Asked(7, ReadConnections(0, 1000)))
        part, rest = parent.next(Part), parent.next(Answered)
        assert (part.number, len(part.elements), rest.number, len(rest.answer)) == (7, PART, 7, 6)


def test_it_follows_changes_and_raises_what_its_desk_raises(parent: Parent) -> None:
    new = Route("new.test", parse_backend("127.0.0.1:9"))
    assert parent.ask(Follow(1, (Change(route_key(V4, "new.test"), None, new),))) is None
    with pytest.raises(ValueError, match="a route needs its listener"):
        parent.ask(Follow(2, (Change(route_key(":7", "new.test"), None, new),)))


def test_it_ends_with_its_channel(parent: Parent) -> None:
    parent.letters._sock.shutdown(socket.SHUT_WR)
    assert parent.ended()
