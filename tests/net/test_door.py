"""The border between threads and the hub: what a call returns, raises, and when it gives up."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gevent.hub import get_hub

from tests.kit.hub import HubThread, paused
from tests.kit.peers import until


def test_a_call_runs_on_the_hubs_thread(hub: HubThread) -> None:
    there = hub.call(threading.get_ident)
    assert there != threading.get_ident()
    assert hub.call(get_hub) is hub.call(get_hub)


def test_a_call_returns_what_it_returns_and_raises_what_it_raises(hub: HubThread) -> None:
    assert hub.door.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        hub.door.call(divmod, 7, 0)


def test_what_is_raised_keeps_nothing_of_its_caller(hub: HubThread, no_collector: None) -> None:
    """As with files (tests/test_disk.py): a future, its exception and a frame held each other."""

    def ask(through: Callable[..., Any]) -> "weakref.ref[threading.Event]":
        mine = threading.Event()
        with pytest.raises(ZeroDivisionError):
            through(divmod, 7, 0)
        return weakref.ref(mine)

    for through in (hub.door.call, hub.door.send):
        asked = ask(through)
        until(lambda asked=asked: asked() is None, "what the caller had to be released")  # type: ignore[misc]


def test_from_the_hubs_own_thread_it_is_a_plain_call(hub: HubThread) -> None:
    assert hub.call(lambda: hub.door.call(divmod, 7, 2)) == (3, 1)


def test_a_hub_that_does_not_come_is_not_waited_for(hub: HubThread) -> None:
    ran: list[int] = []
    with paused(hub.door), pytest.raises(TimeoutError):
        hub.door.call(ran.append, 1, timeout=0.05)
    hub.call(int)
    assert not ran, "a caller that saw it fail must not find it done later"


def test_what_is_sent_runs_later_and_in_its_order(hub: HubThread) -> None:
    """A table that is durable must come into force, and an older one never after a newer one."""
    ran: list[int] = []
    with paused(hub.door):
        for number in range(3):
            with pytest.raises(TimeoutError):
                hub.door.send(ran.append, number, timeout=0.01)
    assert hub.call(lambda: list(ran)) == [0, 1, 2]


def test_many_threads_may_call_at_once(hub: HubThread) -> None:
    seen: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: hub.call(seen.append, i), range(500))) == [None] * 500
    assert sorted(seen) == list(range(500))
