"""One reload with two triggers: SIGHUP (`begin`, on the hub) and the admin API (`reload`, in its threads).

    read the file -> have workers open the files that it names -> use all in one step -> the admin API's certificates

All reading takes place in a native thread, one reload at a time. An invalid configuration file changes nothing. If a
certificate or the GeoIP database can't be used, only that one stays as it was loaded before: the renewal of one
certificate must not wait for another.

Sessions look up timeouts when they need them. So new timeouts hold for new sessions at once, and for an open session
from the next check of its deadline, which is within a quarter of the old timeout.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcproxy import disk, judging
from mcproxy import log as log_lines
from mcproxy.admin.plane import ReloadReport
from mcproxy.admin.server import AdminError
from mcproxy.configuration import Config
from mcproxy.document import ConfigError
from mcproxy.messages import (
    NO_GEOIP,
    Courier,
    FilesRead,
    GeoipStatus,
    PlaneBusy,
    PlaneStopping,
    ReadFiles,
    ReadFilesInUse,
    SetLogLevel,
    Settings,
    Settle,
    Unsettled,
)
from mcproxy.model import Timeouts, counted
from mcproxy.notify import Notifier
from mcproxy.reload import keys
from mcproxy.words import key_remedy

CLOSE_WAIT = 2.0  # seconds that the end waits for a reload that is reading; a disk that hangs must not stop it
CONFIG_SECONDS = 60.0  # for judging the file: 100,000 routes take some seconds
CLOSE_CHECK = 0.01  # seconds between two looks at whether it has ended

_GEOIP = "firewall.geoip_db"

log = logging.getLogger(__package__)


def settings(config: Config) -> Settings:
    """The settings of workers."""
    proxy, firewall = config.proxy, config.firewall
    timeouts = Timeouts(
        proxy.handshake_timeout, proxy.connect_timeout, proxy.idle_timeout, proxy.half_close_timeout,
        proxy.backend_idle_timeout,
    )  # fmt: skip
    return Settings(
        timeouts,
        proxy.max_connections,
        firewall.max_connections_per_ip,
        firewall.connection_rate_per_ip,
        firewall.connection_burst_per_ip,
        config.log.format,
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the server that a reload changes or notifies."""

    courier: Courier
    notifier: Notifier
    control: Callable[[Config], None]  # takes the new file; raises AdminError, and keeps its certificates then
    survey: Callable[[], None]  # begins to look at all certificates


@dataclass(slots=True)
class _Fresh:
    """The files that were read, and the problems of the others."""

    config: Config
    plan: keys.Plan
    read: FilesRead
    problems: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)  # keys that differ and whose old value stays, for a problem


class _Refused(Exception):
    """Nothing may be changed; the message says why."""


