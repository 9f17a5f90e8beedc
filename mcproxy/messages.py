"""Messages between the control plane and a worker: frozen requests, and the frozen values that answer them.

`desk.py` answers them for its worker. A `Courier` takes them there: through the hub's door in one process; another one
could use a socket, since they contain only values. Each request's class documents its answer.

Opening a listener has two halves, so that a change is durable before it is visible and a failure leaves nothing
behind: `BindListener` takes the address before the commit and accepts nobody, `StartListener` accepts once the
table that names the listener is published. `CloseListener` ends either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from mcproxy.certificates.acme.order import Kept
from mcproxy.certificates.pem import Certificate, Pair
from mcproxy.change import Change
from mcproxy.lines import Format
from mcproxy.model import End, FirewallRule, Mode, Reason, Route, RouteKey, Timeouts, host_of
from mcproxy.policy.networks import Networks, pack
from mcproxy.stats import NO_LAGS, Counters, Distribution, Spoken
from mcproxy.table import Table

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

NOTHING_COUNTED = Counters()


class PlaneBusy(Exception):
    """The hub didn't answer in time, and will not act on the request, a publication excepted."""


class PlaneStopping(PlaneBusy):
    """The server drains and opens nothing more."""


NEEDS_GEOIP = "the database has country rules, which need one: remove them first"


class Unsettled(Exception):
    """A reload is refused whole; the message says why and what to do."""


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
    spoken: Spoken | None = None  # None: it isn't known what its backend speaks

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickling: see BackendCounters."""
        return RouteCounters, (self.listener, self.hostname, self.counters, self.spoken)


@dataclass(frozen=True, slots=True)
class GeoipStatus:
    """The GeoIP database in use; `path` is "" if there is none."""

    path: str = ""
    built_at: float = 0.0  # seconds since the epoch


NO_GEOIP = GeoipStatus()


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One connection, live or just ended."""

    id: int  # unique while the server lives, rising at each worker; see model.worker_of
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
    """The kind of a connection event."""

    OPENED = "opened"  # it reached its backend
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A connection that opened, ended or was refused, for `watch`."""

    kind: EventKind
    at: float  # seconds since the epoch
    connection: ConnectionInfo
    reason: Reason = Reason.OK
    end: End | None = None  # None while it lives
    detail: str = ""
    duration: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects connections for a list or a stream: those that match every field that is set."""

    listener: str = ""
    route: str = ""  # normalised
    clients: Networks | None = None
    refused: bool = False  # of events: those of refused connections

    def takes(self, connection: ConnectionInfo) -> bool:
        """True if a connection is selected; one without a route counts by the name that it asked for."""
        if self.listener and connection.listener != self.listener:
            return False
        if self.route and (connection.route or connection.sni) != self.route:
            return False
        return self.clients is None or self.clients.find(pack(host_of(connection.client))) is not None

    def takes_event(self, event: ConnectionEvent) -> bool:
        """True if an event's connection is selected."""
        return (not self.refused or event.kind is EventKind.REFUSED) and self.takes(event.connection)


EVERYTHING = Selection()
EventSink = Callable[[ConnectionEvent], None]  # called by whatever thread an event comes from; never blocks


