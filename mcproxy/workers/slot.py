"""One of N workers through all its processes: its state, and when another one is to begin. No thread, and no clock.

Times are seconds of a clock that only goes forward, but for `started_at`.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from mcproxy.messages import GeoipStatus, RouteCounters, WorkerInfo, WorkerState, WorkerStatus
from mcproxy.stats import NO_LAGS
from mcproxy.workers.remote import Remote

QUICK_DEATH = 1.0  # second: a process that lives no longer has something that the next one will have too
FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0  # seconds before the next one then; it doubles
SILENT = 1.0  # second: two beats (clerk.py); less than that says nothing about its hub
STARTING_SECONDS = 30.0  # that a process has until it can be asked
SERIALS_PER_BEAT = 100_000  # connections that a worker can't take between two beats


@dataclass(slots=True, eq=False)
class Process:
    """A worker's process."""

    began: float
    started_at: float  # seconds since the epoch
    beat_at: float
    remote: Remote | None = None  # None: it was not sent its beginning yet, or it has ended
    pid: int = 0  # 0: it isn't known yet
    handle: int = -1  # a pidfd of it, or -1
    killed_at: float | None = None  # when it was sent SIGABRT
    gone_at: float | None = None  # when its channel ended
    status: int | None = None  # with which it ended, as of wait(2)
    connections: int = 0
    last: WorkerStatus | None = None  # its latest answers
    last_routes: Sequence[RouteCounters] = ()

    @property
    def answered(self) -> WorkerStatus:
        """Its latest status, which is without counters while it has answered none."""
        return self.last or WorkerStatus(self.started_at, (), GeoipStatus(), NO_LAGS, 0)


class Slot:
    """The place of one worker."""

    def __init__(self, number: int) -> None:
        self.number = number  # from 1
        self.state = WorkerState.STARTING
        self.process = Process(0.0, 0.0, 0.0)  # the latest
        self.serial = 1  # for the first connection of the next process, at least
        self.restarts = 0
        self.failure = ""  # how the last one has ended
        self.due = 0.0  # when the next one may begin
        self._pause = 0.0

    def __repr__(self) -> str:
        return f"<Slot {self.number} {self.state} pid={self.process.pid} connections={self.process.connections}>"

    @property
    def remote(self) -> Remote | None:
        """The channel to its process; None: there is none that can be asked."""
        return self.process.remote

    def begin(self, now: float, at: float) -> None:
        """A process is about to begin; `at` is the time since the epoch."""
        self.state = WorkerState.STARTING
        self.process = Process(now, at, now)

    def ready(self, now: float) -> None:
        """It can be asked."""
        self.state = WorkerState.SERVING
        self.process.beat_at = now

    def beat(self, now: float, connections: int, serial: int) -> None:
        """Its hub turns; `serial` is that of its next connection."""
        self.process.beat_at = now
        self.process.connections = connections
        self.serial = serial + SERIALS_PER_BEAT
        if now - self.process.began > QUICK_DEATH:
            self._pause = 0.0

    def forgive(self, seconds: float, now: float) -> None:
        """Don't count the time until now, in which nobody looked for beats."""
        self.process.beat_at = min(now, self.process.beat_at + seconds)

    def ended(self, now: float) -> None:
        """Its process is gone: another one is due now, or after a pause.

        One that was killed while it served did not die of itself, however soon it was.
        """
        killed = self.state is WorkerState.SERVING and self.process.status == signal.SIGKILL
        quick = now - self.process.began < QUICK_DEATH and not killed
        self.restarts += 1
        self._back_off(now, quick=quick)

    def not_started(self, now: float) -> None:
        """There could be no process: another one is due after a pause."""
        self._back_off(now, quick=True)

    def _back_off(self, now: float, *, quick: bool) -> None:
        self.process = Process(now, self.process.started_at, now)
        # The first one that dies soon may have been unlucky.
        self._pause = min(LAST_PAUSE, 2 * self._pause or FIRST_PAUSE) if quick else 0.0
        self.due = now + self._pause
        self.state = WorkerState.FAILING if self._pause > FIRST_PAUSE else WorkerState.STARTING

    def is_late(self, now: float, patience: float) -> bool:
        """Whether it has not shown for too long that it turns."""
        if self.remote is None:
            return False
        return now - self.process.beat_at > (patience if self.state is WorkerState.SERVING else STARTING_SECONDS)

    def info(self, now: float) -> WorkerInfo:
        """Its line in the status."""
        process = self.process
        silence = now - process.beat_at if self.state is WorkerState.SERVING else 0.0
        return WorkerInfo(
            self.number, self.state, process.pid, process.started_at, process.connections, self.restarts,
            process.answered.lag, self.failure, silence if silence > SILENT else 0.0,
        )  # fmt: skip
