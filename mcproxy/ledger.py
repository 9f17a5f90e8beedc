"""The counters of a worker in memory that outlives it: where a worker is killed, its parent reads here what it counted.

The memory has a page for each listener and each route that has had a connection. A page is as many cells, integers of 8
bytes, that only the worker writes, each in one instruction; the parent reads the listeners' for each status, and all of
them when the worker is dead. So no number is torn, nobody locks, and a worker's interpreter isn't asked for its status.
A connection costs 2 us more, of some 300. In one process there is no ledger.

Exact, whenever the worker is killed: connections that were accepted, how they ended, their bytes and histograms, and
the requests that have ended for the log too. A connection that was open then has ended as `lost`; of its bytes those
count that the census has seen (net/census.py). Between the kernel's accept and the first cell lie some 2 us: of a
connection that dies there nobody knows. Not here: what a route has counted of its connections to the backend; and
routes beyond the first ROUTES. Of these that is kept which the parent has read last (workers/counting.py).
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from mcproxy.model import Connection, End, Reason
from mcproxy.stats import (
    DIALS,
    DONE,
    DURATIONS,
    Counters,
    Distribution,
    Histogram,
    RequestTally,
    Stats,
    Tally,
)

T = TypeVar("T")

CELL_SIZE = 8  # bytes, of a C long long
# In the order of their cells. A request that is not done is counted among the answers too.
UNDONE = (
    "answered", "refused", "client reset", "client fault", "client gone", "cut", "backend reset", "backend fault",
    "backend gone",
)  # fmt: skip
_REASONS, _ENDS = tuple(Reason), tuple(End)
_REASON_AT, _END_AT, _UNDONE_AT = ({each: at for at, each in enumerate(all_)} for all_ in (_REASONS, _ENDS, UNDONE))

# A page's cells.
STATE = 0
TOTAL = 1  # connections that began
MOVED = 2  # those that were taken over from other workers, less those that were handed over to them
RECEIVED, SENT = 3, 4
HTTP1, H2, HEADS, WAITED = 5, 6, 7, 8  # of requests; waiting in microseconds
UNDONE_AT = 9  # before the answers, for it is read in this order: what is counted in between is among those
ANSWERS = UNDONE_AT + len(UNDONE)
ENDS = ANSWERS + 10
REFUSED = ENDS + len(_ENDS)
DURATIONS_AT = REFUSED + len(_REASONS)  # the buckets, then the sum in microseconds
DIALS_AT = DURATIONS_AT + len(DURATIONS) + 2
NAME = DIALS_AT + len(DIALS) + 2  # the listener's address, a space, the route's host name if it is one's
# An address has at most 262 characters and a host name 253.
NAME_CELLS = 66
PAGE = NAME + NAME_CELLS

NEVER_USED, IN_USE, FORGOTTEN = 0, 1, 2  # states; behind a page that was never used there is none that was

# 11 MB at most, of which memory takes up what was used; the tallies themselves need twice as much. There are at most
# 1,000 listeners (admin/mutations.py).
LISTENERS, ROUTES = range(1_024), range(1_024, 8_192)
SIZE = ROUTES.stop * PAGE * CELL_SIZE


class KeptHistogram(Histogram):
    """A histogram that is in the ledger too."""

    __slots__ = ("_at", "_cells")

    def __init__(self, bounds: Sequence[float], cells: memoryview, at: int) -> None:
        super().__init__(bounds)
        self._cells = cells
        self._at = at

    def observe(self, value: float) -> None:
        """Count one value."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._total += value
        self._cells[self._at + bucket] = self._counts[bucket]
        self._cells[self._at + len(self._counts)] = int(self._total * 1e6)


class KeptRequests(RequestTally):
    """The counters of requests that are in the ledger too."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview) -> None:
        super().__init__()
        self._cells = cells

    def add(
        self, answers: Mapping[int, int], undone: Mapping[str, int], http1: int, h2: int, heads: int, waited: float
    ) -> None:
        """As RequestTally."""
        super().add(answers, undone, http1, h2, heads, waited)
        cells = self._cells
        for status in answers:
            cells[ANSWERS + status // 100] = self.answers[status // 100]
        for end in undone:
            cells[UNDONE_AT + _UNDONE_AT[end]] = self.undone[end]
        if http1 or h2:
            cells[HTTP1] = self.with_http1
            cells[H2] = self.with_h2
            cells[HEADS] = self.heads
            cells[WAITED] = int(self.waited * 1e6)


class KeptTally(Tally):
    """A tally that is in the ledger too."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview) -> None:
        """`cells` are those of its page."""
        super().__init__()
        self._cells = cells
        self.durations = KeptHistogram(DURATIONS, cells, DURATIONS_AT)
        self.dials = KeptHistogram(DIALS, cells, DIALS_AT)
        self.requests = KeptRequests(cells)

    @property
    def page(self) -> memoryview:
        """Its cells."""
        return self._cells

    def begin(self) -> None:
        """As Tally."""
        self.total += 1
        self._cells[TOTAL] = self.total
        self.open += 1

    def hand_over(self) -> None:
        """As Tally."""
        super().hand_over()
        self._cells[MOVED] -= 1

    def take_over(self) -> None:
        """As Tally."""
        super().take_over()
        self._cells[MOVED] += 1

    def move(self, up: int, down: int) -> None:
        """As Tally."""
        super().move(up, down)
        self._cells[RECEIVED] = self.received
        self._cells[SENT] = self.sent

    def end(self, connection: Connection, counted: tuple[int, int] = (0, 0)) -> None:
        """As Tally."""
        super().end(connection, counted)
        cells, end, reason = self._cells, connection.end, connection.reason
        cells[RECEIVED] = self.received
        cells[SENT] = self.sent
        if refused := self.refused.get(reason):
            cells[REFUSED + _REASON_AT[reason]] = refused
        cells[ENDS + _END_AT[end]] = self.ends[end]  # the last: now it is no longer an open one


