"""The limits of several processes as one: what `limits.py` is for one process.

The connections in all and of each listener are those of all workers together. Each worker counts its own in a cell of
memory that all of them map, a row for each listener and one for the whole; a worker writes its own cells only, so
nobody locks. A worker that takes a place counts itself first, then adds up the row, and steps back if that is too much.
So a limit is never exceeded; of two that come for the last place in the same microsecond both may be refused. The cells
of a worker that has died are zeroed by the parent.

To take and give back a place costs 1.8 us with 2 workers and 4.2 with 64, where one process needs 0.6.

The limits of an address need nothing shared: all its connections are at its home (homes.py).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mcproxy.model import Reason
from mcproxy.policy.limits import Clients

# The whole, which workers serve, and a row for each of at most 1,000 listeners (admin/mutations.py); each takes 4 bytes
# a worker. A listener that is gone keeps its row until its last connection has ended.
MAX_ROWS: Final = 2_048
CELL_SIZE: Final = 4  # bytes, of a C int: a worker has no more connections than descriptors
WHOLE: Final = 0  # the row of all listeners together
SERVING: Final = 1  # the row of the workers to whom connections may be spread: 1, or 0
FIRST: Final = 2  # the row of the first listener


def size_of(workers: int) -> int:
    """The bytes of memory that so many workers share."""
    return MAX_ROWS * workers * CELL_SIZE


class Cells:
    """The memory, as one process sees it."""

    __slots__ = ("_cells", "_workers")

    def __init__(self, memory: memoryview, workers: int) -> None:
        """`memory` has `size_of(workers)` bytes, zero at first."""
        self._cells = memory.cast("i")
        self._workers = workers

    def __repr__(self) -> str:
        return f"<Cells workers={self._workers} connections={self.total(WHOLE)}>"

    def add(self, row: int, worker: int, count: int) -> None:
        """Add to the cell of a worker, from 0. Only that worker may do this, while it lives."""
        self._cells[row * self._workers + worker] += count

    def put(self, row: int, worker: int, value: int) -> None:
        """Set the cell of a worker; as `add`."""
        self._cells[row * self._workers + worker] = value

    def total(self, row: int) -> int:
        """The sum of a row."""
        start = row * self._workers
        return sum(self._cells[start : start + self._workers])

    def each(self, row: int) -> list[int]:
        """A row, by worker."""
        start = row * self._workers
        return list(self._cells[start : start + self._workers])

    def clear(self, worker: int) -> None:
        """Zero all cells of a worker that is dead."""
        for row in range(MAX_ROWS):
            self._cells[row * self._workers + worker] = 0

    def release(self) -> None:
        """Let the memory go."""
        self._cells.release()


class SharedLimits:
    """The places and tokens of one of several workers. Zero turns a limit off."""

    __slots__ = ("_cells", "_rows", "_worker", "clients", "max_connections")

    def __init__(
        self, max_connections: int, clients: Clients, cells: Cells, worker: int, rows: Mapping[str, int]
    ) -> None:
        """`worker` counts from 0; `rows` has the row of each listener, also of those to come."""
        self.max_connections = max_connections
        self.clients = clients
        self._cells = cells
        self._worker = worker
        self._rows = rows

    def __repr__(self) -> str:
        return f"<SharedLimits {self._cells} max={self.max_connections or '-'} {self.clients!r}>"

    def change(
        self, max_connections: int, max_per_ip: int, rate: float, burst: float, admitted: Iterable[bytes]
    ) -> None:
        """As `Limits.change`."""
        self.max_connections = max_connections
        self.clients = self.clients.following(max_per_ip, rate, burst, admitted)

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """The answer of `enter`, without taking anything."""
        if self.max_connections and self._cells.total(WHOLE) >= self.max_connections:
            return Reason.LIMIT_TOTAL
        if listener_max and self._cells.total(self._rows[listener]) >= listener_max:
            return Reason.LIMIT_LISTENER
        return None

    def enter(self, listener: str, listener_max: int) -> Reason | None:
        """Take a place in the whole and in this listener, or return why there is none. `leave` gives it back."""
        row, cells = self._rows[listener], self._cells
        cells.add(WHOLE, self._worker, 1)
        cells.add(row, self._worker, 1)
        reason = None
        if self.max_connections and cells.total(WHOLE) > self.max_connections:
            reason = Reason.LIMIT_TOTAL
        elif listener_max and cells.total(row) > listener_max:
            reason = Reason.LIMIT_LISTENER
        if reason is not None:
            self.leave(listener)
        return reason

    def leave(self, listener: str) -> None:
        """Give back what `enter` took."""
        self._cells.add(WHOLE, self._worker, -1)
        self._cells.add(self._rows[listener], self._worker, -1)

    def would_admit(self, packed: bytes, now: float) -> Reason | None:
        """As `Limits.would_admit`, at the home of the address."""
        return self.clients.would_admit(packed, now)

    def admit(self, packed: bytes, now: float) -> Reason | None:
        """As `Limits.admit`, at the home of the address."""
        return self.clients.admit(packed, now)

    def release(self, packed: bytes) -> None:
        """Give back the place that `admit` took. Raises KeyError if no place was taken."""
        self.clients.release(packed)
