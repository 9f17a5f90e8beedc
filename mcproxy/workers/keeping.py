"""Keeps N workers alive: has them forked, sends them what they must know, and replaces those that end or are stuck.

One thread does all of it, and is the only one that changes a slot's state. The reports of the nursery and of the
workers' channels reach it through a queue.
"""

import logging
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from struct import Struct
from typing import Any

from mcproxy.messages import (
    ConnectionEvent,
    EventSink,
    Keep,
    StartListener,
    Watch,
    WorkerState,
)
from mcproxy.net.jobs import Jobs
from mcproxy.workers.birth import Nursery
from mcproxy.workers.clerk import Beat, Beginning, BindAt, Ready
from mcproxy.workers.counting import Counting
from mcproxy.workers.letters import ChannelClosed, Letters
from mcproxy.workers.nursery import Born, Ended
from mcproxy.workers.output import Output, TakeLines
from mcproxy.workers.remote import Remote, WorkerGone
from mcproxy.workers.slot import Slot
from mcproxy.workers.team import Team, kill

PAUSED_SECONDS = 1.0  # between two looks: this process itself did not run, as one that is stopped, or a machine's
STATUS_SECONDS = 0.5  # after a channel has ended, for the nursery to report how its worker did
TICK = 0.1  # seconds between two looks at the workers
ENDING = 2.0  # seconds that one has to end that has drained, or must not
ABORTING = 1.0  # seconds that a stuck one has to leave its traceback
SEND_SECONDS = 5  # that a channel takes no byte, after which it counts as broken
_TIMEVAL = Struct("ll")

log = logging.getLogger(__name__)


