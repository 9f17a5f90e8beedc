"""The values that all other code uses: frozen, without behaviour, free of I/O.

A changed route is a new `Route`; nothing here is ever mutated. The words in the enums are the words of the log, the
metrics, the admin API and the tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple, Protocol, get_args

from mcproxy.settings import Field, Kind, Needs, Setting, fields_of

UNIX_PREFIX = "unix:"
# Characters of a caller's claims about a change: who makes it, and why.
MAX_CLAIM = 64  # a user's name on Linux has 32 at most, one of a directory may be longer
MAX_COMMENT = 500

EXPIRY_WARNING = 14 * 86_400.0  # seconds before its end that a certificate is warned of at most: two weekly renewals
EXPIRY_SHARE = 0.25  # of its lifetime, where that is less: some are for 45 days, and some for 160 hours
Endpoint = tuple[str, int]  # IP address and port
RouteKey = tuple[str, str]  # a listener's address and a route's host name
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)


MAX_WORKERS = 64  # processes; few machines have more cores
IDS_APART = 100  # where there are several workers, each one's ids of connections end in its number, from 01 on


def counted(count: int, noun: str) -> str:
    """A number of things in words: "1 route", "2 routes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def warned_from(not_before: float, not_after: float) -> float:
    """From when on a certificate is warned of; times are seconds since the epoch.

    One of 40 days that is renewed at a third of them is warned of when its renewal is late, and not before.
    """
    return not_after - min(EXPIRY_WARNING, (not_after - not_before) * EXPIRY_SHARE)


class Mode(StrEnum):
    """How a route handles a connection."""

    L4 = "l4"  # the raw stream passes to the backend, untouched
    L7 = "l7"  # TLS ends here; HTTP is proxied to the backend


class BackendProtocol(StrEnum):
    """The version of HTTP in which an l7 route's backend is asked."""

    AUTO = "auto"  # found out: by ALPN, or in clear text by a connection that carries no request
    H2 = "h2"
    HTTP1 = "http/1.1"


class Tls(StrEnum):
    """Where an l7 route's certificate comes from."""

    FILES = "files"  # tls_cert and tls_key
    ACME = "acme"  # ordered, renewed and kept by mcproxy


class RuleKind(StrEnum):
    """The kind of value that a firewall rule matches, in the order in which the kinds are tried."""

    IP = "ip"
    CIDR = "cidr"
    COUNTRY = "country"


# The list that each kind's permanent rules have in [firewall] of a file.
BLOCKED_LISTS: Final[Mapping[RuleKind, str]] = MappingProxyType(
    {RuleKind.IP: "blocked_ips", RuleKind.CIDR: "blocked_cidrs", RuleKind.COUNTRY: "blocked_countries"}
)


class Reason(StrEnum):
    """Why a connection was refused; `OK` is one that reached its backend."""

    OK = "ok"
    # firewall
    BLOCKED_IP = "blocked_ip"
    BLOCKED_CIDR = "blocked_cidr"
    BLOCKED_COUNTRY = "blocked_country"
    # limits
    LIMIT_TOTAL = "limit_total"  # proxy.max_connections
    LIMIT_LISTENER = "limit_listener"  # listeners.max_connections
    LIMIT_PER_IP = "limit_per_ip"  # firewall.max_connections_per_ip
    RATE_PER_IP = "rate_per_ip"  # firewall.connection_rate_per_ip
    LIMIT_TABLE_FULL = "limit_table_full"  # too many addresses to keep count of: fail closed
    OWN_CONNECTION = "own_connection"  # from a route whose backend is one of our own listeners
    DESCRIPTORS = "descriptors"  # too few descriptors left
    # PROXY protocol
    PROXY_UNTRUSTED = "proxy_untrusted"  # the peer is not in trusted_proxies
    PROXY_MALFORMED = "proxy_malformed"  # no header, or not one of either version
    # ClientHello
    HANDSHAKE_TIMEOUT = "handshake_timeout"  # PROXY header and hello not complete in proxy.handshake_timeout
    PROBE = "probe"  # it ended without a byte of its own: a load balancer's check, and no refusal
    HELLO_TRUNCATED = "hello_truncated"  # the client ended before its hello did
    HELLO_NOT_TLS = "hello_not_tls"
    HELLO_MALFORMED = "hello_malformed"
    HELLO_OVERSIZED = "hello_oversized"
    SNI_MISSING = "sni_missing"
    SNI_DUPLICATE = "sni_duplicate"
    SNI_IP_LITERAL = "sni_ip_literal"
    SNI_INVALID = "sni_invalid"  # not a host name
    # routing and backend
    ROUTE_UNKNOWN = "route_unknown"
    BACKEND_UNRESOLVED = "backend_unresolved"  # its name has no address
    BACKEND_REFUSED = "backend_refused"
    BACKEND_UNREACHABLE = "backend_unreachable"
    BACKEND_TIMEOUT = "backend_timeout"  # no connection in proxy.connect_timeout
    # TLS at an l7 route
    CERTIFICATE_UNUSABLE = "certificate_unusable"  # the route's certificate or key could not be loaded
    CERTIFICATE_PENDING = "certificate_pending"  # ordered by ACME, and not there yet
    CHALLENGE_UNEXPECTED = "challenge_unexpected"  # of ACME, for a name that nobody has ordered a certificate for
    TLS_FAILED = "tls_failed"  # the handshake did not succeed
    # neither side's fault
    SHUTDOWN = "shutdown"  # cut while draining, before its relay began
    KILLED = "killed"  # cut by an operator, before its relay began
    INTERNAL_ERROR = "internal_error"  # a bug of ours: the log has the traceback


