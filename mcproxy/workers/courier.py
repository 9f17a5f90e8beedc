"""The courier to all workers: asks them, and makes one answer of theirs.

Most requests go to all, and `merging.py` has their one answer. The others are here: those that change what a new worker
must know, those that one worker answers, and the counters, which must not fall.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from socket import socket
from typing import Any, TypeVar, cast

from mcproxy.certificates.acme.order import Kept
from mcproxy.messages import (
    BindListener,
    CloseConnections,
    CloseListener,
    FindCountry,
    Forget,
    Keep,
    LookAt,
    PlaneBusy,
    PlaneStopping,
    Publish,
    ReadFiles,
    ReadKept,
    ReadRoutes,
    ReadStatus,
    Request,
    Reserve,
    RouteCounters,
    SetLogLevel,
    Settle,
    StartListener,
    Watch,
    WorkerStatus,
    WouldAdmit,
)
from mcproxy.model import Reason, worker_of
from mcproxy.net.group import choose_by_address, open_group
from mcproxy.policy.homes import home
from mcproxy.workers import merging
from mcproxy.workers.clerk import BindAt, Follow
from mcproxy.workers.refreshing import Refreshing
from mcproxy.workers.slot import Slot
from mcproxy.workers.team import Bound, Team, acknowledged, outcome

T = TypeVar("T")

COUNT_SECONDS = 1.0  # for counters; its earlier ones do where a worker takes longer

log = logging.getLogger(__name__)


class ToWorkers:
    """Takes requests to all workers, from any thread."""

    def __init__(self, team: Team, inherited: Callable[[str], Sequence[socket]], started_at: float) -> None:
        """`inherited` returns the sockets that listen on an address already: none, a single one for all, or enough.

        `started_at` is since the epoch.
        """
        self._team = team
        self._inherited = inherited
        self._started_at = started_at
        self.refreshing = refreshing = Refreshing(team)
        self._special: dict[type[Request[Any]], Callable[[Any], Any]] = {
            Publish: self._publish,
            BindListener: self._bind,
            StartListener: self._start,
            CloseListener: self._close,
            Keep: self._keep,
            Forget: self._forget,
            ReadKept: self._read_kept,
            Reserve: self._tell,
            Watch: self._watch,
            SetLogLevel: self._set_log_level,
            ReadFiles: refreshing.read,
            Settle: self._settle,
            CloseConnections: self._close_connections,
            FindCountry: self._ask_one,
            LookAt: self._ask_one,
            WouldAdmit: self._would_admit,
            ReadStatus: self._read_status,
            ReadRoutes: self._read_routes,
        }

    def __repr__(self) -> str:
        return f"<ToWorkers {self._team}>"

    def ask(self, request: Request[T]) -> T:
        """Return the answer of all workers together, or raise what one has raised. Raises PlaneBusy."""
        found = self._special.get(type(request), self._ask_all)(request)
        return cast("T", found)

    def _ask_all(self, request: Request[T]) -> T:
        with self._team.lock:
            asked = self._team.ask(request)
        return cast("T", merging.merged(request, self._team.answers(request, asked)))

    def _ask_one(self, request: Request[T]) -> T:
        with self._team.lock:
            asked = self._team.ask(request, [slot for slot in self._team.slots if slot.remote is not None][:1])
        return self._team.answers(request, asked)[0]

    def _publish(self, request: Publish) -> None:
        """Nobody serves by an older table when this returns: each worker has the new one, or was killed."""
        team, follow = self._team, Follow(request.table.generation, tuple(request.changes))
        with team.lock:
            team.known.table = request.table
            team.base.forget(request.changes)
            asked = team.ask(follow)
        acknowledged(asked, f"generation {follow.generation}")

    # Listeners

    def _bind(self, request: BindListener) -> None:
        team = self._team
        with team.lock:
            self._open()
            if request.addr in team.known.listeners:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            row = team.common.row(request.addr, team.known.listeners)
            given = self._inherited(request.addr)
            bound = Bound(given or open_group(request.addr, len(team.slots)), row, shared=bool(given))
            team.known.listeners[request.addr] = bound
            asked = [
                (slot, slot.remote.ask(BindAt(request.addr, row), bound.descriptors(slot, len(team.slots))))
                for slot in team.slots if slot.remote is not None
            ]  # fmt: skip
        try:
            team.answers(request, asked)
        except BaseException:
            self._close(CloseListener(request.addr))
            raise

    def _open(self) -> None:
        if self._team.stopping:
            raise PlaneStopping("the server is stopping")

    def _start(self, request: StartListener) -> None:
        with self._team.lock:
            self._open()
            bound = self._team.known.listeners[request.addr]
            bound.started = True
            asked = self._team.ask(request)
        self._team.answers(request, asked)
        if len(bound.sockets) > 1:  # that were for another number of workers, or an older version's, until now
            choose_by_address(bound.sockets, len(self._team.slots))
        log.info("listening on %s", request.addr)

    def _close(self, request: CloseListener) -> None:
        """The workers begin with those that wait in their queues; then the sockets go."""
        with self._team.lock:
            bound = self._team.known.listeners.pop(request.addr, None)
            if bound is None:
                return
            bound.refuse_new()  # or those who come between a worker's last accept and the close would be reset
        self._tell(request)
        bound.close()
        if bound.started:
            log.info("no longer listening on %s", request.addr)

    def close_listeners(self) -> None:
        """Accept nothing more, anywhere, and open nothing."""
        with self._team.lock:
            self._team.stopping = True
            addresses = list(self._team.known.listeners)
        for addr in addresses:
            self._close(CloseListener(addr))

    # What a new worker must know

    def _tell(self, request: Request[None]) -> None:
        """Ask all; if none lives, the next one will know."""
        with self._team.lock:
            asked = self._team.ask(request)
        with suppress(PlaneBusy):
            self._team.answers(request, asked)

    def _keep(self, request: Keep) -> None:
        self._team.known.kept[request.kept.order.hostname] = request.kept
        self._tell(request)

    def _forget(self, request: Forget) -> None:
        self._team.known.kept.pop(request.hostname, None)
        self._tell(request)

    def _read_kept(self, request: ReadKept) -> Kept | None:
        return self._team.known.kept.get(request.hostname)

    def _watch(self, request: Watch) -> None:
        self._team.known.watched = request.on
        self._tell(request)

    def _set_log_level(self, request: SetLogLevel) -> None:
        logging.getLogger("mcproxy").setLevel(request.level.upper())
        self._team.known.log_level = request.level
        self._tell(request)

    def _settle(self, request: Settle) -> None:
        self.refreshing.settle(request)
        self._note_status(self._team.slots)  # the GeoIP database may be another one

    # Those that not all have to answer

    def _close_connections(self, request: CloseConnections) -> Sequence[int]:
        asked = []
        with self._team.lock:
            for slot in self._team.slots:
                if ids := [number for number in request.ids if worker_of(number) == slot.number]:
                    asked += self._team.ask(CloseConnections(ids), [slot])
        if not asked:
            return ()
        return cast("Sequence[int]", merging.merged(request, self._team.answers(request, asked)))

    def _would_admit(self, request: WouldAdmit) -> Reason | None:
        with self._team.lock:
            its_home = self._team.slots[home(request.packed, len(self._team.slots))]
            asked = self._team.ask(request, [its_home])
        return self._team.answers(request, asked)[0]

    # Counters

    def _read_status(self, _request: ReadStatus) -> WorkerStatus:
        """Of the listeners as of now, read in the workers' ledgers; the rest is as of their latest answers.

        So that a flood of these calls costs the workers nothing.
        """
        team = self._team
        if fresh := [slot for slot in team.slots if slot.process.last is None]:
            self._note_status(fresh)
        with team.lock:
            has, listeners = team.known.table.listeners.__contains__, team.known.listeners
            found = [
                merging.with_ledger(slot.process.answered, team.common.listeners(slot.number - 1), has)
                for slot in team.slots
            ]
            merged = merging.status([*found, team.base.status] if team.base.status else found)
            accepting = {addr for addr, bound in listeners.items() if bound.started}
            workers = tuple(slot.info(time.monotonic()) for slot in team.slots)
        shown = [replace(each, accepting=each.addr in accepting) for each in merged.listeners]
        return replace(merged, started_at=self._started_at, listeners=shown, workers=workers)

    def _read_routes(self, request: ReadRoutes) -> Sequence[RouteCounters]:
        for slot, found in self._in_time(request, self._team.slots):
            slot.process.last_routes = found
        with self._team.lock:
            return merging.routes([self._team.base.routes, *(slot.process.last_routes for slot in self._team.slots)])

    def _note_status(self, slots: Sequence[Slot]) -> None:
        for slot, found in self._in_time(ReadStatus(), slots):
            slot.process.last = found

    def _in_time(self, request: Request[T], slots: Sequence[Slot]) -> list[tuple[Slot, T]]:
        """Those that answer soon, each with its answer."""
        with self._team.lock:
            asked = self._team.ask(request, slots)
        deadline, found = time.monotonic() + COUNT_SECONDS, []
        for slot, future in asked:
            remote = slot.remote
            if outcome(future, deadline - time.monotonic()) is None and slot.remote is remote:
                found.append((slot, future.result()))  # else that process has ended, and is counted so
        return found