class WorkerState(StrEnum):
    """The state of one of several workers."""

    STARTING = "starting"  # its process is made, and accepts nobody yet
    SERVING = "serving"
    FAILING = "failing"  # its processes die as they start: a further one is made later
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One of several workers, as the parent sees it."""

    number: int  # from 1
    state: WorkerState
    pid: int = 0  # 0: it has no process
    started_at: float = 0.0  # when its process began, in seconds since the epoch
    connections: int = 0  # open
    restarts: int = 0  # since the server's start
    lag: Distribution = NO_LAGS  # how late its hub was since its process began
    failure: str = ""  # how its last process ended; "" if none has
    silence: float = 0.0  # seconds for which it has not shown that its hub turns; 0: it has lately


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker at one glance, or all of them together."""

    started_at: float  # seconds since the epoch
    listeners: Sequence[ListenerStatus]
    geoip: GeoipStatus
    lag: Distribution  # how late the hub was
    log_left_out: int  # lines, because there were too many of their kind
    log_dropped: int = 0  # lines that were read too slowly or could not be written
    workers: Sequence[WorkerInfo] = ()  # where there are several


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision, or of a look at a backend."""

    name: str
    passed: bool  # False: the connection ends here, or it goes on and its requests fail
    detail: str


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at a route's backend."""

    steps: Sequence[Step]
    reason: Reason = Reason.OK  # else a session would be refused with it, at the last step


class Request(Generic[T_co]):
    """A request to a worker; `T_co` is the type of its answer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BindListener(Request[None]):
    """Take an address, accepting nobody yet. Raises OSError if it can't be had, and PlaneStopping."""

    addr: str


@dataclass(frozen=True, slots=True)
class StartListener(Request[None]):
    """Accept on a bound address. Raises PlaneStopping."""

    addr: str


@dataclass(frozen=True, slots=True)
class CloseListener(Request[None]):
    """Give an address up; live connections go on. Does nothing if it isn't open."""

    addr: str


@dataclass(frozen=True, slots=True)
class Publish(Request[None]):
    """Put a table in force. It comes into force even if the courier gives up waiting, and tables do so in order."""

    table: Table
    changes: Sequence[Change]  # that lead to it from the one before: a courier may take only these


@dataclass(frozen=True, slots=True)
class CloseConnections(Request[Sequence[int]]):
    """End connections with a RST. Answered by the ids of those that were there."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class WouldEnter(Request[Reason | None]):
    """Ask the limits, without counting, about one connection more on a listener."""

    listener: str
    listener_max: int


@dataclass(frozen=True, slots=True)
class WouldAdmit(Request[Reason | None]):
    """Ask the limits, without counting, about one connection more from a packed address."""

    packed: bytes


@dataclass(frozen=True, slots=True)
class Watch(Request[None]):
    """Report connections as they open and end, or stop doing so."""

    on: bool


@dataclass(frozen=True, slots=True)
class ReadStatus(Request[WorkerStatus]):
    """The worker's status; a removed listener is included as long as it has a connection."""


@dataclass(frozen=True, slots=True)
class ReadRoutes(Request[Sequence[RouteCounters]]):
    """The counters of routes that have had a connection, and are there or have one still."""


@dataclass(frozen=True, slots=True)
class ReadConnections(Request[Sequence[ConnectionInfo]]):
    """At most `limit` live connections with an id above `after`, by id."""

    after: int
    limit: int
    selection: Selection = EVERYTHING


@dataclass(frozen=True, slots=True)
class Matching(Request[Sequence[int]]):
    """The ids of live connections that a firewall rule matches."""

    rule: FirewallRule


@dataclass(frozen=True, slots=True)
class FindCountry(Request[str | None]):
    """The ISO 3166-1 code of a packed address; None if it has none or there is no GeoIP database."""

    packed: bytes


@dataclass(frozen=True, slots=True)
class LoadedFiles:
    """The files of an l7 route as a worker has loaded them; they may have changed on disk."""

    certificate: Certificate | None  # None: the next handshake reads it
    trusts_ca: bool  # whether it has the CAs of the route's backend_ca
    reserved: Pair | None = None  # what it tries if the next handshake finds the files broken


@dataclass(frozen=True, slots=True)
class ReadLoaded(Request[LoadedFiles]):
    """The loaded files of an l7 route."""

    listener: str
    route: Route


@dataclass(frozen=True, slots=True)
class ReadSpoken(Request[Spoken | None]):
    """The version of HTTP that an l7 route's backend was found to speak; None: that isn't known."""

    listener: str
    route: Route


