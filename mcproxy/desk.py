"""The worker as the control plane asks for it: `HubPlane` is the data plane that admin/plane.py describes.

What changes something goes through the hub's `Door`; what only looks is read from here: counters have one writer, and
`list(dict)` copies in one step while the hub waits. So listing 100,000 connections costs the hub no turn of its own.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mcproxy.admin.plane import (
    EVERYTHING,
    CertificateStatus,
    ConnectionEvent,
    ConnectionInfo,
    EventKind,
    GeoipStatus,
    ListenerStatus,
    PlaneBusy,
    PlaneStatus,
    PlaneStopping,
    ReloadReport,
    RouteCounters,
    RouteProblem,
    RouteRefused,
    Selection,
    Serving,
    Sink,
    State,
)
from mcproxy.certificates import judge
from mcproxy.certificates.contexts import Contexts
from mcproxy.model import Connection, End, FirewallRule, Listener, Mode, Reason, Route, host_port
from mcproxy.net.door import Door
from mcproxy.net.session import Cut, Session
from mcproxy.net.worker import Worker
from mcproxy.policy.firewall import Firewall
from mcproxy.reload.reloader import Reloader
from mcproxy.table import ListenerTable, Table

CUT_BATCH = 64  # sessions cut in one turn of the hub: each closes two sockets and writes a line, some 50 us
# Routes of a listener whose files are looked at when one more comes, and when the status is asked for: what they hold
# is remembered, so that looking again costs one stat() call a file: two a route, three with a CA.
MAX_SURVEYED = 1000

T = TypeVar("T")


class HubPlane:
    """The worker, for native threads."""

    def __init__(self, worker: Worker, door: Door, reloader: Reloader, contexts: Contexts) -> None:
        """`contexts` are those of the l7 routes."""
        self.state = State.SERVING
        self.log_dropped: Callable[[], int] = lambda: 0
        self._worker = worker
        self._shared = worker.shared
        self._door = door
        self._reloader = reloader
        self._contexts = contexts
        self._sinks: tuple[Sink, ...] = ()  # replaced as a whole, so that the hub needs no lock
        self._subscribing = threading.Lock()

    def __repr__(self) -> str:
        return f"<HubPlane {self.state} sinks={len(self._sinks)}>"

    def _on_hub(self, function: Callable[..., T], *args: Any) -> T:
        try:
            return self._door.call(function, *args)
        except TimeoutError as error:
            raise PlaneBusy("the data path is too busy to answer; try again") from error

    def bind_listener(self, listener: Listener) -> None:
        """Take the address. Raises OSError, and PlaneStopping when the server no longer takes connections."""
        self._on_hub(self._unless_draining, self._worker.bind, listener.addr)

    def start_listener(self, addr: str) -> None:
        """Accept there. Raises PlaneStopping."""
        self._on_hub(self._unless_draining, self._worker.start, addr)

    def _unless_draining(self, function: Callable[[str], None], addr: str) -> None:
        if self.state is not State.SERVING:
            raise PlaneStopping("the server is stopping")
        function(addr)

    def close_listener(self, addr: str) -> None:
        """Give the address up."""
        self._on_hub(self._worker.close, addr)

    def publish(self, table: Table) -> None:
        """Put a table in force. A hub that is busy does so when it turns, in the order of the calls."""
        try:
            self._door.send(self._worker.publish, table)
        except TimeoutError as error:
            raise PlaneBusy("the data path is too busy to answer") from error

    def status(self) -> PlaneStatus:
        """What is going on; a listener that is removed counts as long as it has a connection."""
        accepting, listeners = self._worker.accepting, self._shared.live.table.listeners
        on_disk, problems = self._files()
        return PlaneStatus(
            self.state,
            self._shared.stats.started,
            [
                ListenerStatus(addr, addr in accepting, tally.read())
                for addr, tally in list(self._shared.stats.listeners.items())
                if addr in listeners or tally.open
            ],
            on_disk,
            self._geoip_status(),
            logging.getLevelName(logging.getLogger("mcproxy").level).lower(),
            log_dropped=self.log_dropped(),
            log_left_out=self._shared.stats.lines_left_out,
            lag=self._shared.stats.lag.read(),
            problems=problems,
        )

    def _geoip_status(self) -> GeoipStatus:
        geoip = self._shared.geoip
        return GeoipStatus(str(geoip.path), geoip.built_at) if geoip else GeoipStatus()

    def route_counters(self) -> Sequence[RouteCounters]:
        """Routes that have had a connection, and are there or have one still."""
        listeners = self._shared.live.table.listeners
        return [
            RouteCounters(addr, name, tally.read())
            for (addr, name), tally in list(self._shared.stats.routes.items())
            if tally.open or (addr in listeners and name in listeners[addr].routes)
        ]

    def connections(self, after: int, limit: int, selection: Selection = EVERYTHING) -> Sequence[ConnectionInfo]:
        """Live connections by id."""
        sessions = self._shared.sessions
        later = sorted(number for number in list(sessions) if number > after)
        found = (_info(session.connection(), session.phase) for n in later if (session := sessions.get(n)))
        return list(itertools.islice(filter(selection.takes, found), limit))

    def close_connections(self, ids: Sequence[int]) -> Sequence[int]:
        """Cut these, in batches."""
        batches = [ids[i : i + CUT_BATCH] for i in range(0, len(ids), CUT_BATCH)]
        return [number for batch in batches for number in self._on_hub(self._cut, batch)]

    def kill_matching(self, rule: FirewallRule) -> int:
        """Cut those that the rule matches; whom it matches is found out here, in batches they are cut there."""
        firewall = Firewall.compile([rule])
        sessions = list(self._shared.sessions.values())
        matched = [s.id for s in sessions if s.packed and firewall.match(s.packed, self._shared.country)]
        return len(self.close_connections(matched))

    def _cut(self, ids: Sequence[int]) -> list[int]:
        found = [session for number in ids if (session := self._shared.sessions.get(number)) is not None]
        for session in found:
            session.cut(Cut(End.KILLED))
        return [session.id for session in found]

    def country(self, packed: bytes) -> str | None:
        """Where an address is."""
        return self._shared.country(packed)

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """What the limits would say to one more."""
        return self._on_hub(self._shared.limits.would_enter, listener, listener_max)

    def would_admit(self, packed: bytes) -> Reason | None:
        """What the limits would say to this address."""
        return self._on_hub(self._shared.limits.would_admit, packed, time.monotonic())

    def would_serve(self, listener: str, route: Route) -> Serving:
        """What is loaded counts; what is not is read here."""
        held, trusted = self._contexts.held(listener, route), self._contexts.trusts(route.backend_ca)
        failure = "" if trusted or not route.backend_ca else judge.ca_problem(route.backend_ca)
        notes, read = [], judge.known(route)
        if isinstance(read, judge.Finding):
            if held is None:
                return Serving(read.message)
            notes.append(f"{read}; the certificate that was loaded stays in use")
            read = held
        elif held is not None and held.digest != read.digest:
            notes.append(f"{route.tls_cert} or its key has changed since it was loaded; reload to use it")
        found = judge.findings(held or read, route.hostname, time.time())
        return Serving("", notes, [str(finding) for finding in found if finding.problem], failure)

    def check_route(self, listener: str, route: Route) -> Sequence[str]:
        """Judge a route's files, and what the listener's certificates mean to each other then. Raises RouteRefused."""
        compiled = self._shared.live.table.listeners.get(listener)
        routes = compiled.routes if compiled else {}
        judged = {**routes, route.hostname: route}.values() if len(routes) <= MAX_SURVEYED else [route]
        found = [finding for _, finding in judge.survey(judged, time.time(), route.hostname)]
        for finding in found:
            if finding.problem:
                raise RouteRefused(finding.key, finding.message)
        return list(map(str, found))

    def check_routes(
        self, before: Table, after: Table, changed: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[RouteProblem], Sequence[str]]:
        """Judge the files of the first `MAX_SURVEYED` changed routes. What would be told of `before` too, is not."""
        problems, warnings, now = list[RouteProblem](), dict[str, None](), time.time()
        for addr, names in _by_listener(changed[:MAX_SURVEYED]).items():
            told = {str(finding) for _, finding in _surveyed(before.listeners.get(addr), names, now)}
            for hostname, finding in _surveyed(after.listeners[addr], names, now):
                if not finding.problem:
                    warnings.update({str(finding): None} if str(finding) not in told else {})
                elif hostname in names:
                    problems.append(RouteProblem(addr, hostname, finding.key, finding.message))
        return problems, list(warnings)

    def reload(self) -> ReloadReport:
        """As SIGHUP does. Raises PlaneBusy."""
        return self._reloader.reload()

    def reload_geoip(self) -> GeoipStatus:
        """Raises ValueError, PlaneBusy."""
        self._reloader.reload_geoip()
        return self._geoip_status()

    def reload_certificates(self) -> Sequence[CertificateStatus]:
        """Raises ValueError for those that are broken, whose old ones stay, and PlaneBusy."""
        self._reloader.reload_certificates()
        return self._files()[0]

    def _files(self) -> tuple[list[CertificateStatus], list[RouteProblem]]:
        """Those of the first l7 routes, and what is wrong with them; 0.0 is the expiry of one that can't be used."""
        now, found = time.time(), list[CertificateStatus]()
        problems = list[RouteProblem]()
        for addr, route in self._l7_routes():
            read = judge.known(route)
            end = read.not_after if isinstance(read, judge.Certificate) else 0.0
            found.append(CertificateStatus(addr, route.hostname, route.tls_cert, end))
            told = [each for each in judge.route_findings(route, read, now) if each.problem]
            problems += [RouteProblem(addr, route.hostname, each.key, each.message) for each in told]
        return found, problems

    def _l7_routes(self) -> Iterator[tuple[str, Route]]:
        """The first ones, each with its listener."""
        table = self._shared.live.table
        routes = ((addr, route) for addr, each in table.listeners.items() for route in each.routes.values())
        return itertools.islice(((a, r) for a, r in routes if r.mode is Mode.L7), MAX_SURVEYED)

    def set_log_level(self, level: str) -> None:
        """Log from this level on."""
        logging.getLogger("mcproxy").setLevel(level.upper())

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Tell `sink` of every event."""
        with self._subscribing:
            self._sinks = (*self._sinks, sink)

        def unsubscribe() -> None:
            with self._subscribing:
                self._sinks = tuple(each for each in self._sinks if each is not sink)

        return unsubscribe

    def opened(self, session: Session) -> None:
        """On the hub: a session has reached its backend."""
        if self._sinks:
            self._tell(ConnectionEvent(EventKind.OPENED, time.time(), _info(session.connection(), session.phase)))

    def ended(self, connection: Connection) -> None:
        """On the hub: a session is over."""
        if self._sinks:
            refused = connection.end is End.REFUSED
            self._tell(
                ConnectionEvent(
                    EventKind.REFUSED if refused else EventKind.CLOSED,
                    connection.started + connection.duration,
                    _info(connection, "ended"),
                    connection.reason,
                    connection.end,
                    connection.detail,
                    connection.duration,
                )
            )

    def _tell(self, event: ConnectionEvent) -> None:
        for sink in self._sinks:
            sink(event)


def _by_listener(routes: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for addr, hostname in routes:
        found.setdefault(addr, set()).add(hostname)
    return found


def _surveyed(
    compiled: ListenerTable | None, names: Collection[str], now: float
) -> Iterator[tuple[str, judge.Finding]]:
    """What is found of a listener's routes; of those of these names only, where it has too many."""
    routes = compiled.routes if compiled else {}
    few = len(routes) <= MAX_SURVEYED
    return judge.survey(routes.values() if few else [routes[name] for name in names if name in routes], now)


def _info(connection: Connection, state: str) -> ConnectionInfo:
    host, port = connection.client
    return ConnectionInfo(
        connection.id,
        connection.listener,
        host_port(host, port),
        connection.started,
        str(state),
        connection.sni,
        connection.route,
        str(connection.backend or ""),
        Mode(connection.mode) if connection.mode else None,
        connection.bytes_up,
        connection.bytes_down,
    )