class Refused(Exception):
    """The connection must not go on: the client gets a RST. Raised by every step before the relay."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail  # what exactly was wrong; for the log, never for the client

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


class End(StrEnum):
    """How a connection ended."""

    OPEN = "open"  # it has not: a line that is written of it every hour
    REFUSED = "refused"  # before the relay; the reason says why
    PROBE = "probe"  # without a byte, which was answered with FIN
    CHALLENGE = "challenge"  # l7: a CA saw the answer to a challenge of ACME; it is no client of the route
    CLOSED = "closed"  # both sides sent FIN
    CLIENT_RESET = "client_reset"
    BACKEND_RESET = "backend_reset"
    IDLE_TIMEOUT = "idle_timeout"
    HALF_CLOSE_TIMEOUT = "half_close_timeout"
    SHUTDOWN = "shutdown"  # cut at proxy.shutdown_timeout
    KILLED = "killed"  # cut by an operator
    ABUSE = "abuse"  # l7: the client exceeded a budget and was disconnected; the detail names the budget
    ERROR = "error"  # a bug of ours: the log has the traceback
    LOST = "lost"  # its worker died; such a connection has no line in the log


def host_port(host: str, port: int) -> str:
    """An endpoint as people write it, IPv6 addresses in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(endpoint: str) -> str:
    """The host in what `host_port` returned, without its brackets."""
    return endpoint.rpartition(":")[0].strip("[]")


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a route leads: "HOST:PORT", with `host` an IP address or a name, or "unix:/path"."""

    host: str = ""
    port: int = 0
    path: str = ""  # of a UNIX socket; then host and port are empty

    def __str__(self) -> str:
        if self.path:
            return UNIX_PREFIX + self.path
        return host_port(self.host, self.port)


MAX_BACKEND_CONNECTIONS = 65_535  # more than the ports that lead to one address
_BACKEND_CONNECTIONS = "connections to an HTTP/1.1 backend; further requests wait"
_L7 = Needs("mode", Mode.L7, "terminates TLS, so it needs {}", "an l4 stream is never terminated")
_ACME = Needs("tls", Tls.ACME)
_BACKEND_TLS = Needs("backend_tls", True)
_PROXIED = Needs("proxy_protocol", True, "needs {}, or every connection would be refused")
_TRUSTED = Setting(Kind.NETWORKS, "a network to trust; repeatable", _PROXIED, required=True, option="trusted-proxy")

_NODES = Setting(Kind.NODES, "a node of the fleet that listens there; repeatable; without any, all do", option="node")


@dataclass(frozen=True, slots=True)
class Route:
    """How connections that ask for `hostname` are handled."""

    hostname: Annotated[str, Setting(Kind.HOSTNAME, "the server name that clients ask for")]
    backend: Annotated[Backend, Setting(Kind.BACKEND, 'where it leads: "HOST:PORT" or "unix:/path"')]
    mode: Annotated[Mode, Setting(Kind.WORD, "pass the raw stream (l4) or terminate TLS (l7)")] = Mode.L4
    tls_cert: Annotated[str, Setting(Kind.FILE, "certificate chain, PEM", _L7, required=True, idle=_ACME)] = ""
    tls_key: Annotated[str, Setting(Kind.FILE, "its key, PEM", _L7, required=True, listed=False, idle=_ACME)] = ""
    backend_tls: Annotated[bool, Setting(Kind.SWITCH, "TLS to the backend", _L7)] = False
    backend_ca: Annotated[str, Setting(Kind.FILE, "CA to verify the backend with", _BACKEND_TLS)] = ""
    backend_server_name: Annotated[str, Setting(Kind.HOSTNAME, "name to ask for, if not HOST", _BACKEND_TLS)] = ""
    send_proxy_protocol: Annotated[bool, Setting(Kind.SWITCH, "send a PROXY v2 header to the backend")] = False
    backend_protocol: Annotated[BackendProtocol, Setting(Kind.WORD, "HTTP version of the backend", _L7)] = (
        BackendProtocol.AUTO
    )
    max_backend_connections: Annotated[
        int, Setting(Kind.COUNT, _BACKEND_CONNECTIONS, _L7, least=1, most=MAX_BACKEND_CONNECTIONS)
    ] = 64
    tls: Annotated[Tls, Setting(Kind.WORD, "have its certificate ordered and renewed by ACME", _L7, flag=Tls.ACME)] = (
        Tls.FILES
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that clients connect to; `addr` as it was configured is its identity."""

    addr: Annotated[str, Setting(Kind.LISTEN, 'where to listen: "HOST:PORT", or ":443" for every address')]
    proxy_protocol: Annotated[bool, Setting(Kind.SWITCH, "require a PROXY header, from trusted proxies only")] = False
    trusted_proxies: Annotated[tuple[str, ...], _TRUSTED] = ()
    max_connections: Annotated[int, Setting(Kind.COUNT, "connections open at once; 0: no limit of its own")] = 0
    nodes: Annotated[tuple[str, ...], _NODES] = ()


