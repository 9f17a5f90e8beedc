"""What the control plane asks of the data plane: an interface, and the values that cross it.

The admin API runs in native threads and may not import net, l7 or gevent. desk.py implements `DataPlane`, and app.py
passes it in; each call goes through the hub's door (net/door.py), which has its own time limit, and returns plain
frozen values. A hub that doesn't answer raises `PlaneBusy`, which callers of the API see as UNAVAILABLE.

Opening a listener has two halves, so that a change is durable before it is visible and a failure leaves nothing
behind: `bind_listener` takes the address before the commit and accepts nobody, `start_listener` accepts once the table
that names the listener is published. `close_listener` ends either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mcproxy.model import End, FirewallRule, Listener, Mode, Reason, Route
from mcproxy.policy.networks import Networks, pack
from mcproxy.stats import NO_LAGS, Counters, Distribution
from mcproxy.table import Table

NOTHING_COUNTED = Counters()


class PlaneBusy(Exception):
    """The hub didn't answer in time, and will not act on what it was asked, a publication excepted."""


class PlaneStopping(PlaneBusy):
    """The server drains: it opens nothing any more."""


class RouteRefused(Exception):
    """A route that must not be: `key` is that of its field, `message` says what is wrong and what to do."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class State(StrEnum):
    """What the whole server is doing."""

    SERVING = "serving"
    DRAINING = "draining"  # no new connections; live ones may finish


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """One listener since the start."""

    addr: str
    accepting: bool = True
    counters: Counters = NOTHING_COUNTED


@dataclass(frozen=True, slots=True)
class RouteCounters:
    """One route since the start: connections that asked for it, and those of them that were refused."""

    listener: str
    hostname: str
    counters: Counters = NOTHING_COUNTED


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """One certificate of an l7 route, as it is in use."""

    listener: str
    hostname: str
    path: str
    not_after: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class RouteProblem:
    """What is wrong with a file of an l7 route: its certificate, its key or the CA of its backend."""

    listener: str
    hostname: str
    key: str  # of the route, which names the file
    message: str  # with the file and what to do


@dataclass(frozen=True, slots=True)
class Serving:
    """What an l7 route's files, and what was loaded of them, come to at the next connection."""

    refusal: str = ""  # why its client would be refused
    notes: Sequence[str] = ()  # what else should be known of its certificate
    rejections: Sequence[str] = ()  # why clients will not accept its certificate
    failure: str = ""  # why its requests would be answered 502


@dataclass(frozen=True, slots=True)
class GeoipStatus:
    """The GeoIP database in use; no path: none."""

    path: str = ""
    built_at: float = 0.0  # seconds since the epoch


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
    """What a reload came to."""

    at: float  # seconds since the epoch
    refused: str = ""  # why nothing was changed; the problems say more
    problems: Sequence[str] = ()  # with the file, or else with what was kept instead
    applied: Sequence[KeyChange] = ()
    waiting: Sequence[KeyChange] = ()  # for a restart
    seed: Sequence[str] = ()  # keys that differ from the file as it was, and are not read again


