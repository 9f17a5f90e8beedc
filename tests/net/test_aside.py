"""Native threads for what would hold up the hub, which turns meanwhile. One that is cut leaves others their answer."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from gevent import spawn

from mcproxy.net.aside import Aside
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, until


class Slow:
    """Takes until it is let go on."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.calls += 1
        self.begun.set()
        assert self.go_on.wait(DEADLINE)
        return 7


def test_the_hub_turns_while_a_greenlet_waits(hub: HubThread) -> None:
    aside, slow = hub.call(Aside), Slow()
    answer = hub.spawn(aside, "a", slow)
    assert slow.begun.wait(DEADLINE)
    assert hub.call(lambda: 1) == 1
    assert repr(aside) == "<Aside working=1 waiting=0>"
    slow.go_on.set()
    assert answer.result(DEADLINE) == 7
    assert repr(aside) == "<Aside working=0 waiting=0>"


def test_those_who_ask_for_the_same_share_one_call_and_one_that_is_cut_leaves_it_to_them(hub: HubThread) -> None:
    aside, slow = hub.call(Aside), Slow()
    first = hub.call(spawn, aside, "a", slow)
    assert slow.begun.wait(DEADLINE)
    others = [hub.spawn(aside, "a", slow) for _ in range(3)]
    hub.call(lambda: first.kill(block=False))
    until(lambda: hub.call(lambda: first.dead), "the first to be cut")
    slow.go_on.set()
    assert [other.result(DEADLINE) for other in others] == [7, 7, 7]
    assert slow.calls == 1
    assert hub.spawn(aside, "a", slow).result(DEADLINE) == 7, "the next one asks again"
    assert slow.calls == 2


def test_what_is_raised_there_is_raised_here(hub: HubThread) -> None:
    aside = hub.call(Aside)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        hub.spawn(aside, "a", fail).result(DEADLINE)


def test_more_wait_for_a_thread(hub: HubThread) -> None:
    aside, slow = hub.call(lambda: Aside(most=2)), [Slow() for _ in range(4)]
    calls: list[tuple[Any, Callable[[], int]]] = [(hub.spawn(aside, i, each), each) for i, each in enumerate(slow)]
    assert slow[1].begun.wait(DEADLINE)
    assert hub.call(lambda: repr(aside)) == "<Aside working=2 waiting=2>"
    assert [each.calls for each in slow] == [1, 1, 0, 0]
    for each in slow:
        each.go_on.set()
    assert [answer.result(DEADLINE) for answer, _ in calls] == [7] * 4
