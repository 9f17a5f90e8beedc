"""The desk of a worker: answers the control plane's requests (messages.py), and reports connections to watchers.

Requests that change something, or need a consistent view, are answered on the hub. Requests that only read are answered
in the calling thread: counters have one writer, and `list(dict)` copies in one step while the hub waits. So listing
100,000 connections takes no turn of the hub.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from gevent import spawn_raw

from mcproxy.certificates.contexts import Contexts
from mcproxy.look.looker import Looker
from mcproxy.messages import (
    BindListener,
    CloseConnections,
    CloseListener,
    ConnectionEvent,
    ConnectionInfo,
    Drain,
    EventKind,
    EventSink,
    FindCountry,
    Forget,
    Keep,
    ListenerStatus,
    LoadedFiles,
    Look,
    LookAt,
    Matching,
    PlaneBusy,
    PlaneStopping,
    Publish,
    ReadConnections,
    ReadFiles,
    ReadFilesInUse,
    ReadKept,
    ReadLoaded,
    ReadRoutes,
    ReadSpoken,
    ReadStatus,
    Request,
    Reserve,
    RouteCounters,
    SetLogLevel,
    Settle,
    StartListener,
    Watch,
    WorkerStatus,
    WouldAdmit,
    WouldEnter,
)
from mcproxy.model import Connection, End, Mode, Reason, Route, RouteKey, host_port
from mcproxy.net.door import Door
from mcproxy.net.shared import Cut, OpenSession
from mcproxy.net.worker import Worker
from mcproxy.policy.firewall import Firewall
from mcproxy.settling import Settling, geoip_status
from mcproxy.stats import Spoken

T = TypeVar("T")
FindSpoken = Callable[[RouteKey, Route], Spoken | None]  # what a route's backend was found to speak, if that is known


class Reporter:
    """Reports connections as they open and end, while there are watchers. Everything here happens on the hub."""

    def __init__(self, tell: EventSink) -> None:
        self.watched = False
        self._tell = tell

    def __repr__(self) -> str:
        return f"<Reporter watched={self.watched}>"

    def opened(self, session: OpenSession) -> None:
        """A session has reached its backend."""
        if self.watched:
            self._tell(ConnectionEvent(EventKind.OPENED, time.time(), _info(session.connection(), session.phase)))

    def ended(self, connection: Connection) -> None:
        """A session is over. A load balancer's check is nothing to watch."""
        if self.watched and connection.end is not End.PROBE:
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


