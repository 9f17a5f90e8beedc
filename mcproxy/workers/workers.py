"""All workers of a parent, as app.py has them in place of a data path of its own."""

import time
from collections.abc import Callable, Sequence
from socket import socket

from mcproxy.geoip import Copy
from mcproxy.messages import Courier, Drain, EventSink, PlaneBusy, Settings
from mcproxy.table import Table
from mcproxy.workers.common import Common
from mcproxy.workers.courier import ToWorkers
from mcproxy.workers.keeping import Keeping
from mcproxy.workers.output import TakeLines
from mcproxy.workers.team import GRACE, Known, Team, outcome

PATIENCE = 10.0  # seconds without a beat after which a worker's hub is stuck; a service manager's may be shorter
DRAIN_CHECK = 0.05  # seconds between two looks at whether all have drained
LEAST_PATIENCE = 2.0  # seconds: a loaded machine may keep a process that is well from running for longer than a beat
READY_SECONDS = 60.0  # until all workers can be asked, at the start


def patience_for(watchdog: float) -> float:
    """The seconds without a beat after which a hub is stuck; `watchdog` is the service manager's, 0 if it has none."""
    return max(LEAST_PATIENCE, min(PATIENCE, watchdog / 2)) if watchdog else PATIENCE


class Workers:
    """N worker processes, which begin to start when this is made."""

    def __init__(
        self, count: int, table: Table, settings: Settings, *, log_level: str, geoip: Copy | None, drain: float,
        put_lines: TakeLines, tell: EventSink, inherited: Callable[[str], Sequence[socket]] = lambda _addr: (),
        patience: float = PATIENCE, pause: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        """`drain` is the seconds that workers drain if their parent dies; `inherited` and `patience` as elsewhere here.

        `geoip` is the GeoIP database, which is closed with the workers. `put_lines` takes their log lines, `tell`
        events of connections. `pause` takes seconds, while which the thread that drains may do something else.
        """
        self._team = Team(count, Known(table, settings, log_level, geoip, drain), Common(count))
        self._courier = ToWorkers(self._team, inherited, time.time())
        self._patience = patience
        self._pause = pause
        self._keeping = Keeping(self._team, put_lines, tell, patience)

    def __repr__(self) -> str:
        return f"<Workers {self._team}>"

    @property
    def courier(self) -> Courier:
        """The courier to all of them."""
        return self._courier

    @property
    def open_connections(self) -> int:
        """The number of open connections, as of the last beats."""
        return sum(slot.process.connections for slot in self._team.slots)

    def every(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` at this interval, in a thread. It must not wait long or raise."""
        self._keeping.jobs.every(seconds, job)

    def turns(self) -> bool:
        """True if the workers are looked after, and each of them has shown lately that its hub turns."""
        now, limit = time.monotonic(), 2 * self._patience
        beats = [slot.process.beat_at for slot in self._team.slots if slot.remote is not None]
        return all(now - at < limit for at in [self._keeping.ticked_at, *beats])

    def begin(self) -> None:
        """Do nothing: what comes again and again does so from the beginning."""

    def prepare(self) -> None:
        """Wait until all workers can be asked. Raises PlaneBusy."""
        if not self._keeping.all_ready.wait(READY_SECONDS):
            raise PlaneBusy(f"the workers have not started in {READY_SECONDS:g} s")

    def stop_listening(self) -> None:
        """Give all addresses up."""
        self._courier.close_listeners()

    @property
    def sockets(self) -> Sequence[tuple[str, int]]:
        """The configured address and the descriptor of every listening socket, for another server to have too."""
        with self._team.lock:
            listeners = list(self._team.known.listeners.items())
            for _, bound in listeners:
                bound.shared = True
        return [(addr, each.fileno()) for addr, bound in listeners for each in bound.sockets]

    def leave(self) -> None:
        """Accept nothing more; others have the same sockets."""
        self._courier.close_listeners()

    def drain(self, seconds: float) -> bool:
        """Accept nothing more, and drain. True: no connection was cut, and no worker has ended meanwhile."""
        self._courier.close_listeners()
        with self._team.lock:
            asked = self._team.ask(Drain(seconds))
        end = time.monotonic() + seconds + GRACE
        while not all(future.done() for _, future in asked) and time.monotonic() < end:
            self._pause(DRAIN_CHECK)
        whole = True
        for _, future in asked:
            whole &= outcome(future, 0.0) is None and future.result()
        return whole

    def end_at_once(self) -> None:
        """Cut every connection, from any thread, waiting for nothing. The process is to end next."""
        self._keeping.kill_all()

    def close(self) -> None:
        """End the workers, their nursery and what reads their output."""
        self._courier.close_listeners()
        self._keeping.close()
        self._courier.refreshing.close()
        self._team.common.close()
