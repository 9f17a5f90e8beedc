"""The thread that keeps a node up to date: it listens, polls, and has the writer follow."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from mcproxy.fleet.backoff import pauses
from mcproxy.fleet.cutting import Hands
from mcproxy.fleet.fleet import Fleet
from mcproxy.fleet.listening import SLICE, Ear, Topic
from mcproxy.fleet.nodes import BEAT, SOONEST, Report
from mcproxy.fleet.orderer import Orderer
from mcproxy.store.errors import NameTaken, StoreError

POLL = 4.0  # seconds between two questions for the generation: a quarter of a query a second for each idle node

PACE = 0.2  # seconds from one look for changes to the next, where notifications come faster: each look takes them all

log = logging.getLogger(__name__)


class Follower:
    """The thread. `close` ends it."""

    def __init__(
        self, fleet: Fleet, follow: Callable[[], None], poll: float = POLL, orderer: Orderer | None = None,
        hands: Hands | None = None,
    ) -> None:  # fmt: skip
        """`follow` brings the table in force up to the database's; it may raise StoreError.

        `hands` finds the connections that a rule matches.
        """
        self._hands = hands
        self._fleet = fleet
        self._orderer = orderer
        self._follow = follow
        self._poll = poll
        self._closing = threading.Event()
        self._reported: tuple[float, Report] | None = None  # when, by the monotonic clock
        self._next_at = 0.0  # by the monotonic clock: see PACE
        self._taken: NameTaken | None = None  # why that was refused, if it was
        self._thread = threading.Thread(target=self._run, name="fleet-follower", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Follower {self._fleet} closing={self._closing.is_set()}>"

    def close(self) -> None:
        """End the thread; waits for the statement that it is at."""
        self._closing.set()
        self._fleet.post.tries.want()
        self._thread.join()

    def _run(self) -> None:
        waits = pauses()
        tries = self._fleet.post.tries
        while not self._closing.is_set():
            has_looked = False
            try:
                with self._fleet.listen() as ear:
                    self._begin()
                    while not self._closing.is_set():
                        self._look(ear)
                        tries.ended()
                        has_looked, waits = True, pauses()
                        self._rest(ear)
                    if not self._fleet.hands_over:
                        with suppress(StoreError):  # then the name is free later
                            ear.leave(self._fleet.report())
            except StoreError as error:
                self._fleet.lost(error)
            except Exception:  # the thread must outlive a bug of ours
                log.exception("following the fleet's database failed; it is tried again")
            self._reported = None
            if not has_looked:
                tries.ended()
            if not self._closing.is_set():
                tries.pause(next(waits))

    def _begin(self) -> None:
        """After each connecting: what a version stands for may be another since a failover."""
        if self._orderer is not None:
            self._orderer.mirror.doubt()

    def _look(self, ear: Ear) -> None:
        """Ask where the database is, and follow: certificates first, which the table may need."""
        self._report(ear, BEAT)
        position = ear.poll()
        self._fleet.found(position, self._taken)
        if self._orderer is not None:
            self._orderer.found(position.acme)
        if self._fleet.has_work():
            self._catch_up()
        self._fleet.post.has_read_everything()
        if position.cuts:
            self._cut()

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
            self._reported = now, report

    def _rest(self, ear: Ear) -> None:
        """Until the next poll, follow as notifications come."""
        end = time.monotonic() + self._poll
        while time.monotonic() < end and not self._closing.is_set():
            self._report_news(ear)
            if not ear.notifies:
                self._closing.wait(self._poll)
            else:
                self._hear(ear.wait(SLICE, self._fleet.generation))

    def _hear(self, topics: Collection[Topic]) -> None:
        if Topic.CERTIFICATES in topics and self._orderer is not None:
            self._orderer.mirror.sync()
        if Topic.CUT in topics:
            self._catch_up()
            self._cut()
        elif Topic.TABLE in topics:
            self._closing.wait(self._next_at - time.monotonic())
            self._catch_up()

    def _catch_up(self) -> None:
        self._follow()
        self._next_at = time.monotonic() + PACE

    def _cut(self) -> None:
        if self._hands is not None:
            self._fleet.cutter.answer(self._fleet.generation, self._hands)

    def _report_news(self, ear: Ear) -> None:
        """Write a generation that is new soon, and at once that this node can answer a challenge: an order waits."""
        if self._reported is not None:
            reported = self._reported[1]
            if self._fleet.acme_version() != reported.acme_version:
                self._report(ear, 0.0)
            elif self._fleet.generation != reported.generation:
                self._report(ear, SOONEST)
