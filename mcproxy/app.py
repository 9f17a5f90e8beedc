"""The composition root: builds the parts, connects them, starts, drains and stops them.

The only file that knows all parts. `App` is what tests build too; `serve` is what `mcproxy server` runs: an `App` with
signals around it.
"""

import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Protocol, TypeVar

import gevent
from gevent.hub import Waiter

from mcproxy import __version__
from mcproxy import log as log_lines
from mcproxy.admin.errors import bind_failure
from mcproxy.admin.server import AdminError
from mcproxy.certificates import routes
from mcproxy.change import listener_key
from mcproxy.check import places
from mcproxy.configuration import Config
from mcproxy.control import NOTHING, Before, Control
from mcproxy.datapath import DataPath
from mcproxy.geoip import Copy, GeoIP, GeoIPError
from mcproxy.handover import Beginning, Handover
from mcproxy.log import Sink
from mcproxy.messages import BindListener, Courier, PlaneBusy, StartListener
from mcproxy.model import MAX_WORKERS, counted
from mcproxy.net.group import grown
from mcproxy.net.worker import Worker
from mcproxy.notify import FEEDS, Inherited, Notifier
from mcproxy.plane import Plane, Watching
from mcproxy.reload.noticing import Noticing
from mcproxy.reload.reloader import Parts, Reloader, settings
from mcproxy.signals import Signals
from mcproxy.store.errors import Conflict, StoreError
from mcproxy.table import Table
from mcproxy.takeover.successor import TakeoverError
from mcproxy.tuning import raise_descriptor_limit, tune

STATUS_INTERVAL = 10.0  # seconds between two status lines for the service manager
OWN_DESCRIPTORS = 40  # that a process opens by itself: the database, the admin API, the log, its listeners
WORKER_DESCRIPTORS = 8  # in the parent, for each worker (workers/common.py, keeping.py)
BESIDE_CHECK = 0.05  # seconds between two looks at whether the server before this one has drained

T = TypeVar("T")

log = logging.getLogger(__name__)


class StartError(Exception):
    """The server can't start; the message says why and what to do."""


