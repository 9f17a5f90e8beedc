"""Which exchanges are recorded as delivered, with real sockets whose far end is the test's."""

from collections.abc import Iterator

import pytest

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.receipts import MAX_HELD, MOST_HELD, Receipts
from mcproxy.model import FinishedExchange
from tests.kit.peers import receive, reset, until
from tests.kit.socket_pairs import tcp_pair
from tests.test_lines import answered


class Held:
    """Receipts of a connection."""

    def __init__(self) -> None:
        ours, self.client = tcp_pair()
        self.channel = Channel(ours)
        self.recorded: list[FinishedExchange] = []
        self.receipts = Receipts(self.channel, self.recorded.extend)

    def answer(self, data: bytes, end: ExchangeEnd = ExchangeEnd.DONE) -> None:
        self.channel.send(data)
        self.receipts.add([answered(end=end)])

    @property
    def ends(self) -> list[str]:
        return [str(each.end) for each in self.recorded]


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.channel.close()
    made.client.close()


def fill(held: Held) -> None:
    """Send until the kernel takes no more."""
    while not held.channel.unsent:
        held.channel.send(bytes(1 << 16))


def test_an_exchange_is_recorded_once_its_last_byte_is_acknowledged(held: Held) -> None:
    held.answer(b"first")
    receive(held.client, 5)
    until(lambda: not held.channel.unacknowledged, "the acknowledgement")
    fill(held)
    held.receipts.add([answered()])
    held.receipts.look()
    assert held.ends == ["done"]
    assert repr(held.receipts) == "<Receipts held=1>"
    while held.receipts:
        held.channel.flush()
        held.client.recv(1 << 20)
        held.receipts.look()
    assert held.ends == ["done", "done"]


@pytest.mark.parametrize("how", ["reset", "cut"])
def test_what_was_never_acknowledged_was_not_done(how: str, held: Held) -> None:
    held.answer(b"first")
    receive(held.client, 5)
    until(lambda: not held.channel.unacknowledged, "the acknowledgement")
    held.receipts.add([answered(end=ExchangeEnd.BACKEND_RESET)])
    fill(held)
    unsent = held.channel.unsent
    held.receipts.add([answered(), answered(end=ExchangeEnd.BACKEND_RESET)])
    missing = held.channel.unacknowledged
    if how == "reset":
        reset(held.client)
        until(lambda: not held.channel.undelivered, "the reset to arrive")
    held.receipts.close(0)
    assert held.ends == ["done", "backend reset", "client gone", "backend reset"]
    assert held.recorded[-2].why == f"the client never acknowledged the last {held.receipts.lost} bytes"
    assert 0 < held.receipts.lost <= missing + unsent
    assert f"lost={held.receipts.lost}" in repr(held.receipts)


def test_our_own_goodbye_needs_no_receipt(held: Held) -> None:
    fill(held)
    goodbye = held.channel.unacknowledged
    held.channel.unsent = 0
    held.receipts.add([answered()])
    held.receipts.close(goodbye)
    assert held.ends == ["done"]
    assert not held.receipts.lost


def test_many_exchanges_are_asked_about_without_a_look_and_are_bounded(held: Held) -> None:
    for _ in range(MAX_HELD - 1):
        held.receipts.add([answered()])
    assert not held.recorded
    held.receipts.add([answered()])
    assert len(held.recorded) == MAX_HELD
    fill(held)
    for _ in range(MOST_HELD + 3):
        held.receipts.add([answered()])
    assert len(held.recorded) == MAX_HELD + 3


def test_what_is_due_together_is_recorded_in_one_call() -> None:
    """One call for each event's exchange took a tenth of what a small request costs."""
    ours, client = tcp_pair()
    channel = Channel(ours)
    calls: list[int] = []
    receipts = Receipts(channel, lambda ended: calls.append(len(ended)))
    for _ in range(MAX_HELD):
        receipts.add([answered()])
    assert calls == [MAX_HELD]
    channel.close()
    client.close()
