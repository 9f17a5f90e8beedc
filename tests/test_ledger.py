"""The ledger: what a worker has counted can be read when it is dead, and is what its tallies had."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mcproxy import ledger
from mcproxy.l7.core import ExchangeEnd
from mcproxy.ledger import LISTENERS, PAGE, ROUTES, SIZE, UNDONE, KeptStats, KeptTally, read
from mcproxy.model import End, Reason
from mcproxy.stats import BackendCounters, Counters, Tally
from tests.test_lines import answered, ended

LISTENER = "127.0.0.1:443"


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(SIZE))


def kept(memory: memoryview) -> dict[tuple[str, str], Counters]:
    found = [*read(memory, LISTENERS), *read(memory, ROUTES)]
    return {(listener, hostname): counters for listener, hostname, counters in found}


def rounded(counters: Counters) -> Counters:
    """With sums in microseconds, and without what no ledger has."""
    lasted, dialled = (
        each._replace(total=int(each.total * 1e6) / 1e6) for each in (counters.durations, counters.dials)
    )
    waited = int(counters.waited * 1e6) / 1e6
    return replace(counters, durations=lasted, dials=dialled, waited=waited, backend=BackendCounters())


def test_it_has_what_the_tallies_have(memory: memoryview) -> None:
    stats = KeptStats(memory)
    listener, route = stats.listener(LISTENER), stats.route((LISTENER, "a.test"))
    assert kept(memory) == {(LISTENER, ""): Counters(), (LISTENER, "a.test"): Counters()}
    for end in End:
        for tally in (listener, route):
            tally.begin()
            tally.end(ended(end=end, duration=0.3, received=10, sent=20), (4, 5))
    for reason in Reason:
        listener.begin()
        listener.end(ended(reason=reason, end=End.REFUSED))
    listener.begin()
    listener.move(4, 5)
    route.dials.observe(0.01)
    ends = [answered(status=200), *(answered(status=0, end=end) for end in UNDONE)]
    stats.requests(LISTENER, "a.test")(ends)
    assert kept(memory) == {(LISTENER, ""): rounded(listener.read()), (LISTENER, "a.test"): rounded(route.read())}
    assert listener.read().connections == 1
    assert len(listener.read().refused) == len(Reason) - 2, "OK and PROBE are none"


def test_all_ways_in_which_a_request_is_not_done_have_a_cell() -> None:
    assert set(UNDONE) == {end.value for end in ExchangeEnd} - {ExchangeEnd.DONE}


def test_a_connection_that_was_handed_over_is_open_where_it_went_on(memory: memoryview) -> None:
    other = memoryview(bytearray(SIZE))
    here, there = KeptStats(memory).listener(LISTENER), KeptStats(other).listener(LISTENER)
    here.begin()
    here.hand_over()
    there.take_over()
    found = [kept(each)[LISTENER, ""] for each in (memory, other)]
    assert [(each.accepted, each.connections) for each in found] == [(1, 0), (0, 1)]
    there.end(ended())
    assert kept(other)[LISTENER, ""].connections == 0


def died_after(cells: int, act: Callable[[Tally], object]) -> Counters:
    """What is read of a worker that died when it had written so many cells."""

    class Dead(Exception):
        pass

    class Cells:
        left = cells

        def __init__(self, page: memoryview) -> None:
            self.page = page

        def __setitem__(self, at: int, value: int) -> None:
            if not self.left:
                raise Dead
            self.left -= 1
            self.page[at] = value

    memory = memoryview(bytearray(SIZE))
    KeptStats(memory).listener(LISTENER)  # names the page
    tally = KeptTally(Cells(memory.cast("q")[:PAGE]))  # type: ignore[arg-type]  # of which it writes cells only
    try:
        act(tally)
    except Dead:
        pass
    else:
        pytest.fail("it has not died")
    return kept(memory)[LISTENER, ""]


@pytest.mark.parametrize("cells", range(1, 7))
def test_a_worker_may_die_at_any_moment(cells: int) -> None:
    """What was accepted is always open, or has ended."""

    def connection(tally: Tally) -> None:
        for _ in range(2):
            tally.begin()
            tally.end(ended(received=10, sent=20))

    found = died_after(cells, connection)
    assert found.accepted == 1
    assert found.connections + sum(found.ended.values()) == 1
    assert (found.ended != {}) == (cells >= 6)


def test_a_route_that_is_gone_leaves_its_page_to_another_one(memory: memoryview) -> None:
    stats = KeptStats(memory)
    for name in ("a.test", "b.test"):
        stats.route((LISTENER, name)).begin()
        stats.route((LISTENER, name)).end(ended())
    stats.forget_routes(lambda key: key[1] == "b.test")
    assert [hostname for _, hostname, _ in read(memory, ROUTES)] == ["b.test"]
    stats.route((LISTENER, "c")).begin()
    found = [(hostname, counters.accepted, counters.connections) for _, hostname, counters in read(memory, ROUTES)]
    assert found == [("c", 1, 1), ("b.test", 1, 0)]


def test_what_finds_no_room_is_counted_without_it(memory: memoryview) -> None:
    stats = KeptStats(memory)
    long = stats.route((LISTENER, "x" * ledger.NAME_CELLS * ledger.CELL_SIZE))
    for number in ROUTES:
        stats.route((LISTENER, f"{number}.test"))
    for tally in (long, stats.route((LISTENER, "late.test"))):
        tally.begin()
        assert tally.read().accepted == 1
    assert len(list(read(memory, ROUTES))) == len(ROUTES)
    stats.listener(LISTENER).begin()
    assert kept(memory)[LISTENER, ""].accepted == 1, "there is room for it always"