class Traffic(Protocol):
    """What serves clients: a data path in this process, or workers."""

    @property
    def courier(self) -> Courier:
        """The way to it for the control plane."""

    @property
    def open_connections(self) -> int:
        """The number of open connections."""

    def stop_listening(self) -> None:
        """Give up all addresses."""

    def prepare(self) -> None:
        """Wait until it can be asked to listen. Raises PlaneBusy."""

    def begin(self) -> None:
        """Do from now on what comes again and again."""

    def every(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` at this interval. It must not wait or raise."""

    @property
    def sockets(self) -> Sequence[tuple[str, int]]:
        """The configured address and the descriptor of every listening socket."""

    def leave(self) -> None:
        """Give up all addresses, which others have too: those who wait there are theirs. From a native thread."""

    def turns(self) -> bool:
        """True if every hub turns that serves clients."""

    def drain(self, seconds: float) -> bool:
        """Accept nothing more, wait until all sessions have ended, and cut those that are left. True: none was."""

    def end_at_once(self) -> None:
        """Have no connection outlive this process, which ends next. For any thread; it waits for nothing."""

    def close(self) -> None:
        """Give up all addresses, and release everything."""


class App:
    """The control plane, and what serves clients. To be made and used on the hub's thread."""

    def __init__(
        self, config: Config, put_lines: Callable[[Sequence[str]], None], notifier: Notifier | None = None,
        inherited: Inherited | None = None, path: Path | None = None, log_dropped: Callable[[], int] = lambda: 0,
        beginning: Beginning | None = None,
    ) -> None:  # fmt: skip
        """`put_lines` takes the log lines of connections and requests; `path` is the file to reload `config` from.

        `log_dropped` counts lines that were not read in time. `beginning` knows the server that runs already. Raises
        StartError and TakeoverError.
        """
        self.notifier = notifier or Notifier()
        self.inherited = inherited or Inherited()
        count = _worker_count(config)
        geoip = _geoip(config, GeoIP.open) if count == 1 else None
        copy = _geoip(config, Copy.make) if count > 1 else None  # which all workers share
        before = NOTHING
        if beginning is not None:
            before, self.notifier = beginning.ask(self.inherited, self.notifier)
        try:
            self.control = Control(config, before)
        except StoreError as error:
            raise StartError(f"{_key(config)}: {error}") from error
        held = self.control.database
        if held.table.firewall.countries and geoip is None and copy is None:
            self.control.close_at_once()
            raise StartError("firewall.geoip_db: the database has country rules, which need it")
        watching = Watching()
        self.traffic: Traffic
        if count == 1:
            self.traffic = DataPath(
                held.served, settings(config), geoip, put_lines, watching.tell, self.inherited.take, log_dropped
            )
        else:
            self.traffic = _workers(config, count, copy, put_lines, watching, self)
        self._report_to_fleet()
        courier = self.traffic.courier
        parts = Parts(courier, self.notifier, self._take_config, self._survey)
        self.reloader = Reloader(config, path, parts)
        dropped = log_dropped if count > 1 else lambda: 0  # a data path in this process counts them itself
        self.plane = Plane(held.served, courier, self.reloader, watching, dropped, count)

    def __repr__(self) -> str:
        return f"<App {self.traffic}>"

    @property
    def data(self) -> DataPath:
        """The data path of this process, where there is one."""
        assert isinstance(self.traffic, DataPath)
        return self.traffic

    @property
    def worker(self) -> Worker:
        """Its worker."""
        return self.data.worker

    @property
    def config(self) -> Config:
        """As it was last read and accepted."""
        return self.reloader.config

    def start(self, beginning: Beginning | None = None) -> None:
        """Open the listeners and the admin API, in the place of the server that runs already, if there is one.

        Raises StartError where one can't be opened, or the other server doesn't go; nothing is open then.
        """
        table = self.control.database.served
        try:
            self._prepare(table)
            if beginning is not None:
                beginning.ready(table)
        except (StartError, AdminError, PlaneBusy, TakeoverError) as error:
            self.traffic.stop_listening()
            self.control.close_at_once()
            raise StartError(str(error)) from error
        for addr in [each for each in table.listeners if each not in self.control.database.lacking]:
            self.traffic.courier.ask(StartListener(addr))
        if beginning is not None:
            beginning.serving()
        self._open_control()
        log.info("mcproxy %s started, generation %d", __version__, table.generation)
        if found := self.control.database.file.differing(self.control.database.table):
            log.info(
                "the configuration file's listeners, routes and rules differ from the database in %s; "
                "the database is in force: mcproxy diff", counted(found, "value")
            )  # fmt: skip
        for address in self.inherited.unclaimed(table.listeners):
            log.warning(
                "the service manager listens on %s, which is no listener's address: add one, or remove the socket",
                address,
            )
        self._begin_telling()

    def _report_to_fleet(self) -> None:
        if (fleet := self.control.database.fleet) is not None:
            fleet.connections = lambda: self.traffic.open_connections
            fleet.problems = self._lacks

    def _lacks(self) -> list[str]:
        """What this node needs for the fleet's table and doesn't have, for the other nodes to see."""
        table = self.plane.table
        _, problems = routes.state_of_files(table)
        found = [f"{each.hostname} on {each.listener}: {each.key}: {each.message}" for each in problems]
        if table.firewall.countries and not self.config.firewall.geoip_db:
            found.append("firewall.geoip_db: it blocks no country without this database: set it there and reload")
        return found

    def _open_control(self) -> None:
        self.control.open()
        self.control.before_close(Noticing(self.reloader.files_in_use, self.reloader.take_changed).close)

    def _take_config(self, config: Config) -> None:
        self.control.take(config)  # the one that there is then: see `reopen_control`

    def _survey(self) -> None:
        self.control.survey.begin()

    # For a successor: see handover.py

    @property
    def table(self) -> Table:
        """The table that is in force."""
        return self.plane.table

    @property
    def sockets(self) -> Sequence[tuple[str, int]]:
        """Every listening socket."""
        return [*self.traffic.sockets, *(("", each) for each in self.inherited.descriptors)]

    def reopen_control(self) -> None:
        """Open the control plane again, in a native thread. Raises StoreError and AdminError."""
        released = self.control
        self.control = Control(self.config, Before(released.in_force, released=released))
        try:
            if self.control.database.table is not released.in_force:  # a successor that died has changed it
                raise Conflict("the database has another generation than before: restart mcproxy")
            self._report_to_fleet()
            self.control.prepare(self.plane)
            self._open_control()
        except BaseException:
            self.control.release()
            raise

    def accept_no_more(self) -> None:
        """Give the listening sockets up, which a successor has too. To be called in a native thread."""
        self.traffic.leave()

    def _begin_telling(self) -> None:
        """Notify the service manager that we serve, and from now on of the state and that the hub turns."""
        self.traffic.every(STATUS_INTERVAL, lambda: self.notifier.status(f"{self.plane.state}: {self._summary()}"))
        if self.notifier.interval:
            self.traffic.every(self.notifier.interval, self._feed)
        self.traffic.begin()
        self.notifier.ready()

    def _feed(self) -> None:
        if self.traffic.turns():
            self.notifier.alive()

    def _summary(self) -> str:
        open_now, alone = counted(self.traffic.open_connections, "connection"), self.control.database.alone()
        return f"{open_now} open, generation {self.plane.table.generation}{alone and f', {alone}'}"

    def _prepare(self, table: Table) -> None:
        """Take every address, the admin API's too, then make the seed durable. Raises StartError and AdminError.

        The seed comes after all that can fail: once the database is seeded, a correction in the file changes nothing.
        """
        self.traffic.prepare()
        for addr in table.listeners:
            try:
                self.traffic.courier.ask(BindListener(addr))
            except OSError as error:
                if not self.control.database.may_lack(addr, bind_failure(addr, error)):
                    raise StartError(bind_failure(addr, error) + self._if_not_in_file(addr)) from error
        self.control.prepare(self.plane)
        try:
            self.control.database.seed()
        except StoreError as error:
            raise StartError(f"{_key(self.config)}: {error}") from error

    def _if_not_in_file(self, addr: str) -> str:
        """The end of an error about a listener that no change of the file corrects."""
        if self.control.database.file.names(listener_key(addr)):
            return ""
        database = self.config.database.file
        return (
            f"; the listener is in the database {database}, not in the configuration file: make the address available, "
            "or move the database away to start from the file"
        )

    def stop(self, beside: Callable[[], bool] = lambda: False) -> bool:
        """Stop accepting, drain, release everything. True: every session ended by itself.

        `beside` says whether another server drains. A service manager kills it when this one ends, so this one waits
        for it, as long as it may drain itself.
        """
        end = time.monotonic() + self.config.proxy.shutdown_timeout
        self.reloader.close()
        self.notifier.stopping()
        self.control.drain()
        clean = self.traffic.drain(self.config.proxy.shutdown_timeout)
        while self.notifier.address and beside() and time.monotonic() < end:
            gevent.sleep(BESIDE_CHECK)
        self.control.close()
        self.reloader.wait(gevent.sleep)
        self.inherited.close()
        self.notifier.close()
        self.traffic.close()
        log.info("stopped" if clean else "stopped; connections had to be cut")
        return clean


def _worker_count(config: Config) -> int:
    """How many processes are to serve clients: as configured, or one a core that we may use."""
    wanted = config.proxy.workers
    return min(MAX_WORKERS, len(os.sched_getaffinity(0))) if wanted == "auto" else wanted


def _workers(
    config: Config, count: int, geoip: Copy | None, put_lines: Callable[[Sequence[str]], None], watching: Watching,
    app: App,
) -> Traffic:  # fmt: skip
    """Worker processes. Nothing of them is loaded where there is one process."""
    from mcproxy.workers.workers import Workers, patience_for  # noqa: PLC0415 - see above

    return Workers(
        count, app.control.database.served, settings(config), log_level=config.log.level, geoip=geoip,
        drain=config.proxy.shutdown_timeout, put_lines=put_lines, tell=watching.tell,
        inherited=lambda addr: _for_all(app.inherited, addr, count),
        patience=patience_for(app.notifier.interval * FEEDS), pause=gevent.sleep,
    )  # fmt: skip


def _for_all(inherited: Inherited, addr: str, count: int) -> Sequence[socket]:
    """The sockets that listen on an address already, enough for all workers; or the service manager's, which stays one.

    Raises OSError.
    """
    found = inherited.take(addr)
    return found if found and inherited.is_managers(found[0]) else grown(found, count)


def serve(config: Config, path: Path) -> int:
    """Run until told to stop; `config` was read from `path`. Returns the exit status: 0 drained clean, 1 not.

    Raises StartError.
    """
    signals = Signals()
    raise_descriptor_limit()
    sink = Sink()
    handler = log_lines.configure(sink, config.log.level, config.log.format)
    signals.last_words = sink.close
    try:
        notifier, inherited = Notifier.from_environment(), Inherited.from_environment()
        _check_descriptors(_worker_count(config))
        with closing(Beginning(config, path)) as beginning:
            app = App(config, sink.put, notifier, inherited, path, lambda: sink.dropped, beginning)
            signals.open_connections = lambda: app.traffic.open_connections
            signals.at_once = app.traffic.end_at_once
            runs = signals.stop is None
            if runs:
                app.start(beginning)
                beginning.listen(Handover(app, signals.succeed))
        if runs:
            tune()
            _wait(signals, app)
            beginning.end()
        clean = app.stop(beginning.drains_beside)
        if app.control.hangs:  # the interpreter's own end would wait for the threads that hang
            sink.close()
            os._exit(1)
        return 0 if clean else 1
    except TakeoverError as error:
        raise StartError(str(error)) from error
    finally:
        logging.getLogger("mcproxy").removeHandler(handler)
        sink.close()


def _wait(signals: Signals, app: App) -> None:
    """Return when told to stop."""
    told: Waiter[None] = Waiter()
    wake = gevent.get_hub().loop.async_()  # gives the hub something to live for, even without a listener
    wake.start(told.switch, None)  # before anybody may send: what is sent to a watcher that rests is lost
    gevent.signal_handler(signal.SIGHUP, app.reloader.begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one that came during the start has waited
    signals.wake(wake.send)
    told.get()
    wake.close()
    why = signals.stop.name if signals.stop is not None else f"process {signals.successor} has taken over"
    log.info("%s: draining for up to %g s", why, app.config.proxy.shutdown_timeout)


def _check_descriptors(workers: int) -> None:
    """Log a warning if there are few descriptors for clients. Raises StartError if there are too few for ourselves."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OWN_DESCRIPTORS + (WORKER_DESCRIPTORS * workers if workers > 1 else 0)
    if limit < needed:
        raise StartError(f"{needed} file descriptors are needed for a start, and the limit is {limit}; {places.RAISE}")
    for found in places.few_descriptors(limit):
        log.warning("%s", found.message)


def _key(config: Config) -> str:
    """The key of the database, for errors."""
    return "database.url" if config.database.url is not None else "database.path"


def _geoip(config: Config, opened: Callable[[str], T]) -> T | None:
    """The configured GeoIP database, opened by a function; None: there is none. Raises StartError."""
    if not config.firewall.geoip_db:
        return None
    try:
        return opened(config.firewall.geoip_db)
    except GeoIPError as error:
        raise StartError(f"firewall.geoip_db: {error}") from error
