"""A control plane with a data plane that only remembers: for the tests of admin and cli."""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from mcproxy.admin.expiry import Expiry
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.plane import PlaneStatus, ReloadReport, ServerState
from mcproxy.admin.server import AdminServer
from mcproxy.admin.service import Service
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.certificates.routes import CertificateStatus, Listed, RouteProblem, Serving
from mcproxy.change import Change
from mcproxy.configuration import GrpcConfig
from mcproxy.conflicts import clash
from mcproxy.messages import (
    EVERYTHING,
    MAX_LOOK,
    ConnectionInfo,
    EventSink,
    GeoipStatus,
    ListenerStatus,
    Look,
    RouteCounters,
    Selection,
    Step,
    WorkerInfo,
)
from mcproxy.model import Backend, FirewallRule, Listener, Reason, Route, RuleKind
from mcproxy.policy.networks import unpack
from mcproxy.stats import Counters, Spoken
from mcproxy.store.diff import FileSeed
from mcproxy.store.store import ListenerRoutes, Store
from mcproxy.table import Table


def route(hostname: str, backend: str = "127.0.0.1:3000") -> Route:
    host, _, port = backend.rpartition(":")
    return Route(hostname, Backend(host, int(port)))


SEED: list[ListenerRoutes] = [
    (Listener(":443"), [route("git.example.org"), route("www.example.org", "127.0.0.1:3001")])
]
RULES = [FirewallRule(RuleKind.IP, "192.0.2.1"), FirewallRule(RuleKind.CIDR, "198.51.100.0/24")]


def counted(
    connections: int, accepted: int, refused: int = 0, received: int = 0, sent: int = 0,
    requests: Mapping[str, int] | None = None, ends: Mapping[str, int] | None = None,
) -> Counters:  # fmt: skip
    """Counters of a route."""
    refusals = {Reason.ROUTE_UNKNOWN: refused} if refused else {}
    return Counters(connections, accepted, refusals, {}, received, sent, requests or {}, ends or {})