class Desk:
    """Answers for one worker."""

    def __init__(
        self, worker: Worker, contexts: Contexts, reporter: Reporter, looker: Looker, spoken: FindSpoken,
        settling: Settling, door: Door, log_dropped: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """`contexts` are those of the l7 routes; `log_dropped` counts lines that were not read in time."""
        self.stopping = False  # set on the hub: nothing more is opened
        self._worker = worker
        self._shared = worker.shared
        self._contexts = contexts
        self._reporter = reporter
        self._looker = looker
        self._spoken = spoken
        self._settling = settling
        self._door = door
        self._log_dropped = log_dropped
        self._on_hub: dict[type[Request[Any]], Callable[[Any], Any]] = {
            BindListener: self._bind,
            StartListener: self._start,
            CloseListener: self._close,
            Publish: self._publish,
            CloseConnections: self._close_connections,
            WouldEnter: self._would_enter,
            WouldAdmit: self._would_admit,
            Watch: self._watch,
            Settle: self._settle,
        }
        self._anywhere: dict[type[Request[Any]], Callable[[Any], Any]] = {
            ReadStatus: self._read_status,
            ReadRoutes: self._read_routes,
            ReadConnections: self._read_connections,
            Matching: self._matching,
            FindCountry: self._country,
            ReadLoaded: self._read_loaded,
            ReadSpoken: self._read_spoken,
            Keep: lambda request: contexts.keep(request.kept),
            Forget: lambda request: contexts.forget(request.hostname),
            ReadKept: lambda request: contexts.kept(request.hostname),
            LookAt: self._look_at,
            Reserve: lambda request: contexts.reserve(request.routes),
            ReadFilesInUse: settling.files,
            ReadFiles: settling.read,
            SetLogLevel: settling.set_log_level,
            Drain: self._drain,
        }

    def __repr__(self) -> str:
        return f"<Desk {self._worker} {self._reporter} stopping={self.stopping}>"

    @property
    def requests(self) -> frozenset[type[Request[Any]]]:
        """The requests that it answers."""
        return frozenset((*self._on_hub, *self._anywhere))

    def needs_hub(self, request: Request[Any]) -> bool:
        """True if a request has to be answered on the hub's thread."""
        return type(request) in self._on_hub

    def answer(self, request: Request[T]) -> T:
        """Answer a request, on the hub if `needs_hub`. Raises what the request's class documents."""
        found = self._on_hub.get(type(request)) or self._anywhere[type(request)]
        answer: T = found(request)
        return answer

    # On the hub

    def _bind(self, request: BindListener) -> None:
        self._go_on()
        self._worker.bind(request.addr)

    def _start(self, request: StartListener) -> None:
        self._go_on()
        self._worker.start(request.addr)

    def _go_on(self) -> None:
        if self.stopping:
            raise PlaneStopping("the server is stopping")

    def _close(self, request: CloseListener) -> None:
        self._worker.close(request.addr)

    def _publish(self, request: Publish) -> None:
        self._worker.publish(request.table)

    def _close_connections(self, request: CloseConnections) -> Sequence[int]:
        found = [session for number in request.ids if (session := self._shared.sessions.get(number)) is not None]
        for session in found:
            session.cut(Cut(End.KILLED))
        return [session.facts.id for session in found]

    def _would_enter(self, request: WouldEnter) -> Reason | None:
        return self._shared.limits.would_enter(request.listener, request.listener_max)

    def _would_admit(self, request: WouldAdmit) -> Reason | None:
        return self._shared.limits.would_admit(request.packed, time.monotonic())

    def _watch(self, request: Watch) -> None:
        self._reporter.watched = request.on

    def _settle(self, request: Settle) -> None:
        self._go_on()
        self._settling.settle(request)

    def drain(self, seconds: float) -> bool:
        """Open and accept nothing more, and wait for the sessions (see `Drain`). To be called in a greenlet."""
        self.stopping = True
        self._worker.stop_listening()
        return self._worker.drain(seconds)

    # In the thread that asks

    def _read_status(self, _request: ReadStatus) -> WorkerStatus:
        stats, listeners = self._shared.stats, self._shared.live.table.listeners
        accepting = self._worker.accepting
        return WorkerStatus(
            stats.started,
            [
                ListenerStatus(addr, addr in accepting, tally.read())
                for addr, tally in list(stats.listeners.items())
                if addr in listeners or tally.open
            ],
            geoip_status(self._shared.geoip),
            stats.lag.read(),
            stats.lines_left_out,
            self._log_dropped(),
        )

    def _read_routes(self, _request: ReadRoutes) -> Sequence[RouteCounters]:
        listeners, found = self._shared.live.table.listeners, []
        for key, tally in list(self._shared.stats.routes.items()):
            addr, name = key
            route = listeners[addr].routes.get(name) if addr in listeners else None
            if route is not None:
                found.append(RouteCounters(addr, name, tally.read(), self._spoken(key, route)))
            elif tally.open:
                found.append(RouteCounters(addr, name, tally.read()))
        return found

    def _read_spoken(self, request: ReadSpoken) -> Spoken | None:
        return self._spoken((request.listener, request.route.hostname), request.route)

    def _read_connections(self, request: ReadConnections) -> Sequence[ConnectionInfo]:
        sessions = self._shared.sessions
        later = sorted(number for number in list(sessions) if number > request.after)
        found = (_info(session.connection(), session.phase) for n in later if (session := sessions.get(n)))
        return list(itertools.islice(filter(request.selection.takes, found), request.limit))

    def _matching(self, request: Matching) -> Sequence[int]:
        firewall, country = Firewall.compile([request.rule]), self._shared.country
        facts = [session.facts for session in list(self._shared.sessions.values())]
        return [each.id for each in facts if each.packed and firewall.match(each.packed, country)]

    def _country(self, request: FindCountry) -> str | None:
        return self._shared.country(request.packed)

    def _read_loaded(self, request: ReadLoaded) -> LoadedFiles:
        held = self._contexts.held(request.listener, request.route)
        reserved = self._contexts.reserved(request.listener, request.route)
        return LoadedFiles(held, self._contexts.trusts(request.route.backend_ca), reserved)

    def _look_at(self, request: LookAt) -> Look:
        return self._looker.look(request.route, request.seconds)

    def _drain(self, request: Drain) -> bool:
        drained: Future[bool] = Future()

        def run() -> None:
            try:
                drained.set_result(self.drain(request.seconds))
            except BaseException as error:
                drained.set_exception(error)
                raise

        self._door.post(spawn_raw, run)
        return drained.result()


class ByDoor:
    """Takes requests to the desk in the same process, through the hub's door where they need the hub."""

    def __init__(self, desk: Desk, door: Door) -> None:
        self._desk = desk
        self._door = door

    def __repr__(self) -> str:
        return f"<ByDoor {self._desk}>"

    def ask(self, request: Request[T]) -> T:
        """Return the answer. Raises what the desk raises, and PlaneBusy if the hub doesn't turn in time."""
        if not self._desk.needs_hub(request):
            return self._desk.answer(request)
        # A table that is durable must come into force; anything else must not happen after the caller has given up.
        through = self._door.send if isinstance(request, Publish) else self._door.call
        try:
            answer: T = through(self._desk.answer, request)
        except TimeoutError as error:
            raise PlaneBusy("the data path is too busy to answer; try again") from error
        return answer


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
        connection.received,
        connection.sent,
    )
