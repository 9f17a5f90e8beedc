"""Limits of several workers as one: never exceeded, given back, and those of an address kept by each worker."""

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mcproxy.model import Reason
from mcproxy.policy.limits import Clients
from mcproxy.policy.shared_limits import MAX_ROWS, WHOLE, Cells, SharedLimits, size_of

ROWS = {"a": 1, "b": 2}


def workers(count: int, max_connections: int = 0) -> tuple[Cells, Sequence[SharedLimits]]:
    cells = Cells(memoryview(bytearray(size_of(count))), count)
    return cells, [SharedLimits(max_connections, Clients(0, 0, 0), cells, each, ROWS) for each in range(count)]


def test_the_whole_is_that_of_all_workers() -> None:
    cells, (one, two) = workers(2, max_connections=3)
    assert [each.enter("a", 0) for each in (one, two, one, two)] == [None, None, None, Reason.LIMIT_TOTAL]
    assert two.would_enter("b", 0) is Reason.LIMIT_TOTAL
    one.leave("a")
    assert two.would_enter("b", 0) is None
    assert two.enter("b", 0) is None
    assert (cells.each(WHOLE), cells.each(1), cells.each(2)) == ([1, 2], [1, 1], [0, 1])
    assert repr(one).startswith("<SharedLimits <Cells workers=2 connections=3> max=3 ")


def test_a_listener_has_a_limit_of_its_own() -> None:
    _, (one, two) = workers(2)
    assert [one.enter("a", 2), two.enter("a", 2), one.enter("a", 2)] == [None, None, Reason.LIMIT_LISTENER]
    assert one.would_enter("a", 2) is Reason.LIMIT_LISTENER
    assert one.enter("b", 2) is None


def test_a_worker_that_died_gives_its_places_back() -> None:
    cells, (one, two) = workers(2, max_connections=2)
    assert [one.enter("a", 0), one.enter("b", 0), two.enter("a", 0)] == [None, None, Reason.LIMIT_TOTAL]
    cells.clear(0)
    assert two.enter("a", 0) is None
    assert cells.total(WHOLE) == 1


def test_other_limits_count_those_that_are_admitted() -> None:
    _, (one,) = workers(1, max_connections=5)
    assert one.admit(b"\1\2\3\4", 0.0) is None
    one.change(1, 1, 0, 0, [b"\1\2\3\4"])
    assert one.would_admit(b"\1\2\3\4", 0.0) is Reason.LIMIT_PER_IP
    one.release(b"\1\2\3\4")
    assert one.admit(b"\1\2\3\4", 0.0) is None
    assert [one.enter("a", 0), one.enter("a", 0)] == [None, Reason.LIMIT_TOTAL]


@pytest.mark.parametrize("limit", [1, 2])
def test_those_who_are_in_at_once_never_exceed_a_limit(limit: int) -> None:
    """Four that run at once, switched as often as the interpreter can."""
    cells, limits = workers(4, limit)
    inside, most, changing = 0, 0, threading.Lock()

    def come_and_go(mine: SharedLimits) -> None:
        nonlocal inside, most
        for _ in range(3_000):
            if mine.enter("a", 0) is None:
                with changing:
                    inside += 1
                    most = max(most, inside)
                with changing:
                    inside -= 1
                mine.leave("a")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(come_and_go, limits))
    finally:
        sys.setswitchinterval(interval)
    assert 0 < most <= limit
    assert [cells.total(row) for row in range(MAX_ROWS)] == [0] * MAX_ROWS
