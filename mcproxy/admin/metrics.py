"""The counters for Prometheus: by listener and by route, never by what clients send.

prometheus_client writes the text (https://prometheus.io/docs/instrumenting/exposition_formats/), from a registry that
is made for one answer: the numbers live where they are counted, and are read when they are asked for. Our names begin
with mcproxy_, those of the process too, since node_exporter's textfile collector has a process_ of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from mcproxy import __version__
from mcproxy.admin.plane import PlaneStatus
from mcproxy.fleet.standing import Standing, State
from mcproxy.messages import ListenerStatus, RouteCounters, WorkerInfo, WorkerState
from mcproxy.model import End, Reason, RuleKind
from mcproxy.policy.firewall import REASONS
from mcproxy.stats import Counters, Distribution
from mcproxy.table import Table

# Routes with series of their own, those with the most connections; the others together are hostname="(other)". A
# scraper keeps every series that it ever saw: 100,000 of them are not worth their cost. A histogram is 15 series.
MAX_ROUTE_SERIES = 1_000
MAX_ROUTE_HISTOGRAMS = 100


@dataclass(frozen=True, slots=True)
class Own:
    """The control plane's own counters."""

    watchers: int = 0  # open streams of connection events
    database_errors: int = 0
    standing: Standing | None = None  # of a node of a fleet