@dataclass(frozen=True, slots=True)
class PlaneStatus:
    """The data plane at one glance."""

    state: State
    started_at: float  # seconds since the epoch
    listeners: Sequence[ListenerStatus] = ()
    certificates: Sequence[CertificateStatus] = ()
    geoip: GeoipStatus = GeoipStatus()
    log_level: str = "info"
    log_dropped: int = 0  # lines, because nobody read them in time
    log_left_out: int = 0  # lines, because there were too many of their kind
    lag: Distribution = NO_LAGS  # how late the hub was
    problems: Sequence[RouteProblem] = ()  # with the files of l7 routes, as they are on disk


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One connection, live or just ended."""

    id: int  # unique while the process lives, rising
    listener: str
    client: str  # "IP:PORT"
    started_at: float  # seconds since the epoch
    state: str  # in the session's own words
    sni: str = ""
    route: str = ""  # host name of the route found
    backend: str = ""
    mode: Mode | None = None  # None before a route is found
    received: int = 0
    sent: int = 0


class EventKind(StrEnum):
    """What happened to a connection."""

    OPENED = "opened"  # it reached its backend
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """Something that happened to a connection, for `watch`."""

    kind: EventKind
    at: float  # seconds since the epoch
    connection: ConnectionInfo
    reason: Reason = Reason.OK
    end: End | None = None  # None while it lives
    detail: str = ""
    duration: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class Selection:
    """Which connections a list or a stream is about: those that match every field that is given."""

    listener: str = ""
    route: str = ""  # normalised
    clients: Networks | None = None
    refused: bool = False  # of events: those of refused connections

    def takes(self, connection: ConnectionInfo) -> bool:
        """Whether a connection is meant; one without a route counts by the name that it asked for."""
        if self.listener and connection.listener != self.listener:
            return False
        if self.route and (connection.route or connection.sni) != self.route:
            return False
        return self.clients is None or self.clients.find(_address(connection.client)) is not None

    def takes_event(self, event: ConnectionEvent) -> bool:
        """Whether an event is of a connection that is meant."""
        return (not self.refused or event.kind is EventKind.REFUSED) and self.takes(event.connection)


def _address(client: str) -> bytes:
    """The packed address in "IP:PORT"."""
    return pack(client.rpartition(":")[0].strip("[]"))


EVERYTHING = Selection()

Sink = Callable[[ConnectionEvent], None]


class DataPlane(Protocol):
    """The data plane, seen from a native thread. Every method may raise `PlaneBusy`."""

    def bind_listener(self, listener: Listener) -> None:
        """Take the address, accepting nobody yet. Raises OSError where it can't be had, and PlaneStopping."""

    def start_listener(self, addr: str) -> None:
        """Accept on a bound address. Raises OSError, and PlaneStopping."""

    def close_listener(self, addr: str) -> None:
        """Give the address up; live connections go on. Does nothing where it isn't open."""

    def status(self) -> PlaneStatus:
        """Return what is going on."""

    def route_counters(self) -> Sequence[RouteCounters]:
        """Return the counters of the routes that have had a connection."""

    def connections(self, after: int, limit: int, selection: Selection = EVERYTHING) -> Sequence[ConnectionInfo]:
        """Return at most `limit` live connections with an id above `after`, by id."""

    def close_connections(self, ids: Sequence[int]) -> Sequence[int]:
        """Cut connections with a RST. Returns the ids of those that were there."""

    def kill_matching(self, rule: FirewallRule) -> int:
        """Cut the live connections that the rule matches, and say how many."""

    def publish(self, table: Table) -> None:
        """Put a table in force. Returns when every later connection is decided by it, in every worker.

        Raises PlaneBusy where that takes long; the table still comes into force, and tables do so in their order.
        """

    def country(self, packed: bytes) -> str | None:
        """Return the ISO 3166-1 code of a packed address; None where it has none or there is no GeoIP database."""

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """Ask the limits, without counting, what they would say to one connection more on this listener."""

    def would_admit(self, packed: bytes) -> Reason | None:
        """Ask the limits, without counting, what they would say to one connection more from a packed address."""

    def would_serve(self, listener: str, route: Route) -> Serving:
        """Look whether an l7 route's certificate could be served, and its backend verified, at the next connection."""

    def check_route(self, listener: str, route: Route) -> Sequence[str]:
        """Judge a route's files and what certificates mean to other routes, an l4 route's name included.

        Returns warnings. Raises RouteRefused.
        """

    def check_routes(
        self, before: Table, after: Table, changed: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[RouteProblem], Sequence[str]]:
        """Judge the files of changed routes, each a listener and a host name, as `check_route` does for one.

        Returns what forbids a change, and the warnings that `after` has and `before` has not.
        """

    def reload(self) -> ReloadReport:
        """Read the configuration file, all certificates and the GeoIP database again."""

    def reload_geoip(self) -> GeoipStatus:
        """Reopen the GeoIP database. Raises ValueError where it is broken; the old one stays."""

    def reload_certificates(self) -> Sequence[CertificateStatus]:
        """Read all certificates again. Raises ValueError where one is broken; the old one stays."""

    def set_log_level(self, level: str) -> None:
        """Log from this level on, until the next start, or until a reload finds another one in the file."""

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Call `sink` on the hub for each event, until the returned function is called. `sink` never blocks."""