class Keeping:
    """The thread, from its beginning to `close`."""

    def __init__(self, team: Team, put_lines: TakeLines, tell: EventSink, patience: float) -> None:
        """`patience` is the seconds without a beat after which a worker is stuck."""
        self.all_ready = threading.Event()  # each worker could be asked once
        self.ticked_at = time.monotonic()
        self._team = team
        self._tell = tell
        self._patience = patience
        self._pids: dict[int, Slot] = {}  # of processes that the nursery has not reported as ended
        self.jobs = Jobs()  # that the thread runs
        self._news: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._counting = Counting(team, self._news.put)
        self._output = Output(put_lines)
        self._nursery = Nursery(lambda letter: self._news.put(lambda: self._hear_nursery(letter)), patience)
        self._thread = threading.Thread(target=self._run, name="workers", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Keeping {self._team}>"

    def kill_all(self) -> None:
        """End the workers' processes now, from any thread: it waits for nothing, and for no lock."""
        self._team.stopping = True
        for slot in self._team.slots:
            with suppress(OSError):  # it has just ended, and its handle is closed
                kill(slot, signal.SIGKILL)

    def close(self) -> None:
        """End the workers, which have drained or are not to, and the nursery."""
        with self._team.lock:
            self._team.stopping = True
        self._news.put(self._end_all)
        self._thread.join()
        for slot in self._team.slots:
            if slot.process.handle >= 0:
                _end(slot)
        self._nursery.close()
        self._output.close(ABORTING)

    def _run(self) -> None:
        while True:
            try:
                news = self._news.get(timeout=TICK)
            except queue.Empty:
                news = _nothing
            if news == self._end_all:
                news()
                return
            try:
                news()
                self._tick(time.monotonic())
            except Exception:  # nobody else would replace a worker
                log.exception("bug in keeping the workers")

    def _tick(self, now: float) -> None:
        if (pause := now - self.ticked_at) > PAUSED_SECONDS:  # what came meanwhile was not read yet
            self._nursery.forgive(pause, now)
            for slot in self._team.slots:
                slot.forgive(pause, now)
        self.ticked_at = now
        self._nursery.end_if_stuck(now)
        for slot in self._team.slots:
            gone_at = slot.process.gone_at
            if gone_at is not None:
                if slot.process.status is not None or now - gone_at > STATUS_SECONDS:
                    self._bury(slot)
            elif slot.remote is None and slot.state is not WorkerState.DRAINING and now >= slot.due:
                self._try_to_start(slot, now)
            elif slot.is_late(now, self._patience):
                self._end_stuck(slot, now)
        self._counting.step(now)
        self.jobs.step(now)

    def _end_stuck(self, slot: Slot, now: float) -> None:
        if slot.process.killed_at is None:
            log.error("worker %d, process %d, has not turned for %.1f s and is replaced", slot.number, slot.process.pid,
                      now - slot.process.beat_at)  # fmt: skip
            slot.process.killed_at = now
            kill(slot, signal.SIGABRT)
        elif now - slot.process.killed_at > ABORTING:
            kill(slot, signal.SIGKILL)

    # Starts

    def _try_to_start(self, slot: Slot, now: float) -> None:
        """Have another one forked; later, if the system has no descriptors or memory for it now."""
        try:
            self._start(slot)
        except OSError as error:
            slot.not_started(now)
            log.error("worker %d can't be started (%s): the next try is in %.1f s", slot.number, error.strerror,
                      slot.due - now)  # fmt: skip

    def _start(self, slot: Slot) -> None:
        """Have a process forked, and have it join. Raises OSError."""
        slot.begin(time.monotonic(), time.time())
        with ExitStack() as ours, ExitStack() as theirs:
            channel, its_channel = socket.socketpair()
            ours.enter_context(channel)
            theirs.enter_context(its_channel)
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(SEND_SECONDS, 0))
            (log_read, log_write), (errors_read, errors_write) = (_pipe(ours, theirs) for _ in range(2))
            with suppress(ChannelClosed):  # the channel ends then, and the next try starts another nursery
                self._nursery.fork(slot.number, [its_channel.fileno(), log_write, errors_write])
            ours.pop_all()
        self._output.read_log(log_read)
        self._output.read_errors(errors_read, f"worker {slot.number}")
        self._join(slot, Remote(slot.number, Letters(channel), self._hear, self._gone))

    def _join(self, slot: Slot, remote: Remote) -> None:
        """Tell it everything. What changes from now on comes after that."""
        team = self._team
        with team.lock:
            if team.stopping:
                slot.state = WorkerState.DRAINING
                remote.close()
                return
            known = team.known
            slot.process.remote = remote
            path, copy = (str(known.geoip.path), known.geoip.descriptors) if known.geoip is not None else ("", [])
            common = team.common.descriptors(slot.number - 1)
            beginning = Beginning(
                known.table, known.settings, known.log_level, path, slot.serial, known.drain, len(common)
            )  # fmt: skip
            try:
                remote.begin(beginning, [*common, *copy])
            except WorkerGone:
                self._note_end(slot, remote)
                return
            for addr, bound in known.listeners.items():
                _noted(remote.ask(BindAt(addr, bound.row), bound.descriptors(slot, len(team.slots))), slot)
                if bound.started:
                    _noted(remote.ask(StartListener(addr)), slot)
            for kept in known.kept.values():
                _noted(remote.ask(Keep(kept)), slot)
            if known.watched:
                _noted(remote.ask(Watch(on=True)), slot)

    # Reports

    def _hear(self, remote: Remote, letter: Beat | Ready | ConnectionEvent) -> None:
        """In the thread that reads a worker's channel."""
        if isinstance(letter, ConnectionEvent):
            self._tell(letter)
        else:
            self._news.put(lambda: self._take(remote, letter))

    def _take(self, remote: Remote, letter: Beat | Ready) -> None:
        slot = self._team.slots[remote.number - 1]
        if slot.remote is not remote:
            return
        if isinstance(letter, Beat):
            slot.beat(time.monotonic(), letter.connections, letter.serial)
            return
        slot.ready(time.monotonic())
        if slot.restarts:
            log.info("worker %d serves again, as process %d", slot.number, slot.process.pid)
        if all(each.state is WorkerState.SERVING for each in self._team.slots):
            self.all_ready.set()

    def _hear_nursery(self, letter: Any) -> None:
        if isinstance(letter, Born):
            slot = self._pids[letter.pid] = self._team.slots[letter.number - 1]
            slot.process.pid = letter.pid
            with suppress(ProcessLookupError):
                slot.process.handle = os.pidfd_open(letter.pid)
        elif isinstance(letter, Ended) and (slot_of_ended := self._pids.pop(letter.pid, None)) is not None:
            self._report_end(slot_of_ended, letter)

    def _report_end(self, slot: Slot, ended: Ended) -> None:
        if slot.process.pid == ended.pid:
            slot.process.status = ended.status
        if self._team.stopping:
            return
        slot.failure = _how(ended.status)
        log.error("worker %d, process %d, has ended: %s", slot.number, ended.pid, slot.failure)

    def _gone(self, remote: Remote) -> None:
        """In the thread that read its channel."""
        self._news.put(lambda: self._note_end(self._team.slots[remote.number - 1], remote))

    def _note_end(self, slot: Slot, remote: Remote) -> None:
        if slot.remote is remote:
            slot.process.remote = None
            slot.process.gone_at = time.monotonic()

    def _bury(self, slot: Slot) -> None:
        """A worker has ended: keep its counters, and have another one follow."""
        kill(slot, signal.SIGKILL)  # its channel may have broken while it lives
        if slot.process.handle >= 0:
            _wait(slot.process.handle, ENDING)  # else it might count once more
            os.close(slot.process.handle)
        team, process = self._team, slot.process
        with team.lock:
            team.base.add(process.answered, process.last_routes, team.common.end(slot.number - 1), team.known.table)
            slot.ended(time.monotonic())
            if team.stopping:
                slot.state = WorkerState.DRAINING
        if slot.state is WorkerState.FAILING:
            log.error("worker %d dies as it starts: the next try is in %.1f s", slot.number,
                      slot.due - time.monotonic())  # fmt: skip

    def _end_all(self) -> None:
        for slot in self._team.slots:
            if slot.remote is not None:
                slot.remote.close()


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A pipe to read from, whose ends are closed with these. Raises OSError."""
    read, write = os.pipe()
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    return read, write


def _noted(future: Any, slot: Slot) -> None:
    """Log it if a new worker could not take what it was sent: it has something that its siblings have not."""

    def look(done: Any) -> None:
        error = done.exception()
        if error is not None and not isinstance(error, WorkerGone):
            log.error("worker %d: %s", slot.number, error)

    future.add_done_callback(look)


def _end(slot: Slot) -> None:
    """Wait until a process has ended that was asked to, for a bounded time, then kill it."""
    handle = slot.process.handle
    if not _wait(handle, ENDING):
        kill(slot, signal.SIGKILL)
        _wait(handle, ENDING)
    os.close(handle)
    slot.process.handle = -1


def _wait(handle: int, seconds: float) -> bool:
    """Wait until a process has ended; False: it has not in this time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # a pidfd is readable once its process has ended
    return bool(poll.poll(seconds * 1e3))


def _how(status: int) -> str:
    """How a process has ended, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _nothing() -> None:
    pass
