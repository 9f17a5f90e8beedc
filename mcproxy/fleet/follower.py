"""The thread that keeps a node up to date: it listens, polls, and has the writer follow."""

import logging
import threading
import time
from collections.abc import Callable

from mcproxy.fleet.backoff import pauses
from mcproxy.fleet.fleet import Fleet
from mcproxy.fleet.listening import SLICE, Ear
from mcproxy.fleet.nodes import BEAT, SOONEST
from mcproxy.store.errors import NameTaken, StoreError

POLL = 4.0  # seconds between two questions for the generation: a quarter of a query a second for each idle node

log = logging.getLogger(__name__)


class Follower:
    """The thread. `close` ends it."""

    def __init__(self, fleet: Fleet, follow: Callable[[], None], poll: float = POLL) -> None:
        """`follow` brings the table in force up to the database's; it may raise StoreError."""
        self._fleet = fleet
        self._follow = follow
        self._poll = poll
        self._closing = threading.Event()
        self._reported: tuple[float, int] | None = None  # when, by the monotonic clock, and the generation
        self._taken: NameTaken | None = None  # why that was refused, if it was
        self._thread = threading.Thread(target=self._run, name="fleet-follower", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Follower {self._fleet} closing={self._closing.is_set()}>"

    def close(self) -> None:
        """End the thread; waits for the statement that it is at."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        waits = pauses()
        while not self._closing.is_set():
            try:
                with self._fleet.listen() as ear:
                    while not self._closing.is_set():
                        self._look(ear)
                        waits = pauses()
                        self._rest(ear)
            except StoreError as error:
                self._fleet.lost(error)
            except Exception:  # the thread must outlive a bug of ours
                log.exception("following the fleet's database failed; it is tried again")
            self._reported = None
            self._closing.wait(next(waits))

    def _look(self, ear: Ear) -> None:
        """Ask where the database is, and follow."""
        self._report(ear, BEAT)
        self._fleet.found(ear.poll(), self._taken)
        if self._fleet.has_work():
            self._follow()

    def _report(self, ear: Ear, after: float) -> None:
        """Write this node's row, if the last one is so many seconds old."""
        now = time.monotonic()
        if self._reported is None or now - self._reported[0] >= after:
            report = self._fleet.report()
            self._taken = None
            try:
                ear.tell(report)
            except NameTaken as error:
                self._taken = error
            self._reported = now, report.generation

    def _rest(self, ear: Ear) -> None:
        """Until the next poll, follow as notifications come."""
        end = time.monotonic() + self._poll
        while time.monotonic() < end and not self._closing.is_set():
            if not ear.notifies:
                self._closing.wait(self._poll)
            elif ear.wait(SLICE):
                self._follow()
            if self._reported is not None and self._fleet.generation != self._reported[1]:
                self._report(ear, SOONEST)