def render(status: PlaneStatus, routes: Sequence[RouteCounters], table: Table, own: Own) -> str:
    """All metrics as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(status, routes, table, own))
    ProcessCollector(namespace="mcproxy", registry=registry)
    return generate_latest(registry).decode()


class _Families(Collector):
    def __init__(self, status: PlaneStatus, routes: Sequence[RouteCounters], table: Table, own: Own) -> None:
        self._status = status
        self._routes = routes
        self._table = table
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """The metrics; the registry calls this once."""
        yield from _server(self._status, self._table, self._own)
        yield from _workers(self._status.workers)
        yield from _listeners(self._status.listeners)
        yield from _listener_histograms(self._status.listeners)
        shown = _shown(self._routes)
        yield from _routes(shown)
        yield from _backends([each for each in shown if each.counters.requests or each.counters.backend.made])
        yield from _route_histograms(shown[:MAX_ROUTE_HISTOGRAMS])


def _server(status: PlaneStatus, table: Table, own: Own) -> Iterator[Metric]:
    yield InfoMetricFamily("mcproxy", "The running version.", {"version": __version__})
    yield _gauge("start_time_seconds", "Start time, in seconds since the epoch.", status.started_at)
    yield _gauge("draining", "1 while the server drains, else 0.", status.state == "draining")
    yield _gauge("generation", "The generation of the table in force.", table.generation)
    firewall = table.firewall
    rules = GaugeMetricFamily("mcproxy_firewall_rules", "Firewall rules.", labels=["kind"])
    hits = CounterMetricFamily("mcproxy_firewall_hits", "Connections that a firewall rule refused.", labels=["kind"])
    held = {
        RuleKind.IP: len(firewall.ips),
        RuleKind.CIDR: len(firewall.cidrs),
        RuleKind.COUNTRY: len(firewall.countries),
    }
    for kind, count in held.items():
        rules.add_metric([kind], count)
        hits.add_metric([kind], sum(each.counters.refused.get(REASONS[kind], 0) for each in status.listeners))
    yield rules
    yield hits
    yield _gauge("watchers", "Open streams of connection events.", own.watchers)
    yield CounterMetricFamily("mcproxy_database_errors", "Database operations that failed.", own.database_errors)
    if own.standing is not None:
        following = own.standing.state is State.FOLLOWING
        yield _gauge("node_following", "1 while this node of a fleet has the database, else 0.", following)
        behind = own.standing.behind(table.generation)
        yield _gauge("node_generations_behind", "Generations that this node lacks, as far as it knows.", behind)
        yield _gauge("node_unbound_listeners", "Addresses that this node can't take.", len(own.standing.unbound))
    yield CounterMetricFamily(
        "mcproxy_log_lines_dropped",
        "Log lines dropped, being read too slowly or on a full disk.",
        status.log_dropped,
    )
    text = "Log lines of refusals left out in floods."
    yield CounterMetricFamily("mcproxy_log_lines_left_out", text, status.log_left_out)
    if status.geoip.path:
        text = "When the GeoIP database was built, in seconds since the epoch."
        yield _gauge("geoip_build_time_seconds", text, status.geoip.built_at)
    ends = _gauge("certificate_not_after_seconds", "When it expires, in seconds since the epoch.", None, _ROUTE)
    begins = _gauge("certificate_not_before_seconds", "Since when it is valid, the same.", None, _ROUTE)
    for each in status.certificates:
        if each.not_after or not each.unread:  # what can't be used expired in 1970; what can't be read is not known
            ends.add_metric([each.listener, each.hostname], each.not_after)
            begins.add_metric([each.listener, each.hostname], each.not_before)
    yield ends
    yield begins
    failures = _gauge("acme_failures", "Failed tries in a row to order or renew it.", None, _ROUTE)
    tries = _gauge("acme_next_try_seconds", "When it is ordered or renewed next, the same.", None, _ROUTE)
    for each in status.certificates:
        if each.from_acme:
            failures.add_metric([each.listener, each.hostname], each.failures)
            tries.add_metric([each.listener, each.hostname], each.next_at)
    yield failures
    yield tries
    yield _histogram("hub_lag_seconds", "How late the hub was, sampled four times a second.", [], [([], status.lag)])


def _workers(workers: Sequence[WorkerInfo]) -> Iterator[Metric]:
    """Where there are several: each, and its process, as ProcessCollector has that of the whole server."""
    if not workers:
        return
    serving = _gauge("worker_serving", "1 while the worker serves, else 0.", None, _WORKER)
    opened = _gauge("worker_connections_open", "Open connections of a worker.", None, _WORKER)
    restarts = _counter("worker_restarts", "Processes of a worker that ended and were replaced.", _WORKER)
    processes: dict[str, Metric] = {}
    for each in workers:
        at = [str(each.number)]
        serving.add_metric(at, each.state is WorkerState.SERVING)
        opened.add_metric(at, each.connections)
        restarts.add_metric(at, each.restarts)
        of_process = ProcessCollector("mcproxy_worker", partial(int, each.pid), registry=None) if each.pid else None
        for found in of_process.collect() if of_process is not None else ():
            family = processes.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                family.add_sample(sample.name, {"worker": at[0]}, sample.value)
    yield from (serving, opened, restarts, *processes.values())
    lags = [([str(each.number)], each.lag) for each in workers]
    yield _histogram("worker_hub_lag_seconds", "How late the hub of a worker was, sampled the same.", _WORKER, lags)


_WORKER = ["worker"]
_LISTENER = ["listener"]
_ROUTE = ["listener", "hostname"]


def _gauge(name: str, text: str, value: float | None, labels: Sequence[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"mcproxy_{name}", text, value, labels)


def _counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"mcproxy_{name}", text, labels=labels)


def _histogram(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Distribution]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"mcproxy_{name}", text, labels=labels)
    for values, found in rows:
        bounds = [*map(str, found.bounds), "+Inf"]
        family.add_metric(values, list(zip(bounds, accumulate(found.counts), strict=True)), found.total)
    return family


def _listeners(listeners: Iterable[ListenerStatus]) -> Iterator[Metric]:
    opened = _gauge("connections_open", "Open connections.", None, _LISTENER)
    accepted = _counter("connections_accepted", "Connections accepted.", _LISTENER)
    finished = _counter(
        "connections_finished", "Finished connections, by verdict and reason.", [*_LISTENER, "verdict", "reason"]
    )
    ended = _counter("connections_ended", "Finished connections, by how they ended.", [*_LISTENER, "end"])
    moved = _counter("bytes", "Bytes received from clients and sent to them.", [*_LISTENER, "direction"])
    requests = _counter(
        "requests", "Requests that have ended, by status class; none: without an answer.", [*_LISTENER, "class"]
    )
    over = _counter("requests_ended", "Requests that have ended, by how they did.", [*_LISTENER, "end"])
    for each in listeners:
        opened.add_metric([each.addr], each.counters.connections)
        accepted.add_metric([each.addr], each.counters.accepted)
        ends = each.counters.ended
        probes, challenges, lost = (ends.get(end, 0) for end in (End.PROBE, End.CHALLENGE, End.LOST))
        routed = sum(ends.values()) - sum(each.counters.refused.values()) - probes - challenges - lost
        finished.add_metric([each.addr, "routed", Reason.OK], max(0, routed))
        if probes:
            finished.add_metric([each.addr, "probe", Reason.PROBE], probes)
        if challenges:
            finished.add_metric([each.addr, "challenge", Reason.OK], challenges)
        for reason, count in each.counters.refused.items():
            finished.add_metric([each.addr, "refused", reason], count)
        for end, count in each.counters.ended.items():
            ended.add_metric([each.addr, end], count)
        moved.add_metric([each.addr, "received"], each.counters.received)
        moved.add_metric([each.addr, "sent"], each.counters.sent)
        for status_class, count in each.counters.requests.items():
            requests.add_metric([each.addr, status_class], count)
        for word, count in each.counters.request_ends.items():
            over.add_metric([each.addr, word], count)
    yield from (opened, accepted, finished, ended, moved, requests, over)


def _listener_histograms(listeners: Iterable[ListenerStatus]) -> Iterator[Metric]:
    rows = [([each.addr], each) for each in listeners]
    lasted = [(at, each.counters.durations) for at, each in rows]
    yield _histogram("connection_duration_seconds", "How long connections lasted.", _LISTENER, lasted)
    dialled = [(at, each.counters.dials) for at, each in rows]
    yield _histogram("dial_duration_seconds", "How long connecting to backends took.", _LISTENER, dialled)


def _routes(routes: Iterable[RouteCounters]) -> Iterator[Metric]:
    opened = _gauge("route_connections_open", "Open connections of a route.", None, _ROUTE)
    accepted = _counter("route_connections", "Connections that asked for a route, but for ACME challenges.", _ROUTE)
    refused = _counter("route_refused", "Connections that asked for a route and didn't reach its backend.", _ROUTE)
    moved = _counter("route_bytes", "Bytes received from a route's clients and sent to them.", [*_ROUTE, "direction"])
    requests = _counter(
        "route_requests",
        "Requests of a route that have ended, by status class; none: without an answer.",
        [*_ROUTE, "class"],
    )
    over = _counter("route_requests_ended", "Requests of a route that have ended, by how they did.", [*_ROUTE, "end"])
    for each in routes:
        at = [each.listener, each.hostname]
        opened.add_metric(at, each.counters.connections)
        accepted.add_metric(at, each.counters.accepted)
        refused.add_metric(at, sum(each.counters.refused.values()))
        moved.add_metric([*at, "received"], each.counters.received)
        moved.add_metric([*at, "sent"], each.counters.sent)
        for status_class, count in each.counters.requests.items():
            requests.add_metric([*at, status_class], count)
        for word, count in each.counters.request_ends.items():
            over.add_metric([*at, word], count)
    yield from (opened, accepted, refused, moved, requests, over)


# The counters among the fields of stats.BackendCounters.
_BACKEND_COUNTERS = {
    "reused": "Requests that found an idle connection to the backend.",
    "retries": "Requests that were sent to the backend once more, over another connection.",
    "waited_too_long": "Requests answered 503, because max_backend_connections were in use.",
    "dead": "Idle connections that the backend closed.",
    "poisoned": "Connections over which the backend sent more than its answer.",
}


def _backends(routes: Iterable[RouteCounters]) -> Iterator[Metric]:
    """How l7 routes use their backends."""
    protocol = [*_ROUTE, "protocol"]
    passed = _counter("route_backend_requests", "Requests that a route's backend got, by its HTTP version.", protocol)
    made = _counter("route_backend_connections", "Connections to a route's backend, by its HTTP version.", protocol)
    counters = {name: _counter(f"route_backend_{name}", text, _ROUTE) for name, text in _BACKEND_COUNTERS.items()}
    waiting = _gauge("route_backend_waiting", "Requests that wait for a connection to the backend.", None, _ROUTE)
    idle = _gauge("route_backend_connections_idle", "Idle connections to the backend.", None, _ROUTE)
    heads = SummaryMetricFamily(
        "mcproxy_route_first_byte_seconds", "From a request's head to that of the backend's answer.", labels=_ROUTE
    )
    for each in routes:
        at, backend = [each.listener, each.hostname], each.counters.backend
        for version, count in each.counters.passed.items():
            passed.add_metric([*at, version], count)
        for version, count in backend.made.items():
            made.add_metric([*at, version], count)
        for name, family in counters.items():
            family.add_metric(at, getattr(backend, name))
        waiting.add_metric(at, backend.waiting)
        idle.add_metric(at, backend.idle)
        heads.add_metric(at, each.counters.heads, each.counters.waited)
    yield from (passed, made, *counters.values(), waiting, idle, heads)


def _route_histograms(routes: Iterable[RouteCounters]) -> Iterator[Metric]:
    rows = [([each.listener, each.hostname], each) for each in routes if each.listener]
    lasted = [(at, each.counters.durations) for at, each in rows]
    yield _histogram("route_connection_duration_seconds", "How long connections of a route lasted.", _ROUTE, lasted)
    dialled = [(at, each.counters.dials) for at, each in rows]
    yield _histogram("route_dial_duration_seconds", "How long connecting to a route's backend took.", _ROUTE, dialled)


def _shown(routes: Sequence[RouteCounters]) -> list[RouteCounters]:
    busiest = sorted(routes, key=lambda each: (-each.counters.accepted, each.listener, each.hostname))
    shown, rest = busiest[:MAX_ROUTE_SERIES], busiest[MAX_ROUTE_SERIES:]
    if rest:
        shown.append(RouteCounters("", "(other)", sum((each.counters for each in rest), Counters())))
    return shown