ROUTE_FIELDS: Final[tuple[Field, ...]] = fields_of(Route)
LISTENER_FIELDS: Final[tuple[Field, ...]] = fields_of(Listener)


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """Connections from `value` are refused, until `expires_at`."""

    kind: RuleKind
    value: str  # an address, a network, or an ISO 3166-1 alpha-2 code, each in canonical form
    expires_at: float | None = None  # seconds since the epoch; None: permanent


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The [proxy] durations that sessions keep to, in seconds."""

    handshake: float
    connect: float
    idle: float
    half_close: float
    backend_idle: float = 4.0  # that a connection to a backend is kept without a request; Node closes after 5


def worker_of(connection: int) -> int:
    """The worker that a connection is at, by its id, where there are several workers."""
    return connection % IDS_APART


class Connection(NamedTuple):
    """The record of a connection that has ended: for its log line, and its event for watchers."""

    id: int
    started: float  # seconds since the epoch
    duration: float  # seconds
    listener: str
    client: Endpoint  # from the PROXY header where the listener takes one
    sni: str  # normalised; "" where none was read
    versions: tuple[int, ...]  # TLS versions that the client offered, as on the wire
    alpn: tuple[bytes, ...]  # protocols that the client offered
    ech: bool
    route: str  # the host name of the route taken; "" where refused before
    mode: str
    backend: Backend | None
    reason: Reason
    detail: str  # of a refusal
    received: int  # client to backend
    sent: int
    end: End

    @property
    def verdict(self) -> str:
        """Whether it reached its backend, in one word."""
        if self.reason is Reason.PROBE:
            return "probe"
        if self.end is End.CHALLENGE:
            return "challenge"
        return "routed" if self.reason is Reason.OK else "refused"


class Origin(NamedTuple):
    """The facts that all exchanges of one connection share."""

    connection: int  # its id
    protocol: str  # "h2" or "http/1.1", that of the client
    listener: str
    client: Endpoint
    route: str


class RequestTarget(Protocol):
    """The target of a request, as the client wrote it."""

    @property
    def authority(self) -> bytes: ...  # noqa: D102

    @property
    def path(self) -> bytes: ...  # noqa: D102


class FinishedExchange(Protocol):
    """A request and its answer once they have ended: a line of the access log."""

    @property
    def id(self) -> int:
        """HTTP/2's stream identifier; with HTTP/1.1 the ordinal of the request on its connection, from 1."""

    @property
    def method(self) -> bytes:
        """As the client wrote it."""

    @property
    def request(self) -> RequestTarget:
        """The request's target."""

    @property
    def status(self) -> int:
        """Of the final answer; 0: none was begun."""

    @property
    def received(self) -> int:
        """Of the request's body."""

    @property
    def sent(self) -> int:
        """Of the answer's."""

    @property
    def started(self) -> float:
        """When the request's head was complete: seconds of a monotonic clock."""

    @property
    def ended(self) -> float:
        """When all was over: seconds of the same clock."""

    @property
    def end(self) -> str:
        """How it ended: a word of ours, or two."""

    @property
    def why(self) -> str:
        """What went wrong; "" if nothing did."""

    @property
    def grpc_status(self) -> int | None:
        """Of gRPC's answer; None: the answer is not gRPC's, or broke off before its status."""

    @property
    def backend_protocol(self) -> str:
        """The version in which it went to the backend, "h2" or "http/1.1"; "": it didn't, or we answered instead."""

    @property
    def reused(self) -> bool:
        """Whether its connection to the backend had carried another request before; of no meaning if it had none."""

    @property
    def head_at(self) -> float:
        """When the final head of the answer was there: seconds of the same clock; 0.0: none was, as `status` says."""


Exchanges = Sequence[FinishedExchange]  # of one connection, in the order in which they ended
