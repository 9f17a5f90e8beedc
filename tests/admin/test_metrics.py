"""The metrics: Prometheus' own tools can read them, the numbers are there, and the series have a bound."""

import os
import subprocess
import time
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from mcproxy import __version__
from mcproxy.admin import metrics
from mcproxy.admin.plane import PlaneStatus, ServerState
from mcproxy.certificates.routes import CertificateStatus
from mcproxy.fleet.standing import Standing, State
from mcproxy.messages import GeoipStatus, ListenerStatus, RouteCounters, WorkerInfo, WorkerState
from mcproxy.model import End, Reason
from mcproxy.stats import DIALS, DURATIONS, LAGS, BackendCounters, Counters, Histogram
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, counted


def observed(bounds: tuple[float, ...], *values: float) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


LISTENER = ListenerStatus(
    ":443", True, Counters(
        2, 10, {Reason.BLOCKED_IP: 3, Reason.ROUTE_UNKNOWN: 1}, {End.CLOSED: 5, End.REFUSED: 4}, 100, 2**53,
        {"2xx": 7}, {"done": 6, "client reset": 1},
        observed(DURATIONS, 0.01, 2.0).read(), observed(DIALS, 0.0007).read(),
    ),
)  # fmt: skip
STATUS = PlaneStatus(
    ServerState.DRAINING,
    1000.5,
    [LISTENER],
    [
        CertificateStatus(":443", "a.example.org", "/c.pem", 5000.0, 1000.0),
        CertificateStatus(":443", "c.example.org", "from ACME", 6000.0, 2000.0, "", True, 3, 3000.0),
        CertificateStatus(":443", "odd.example.org", "/odd.pem", 0.0, 0.0, "its dates can't be read"),
    ],
    GeoipStatus("/geo.mmdb", 7.0),
    log_dropped=8,
    log_left_out=9,
    lag=observed(LAGS, 0.003, 0.02).read(),
)
TABLE = Table.build(SEED, RULES, 42)


def rendered(*routes: RouteCounters) -> str:
    return metrics.render(STATUS, routes, TABLE, metrics.Own(1, 2))