class Reloader:
    """Reads again what can change while the server runs."""

    def __init__(self, config: Config, path: Path | None, parts: Parts) -> None:
        """`path` is the configuration's file; None: no file, so its values stay."""
        self.config = config  # as it was last read and accepted
        self.last: ReloadReport | None = None
        self._in_force = keys.values(config)
        self._path = path
        self._parts = parts
        self._reloading = threading.Lock()
        self._changing = threading.Lock()  # of the three below
        self._wanted = self._running = False  # a reload by `begin`, and the thread for it
        self._closed = False

    def __repr__(self) -> str:
        return f"<Reloader {self._path} running={self._running} closed={self._closed}>"

    def begin(self) -> None:
        """Reload in a thread of its own; after the reload that is going on, if there is one.

        However many times it is called meanwhile, one reload follows, which sees all that was changed before the calls.
        """
        with self._changing:
            if self._closed:
                log.info("not reloaded: the server is stopping")
                return
            self._wanted = True
            if not self._running:
                self._running = True
                self._parts.notifier.reloading()
                threading.Thread(target=self._run, name="reload", daemon=True).start()

    def _run(self) -> None:
        while self._next():
            try:
                self.reload()
            except PlaneBusy as error:
                log.warning("not reloaded: %s", error)
            except Exception:
                log.exception("bug in a reload")

    def _next(self) -> bool:
        with self._changing:
            self._running, self._wanted = self._wanted and not self._closed, False
            if not self._running and not self._closed:
                self._parts.notifier.ready()
            return self._running

    def close(self) -> None:
        """Start no further reload, and keep the one that is reading from changing anything."""
        self._closed = True

    def wait(self, pause: Callable[[float], object]) -> None:
        """After `close`: wait, for a bounded time, until no reload by `begin` is going on; `pause` takes seconds."""
        end = time.monotonic() + CLOSE_WAIT
        while self._running and time.monotonic() < end:
            pause(CLOSE_CHECK)

    def reload(self) -> ReloadReport:
        """Read everything again, put it in force, and log the result. To be called in a native thread.

        Raises PlaneBusy and PlaneStopping: then nothing has changed.
        """
        with self._reloading:
            try:
                report, besides = self._reload()
            except ConfigError as error:
                report, besides = _refusal(list(map(str, error.problems)), error.path), []
            except _Refused as error:
                report, besides = _refusal([str(error)], self._path), []
            self.last = report
            self._log(report, besides)
        self._parts.survey()
        return report

    def reload_geoip(self) -> GeoipStatus:
        """Open the GeoIP database again. Raises ValueError if it is not configured or broken, and PlaneBusy."""
        path = self.config.firewall.geoip_db
        if not path:
            raise ValueError("there is no firewall.geoip_db to open")
        with self._reloading:
            read = self._parts.courier.ask(ReadFiles(certificates=False, geoip=path))
            if read.geoip_problem:
                raise ValueError(read.geoip_problem)
            self._settle(Settle(geoip=True))
        return read.geoip or NO_GEOIP

    def reload_certificates(self) -> None:
        """Read the files of all routes in use again. Raises ValueError for those that are broken, PlaneBusy."""
        with self._reloading:
            read = self._parts.courier.ask(ReadFiles())
            self._settle(Settle())
        if read.problems:
            raise ValueError("; ".join(read.problems))

    def files_in_use(self) -> frozenset[str]:
        """The files that `take_changed` can have read again."""
        return self._parts.courier.ask(ReadFilesInUse())

    def take_changed(self, files: frozenset[str]) -> None:
        """Use certificates and CAs of which these files have changed, and log it. Raises PlaneBusy, PlaneStopping."""
        with self._reloading:
            read = self._parts.courier.ask(ReadFiles(changed=files))
            self._settle(Settle())
        for problem in read.problems:
            log.error("%s", problem)
        for (_listener, hostname), path in read.renewed.items():
            log.info("%s: %s has changed on disk and is in use", hostname, path)
        for path in sorted(read.cas):
            log.info("backend_ca: the CAs in %s have changed on disk and are in use", path)

    def _reload(self) -> tuple[ReloadReport, list[str]]:
        """The report, and further texts for the log. Raises ConfigError and _Refused."""
        config = _load(self._path) if self._path is not None else self.config
        fresh = self._read(config)
        try:
            self._settle(Settle(settings(config), geoip=_GEOIP not in fresh.kept))
        except Unsettled as error:
            raise _Refused(f"{_GEOIP}: {error}") from error
        log_lines.write_as(config.log.format)
        try:
            self._parts.control(config)
        except AdminError as error:
            fresh.problems.append(f"{error}; the admin API keeps its old certificate")
            fresh.kept.update(change.key for change in fresh.plan.applied if change.key.startswith("grpc."))
        applied = [change for change in fresh.plan.applied if change.key not in fresh.kept]
        self.config = config
        taken = [change.key for change in applied]
        self._in_force = keys.after(self._in_force, keys.values(config), [*taken, *fresh.plan.seed])
        report = ReloadReport(time.time(), "", fresh.problems, applied, fresh.plan.waiting, fresh.plan.seed)
        return report, _besides(fresh)

    def _read(self, config: Config) -> _Fresh:
        """Have everything read from the disk."""
        plan = keys.plan(self._in_force, keys.values(config))
        read = self._parts.courier.ask(ReadFiles(geoip=config.firewall.geoip_db))
        fresh = _Fresh(config, plan, read, list(read.problems))
        if read.geoip_problem:
            fresh.problems.append(f"{_GEOIP}: {read.geoip_problem}; the open database stays in use")
            fresh.kept.add(_GEOIP)
        return fresh

    def _log(self, report: ReloadReport, besides: Sequence[str]) -> None:
        """Log the result, and only then set a new level: a reload that makes the log quieter is logged too."""
        logger = logging.getLogger("mcproxy")
        new = next((change.new for change in report.applied if change.key == "log.level"), "")
        level = logging.getLevelNamesMapping()[new.upper()] if new else logger.level
        logger.setLevel(min(level, logger.level))
        for severity, text in lines(report, besides, self._path):
            log.log(severity, "%s", text)
        logger.setLevel(level)
        if new:
            self._parts.courier.ask(SetLogLevel(new))

    def _settle(self, request: Settle) -> None:
        """Use what was read. Raises Unsettled, PlaneBusy and PlaneStopping: then nothing has changed."""
        if self._closed:
            raise PlaneStopping("the server is stopping")
        self._parts.courier.ask(request)


def _load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError, and _Refused where that takes too long."""
    try:
        return disk.within(f"the configuration in {path}", lambda: judging.load(path), CONFIG_SECONDS)
    except disk.Hangs as error:
        raise _Refused(f"{path} takes too long to judge: {error.strerror}") from error


def _refusal(problems: Sequence[str], path: Path | None) -> ReloadReport:
    whole = f"{path or 'the configuration'} has {counted(len(problems), 'problem')}"
    return ReloadReport(time.time(), whole, problems)


def _besides(fresh: _Fresh) -> list[str]:
    """The other files that were read, for the log."""
    found = []
    read = fresh.read
    if read.certificates:
        found.append(f"{len(read.renewed)} of {counted(len(read.certificates), 'certificate')} in use changed")
    if read.geoip is not None:
        found.append(f"GeoIP database of {time.strftime('%Y-%m-%d', time.gmtime(read.geoip.built_at))}")
    return found


def lines(report: ReloadReport, besides: Sequence[str], path: Path | None) -> Iterator[tuple[int, str]]:
    """The log lines of a reload: each problem, each key that was not applied, and a summary."""
    file = f"{path}: " if path is not None and report.refused else ""
    for problem in report.problems:
        yield logging.ERROR, f"{file}{problem}"
    if report.refused:
        yield logging.ERROR, f"not reloaded: {report.refused}; nothing has changed"
        return
    for change in report.waiting:
        yield logging.WARNING, f"{change}: {key_remedy(change.key)}"
    if report.seed:
        keys_of_seed = ", ".join(report.seed)
        yield logging.WARNING, f"{keys_of_seed}: only read into an empty database; `mcproxy diff` shows what differs"
    changes = ", ".join(map(str, report.applied)) or "no key has changed"
    summary = f"reloaded {path or 'the files in use'}: {'; '.join([changes, *besides])}"
    if report.problems:
        yield logging.WARNING, f"{summary}; but {counted(len(report.problems), 'problem')}: see the errors above"
    else:
        yield logging.INFO, summary
