"""The sweeper: one timer that ends everything that is overdue.

A timer for each connection costs more than the connection's own work, and deadlines hardly ever expire. So deadlines
are kept in a wheel: a dictionary of slots, each one tick of time, each a set of the entries due in it. Arming is a set
insertion, disarming a removal, and a tick looks only at the slots that have come due.

Deadlines are lazy. A later deadline does not move its owner to another slot; when the earlier slot comes due the
sweeper sees that there is time left and files it again. So the many deadlines in the life of a session (hello, dial,
idle) cost two set operations in all, and a relay that moves bytes never touches the clock: when it comes due it is
asked whether it has moved since (see `Session.overdue`).
"""

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from gevent.hub import get_hub

LATENESS: Final = 0.05  # seconds that a deadline may be late, far below any sensible timeout

log: Final = logging.getLogger(__name__)


class Overdue(Protocol):
    """An entry with a deadline."""

    deadline: float  # on the sweeper's clock
    slot: int  # where the sweeper filed it; 0: nowhere

    def overdue(self, now: float) -> float | None:
        """Come due: return the next deadline, or None if there is nothing left to wait for."""


class Sweeper:
    """A timer wheel. Everything here happens on the hub's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never runs backwards (the loop's own clock does, when the wall clock is set)."""
        self.now = clock
        self._slots: dict[int, set[Overdue]] = {}
        self._swept = 0  # the last slot that came due
        self._timer = get_hub().loop.timer(LATENESS, LATENESS)
        self._ticking = False  # only while something is armed

    def __repr__(self) -> str:
        return f"<Sweeper armed={len(self)}>"

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def arm(self, entry: Overdue, seconds: float) -> None:
        """Call `entry.overdue` in `seconds`, at most two ticks late. This replaces its earlier deadline."""
        entry.deadline = deadline = self.now() + seconds
        slot = int(deadline / LATENESS) + 1
        if entry.slot:
            if entry.slot <= slot:
                return  # comes due early enough to be filed again
            self.disarm(entry)
        entry.slot = slot
        entries = self._slots.get(slot)
        if entries is None:
            entries = self._slots[slot] = set()
            if not self._ticking:
                self._ticking = True
                self._swept = int(self.now() / LATENESS)
                self._timer.start(self.sweep)
        entries.add(entry)

    def disarm(self, entry: Overdue) -> None:
        """Forget it."""
        entries = self._slots.get(entry.slot)  # None while its own slot is being swept
        if entries is not None:
            entries.discard(entry)
        entry.slot = 0

    def sweep(self) -> None:
        """Call every entry that has come due; the timer does this every tick."""
        now = self.now()
        last = int(now / LATENESS)
        for slot in range(self._swept + 1, last + 1):
            for entry in self._slots.pop(slot, ()):
                if entry.slot == slot:  # else disarmed or moved on account of an entry before it
                    try:
                        self._visit(entry, now)
                    except Exception:  # the others in the slot still have their deadlines
                        log.exception("bug in %r", entry)
        self._swept = last
        if not self._slots:
            self._ticking = False
            self._timer.stop()

    def _visit(self, entry: Overdue, now: float) -> None:
        entry.slot = 0
        deadline = entry.deadline if entry.deadline > now else entry.overdue(now)
        if deadline is not None:
            self.arm(entry, deadline - now)

    def close(self) -> None:
        """Stop permanently."""
        self._timer.stop()
        self._timer.close()
        self._slots.clear()
