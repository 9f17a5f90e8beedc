"""How the answers of several workers become one. Values in, values out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from mcproxy.change import Change, What
from mcproxy.messages import (
    BindListener,
    CloseConnections,
    CloseListener,
    ConnectionInfo,
    Drain,
    FilesRead,
    FindCountry,
    GeoipStatus,
    ListenerStatus,
    LoadedFiles,
    LookAt,
    Matching,
    ReadConnections,
    ReadFiles,
    ReadFilesInUse,
    ReadLoaded,
    ReadRoutes,
    ReadSpoken,
    ReadStatus,
    Request,
    RouteCounters,
    SetLogLevel,
    Settle,
    StartListener,
    Watch,
    WorkerStatus,
    WouldAdmit,
    WouldEnter,
)
from mcproxy.model import End, Reason, RouteKey
from mcproxy.stats import Counters, Distribution, Spoken
from mcproxy.table import Table

Counted = Sequence[tuple[str, str, Counters]]  # of a ledger: listener, host name or "", counters


def ended(counters: Counters) -> Counters:
    """What a worker that has ended leaves of its counters: totals, and nothing that is open or waits."""
    backend, ends = replace(counters.backend, waiting=0, idle=0), dict(counters.ended)
    if counters.connections:
        ends[End.LOST] = ends.get(End.LOST, 0) + counters.connections
    return replace(counters, connections=0, ended=ends, backend=backend)


def status(answers: Sequence[WorkerStatus]) -> WorkerStatus:
    """All workers' status; there is at least one."""
    listeners: dict[str, ListenerStatus] = {}
    for each in (each for answer in answers for each in answer.listeners):
        known = listeners.get(each.addr)
        if known is None:
            listeners[each.addr] = each
        else:
            accepting = known.accepting and each.accepting
            listeners[each.addr] = ListenerStatus(each.addr, accepting, known.counters + each.counters)
    return WorkerStatus(
        min(each.started_at for each in answers),
        list(listeners.values()),
        next((each.geoip for each in answers if each.geoip.path), answers[0].geoip),
        reduce(Distribution.plus, (each.lag for each in answers)),
        sum(each.log_left_out for each in answers),
        sum(each.log_dropped for each in answers),
    )


def routes(answers: Iterable[Sequence[RouteCounters]]) -> Sequence[RouteCounters]:
    """All workers' counters of routes."""
    found: dict[tuple[str, str], RouteCounters] = {}
    for each in (each for answer in answers for each in answer):
        known = found.get((each.listener, each.hostname))
        if known is not None:
            spoken = latest([known.spoken, each.spoken])
            each = RouteCounters(each.listener, each.hostname, known.counters + each.counters, spoken)  # noqa: PLW2901
        found[each.listener, each.hostname] = each
    return list(found.values())


def latest(answers: Iterable[Spoken | None]) -> Spoken | None:
    """What was found out last."""
    return max(filter(None, answers), key=lambda each: each.at, default=None)


def connections(request: ReadConnections, answers: Iterable[Sequence[ConnectionInfo]]) -> Sequence[ConnectionInfo]:
    """The first `limit` of all, by id."""
    return sorted((each for answer in answers for each in answer), key=lambda each: each.id)[: request.limit]


def loaded(answers: Sequence[LoadedFiles]) -> LoadedFiles:
    """The files of a route, loaded by any of them."""
    certificate = next((each.certificate for each in answers if each.certificate is not None), None)
    reserved = next((each.reserved for each in answers if each.reserved is not None), None)
    return LoadedFiles(certificate, any(each.trusts_ca for each in answers), reserved)


def _together(answers: Iterable[Sequence[int]]) -> Sequence[int]:
    return sorted(number for answer in answers for number in answer)


def _first(answers: Iterable[Reason | None]) -> Reason | None:
    return next(filter(None, answers), None)


def _nothing(_request: Request[None], _answers: Sequence[None]) -> None:
    return None