@dataclass
class FakePlane:
    """Remembers what it was asked; `fail` is raised by the method named."""

    live: Table | None = None
    fail: dict[str, Exception] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    accepting: set[str] = field(default_factory=set)
    open: list[ConnectionInfo] = field(default_factory=list)
    counters: list[RouteCounters] = field(default_factory=list)
    countries: dict[str, str] = field(default_factory=dict)
    geoip: GeoipStatus = field(default_factory=lambda: GeoipStatus("/geo.mmdb", 1.0))
    certificates: Sequence[CertificateStatus] = ()
    enter: Reason | None = None
    admit: Reason | None = None
    state: ServerState = ServerState.SERVING
    sinks: list[EventSink] = field(default_factory=list)
    subscribed: threading.Event = field(default_factory=threading.Event)
    level: str = "info"
    matching: int = 3  # live connections that any rule matches
    problems: Sequence[RouteProblem] = ()
    seen: Look = field(default_factory=lambda: Look([Step("connect", True, "connected to it in 0.1 ms")]))
    found: Spoken | None = None  # what any backend was found to speak
    last_reload: ReloadReport | None = None
    reloaded: ReloadReport = field(default_factory=lambda: ReloadReport(1.0))
    serving: Serving = field(default_factory=Serving)
    listed: Listed = field(default_factory=lambda: Listed("files", "/a.pem", ["a.test"], "R11", 1e9, 4e9))
    obstacle: str = ""  # to a renewal
    lacks: str = ""  # to any order
    clashes: bool = False  # an address isn't bound beside one that takes it; those here have one port
    workers: int = 1
    processes: Sequence[WorkerInfo] = ()  # of several workers
    warnings: Sequence[str] = ("its certificate expires in 3 days",)

    def _called(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.fail:
            raise self.fail[name]

    def bind_listener(self, listener: Listener) -> None:
        self._called("bind_listener", listener.addr)
        if self.clashes and clash(listener.addr, [each for each in self.bound if each != listener.addr]):
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.bound.add(listener.addr)

    def start_listener(self, addr: str) -> None:
        assert addr in self.bound
        assert self.live is None or addr in self.live.listeners, "accepts before its table is published"
        self._called("start_listener", addr)
        self.accepting.add(addr)

    def close_listener(self, addr: str) -> None:
        self._called("close_listener", addr)
        self.bound.discard(addr)
        self.accepting.discard(addr)

    def status(self) -> PlaneStatus:
        self._called("status")
        listeners = [
            ListenerStatus(addr, True, Counters(1, 5, {Reason.BLOCKED_IP: 2}, {}, 10, 20))
            for addr in sorted(self.accepting)
        ]
        return PlaneStatus(
            self.state,
            1000.0,
            listeners,
            self.certificates,
            self.geoip,
            self.level,
            problems=self.problems,
            last_reload=self.last_reload,
            workers=self.processes,
        )

    def route_counters(self) -> Sequence[RouteCounters]:
        return self.counters

    def connections(self, after: int, limit: int, selection: Selection = EVERYTHING) -> Sequence[ConnectionInfo]:
        return [each for each in self.open if each.id > after and selection.takes(each)][:limit]

    def close_connections(self, ids: Sequence[int]) -> Sequence[int]:
        self._called("close_connections", *ids)
        return [each.id for each in self.open if each.id in ids]

    def count_matching(self, rule: FirewallRule) -> int:
        return self.matching

    def kill_matching(self, rule: FirewallRule) -> int:
        assert self.live is not None
        assert rule in set(self.live.firewall.rules()), "kills before the rule is in force"
        self._called("kill_matching", rule)
        return self.matching

    def publish(self, table: Table, changes: Sequence[Change]) -> None:
        self.live = table
        self._called("publish", table.generation)

    def country(self, packed: bytes) -> str | None:
        return self.countries.get(unpack(packed))

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        return self.enter

    def would_admit(self, packed: bytes) -> Reason | None:
        return self.admit

    def would_serve(self, listener: str, route: Route) -> Serving:
        self._called("would_serve", listener, route.hostname)
        return self.serving

    def spoken(self, listener: str, route: Route) -> Spoken | None:
        return self.found

    def certificate(self, listener: str, route: Route) -> Listed:
        self._called("certificate", listener, route.hostname)
        return self.listed

    @property
    def orders(self) -> "FakePlane":
        return self

    def adopt(self, route: Route) -> None:
        self._called("adopt", route.hostname)

    def renew(self, hostname: str) -> str:
        self._called("renew", hostname)
        return self.obstacle

    def look(self, route: Route, most: float = MAX_LOOK) -> Look:
        self._called("look", route.hostname, most)
        return self.seen

    def lacking(self) -> str:
        return self.lacks

    def check_route(self, listener: str, route: Route) -> Sequence[str]:
        self._called("check_route", listener, route.hostname)
        return self.warnings

    def check_routes(
        self, before: Table, after: Table, changed: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[RouteProblem], Sequence[str]]:
        self._called("check_routes", before.generation, after.generation, *changed)
        return self.problems, self.warnings

    def reload(self) -> ReloadReport:
        self._called("reload")
        return self.reloaded

    def reload_geoip(self) -> GeoipStatus:
        self._called("reload_geoip")
        return self.geoip

    def reload_certificates(self) -> Sequence[CertificateStatus]:
        self._called("reload_certificates")
        return self.certificates

    def set_log_level(self, level: str) -> None:
        self.level = level

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        self._called("subscribe")
        self.sinks.append(sink)
        self.subscribed.set()
        return lambda: self.sinks.remove(sink)


@dataclass
class Control:
    """Everything of a running control plane."""

    plane: FakePlane
    writer: Writer
    server: AdminServer
    service: Service
    channel: grpc.Channel
    stub: Any


def make_writer(store: Store, plane: FakePlane, clock: Callable[[], float] | None = None) -> Writer:
    """A writer on what the store holds; the listeners of its table are open."""
    table = store.load()
    plane.live = table
    plane.bound = set(table.listeners)
    plane.accepting = set(table.listeners)
    return Writer(store, table, plane, clock) if clock else Writer(store, table, plane)


@contextmanager
def store_at(
    path: Path, seed: Sequence[ListenerRoutes] = SEED, rules: Sequence[FirewallRule] = RULES
) -> Iterator[Store]:
    """A store with the seed in it."""
    store = Store.open(path)
    try:
        store.seed(seed, rules, 1000.0)
        yield store
    finally:
        store.close()


@contextmanager
def running(
    folder: Path,
    config: GrpcConfig | None = None,
    seed: Sequence[ListenerRoutes] = SEED,
    file: FileSeed | None = None,
) -> Iterator[Control]:
    """A control plane on a UNIX socket, or as configured; then the channel is the caller's business."""
    config = config or GrpcConfig(addr=f"unix:{folder}/admin.sock")
    with store_at(folder / "mcproxy.db", seed) as store:
        plane = FakePlane()
        writer = make_writer(store, plane)
        watchers = Watchers(plane)
        service = Service(writer, plane, watchers, file or FileSeed((SEED, RULES)))
        server = AdminServer(config, service)
        server.open()
        expiry = Expiry(writer)
        channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            yield Control(plane, writer, server, service, channel, stub)
        finally:
            channel.close()
            expiry.close()
            server.close()
