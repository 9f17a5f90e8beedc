"""What the parent keeps for workers: the counts of connections, an inbox for each, and a ledger of its counters.

The counts are in memory without a name (memfd_create(2)). A row is a listener's from its first opening until it is
closed and its last connection has ended; policy/shared_limits.py has the rest. An inbox is a pair of sockets that keep
messages apart (net/siblings.py); a worker has its own inbox to read and all of them to write to. The parent holds all
of it, so a worker's successor finds what was there. A ledger (ledger.py) is memory too, emptied between two processes.
"""

import errno
import mmap
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcproxy import ledger
from mcproxy.net.raw import RawSocket
from mcproxy.net.siblings import Siblings
from mcproxy.policy.shared_limits import FIRST, MAX_ROWS, Cells, size_of
from mcproxy.stats import Counters


class Common:
    """The parent's side. One thread at a time may use it."""

    def __init__(self, count: int) -> None:
        """For so many workers. Raises OSError."""
        self._memory = _memory("mcproxy-counts", size_of(count))
        self._mapping = mmap.mmap(self._memory, size_of(count))
        self.cells = Cells(memoryview(self._mapping), count)
        self._inboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
        self._rows: dict[str, int] = {}  # by address
        self._ledgers = [_memory("mcproxy-ledger", ledger.SIZE) for _ in range(count)]  # by worker
        # Now, because there may be no descriptor left when a worker dies.
        self._books = [mmap.mmap(each, ledger.SIZE) for each in self._ledgers]

    def __repr__(self) -> str:
        return f"<Common {self.cells} rows={len(self._rows)}>"

    def descriptors(self, worker: int) -> list[int]:
        """Those that a worker, from 0, gets with its beginning; see `joined`."""
        outboxes = [write.fileno() for _, write in self._inboxes]
        return [self._memory, self._ledgers[worker], self._inboxes[worker][0].fileno(), *outboxes]

    def end(self, worker: int) -> list[tuple[str, str, Counters]]:
        """A worker's process is dead, and its connections with it. Returns what it had counted (ledger.py).

        For its successor the ledger is empty.
        """
        self.cells.clear(worker)
        memory = self._ledgers[worker]
        counted = [*self.listeners(worker), *self._read(worker, ledger.ROUTES)]
        os.ftruncate(memory, 0)
        os.ftruncate(memory, ledger.SIZE)
        return counted

    def listeners(self, worker: int) -> list[tuple[str, str, Counters]]:
        """What a worker has counted of its listeners by now."""
        return self._read(worker, ledger.LISTENERS)

    def _read(self, worker: int, pages: range) -> list[tuple[str, str, Counters]]:
        with memoryview(self._books[worker]) as view:
            return list(ledger.read(view, pages))

    def row(self, addr: str, in_use: Iterable[str]) -> int:
        """The row of a listener; others may lose theirs that are neither `in_use` nor have a connection.

        Raises OSError if there is none left.
        """
        if addr not in self._rows:
            taken = set(in_use)
            self._rows = {each: row for each, row in self._rows.items() if each in taken or self.cells.total(row)}
            free = set(range(FIRST, MAX_ROWS)) - set(self._rows.values())
            if not free:
                raise OSError(errno.ENOSPC, "too many listeners, with those that were removed and have connections")
            self._rows[addr] = min(free)
        return self._rows[addr]

    def close(self) -> None:
        """Let go of it."""
        for pair in self._inboxes:
            for each in pair:
                each.close()
        self.cells.release()
        for mapping in [self._mapping, *self._books]:
            mapping.close()
        for memory in [self._memory, *self._ledgers]:
            os.close(memory)


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker's side."""

    siblings: Siblings
    rows: dict[str, int]  # of the listeners, which the parent names
    ledger: memoryview


def joined(number: int, descriptors: Sequence[int]) -> Joined:
    """A worker's side, made of the parent's descriptors, which it takes over; `number` counts from 1."""
    memory, kept, inbox, *outboxes = descriptors
    mapping, book = mmap.mmap(memory, size_of(len(outboxes))), mmap.mmap(kept, ledger.SIZE)
    os.close(memory)
    os.close(kept)
    rows: dict[str, int] = {}
    cells = Cells(memoryview(mapping), len(outboxes))
    opened = [RawSocket(fileno=each) for each in outboxes]
    return Joined(Siblings(number - 1, cells, rows, RawSocket(fileno=inbox), opened), rows, memoryview(book))


def _memory(name: str, size: int) -> int:
    """A descriptor of so much memory. Raises OSError."""
    memory = os.memfd_create(name)
    os.ftruncate(memory, size)
    return memory
