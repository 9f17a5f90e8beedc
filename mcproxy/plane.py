"""The data plane for the admin API (admin/plane.py): asks the worker, and checks the files that it uses."""

import logging
import threading
from collections.abc import Callable, Sequence

from mcproxy.admin.plane import PlaneStatus, ReloadReport, ServerState
from mcproxy.certificates import routes
from mcproxy.certificates.acme.contract import Certificates, Lacking
from mcproxy.certificates.acme.keeper import missing
from mcproxy.certificates.acme.order import Kept
from mcproxy.certificates.routes import CertificateStatus, Listed, RouteProblem, RouteRefused, Serving
from mcproxy.change import Change
from mcproxy.configuration import Config
from mcproxy.messages import (
    EVERYTHING,
    MAX_LOOK,
    BindListener,
    CloseConnections,
    CloseListener,
    ConnectionEvent,
    ConnectionInfo,
    Courier,
    EventSink,
    FindCountry,
    Forget,
    GeoipStatus,
    Keep,
    Look,
    LookAt,
    Matching,
    PlaneStopping,
    Publish,
    ReadConnections,
    ReadKept,
    ReadLoaded,
    ReadRoutes,
    ReadSpoken,
    ReadStatus,
    Reserve,
    RouteCounters,
    Selection,
    SetLogLevel,
    StartListener,
    Watch,
    WouldAdmit,
    WouldEnter,
)
from mcproxy.model import FirewallRule, Listener, Reason, Route, Tls
from mcproxy.reload.reloader import Reloader
from mcproxy.stats import Spoken
from mcproxy.table import Table

CUT_BATCH = 64  # sessions cut in one turn of the hub: each closes two sockets and writes a line, some 50 us


class Watching:
    """The subscribers to connection events. Any thread calls `tell`; a native thread subscribes."""

    def __init__(self) -> None:
        self.sinks: tuple[EventSink, ...] = ()  # replaced as a whole, so that `tell` needs no lock

    def __repr__(self) -> str:
        return f"<Watching {len(self.sinks)}>"

    def tell(self, event: ConnectionEvent) -> None:
        """Pass an event to each of them."""
        for sink in self.sinks:
            sink(event)


class Orders:
    """What workers have of ACME, and the keeper that orders it."""

    def __init__(self, courier: Courier, config: Callable[[], Config]) -> None:
        """`config` returns the configuration as it was last read and accepted."""
        self.keeper: Certificates | None = None  # set before anything is asked
        self._courier = courier
        self._config = config

    def __repr__(self) -> str:
        return f"<Orders {self.keeper}>"

    def keep(self, kept: Kept) -> None:
        """Have the workers know what there is for a name."""
        self._courier.ask(Keep(kept))

    def forget(self, hostname: str) -> None:
        """Have the workers forget a name."""
        self._courier.ask(Forget(hostname))

    def spreading(self) -> Lacking:
        """No other node lacks anything where there is none."""
        return tuple

    def kept(self, route: Route) -> Kept | None:
        """What they have for the name of a route."""
        return self._courier.ask(ReadKept(route.hostname))

    def certificate(self, listener: str, route: Route) -> Listed:
        """The certificate of an l7 route, as it is in use, whatever it comes from."""
        if route.tls is Tls.ACME:
            return routes.listed_order(route, self.kept(route))
        loaded = self._courier.ask(ReadLoaded(listener, route))
        return routes.listed(route, loaded.certificate, loaded.reserved)

    def adopt(self, route: Route) -> None:
        """Serve a route's files until ACME has brought a certificate."""
        if self.keeper is not None:
            self.keeper.adopt(route)

    def lacking(self) -> str:
        """What there has to be before a certificate can be ordered; in a fleet, another node may have it."""
        config = self._config()
        return "" if config.database.url is not None else missing(configured=config.acme is not None)

    def renew(self, hostname: str) -> str:
        """Order a certificate for a name now. Returns why it has to wait."""
        if self.keeper is not None:
            self.keeper.renew(hostname)
        kept = self._courier.ask(ReadKept(hostname))
        return kept.obstacle if kept is not None else ""

    def follow(self) -> None:
        """A table is in force."""
        if self.keeper is not None:
            self.keeper.wake.set()


