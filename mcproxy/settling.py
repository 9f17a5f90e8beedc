"""What a reload changes in a worker: files are read in the thread that asks, and used in one step on the hub.

What was read waits here between the two: the control plane decides, when every worker has read, what all of them use.
It reloads once at a time, so there is one place for it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mcproxy import log as log_lines
from mcproxy.certificates import contexts
from mcproxy.certificates.contexts import Contexts
from mcproxy.geoip import GeoIP, GeoIPError
from mcproxy.journal import ConnectionLog
from mcproxy.messages import (
    NEEDS_GEOIP,
    FilesRead,
    GeoipStatus,
    ReadFiles,
    ReadFilesInUse,
    SetLogLevel,
    Settings,
    Settle,
    Unsettled,
)
from mcproxy.net.worker import Worker


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The contents of the files that were read."""

    certificates: contexts.Fresh | None = None
    geoip: GeoIP | None = None


class Settling:
    """Reads a worker's files again, and puts them and new settings to use."""

    def __init__(
        self, worker: Worker, contexts: Contexts, lines: ConnectionLog,
        open_geoip: Callable[[str], GeoIP] = GeoIP.open,
    ) -> None:  # fmt: skip
        """`open_geoip` opens a GeoIP database by its path, or raises GeoIPError."""
        self._open_geoip = open_geoip
        self._shared = worker.shared
        self._worker = worker
        self._contexts = contexts
        self._lines = lines
        self._fresh = _Fresh()

    def __repr__(self) -> str:
        return f"<Settling {self._fresh}>"

    def files(self, _request: ReadFilesInUse) -> frozenset[str]:
        """The files that are in use, of certificates and CAs. Any thread may ask."""
        return frozenset(self._contexts.files())

    def read(self, request: ReadFiles) -> FilesRead:
        """Read files again. To be called in a native thread: a file may hang."""
        certificates = self._contexts.read_again(request.changed) if request.certificates else None
        geoip, problem = None, ""
        if request.geoip:
            try:
                geoip = self._open_geoip(request.geoip)
            except GeoIPError as error:
                problem = str(error)
        self._fresh = _Fresh(certificates, geoip)
        status = geoip_status(geoip) if geoip is not None else None
        if certificates is None:
            return FilesRead(geoip=status, geoip_problem=problem)
        return FilesRead(
            frozenset(certificates.read),
            {key: old.route.tls_cert for key, (old, _new) in certificates.servers.items()},
            frozenset(path for path, _protocol in certificates.clients),
            tuple(certificates.problems),
            status,
            problem,
        )

    def settle(self, request: Settle) -> None:
        """On the hub: use all of it. Raises Unsettled before the first change."""
        fresh, shared = self._fresh, self._shared
        if request.geoip and fresh.geoip is None and shared.live.table.firewall.countries:
            raise Unsettled(NEEDS_GEOIP)
        self._fresh = _Fresh()
        if request.settings is not None:
            self._apply(request.settings)
        if request.geoip:
            old, shared.geoip = shared.geoip, fresh.geoip
            if old is not None:
                old.close()
        if fresh.certificates is not None:
            self._contexts.take(fresh.certificates)
            self._contexts.prune(shared.live.table.has_route)

    def set_log_level(self, request: SetLogLevel) -> None:
        """Log from this level on. Any thread may ask."""
        logging.getLogger("mcproxy").setLevel(request.level.upper())

    def _apply(self, settings: Settings) -> None:
        self._shared.timeouts = settings.timeouts
        self._worker.limit(settings.max_connections, settings.max_per_ip, settings.rate_per_ip, settings.burst_per_ip)
        self._lines.write_as(settings.log_format)
        log_lines.write_as(settings.log_format)


def geoip_status(geoip: GeoIP | None) -> GeoipStatus:
    """The status of an open database, or of none."""
    return GeoipStatus(str(geoip.path), geoip.built_at) if geoip is not None else GeoipStatus()
