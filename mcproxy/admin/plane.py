"""The data plane as the admin API sees it: all workers as one, and the files that they use.

The admin API runs in native threads and may not import net, l7 or gevent; `plane.py` implements `DataPlane` for it, by
asking workers (messages.py). A worker that doesn't answer in time raises `PlaneBusy`, which callers of the API see as
UNAVAILABLE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mcproxy.certificates.routes import CertificateStatus, Listed, RouteProblem, Serving
from mcproxy.change import Change
from mcproxy.messages import (
    EVERYTHING,
    MAX_LOOK,
    NO_GEOIP,
    ConnectionInfo,
    EventSink,
    GeoipStatus,
    ListenerStatus,
    Look,
    RouteCounters,
    Selection,
    WorkerInfo,
)
from mcproxy.model import FirewallRule, Listener, Reason, Route
from mcproxy.stats import NO_LAGS, Distribution, Spoken
from mcproxy.table import Table


class ServerState(StrEnum):
    """The state of the whole server."""

    SERVING = "serving"
    DRAINING = "draining"  # no new connections; live ones may finish


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key of the configuration file whose value is no longer the one in force, both as a person writes them."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key} from {self.old} to {self.new}"


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The result of a reload."""

    at: float  # seconds since the epoch
    refused: str = ""  # why nothing was changed; the problems say more
    problems: Sequence[str] = ()  # with the file, or else with what was kept instead
    applied: Sequence[KeyChange] = ()
    waiting: Sequence[KeyChange] = ()  # for a restart
    seed: Sequence[str] = ()  # keys that differ from the file as it was, and are not read again


@dataclass(frozen=True, slots=True)
class PlaneStatus:
    """The data plane at one glance."""

    state: ServerState
    started_at: float  # seconds since the epoch
    listeners: Sequence[ListenerStatus] = ()
    certificates: Sequence[CertificateStatus] = ()
    geoip: GeoipStatus = NO_GEOIP
    log_level: str = "info"
    log_dropped: int = 0  # lines that were read too slowly or could not be written
    log_left_out: int = 0  # lines, because there were too many of their kind
    lag: Distribution = NO_LAGS  # how late the hub was
    problems: Sequence[RouteProblem] = ()  # with the files of l7 routes, as they are on disk
    last_reload: ReloadReport | None = None  # since the start
    workers: Sequence[WorkerInfo] = ()  # where there are several


class Ordering(Protocol):
    """The certificates of l7 routes, and what ACME is asked to do."""

    def certificate(self, listener: str, route: Route) -> Listed:
        """Return the certificate of an l7 route, as it is in use."""

    def adopt(self, route: Route) -> None:
        """Serve the files of an l7 route that is about to have its certificate from ACME until that is there.

        What they hold is durable then; nothing happens if they can't be used. Raises StoreError.
        """

    def lacking(self) -> str:
        """What keeps the server from ordering any certificate, and what to do; "" if nothing does."""

    def renew(self, hostname: str) -> str:
        """Have a certificate ordered for a name now. Returns why it has to wait; "": nothing is known that keeps it."""


class DataPlane(Protocol):
    """The data plane, seen from a native thread. Every method may raise `PlaneBusy`."""

    @property
    def workers(self) -> int:
        """How many workers there are, each in a process of its own; 1: the worker is in this process."""

    @property
    def orders(self) -> Ordering:
        """The certificates."""

    def bind_listener(self, listener: Listener) -> None:
        """Take the address without accepting yet. Raises OSError if it can't be had, and PlaneStopping."""

    def start_listener(self, addr: str) -> None:
        """Accept on a bound address. Raises OSError, and PlaneStopping."""

    def close_listener(self, addr: str) -> None:
        """Give the address up; live connections go on. Does nothing if it isn't open."""

    def status(self) -> PlaneStatus:
        """Return the status."""

    def route_counters(self) -> Sequence[RouteCounters]:
        """Return the counters of the routes that have had a connection."""

    def connections(self, after: int, limit: int, selection: Selection = EVERYTHING) -> Sequence[ConnectionInfo]:
        """Return at most `limit` live connections with an id above `after`, by id."""

    def close_connections(self, ids: Sequence[int]) -> Sequence[int]:
        """Cut connections with a RST. Returns the ids of those that were there."""

    def kill_matching(self, rule: FirewallRule) -> int:
        """Cut the live connections that the rule matches; return how many."""

    def count_matching(self, rule: FirewallRule) -> int:
        """Return how many live connections the rule matches."""

    def publish(self, table: Table, changes: Sequence[Change]) -> None:
        """Put a table in force, to which `changes` lead from the one before.

        Returns when every later connection is decided by it, in every worker. Raises PlaneBusy if that takes long;
        the table still comes into force, and tables do so in their order.
        """

    def country(self, packed: bytes) -> str | None:
        """Return the ISO 3166-1 code of a packed address; None if it has none or there is no GeoIP database."""

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """Ask the limits, without counting, about one connection more on this listener."""

    def would_admit(self, packed: bytes) -> Reason | None:
        """Ask the limits, without counting, about one connection more from a packed address."""

    def would_serve(self, listener: str, route: Route) -> Serving:
        """Look whether an l7 route's certificate could be served, and its backend verified, at the next connection."""

    def spoken(self, listener: str, route: Route) -> Spoken | None:
        """Return the version of HTTP that an l7 route's backend was found to speak; None: that isn't known."""

    def look(self, route: Route, seconds: float = MAX_LOOK) -> Look:
        """Connect to a route's backend, within a session's time or `seconds`, and report how it answers.

        Raises PlaneStopping.
        """

    def check_route(self, listener: str, route: Route) -> Sequence[str]:
        """Judge a route's files, and certificates that cover the names of other routes, l4 routes included.

        Returns warnings. Raises RouteRefused.
        """

    def check_routes(
        self, before: Table, after: Table, changed: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[RouteProblem], Sequence[str]]:
        """Judge the files of changed routes, each a listener and a host name, as `check_route` does for one.

        Returns the problems that forbid a change, and the warnings that `after` has and `before` has not.
        """

    def reload(self) -> ReloadReport:
        """Read the configuration file, all certificates and the GeoIP database again."""

    def reload_geoip(self) -> GeoipStatus:
        """Reopen the GeoIP database. Raises ValueError if it is broken; the old one stays."""

    def reload_certificates(self) -> Sequence[CertificateStatus]:
        """Read all certificates again. Raises ValueError if one is broken; the old one stays."""

    def set_log_level(self, level: str) -> None:
        """Log from this level on, until the next start, or until a reload finds another one in the file."""

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Call `sink`, in any thread, for each event, until the returned function is called. `sink` never blocks."""