class Plane:
    """One worker and its files as the data plane, for native threads."""

    def __init__(
        self, table: Table, courier: Courier, reloader: Reloader, watching: Watching,
        log_dropped: Callable[[], int] = lambda: 0, workers: int = 1,
    ) -> None:  # fmt: skip
        """`table` is the workers' first table; `log_dropped` counts lines that were read too slowly behind them."""
        self.state = ServerState.SERVING
        self.workers = workers
        self.table = table  # the latest that was published
        self._courier = courier
        self._reloader = reloader
        self._watching = watching
        self._log_dropped = log_dropped
        self.orders = Orders(courier, lambda: reloader.config)
        self._subscribing = threading.Lock()

    def __repr__(self) -> str:
        return f"<Plane {self.state} {self._courier}>"

    def bind_listener(self, listener: Listener) -> None:
        """Take the address. Raises OSError, and PlaneStopping when the server no longer takes connections."""
        self._courier.ask(BindListener(listener.addr))

    def start_listener(self, addr: str) -> None:
        """Accept there. Raises PlaneStopping."""
        self._courier.ask(StartListener(addr))

    def close_listener(self, addr: str) -> None:
        """Give the address up."""
        self._courier.ask(CloseListener(addr))

    def publish(self, table: Table, changes: Sequence[Change]) -> None:
        """Put a table in force. A worker that is busy does so when it can, in the order of the calls."""
        self.table = table
        self._courier.ask(Publish(table, changes))
        if begun := routes.with_new_files(changes):
            self._courier.ask(Reserve(begun))
        self.orders.follow()

    def status(self) -> PlaneStatus:
        """The status of the whole data plane."""
        worker = self._courier.ask(ReadStatus())
        certificates, problems = routes.state_of_files(self.table)
        ordered = [(addr, route, self.orders.kept(route)) for addr, route in routes.acme_routes(self.table)]
        certificates += [routes.state_of_order(*each) for each in ordered]
        problems += routes.order_problems(ordered)
        return PlaneStatus(
            self.state,
            worker.started_at,
            worker.listeners,
            certificates,
            worker.geoip,
            logging.getLevelName(logging.getLogger("mcproxy").level).lower(),
            log_dropped=self._log_dropped() + worker.log_dropped,
            log_left_out=worker.log_left_out,
            lag=worker.lag,
            problems=problems,
            last_reload=self._reloader.last,
            workers=worker.workers,
        )

    def route_counters(self) -> Sequence[RouteCounters]:
        """Routes that have had a connection, and are there or have one still."""
        return self._courier.ask(ReadRoutes())

    def connections(self, after: int, limit: int, selection: Selection = EVERYTHING) -> Sequence[ConnectionInfo]:
        """Live connections by id."""
        return self._courier.ask(ReadConnections(after, limit, selection))

    def close_connections(self, ids: Sequence[int]) -> Sequence[int]:
        """Cut these, in batches."""
        batches = [ids[i : i + CUT_BATCH] for i in range(0, len(ids), CUT_BATCH)]
        return [number for batch in batches for number in self._courier.ask(CloseConnections(batch))]

    def kill_matching(self, rule: FirewallRule) -> int:
        """Cut those that the rule matches."""
        return len(self.close_connections(self._courier.ask(Matching(rule))))

    def count_matching(self, rule: FirewallRule) -> int:
        """How many the rule matches."""
        return len(self._courier.ask(Matching(rule)))

    def country(self, packed: bytes) -> str | None:
        """Where an address is."""
        return self._courier.ask(FindCountry(packed))

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """The limits' answer to one connection more."""
        return self._courier.ask(WouldEnter(listener, listener_max))

    def would_admit(self, packed: bytes) -> Reason | None:
        """The limits' answer to one connection more from this address."""
        return self._courier.ask(WouldAdmit(packed))

    def would_serve(self, listener: str, route: Route) -> Serving:
        """Judge the loaded files; read those that aren't loaded."""
        loaded = self._courier.ask(ReadLoaded(listener, route))
        if route.tls is Tls.ACME:
            kept, firewall = self.orders.kept(route), self.table.firewall
            return routes.serving_order(route, kept, firewall, trusted=loaded.trusts_ca)
        return routes.serving(route, loaded.certificate, trusted=loaded.trusts_ca, reserved=loaded.reserved)

    def spoken(self, listener: str, route: Route) -> Spoken | None:
        """What a route's backend was found to speak, if that is known."""
        return self._courier.ask(ReadSpoken(listener, route))

    def look(self, route: Route, seconds: float = MAX_LOOK) -> Look:
        """Look at a route's backend. Raises PlaneStopping, so that the shutdown waits for no new look."""
        if self.state is not ServerState.SERVING:
            raise PlaneStopping("the server is stopping")
        return self._courier.ask(LookAt(route, seconds))

    def check_route(self, listener: str, route: Route) -> Sequence[str]:
        """Judge a route's files. Returns warnings; raises RouteRefused."""
        if route.tls is Tls.ACME and (lacking := missing(configured=self._reloader.config.acme is not None)):
            raise RouteRefused("tls", lacking)
        return routes.check_route(self.table, listener, route)

    def check_routes(
        self, before: Table, after: Table, changed: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[RouteProblem], Sequence[str]]:
        """Judge the files of the changed routes. Returns the problems that forbid the change, and new warnings."""
        problems, warnings = routes.check_routes(before, after, changed)
        if lacking := missing(configured=self._reloader.config.acme is not None):
            found = [(addr, after.listeners[addr].routes.get(name)) for addr, name in changed]
            ordered = [(addr, each) for addr, each in found if each is not None and each.tls is Tls.ACME]
            problems = [*problems, *(RouteProblem(addr, each.hostname, "tls", lacking) for addr, each in ordered)]
        return problems, warnings

    def reload(self) -> ReloadReport:
        """Reload, as SIGHUP does. Raises PlaneBusy."""
        return self._reloader.reload()

    def reload_geoip(self) -> GeoipStatus:
        """Raises ValueError, PlaneBusy."""
        return self._reloader.reload_geoip()

    def reload_certificates(self) -> Sequence[CertificateStatus]:
        """Raises ValueError for those that are broken, whose old ones stay, and PlaneBusy."""
        self._reloader.reload_certificates()
        return routes.state_of_files(self.table)[0]

    def set_log_level(self, level: str) -> None:
        """Log from this level on."""
        logging.getLogger("mcproxy").setLevel(level.upper())
        self._courier.ask(SetLogLevel(level))

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Pass every event to `sink` until the returned function is called. Raises PlaneBusy."""
        with self._subscribing:
            self._watching.sinks = (*self._watching.sinks, sink)
            self._courier.ask(Watch(on=True))

        def unsubscribe() -> None:
            with self._subscribing:
                self._watching.sinks = tuple(each for each in self._watching.sinks if each is not sink)
                self._courier.ask(Watch(on=bool(self._watching.sinks)))

        return unsubscribe