@dataclass(frozen=True, slots=True)
class Keep(Request[None]):
    """Have what ACME has for a name from now on."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class Forget(Request[None]):
    """Have nothing of ACME for a name from now on."""

    hostname: str


@dataclass(frozen=True, slots=True)
class ReadKept(Request[Kept | None]):
    """What a worker has of ACME for a name."""

    hostname: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The keys of the configuration that a worker keeps to, and that a reload can change."""

    timeouts: Timeouts
    max_connections: int  # this and the next three: see policy/limits.py
    max_per_ip: int
    rate_per_ip: float  # new ones a second
    burst_per_ip: int
    log_format: Format


@dataclass(frozen=True, slots=True)
class ReadFilesInUse(Request[frozenset[str]]):
    """The files of certificates and CAs that a worker has loaded, and that may change on disk."""


@dataclass(frozen=True, slots=True)
class Reserve(Request[None]):
    """Hold the pairs of l7 routes, each with its listener, for the case that their files break before they are used."""

    routes: Sequence[tuple[str, Route]]


@dataclass(frozen=True, slots=True)
class FilesRead:
    """The result of reading files again."""

    certificates: frozenset[RouteKey] = frozenset()  # that were read, unchanged ones too
    renewed: Mapping[RouteKey, str] = field(default_factory=dict)  # those that have changed, each with its chain's file
    cas: frozenset[str] = frozenset()  # files of CAs that were read and differ, or may
    problems: Sequence[str] = ()  # with certificates and CAs; what was loaded of these stays in use
    geoip: GeoipStatus | None = None  # None: none was to be opened, or it is broken
    geoip_problem: str = ""

    def __or__(self, other: "FilesRead") -> "FilesRead":
        """What two workers have read. A database that either couldn't open is broken."""
        problem = self.geoip_problem or other.geoip_problem
        return FilesRead(
            self.certificates | other.certificates,
            {**self.renewed, **other.renewed},
            self.cas | other.cas,
            tuple(dict.fromkeys((*self.problems, *other.problems))),
            None if problem else self.geoip or other.geoip,
            problem,
        )


@dataclass(frozen=True, slots=True)
class ReadFiles(Request[FilesRead]):
    """Read files in use again, and hold what they contain for the next `Settle`; until then nothing changes."""

    certificates: bool = True  # False: none of them, nor CAs
    changed: frozenset[str] | None = None  # only pairs and CAs with a file among these
    geoip: str = ""  # the path of the GeoIP database to open; "": none


@dataclass(frozen=True, slots=True)
class Settle(Request[None]):
    """Use what the last `ReadFiles` has read, all in one step. Raises PlaneStopping, and Unsettled for country rules.

    After an exception nothing has changed.
    """

    settings: Settings | None = None  # None: as they are
    geoip: bool = False  # whether what was read takes the place of the GeoIP database: another one, or none


@dataclass(frozen=True, slots=True)
class SetLogLevel(Request[None]):
    """Log from this level on."""

    level: str  # one of model.LOG_LEVELS


@dataclass(frozen=True, slots=True)
class Drain(Request[bool]):
    """Accept nothing more, wait until the sessions have ended or `seconds` have passed, and cut those that are left.

    Answered at the end; True: none was cut.
    """

    seconds: float


MAX_LOOK = 10.0  # seconds for one look at a backend: `connect_timeout` may be an hour, and somebody waits


@dataclass(frozen=True, slots=True)
class LookAt(Request[Look]):
    """Connect to a route's backend, within a session's time or `seconds`, and report how it answers.

    Raises PlaneBusy if too many looks are under way.
    """

    route: Route
    seconds: float = MAX_LOOK


class Courier(Protocol):
    """Takes requests to a worker, from a native thread."""

    def ask(self, request: Request[T]) -> T:
        """Return the worker's answer, or raise what it raised. Raises PlaneBusy if there is none in time."""