def samples(text: str) -> dict[str, float]:
    """Each sample by its name and labels, as people write them."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, "each series once"
            found[key] = sample.value
    return found


def test_promtool_finds_nothing_wrong() -> None:
    text = rendered(RouteCounters(":443", 'we"ird\\name\n', counted(1, 2, 0, 3, 4)))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_numbers() -> None:
    found = samples(rendered(RouteCounters(":443", "git.example.org", counted(1, 2, 1, 3, 4, {"5xx": 6}))))
    expected = {
        f'mcproxy_info{{version="{__version__}"}}': 1,
        "mcproxy_start_time_seconds": 1000.5,
        "mcproxy_draining": 1,
        "mcproxy_generation": 42,
        'mcproxy_firewall_rules{kind="cidr"}': 1,
        'mcproxy_firewall_rules{kind="country"}': 0,
        'mcproxy_firewall_hits_total{kind="ip"}': 3,
        'mcproxy_firewall_hits_total{kind="cidr"}': 0,
        "mcproxy_watchers": 1,
        "mcproxy_database_errors_total": 2,
        "mcproxy_log_lines_dropped_total": 8,
        "mcproxy_log_lines_left_out_total": 9,
        "mcproxy_geoip_build_time_seconds": 7,
        'mcproxy_certificate_not_after_seconds{hostname="a.example.org",listener=":443"}': 5000,
        'mcproxy_certificate_not_before_seconds{hostname="a.example.org",listener=":443"}': 1000,
        'mcproxy_hub_lag_seconds_bucket{le="0.0025"}': 0,
        'mcproxy_hub_lag_seconds_bucket{le="0.005"}': 1,
        'mcproxy_hub_lag_seconds_bucket{le="+Inf"}': 2,
        "mcproxy_hub_lag_seconds_sum": 0.023,
        'mcproxy_connections_open{listener=":443"}': 2,
        'mcproxy_connections_accepted_total{listener=":443"}': 10,
        'mcproxy_connections_finished_total{listener=":443",reason="blocked_ip",verdict="refused"}': 3,
        'mcproxy_connections_finished_total{listener=":443",reason="ok",verdict="routed"}': 5,
        'mcproxy_connections_ended_total{end="closed",listener=":443"}': 5,
        'mcproxy_bytes_total{direction="sent",listener=":443"}': 2**53,
        'mcproxy_requests_total{class="2xx",listener=":443"}': 7,
        'mcproxy_requests_ended_total{end="done",listener=":443"}': 6,
        'mcproxy_requests_ended_total{end="client reset",listener=":443"}': 1,
        'mcproxy_connection_duration_seconds_bucket{le="0.025",listener=":443"}': 1,
        'mcproxy_connection_duration_seconds_count{listener=":443"}': 2,
        'mcproxy_dial_duration_seconds_bucket{le="0.001",listener=":443"}': 1,
        'mcproxy_route_connections_open{hostname="git.example.org",listener=":443"}': 1,
        'mcproxy_route_connections_total{hostname="git.example.org",listener=":443"}': 2,
        'mcproxy_route_refused_total{hostname="git.example.org",listener=":443"}': 1,
        'mcproxy_route_bytes_total{direction="received",hostname="git.example.org",listener=":443"}': 3,
        'mcproxy_route_requests_total{class="5xx",hostname="git.example.org",listener=":443"}': 6,
        'mcproxy_route_dial_duration_seconds_count{hostname="git.example.org",listener=":443"}': 0,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["mcproxy_process_open_fds"] > 0
    assert found["mcproxy_process_max_fds"] > found["mcproxy_process_open_fds"]


def test_the_numbers_of_an_l7_backend() -> None:
    counters = replace(
        counted(1, 2, 0, 3, 4, {"2xx": 9}), passed={"http/1.1": 8, "h2": 1}, heads=7, waited=1.75,
        backend=BackendCounters({"http/1.1": 10}, 11, 12, 13, 14, 15, 16, 17),
    )  # fmt: skip
    l4 = RouteCounters(":443", "git.example.org", counted(1, 1))
    found = samples(rendered(RouteCounters(":443", "www.example.org", counters), l4))
    route = 'hostname="www.example.org",listener=":443"'
    expected = {
        f'mcproxy_route_backend_requests_total{{{route},protocol="http/1.1"}}': 8,
        f'mcproxy_route_backend_requests_total{{{route},protocol="h2"}}': 1,
        f'mcproxy_route_backend_connections_total{{{route},protocol="http/1.1"}}': 10,
        f"mcproxy_route_backend_reused_total{{{route}}}": 11,
        f"mcproxy_route_backend_retries_total{{{route}}}": 12,
        f"mcproxy_route_backend_waiting{{{route}}}": 13,
        f"mcproxy_route_backend_waited_too_long_total{{{route}}}": 14,
        f"mcproxy_route_backend_connections_idle{{{route}}}": 15,
        f"mcproxy_route_backend_dead_total{{{route}}}": 16,
        f"mcproxy_route_backend_poisoned_total{{{route}}}": 17,
        f"mcproxy_route_first_byte_seconds_count{{{route}}}": 7,
        f"mcproxy_route_first_byte_seconds_sum{{{route}}}": 1.75,
    }
    backend = ("mcproxy_route_backend_", "mcproxy_route_first_byte_")
    assert {key: value for key, value in found.items() if key.startswith(backend)} == expected


def test_series_have_a_bound_and_the_rest_is_summed_up() -> None:
    many = [
        RouteCounters(":443", f"h{i}.example.org", counted(1, i, 1, 2, 3, requests={"2xx": 2, "5xx": i % 2}))
        for i in range(metrics.MAX_ROUTE_SERIES + 10)
    ]
    found = samples(rendered(*many))
    totals = {key: value for key, value in found.items() if key.startswith("mcproxy_route_connections_total")}
    assert len(totals) == metrics.MAX_ROUTE_SERIES + 1
    assert f'mcproxy_route_connections_total{{hostname="h{len(many) - 1}.example.org",listener=":443"}}' in totals
    assert totals['mcproxy_route_connections_total{hostname="(other)",listener=""}'] == sum(range(10))
    others = {
        each: found[f'mcproxy_route_requests_total{{class="{each}",hostname="(other)",listener=""}}']
        for each in ("2xx", "5xx")
    }
    assert others == {"2xx": 20, "5xx": 5}
    counts = [key for key in found if key.startswith("mcproxy_route_dial_duration_seconds_count")]
    assert len(counts) == metrics.MAX_ROUTE_HISTOGRAMS


def test_the_largest_answer_is_affordable() -> None:
    """Its 10,000 lines are made in a native thread, which takes the interpreter away from the hub."""
    many = [
        RouteCounters(":443", f"h{i}.example.org", counted(1, i, 1, 2, 3, {"2xx": 1}))
        for i in range(metrics.MAX_ROUTE_SERIES)
    ]
    began = time.thread_time()
    text = rendered(*many)
    assert time.thread_time() - began < 1.0
    assert len(text) < 4 << 20, "what gRPC takes in one message"


def test_orders_of_certificates_have_their_failures_and_their_next_try() -> None:
    lines = rendered().splitlines()
    assert 'mcproxy_acme_failures{hostname="c.example.org",listener=":443"} 3.0' in lines
    assert 'mcproxy_acme_next_try_seconds{hostname="c.example.org",listener=":443"} 3000.0' in lines
    assert not [each for each in lines if each.startswith("mcproxy_acme_failures{") and "c.example.org" not in each]


def test_each_of_several_workers_has_its_numbers() -> None:
    workers = [
        WorkerInfo(1, WorkerState.SERVING, os.getpid(), 1.0, 5, 0, observed(LAGS, 0.003).read()),
        WorkerInfo(2, WorkerState.FAILING, 0, 0.0, 0, 7, observed(LAGS).read(), "killed by SIGSEGV"),
    ]
    text = metrics.render(replace(STATUS, workers=workers), [], TABLE, metrics.Own())
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = samples(text)
    expected = {
        'mcproxy_worker_serving{worker="1"}': 1,
        'mcproxy_worker_serving{worker="2"}': 0,
        'mcproxy_worker_connections_open{worker="1"}': 5,
        'mcproxy_worker_restarts_total{worker="2"}': 7,
        'mcproxy_worker_hub_lag_seconds_count{worker="1"}': 1,
        'mcproxy_worker_hub_lag_seconds_count{worker="2"}': 0,
    }
    assert {key: found[key] for key in expected} == expected
    assert found['mcproxy_worker_process_cpu_seconds_total{worker="1"}'] > 0
    assert found['mcproxy_worker_process_resident_memory_bytes{worker="1"}'] > 1e6
    assert 'mcproxy_worker_process_open_fds{worker="2"}' not in found, "it has no process"
    assert not [key for key in samples(rendered()) if "worker" in key], "there are not several"


def test_a_node_of_a_fleet_shows_where_it_stands() -> None:
    standing = Standing("edge1", State.ALONE, 1.0, "it is down", TABLE.generation + 2, unbound={":1": "in use"})
    text = metrics.render(STATUS, [], TABLE, metrics.Own(standing=standing))
    assert "mcproxy_node_following 0.0" in text
    assert "mcproxy_node_generations_behind 2.0" in text
    assert "mcproxy_node_unbound_listeners 1.0" in text
    assert "mcproxy_node" not in metrics.render(STATUS, [], TABLE, metrics.Own())
