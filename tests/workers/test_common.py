"""What workers share: rows are a listener's as long as they are needed, and a worker sees what the others count."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from mcproxy.ledger import KeptStats
from mcproxy.policy.limits import Clients
from mcproxy.policy.shared_limits import FIRST, MAX_ROWS, WHOLE
from mcproxy.workers.common import Common, Joined, joined


@pytest.fixture
def common(nothing_left: None) -> Iterator[Common]:
    with closing(Common(2)) as made:
        yield made


def worker(common: Common, number: int) -> Joined:
    """As the worker makes it of descriptors that came with its first letter."""
    return joined(number, [os.dup(each) for each in common.descriptors(number - 1)])


def test_a_worker_counts_for_all(common: Common) -> None:
    one, two = worker(common, 1), worker(common, 2)
    for each in (one, two):
        each.rows["a"] = common.row("a", [])
    limits = [each.siblings.limits(2, Clients(0, 0, 0)) for each in (one, two)]
    assert [each.enter("a", 0) for each in limits] == [None, None]
    assert limits[0].enter("a", 0) is not None
    assert common.cells.each(WHOLE) == common.cells.each(FIRST) == [1, 1]
    for each in (one, two):
        each.siblings.close()


def test_a_row_is_kept_while_its_listener_or_a_connection_is_there(common: Common) -> None:
    assert [common.row(addr, ["a"]) for addr in ("a", "b", "a")] == [FIRST, FIRST + 1, FIRST]
    common.cells.add(FIRST, 0, 1)  # a connection of "a", which is closed
    assert common.row("c", ["b"]) == FIRST + 2
    assert common.row("d", ["c"]) == FIRST + 1
    assert common.row("a", []) == FIRST, "opened again"
    assert repr(common) == "<Common <Cells workers=2 connections=0> rows=3>"


def test_rows_run_out(common: Common) -> None:
    addresses = [str(number) for number in range(MAX_ROWS - FIRST)]
    assert len({common.row(each, addresses) for each in addresses}) == len(addresses)
    with pytest.raises(OSError, match="too many listeners"):
        common.row("one more", addresses)


def test_the_ledger_of_a_dead_worker_is_read_and_empty_for_its_successor(common: Common) -> None:
    for worker_ in (1, 2):
        here = worker(common, worker_)
        KeptStats(here.ledger).listener("a").begin()
        common.cells.add(WHOLE, worker_ - 1, 1)
        here.siblings.close()
        del here
    ((addr, name, counters),) = common.end(0)
    assert (addr, name, counters.accepted, counters.connections) == ("a", "", 1, 1)
    assert common.cells.each(WHOLE) == [0, 1]
    assert common.end(0) == []
    assert len(common.end(1)) == 1
