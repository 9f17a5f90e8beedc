"""Reads the workers' counters now and then.

Of a worker that is killed most are in its ledger (ledger.py); of the others, what it has counted since is lost. Those
of routes are read the more rarely the more there are: one takes a worker some 12 us.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from mcproxy.messages import ReadRoutes, ReadStatus, Request, RouteCounters, WorkerStatus
from mcproxy.workers.remote import Remote
from mcproxy.workers.slot import Slot
from mcproxy.workers.team import Team

STATUS_SECONDS = 1.0
ROUTE_SECONDS = 0.002  # for each route


class Counting:
    """Asks, and notes in each slot what came last. For one thread, which `put` has do something soon."""

    def __init__(self, team: Team, put: Callable[[Callable[[], object]], object]) -> None:
        self._team = team
        self._put = put
        self._status_due = self._routes_due = 0.0

    def __repr__(self) -> str:
        return f"<Counting status_due={self._status_due:.1f} routes_due={self._routes_due:.1f}>"

    def step(self, now: float) -> None:
        """Ask what is due; `now` is seconds of a clock that only goes forward."""
        if now >= self._status_due:
            self._status_due = now + STATUS_SECONDS
            self._ask(ReadStatus())
        if now >= self._routes_due:
            routes = max(len(slot.process.last_routes) for slot in self._team.slots)
            self._routes_due = now + max(STATUS_SECONDS, routes * ROUTE_SECONDS)
            self._ask(ReadRoutes())

    def _ask(self, request: Request[Any]) -> None:
        with self._team.lock:
            for slot, answer in self._team.ask(request):
                answer.add_done_callback(partial(self._answered, slot, slot.remote))

    def _answered(self, slot: Slot, remote: Remote | None, done: "Future[Any]") -> None:
        """In the thread that read the answer."""
        if done.exception() is None:
            self._put(partial(_note, slot, remote, done.result()))


def _note(slot: Slot, remote: Remote | None, found: WorkerStatus | Sequence[RouteCounters]) -> None:
    if slot.remote is not remote:
        return  # it has ended, and was counted as it was
    if isinstance(found, WorkerStatus):
        slot.process.last = found
    else:
        slot.process.last_routes = found