class _Pages:
    """Pages of one kind, in the order in which they are used first."""

    def __init__(self, cells: memoryview, numbers: range) -> None:
        self._cells = cells
        self._new = iter(numbers)
        self._free: list[memoryview] = []  # that were used

    def take(self) -> memoryview | None:
        """One that is all zero, but for its state; None: there is none left."""
        if self._free:
            page = self._free.pop()
            for at in range(STATE + 1, PAGE):
                page[at] = 0
            return page
        number = next(self._new, None)
        return None if number is None else self._cells[number * PAGE : (number + 1) * PAGE]

    def give_back(self, page: memoryview) -> None:
        """It may be another's."""
        page[STATE] = FORGOTTEN
        self._free.append(page)


class KeptStats(Stats):
    """The tallies of a worker that has a ledger."""

    def __init__(self, memory: memoryview) -> None:
        """`memory` has SIZE bytes, zero at first."""
        super().__init__()
        cells = memory.cast("q")
        self._listeners, self._routes = _Pages(cells, LISTENERS), _Pages(cells, ROUTES)

    def make(self, listener: str, hostname: str) -> Tally:
        """A tally with a page, if there is one left and the name fits."""
        name = f"{listener} {hostname}".encode()
        page = (self._routes if hostname else self._listeners).take() if len(name) <= NAME_CELLS * CELL_SIZE else None
        if page is None:
            return Tally()
        at = NAME * CELL_SIZE
        page.cast("B")[at : at + len(name)] = name
        page[STATE] = IN_USE
        return KeptTally(page)

    def forget(self, tally: Tally) -> None:
        """Its page may be another route's."""
        if isinstance(tally, KeptTally):
            self._routes.give_back(tally.page)


def read(memory: memoryview, numbers: range) -> Iterator[tuple[str, str, Counters]]:
    """What the pages of one kind have: address and host name, "" for a listener's, and what was counted.

    The numbers of a worker that lives may be those of different moments, some microseconds apart.
    """
    with memory.cast("q") as all_cells:
        for start in range(numbers.start * PAGE, numbers.stop * PAGE, PAGE):
            state = all_cells[start + STATE]
            if state == NEVER_USED:
                return
            if state == IN_USE:
                at = (start + NAME) * CELL_SIZE
                name = bytes(memory[at : at + NAME_CELLS * CELL_SIZE]).rstrip(b"\0").decode()
                listener, _, hostname = name.partition(" ")
                yield listener, hostname, _counters(all_cells[start : start + PAGE].tolist())


def _counters(cells: list[int]) -> Counters:
    answers = cells[ANSWERS : ANSWERS + 10]
    ends = _counted(_ENDS, cells, ENDS)
    undone = _counted(UNDONE, cells, UNDONE_AT)
    done = max(0, sum(answers) - sum(undone.values()))  # a cell may lack what another one has
    return Counters(
        connections=max(0, cells[TOTAL] + cells[MOVED] - sum(ends.values())),
        accepted=cells[TOTAL],
        refused=_counted(_REASONS, cells, REFUSED),
        ended=ends,
        received=cells[RECEIVED],
        sent=cells[SENT],
        requests={f"{first}xx" if first else "none": count for first, count in enumerate(answers) if count},
        request_ends={DONE: done, **undone} if done else undone,
        durations=_distribution(DURATIONS, cells, DURATIONS_AT),
        dials=_distribution(DIALS, cells, DIALS_AT),
        passed={version: count for version, count in (("h2", cells[H2]), ("http/1.1", cells[HTTP1])) if count},
        heads=cells[HEADS],
        waited=cells[WAITED] / 1e6,
    )


def _counted(kinds: Sequence[T], cells: list[int], at: int) -> dict[T, int]:
    return {kind: count for kind, count in zip(kinds, cells[at : at + len(kinds)], strict=True) if count}


def _distribution(bounds: Sequence[float], cells: list[int], at: int) -> Distribution:
    behind = at + len(bounds) + 1
    return Distribution(bounds, tuple(cells[at:behind]), cells[behind] / 1e6)
