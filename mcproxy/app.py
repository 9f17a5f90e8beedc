"""The composition root: builds the parts, connects them, starts, drains and stops them.

The only file that knows all parts. `App` is what tests build too; `serve` is what `mcproxy server` runs: an `App` with
signals around it.
"""

import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import gevent
from gevent.hub import Waiter

from mcproxy import __version__
from mcproxy import log as log_lines
from mcproxy.admin.errors import bind_failure
from mcproxy.admin.server import AdminError
from mcproxy.change import listener_key
from mcproxy.check.check import check_workers
from mcproxy.config import Config
from mcproxy.control import Control
from mcproxy.datapath import DataPath
from mcproxy.desk import ByDoor
from mcproxy.geoip import GeoIP, GeoIPError
from mcproxy.log import Sink
from mcproxy.model import counted
from mcproxy.net.worker import Worker
from mcproxy.notify import Inherited, Notifier
from mcproxy.plane import Plane, Watching
from mcproxy.reload.noticing import Noticing
from mcproxy.reload.reloader import Parts, Reloader, settings
from mcproxy.signals import Signals
from mcproxy.store.errors import StoreError
from mcproxy.table import Table

STATUS_INTERVAL = 10.0  # seconds between two status lines for the service manager

log = logging.getLogger(__name__)


# Seconds that a native thread may compute before the hub gets the interpreter. Python's own 5 ms would be added to each
# wake-up of the hub while an operator lists routes; a switch costs some 10 us.
SWITCH_INTERVAL = 0.0005


class StartError(Exception):
    """The server can't start; the message says why and what to do."""


class App:
    """One process: a worker and what surrounds it. To be made and used on the hub's thread."""

    def __init__(
        self, config: Config, put_lines: Callable[[Sequence[str]], None], notifier: Notifier | None = None,
        inherited: Inherited | None = None, path: Path | None = None, log_dropped: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """`put_lines` takes the log lines of connections and requests; `path` is the file to reload `config` from.

        `log_dropped` counts lines that were not read in time. Raises StartError.
        """
        self.notifier = notifier or Notifier()
        self.inherited = inherited or Inherited()
        geoip = _open_geoip(config)
        try:
            self.control = Control(config)
        except (StoreError, ValueError) as error:
            raise StartError(f"database.path: {error}") from error
        if self.control.table.firewall.countries and geoip is None:
            self.control.store.close()
            raise StartError("firewall.geoip_db: the database has country rules, which need it")
        watching = Watching()
        self.data = DataPath(
            self.control.table, settings(config), geoip, put_lines, watching.tell, self.inherited.take, log_dropped
        )
        courier = ByDoor(self.data.desk, self.data.door)
        parts = Parts(courier, self.notifier, self.control.take, self.control.survey.begin)
        self.reloader = Reloader(config, path, parts)
        self.plane = Plane(self.control.table, courier, self.reloader, watching)

    def __repr__(self) -> str:
        return f"<App {self.data}>"

    @property
    def worker(self) -> Worker:
        """The worker of this process."""
        return self.data.worker

    @property
    def config(self) -> Config:
        """As it was last read and accepted."""
        return self.reloader.config

    def start(self) -> None:
        """Open the listeners and the admin API. Raises StartError where one can't be opened; nothing is open then."""
        table = self.control.table
        try:
            self._prepare(table)
        except (StartError, AdminError) as error:
            self.worker.stop_listening()
            self.control.close_at_once()
            raise StartError(str(error)) from error
        for addr in table.listeners:
            self.worker.start(addr)
        self.control.open()
        self.control.before_close(Noticing(self.reloader.files_in_use, self.reloader.take_changed).close)
        for warning in check_workers(self.config):
            log.warning("%s", warning)
        log.info("mcproxy %s started, generation %d", __version__, table.generation)
        if found := self.control.file.differing(table):
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

    def _begin_telling(self) -> None:
        """Notify the service manager that we serve, and from now on of the state and that the hub turns."""
        pulse = self.data.pulse
        pulse.every(STATUS_INTERVAL, lambda: self.notifier.status(f"{self.plane.state}: {self._summary()}"))
        if self.notifier.interval:
            pulse.every(self.notifier.interval, self.notifier.alive)
        self.data.begin()
        self.notifier.ready()

    def _summary(self) -> str:
        shared = self.worker.shared
        return f"{counted(len(shared.sessions), 'connection')} open, generation {shared.live.table.generation}"

    def _prepare(self, table: Table) -> None:
        """Take every address, the admin API's too, then make the seed durable. Raises StartError and AdminError.

        The seed comes after all that can fail: once the database is seeded, a correction in the file changes nothing.
        """
        for addr in table.listeners:
            try:
                self.worker.bind(addr)
            except OSError as error:
                raise StartError(bind_failure(addr, error) + self._if_not_in_file(addr)) from error
        self.control.prepare(self.plane)
        try:
            self.control.seed()
        except StoreError as error:
            raise StartError(f"database.path: {error}") from error

    def _if_not_in_file(self, addr: str) -> str:
        """The end of an error about a listener that no change of the file corrects."""
        if self.control.file.names(listener_key(addr)):
            return ""
        database = self.config.database.path
        return (
            f"; the listener is in the database {database}, not in the configuration file: make the address available, "
            "or move the database away to start from the file"
        )

    def stop(self) -> bool:
        """Stop accepting, drain, release everything. True: every session ended by itself."""
        self.reloader.close()
        self.notifier.stopping()
        self.control.drain()
        clean = self.data.desk.drain(self.config.proxy.shutdown_timeout)
        self.control.close()
        self.reloader.wait(gevent.sleep)
        self.inherited.close()
        self.notifier.close()
        self.data.close()
        log.info("stopped" if clean else "stopped; connections had to be cut")
        return clean


def serve(config: Config, path: Path) -> int:
    """Run until told to stop; `config` was read from `path`. Returns the exit status: 0 drained clean, 1 not.

    Raises StartError.
    """
    signals = Signals()
    _raise_descriptor_limit()
    sink = Sink()
    handler = log_lines.configure(sink, config.log.level, config.log.format)
    signals.last_words = sink.close
    try:
        notifier, inherited = Notifier.from_environment(), Inherited.from_environment()
        app = App(config, sink.put, notifier, inherited, path, lambda: sink.dropped)
        if signals.stop is None:
            app.start()
            _tune()
            _wait(signals, app)
        clean = app.stop()
        if app.control.hangs:  # the interpreter's own end would wait for the threads that hang
            sink.close()
            os._exit(1)
        return 0 if clean else 1
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
    assert signals.stop is not None
    log.info("%s: draining for up to %g s", signals.stop.name, app.config.proxy.shutdown_timeout)


def _open_geoip(config: Config) -> GeoIP | None:
    if not config.firewall.geoip_db:
        return None
    try:
        return GeoIP.open(config.firewall.geoip_db)
    except GeoIPError as error:
        raise StartError(f"firewall.geoip_db: {error}") from error


def _tune() -> None:
    """Keep other threads' computing and garbage collection off the hub.

    A session leaves no cycles, and the table lives on anyway.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def _raise_descriptor_limit() -> None:
    """Two descriptors for each connection: take all that the system grants."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
