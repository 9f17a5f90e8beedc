"""One answer out of several workers', and counters that never fall."""

from contextlib import closing
from dataclasses import replace

from mcproxy import messages
from mcproxy.certificates.pem import Certificate
from mcproxy.change import Change, listener_key, route_key
from mcproxy.messages import (
    CloseConnections,
    ConnectionInfo,
    Drain,
    FilesRead,
    GeoipStatus,
    ListenerStatus,
    LoadedFiles,
    ReadConnections,
    ReadFiles,
    ReadFilesInUse,
    ReadLoaded,
    Request,
    RouteCounters,
    WorkerStatus,
    WouldEnter,
)
from mcproxy.model import Backend, End, Listener, Reason, Route
from mcproxy.stats import LAGS, NO_LAGS, BackendCounters, Counters, Distribution, Spoken
from mcproxy.table import Table
from mcproxy.workers.common import Common
from mcproxy.workers.courier import ToWorkers
from mcproxy.workers.merging import REQUESTS, Base, merged, routes, status
from mcproxy.workers.team import Known, Team

ROUTE = Route("a.test", Backend("127.0.0.1", 1))
TABLE = Table.build([(Listener(addr), [ROUTE, replace(ROUTE, hostname="b.test")]) for addr in (":1", ":2")])
LAG = Distribution(LAGS, (1,) * (len(LAGS) + 1), 2.0)


def of(addr: str, counters: Counters, lag: Distribution = NO_LAGS, at: float = 5.0) -> WorkerStatus:
    return WorkerStatus(at, [ListenerStatus(addr, True, counters)], GeoipStatus(), lag, 2, 1)


def test_every_request_has_its_answer() -> None:
    all_ = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, Request)}
    known = Known.__new__(Known)
    with closing(Common(1)) as common:
        special = ToWorkers(Team(1, known, common), lambda _addr: (), 0.0)._special
    assert all_ - {Request} == set(REQUESTS) | set(special)


def test_a_status_adds_up() -> None:
    both = status([of(":1", Counters(1, 5), LAG), of(":1", Counters(2, 7), LAG, 3.0), of(":2", Counters(0, 1))])
    assert {each.addr: (each.counters.connections, each.counters.accepted) for each in both.listeners} == {
        ":1": (3, 12), ":2": (0, 1),
    }  # fmt: skip
    assert (both.started_at, both.lag.total, both.log_left_out, both.log_dropped) == (3.0, 4.0, 6, 3)


def test_routes_add_up_and_what_was_found_out_last_holds() -> None:
    older, newer = Spoken("h2", "SETTINGS", 1.0), Spoken("http/1.1", "ALPN", 2.0)
    (found,) = routes(
        [[RouteCounters(":1", "a.test", Counters(1, 5), newer)], [RouteCounters(":1", "a.test", Counters(0, 4), older)]]
    )
    assert (found.counters.accepted, found.spoken) == (9, newer)


def test_connections_are_listed_by_id_up_to_the_limit() -> None:
    def info(number: int) -> ConnectionInfo:
        return ConnectionInfo(number, ":1", "192.0.2.1:1", 1.0, "relaying")

    answers = [[info(101), info(301)], [info(202), info(402)]]
    assert [each.id for each in merged(ReadConnections(0, 3), answers)] == [101, 202, 301]


def test_a_question_about_limits_has_the_first_reason() -> None:
    assert merged(WouldEnter(":1", 0), [None, Reason.LIMIT_TOTAL]) is Reason.LIMIT_TOTAL
    assert merged(WouldEnter(":1", 0), [None, None]) is None


def test_lists_sets_and_conditions() -> None:
    certificate = Certificate.__new__(Certificate)
    assert merged(CloseConnections([1, 2]), [[2], [1]]) == [1, 2]
    assert merged(ReadFilesInUse(), [frozenset("a"), frozenset("b")]) == {"a", "b"}
    assert merged(Drain(1.0), [True, False]) is False
    loaded = merged(ReadLoaded(":1", ROUTE), [LoadedFiles(None, False), LoadedFiles(certificate, True)])
    assert (loaded.certificate is certificate, loaded.trusts_ca) == (True, True)
    read = merged(ReadFiles(), [FilesRead(problems=["x"]), FilesRead(problems=["x", "y"])])
    assert tuple(read.problems) == ("x", "y")


def test_what_a_worker_had_counted_stays_and_what_it_had_open_does_not() -> None:
    base = Base()
    backend = BackendCounters({"h2": 2}, idle=4, waiting=1, reused=9)
    counters = Counters(3, 10, {Reason.BLOCKED_IP: 1}, backend=backend)
    for _ in range(2):
        base.add(of(":1", counters, LAG), [RouteCounters(":1", "a.test", counters)], [], TABLE)
    assert base.status is not None
    (listener,) = base.status.listeners
    assert (listener.counters.connections, listener.counters.accepted) == (0, 20)
    assert listener.counters.ended == {End.LOST: 6}, "those that were open"
    assert base.status.lag.total == 4.0
    (route,) = base.routes
    assert (route.counters.backend.idle, route.counters.backend.waiting, route.counters.backend.reused) == (0, 0, 18)
    base.forget([Change(route_key(":1", "a.test"), ROUTE, None), Change(listener_key(":1"), Listener(":1"), None)])
    assert (list(base.status.listeners), list(base.routes)) == ([], [])


def test_a_ledger_has_more_than_the_last_answer() -> None:
    base, spoken = Base(), Spoken("h2", "ALPN", 1.0)
    old = Counters(1, 10, backend=BackendCounters(reused=9))
    new = Counters(2, 12, ended={End.CLOSED: 10})
    found = [(addr, name, new) for addr in (":1", ":2", ":3") for name in ("", "a.test", "gone.test")]
    answered = [RouteCounters(":1", "a.test", old, spoken), RouteCounters(":1", "b.test", old)]
    base.add(of(":1", old, LAG), answered, found, TABLE)
    assert base.status is not None
    left = replace(new, connections=0, ended={End.CLOSED: 10, End.LOST: 2})
    assert {each.addr: each.counters for each in base.status.listeners} == {":1": left, ":2": left}
    routes = {(each.listener, each.hostname): each for each in base.routes}
    assert routes[":1", "a.test"] == RouteCounters(":1", "a.test", replace(left, backend=old.backend), spoken)
    assert routes[":2", "a.test"].counters == left
    assert routes[":1", "b.test"].counters.accepted == 10
    assert len(routes) == 3, "the table has no other"