def _any(_request: Request[Any], answers: Sequence[Any]) -> Any:
    return answers[0]


_MERGED: dict[type[Request[Any]], Callable[[Any, Any], Any]] = {
    BindListener: _nothing,
    StartListener: _nothing,
    CloseListener: _nothing,
    Watch: _nothing,
    Settle: _nothing,
    SetLogLevel: _nothing,
    FindCountry: _any,
    LookAt: _any,
    Drain: lambda _, answers: all(answers),
    CloseConnections: lambda _, answers: _together(answers),
    Matching: lambda _, answers: _together(answers),
    WouldEnter: lambda _, answers: _first(answers),
    WouldAdmit: lambda _, answers: _first(answers),
    ReadStatus: lambda _, answers: status(answers),
    ReadRoutes: lambda _, answers: routes(answers),
    ReadConnections: connections,
    ReadLoaded: lambda _, answers: loaded(answers),
    ReadSpoken: lambda _, answers: latest(answers),
    ReadFilesInUse: lambda _, answers: reduce(or_, answers, frozenset()),
    ReadFiles: lambda _, answers: reduce(or_, answers, FilesRead()),
}


def merged(request: Request[Any], answers: Sequence[Any]) -> Any:
    """One answer of those of several workers, of which there is at least one. Raises KeyError for other requests."""
    return _MERGED[type(request)](request, answers)


REQUESTS = frozenset(_MERGED)


def with_ledger(last: WorkerStatus, counted: Counted, has: Callable[[str], bool]) -> WorkerStatus:
    """A worker's status: its latest answer, with what its ledger has of listeners that are there or have connections.

    A listener without a page is as it was then.
    """
    found = {each.addr: each for each in last.listeners}
    for addr, name, counters in counted:
        if not name:
            found[addr] = ListenerStatus(addr, True, counters)
    shown = [each for addr, each in found.items() if has(addr) or each.counters.connections]
    return replace(last, listeners=shown)


class Base:
    """The counters of workers that have ended, so that no counter falls; what the living have counted comes to it."""

    def __init__(self) -> None:
        self.status: WorkerStatus | None = None
        self._routes: dict[RouteKey, RouteCounters] = {}

    def __repr__(self) -> str:
        return f"<Base listeners={len(self.status.listeners) if self.status else 0} routes={len(self._routes)}>"

    @property
    def routes(self) -> Sequence[RouteCounters]:
        """Those that have had a connection."""
        return list(self._routes.values())

    def add(self, last: WorkerStatus, last_routes: Sequence[RouteCounters], counted: Counted, table: Table) -> None:
        """Add what a worker had counted of what `table` has: in its ledger, and in its latest answers the rest."""
        last = replace(with_ledger(last, counted, table.listeners.__contains__), geoip=GeoipStatus())
        left = [
            ListenerStatus(each.addr, True, ended(each.counters))
            for each in last.listeners if each.addr in table.listeners
        ]  # fmt: skip
        known = [self.status] if self.status is not None else []
        self.status = status([*known, replace(last, listeners=left)])
        found = {(each.listener, each.hostname): each for each in last_routes}
        for addr, name, counters in counted:
            if name:
                route = found.get((addr, name), RouteCounters(addr, name))
                found[addr, name] = replace(route, counters=replace(counters, backend=route.counters.backend))
        gone = [replace(each, counters=ended(each.counters)) for key, each in found.items() if table.has_route(key)]
        self._routes = {(each.listener, each.hostname): each for each in routes([self.routes, gone])}

    def forget(self, changes: Iterable[Change]) -> None:
        """Drop what these take away."""
        for change in changes:
            if change.new is not None:
                continue
            if change.key.what is What.ROUTE:
                self._routes.pop((change.key.scope, change.key.name), None)
            elif change.key.what is What.LISTENER and self.status is not None:
                kept = [each for each in self.status.listeners if each.addr != change.key.name]
                self.status = replace(self.status, listeners=kept)
