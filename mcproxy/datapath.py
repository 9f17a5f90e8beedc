"""The data path of one process: listeners, sessions, TLS contexts, counters, and the desk that answers for them.

`app.py` has one in the process of its control plane. Made, started and ended on the hub's thread.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from socket import socket

from mcproxy.certificates.contexts import Contexts
from mcproxy.certificates.routes import first_with_files
from mcproxy.desk import ByDoor, Desk, Reporter
from mcproxy.geoip import GeoIP
from mcproxy.journal import ConnectionLog
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.terminate import PROTOCOLS, Terminator
from mcproxy.look.looker import Looker
from mcproxy.messages import EventSink, Settings
from mcproxy.model import Connection, Exchanges, Origin
from mcproxy.net.aside import Aside
from mcproxy.net.census import Census
from mcproxy.net.door import Door
from mcproxy.net.inbox import Inbox
from mcproxy.net.pulse import Pulse
from mcproxy.net.shared import Shared
from mcproxy.net.siblings import Siblings
from mcproxy.net.slumber import Slumber
from mcproxy.net.worker import Worker
from mcproxy.policy.limits import Clients, Limits
from mcproxy.policy.shared_limits import SharedLimits
from mcproxy.settling import Settling
from mcproxy.stats import Stats
from mcproxy.table import Live, Table

REPORT_INTERVAL = 10.0  # seconds between two lines on what the log has left out


class DataPath:
    """A worker and its parts."""

    def __init__(
        self, table: Table, wanted: Settings, geoip: GeoIP | None, put_lines: Callable[[Sequence[str]], None],
        tell: EventSink, inherited: Callable[[str], Sequence[socket]] = lambda _addr: (),
        log_dropped: Callable[[], int] = lambda: 0, ids: Iterator[int] | None = None,
        open_geoip: Callable[[str], GeoIP] = GeoIP.open, siblings: Siblings | None = None,
        stats: Stats | None = None,
    ) -> None:  # fmt: skip
        """`put_lines` takes the log lines of connections and requests, `tell` their events while somebody watches.

        `inherited` returns the sockets that already listen on an address. `log_dropped` counts lines that were not read
        in time. `ids` are those of its connections, rising. `open_geoip` opens a GeoIP database. `siblings`
        are the workers of which it is one. `stats` counts.
        """
        self._contexts = contexts = Contexts(PROTOCOLS, Aside())
        stats = stats or Stats()
        self.lines, reporter = ConnectionLog(put_lines, wanted.log_format, stats), Reporter(tell)
        live = Live(table)
        backends = Backends(live)
        self.terminator = Terminator(contexts, backends, _records(stats, self.lines))
        shared = Shared(
            live=live,
            limits=_limits(wanted, siblings),
            timeouts=wanted.timeouts,
            ended=_ended(self.lines, reporter),
            opened=reporter.opened,
            stats=stats,
            geoip=geoip,
            terminate=self.terminator,
            ids=ids or itertools.count(1),
            siblings=siblings,
        )
        self._inbox = Inbox(shared, siblings) if siblings is not None else None
        self.worker = Worker(shared, inherited)
        self.pulse = Pulse(stats.lag)
        self.door = Door()
        looker = Looker(self.door, contexts, shared.outgoing, lambda: shared.timeouts.connect)
        settling = Settling(self.worker, contexts, self.lines, open_geoip)
        self.desk = Desk(self.worker, contexts, reporter, looker, backends.spoken, settling, self.door, log_dropped)

    def __repr__(self) -> str:
        return f"<DataPath {self.worker}>"

    @property
    def courier(self) -> ByDoor:
        """The courier to its desk."""
        return ByDoor(self.desk, self.door)

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self.worker.shared.sessions)

    def prepare(self) -> None:
        """Do nothing: it can be asked from the beginning."""

    def every(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` at this interval, on the hub. It must not wait or raise."""
        self.pulse.every(seconds, job)

    def turns(self) -> bool:
        """Return True: a job that runs on the hub shows that it turns."""
        return True

    def stop_listening(self) -> None:
        """Accept nothing more."""
        self.worker.stop_listening()

    @property
    def sockets(self) -> Sequence[tuple[str, int]]:
        """The configured address and the descriptor of every listening socket."""
        return self.worker.descriptors

    def leave(self) -> None:
        """Accept nothing more; others have the same sockets. From a native thread. Raises TimeoutError."""
        self.door.call(self.worker.leave)

    def drain(self, seconds: float) -> bool:
        """Open and accept nothing more, wait for the sessions, and cut those that are left. True: none was."""
        return self.desk.drain(seconds)

    def end_at_once(self) -> None:
        """Do nothing: the connections end with this process."""

    def begin(self) -> None:
        """Have the hub do what comes again and again."""
        self.pulse.every(REPORT_INTERVAL, self.lines.report)
        self.pulse.every(0.0, Slumber(self.worker.shared.awake, self.worker.shared.crew.keep).step)
        self.pulse.every(0.0, Census(self.worker.shared.sessions, self.lines.put).step)
        self.pulse.start()
        threading.Thread(target=self._reserve, name="reserve", daemon=True).start()
        if self._inbox is not None:
            self._inbox.open()

    def _reserve(self) -> None:
        """Hold the first routes' pairs. A route that changes meanwhile is reserved by the control plane."""
        self._contexts.reserve(first_with_files(self.worker.shared.live.table))

    def close(self) -> None:
        """Release everything; nothing runs by now."""
        self.lines.report()
        self.pulse.close()
        if self._inbox is not None:
            self._inbox.close()
        if self.worker.shared.siblings is not None:
            self.worker.shared.siblings.close()
        self.terminator.release()
        self.worker.release()
        if self.worker.shared.geoip is not None:
            self.worker.shared.geoip.close()


def _limits(wanted: Settings, siblings: Siblings | None) -> Limits | SharedLimits:
    """The limits of one process, or of several as one."""
    by_address = (wanted.max_per_ip, wanted.rate_per_ip, wanted.burst_per_ip)
    if siblings is None:
        return Limits(wanted.max_connections, *by_address)
    return siblings.limits(wanted.max_connections, Clients(*by_address))


def _ended(lines: ConnectionLog, reporter: Reporter) -> Callable[[Connection], None]:
    """A function that counts and reports a connection that has ended."""

    def ended(connection: Connection) -> None:
        lines.put(connection)
        reporter.ended(connection)

    return ended


def _records(stats: Stats, lines: ConnectionLog) -> Callable[[Origin], Callable[[Exchanges], None]]:
    """Returns, for a connection, a function for its exchanges as they end: counters, and the access log."""

    def begin(origin: Origin) -> Callable[[Exchanges], None]:
        count, put_lines = stats.requests(origin.listener, origin.route), lines.requests(origin)

        def ended(exchanges: Exchanges) -> None:
            count(exchanges)
            put_lines(exchanges)

        return ended

    return begin
