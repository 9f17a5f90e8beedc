"""deploy/prometheus: promtool accepts the alerts, each fires when it should, and nothing asks for a metric that isn't.

What is asked for is held against the metrics of the real program.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcproxy.admin import metrics
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.messages import RouteCounters, WorkerInfo, WorkerState
from mcproxy.stats import BackendCounters
from tests.admin.test_metrics import STATUS, TABLE, rendered
from tests.conftest import MakeBackend, MakeProxy
from tests.e2e.test_service_manager import document, echoed
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.control_plane import counted
from tests.kit.http2_backends import h2, l7_listener, says
from tests.kit.peers import DEADLINE, Authority, connect, echo, free_port, read_all, until
from tests.kit.program import ROOT, Server, environment

FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "dashboard.json"


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_alerts() -> None:
    assert "SUCCESS: 17 rules found" in promtool("check", "rules", ALERTS)


def finished(reason: str, verdict: str, values: str) -> dict[str, str]:
    labels = f'instance="m", listener=":443", verdict="{verdict}", reason="{reason}"'
    return {"series": f"mcproxy_connections_finished_total{{{labels}}}", "values": values}


def requests(status_class: str, hostname: str, values: str) -> dict[str, str]:
    labels = f'instance="m", listener=":443", hostname="{hostname}", class="{status_class}"'
    return {"series": f"mcproxy_route_requests_total{{{labels}}}", "values": values}


PROBES = finished("probe", "probe", "0+600x120")  # many load balancers: neither an alert, nor in the way of one
# What makes each fire within half an hour, a sample a minute.
FIRING: dict[str, list[dict[str, str]]] = {
    "MCProxyDown": [{"series": 'node_textfile_mtime_seconds{instance="m", file="/x/mcproxy.prom"}', "values": "0x30"}],
    "MCProxyBackendDown": [
        finished("ok", "routed", "0+60x30"),
        finished("backend_refused", "refused", "0+6x30"),
        PROBES,
    ],
    "MCProxyRequestsFail": [
        *(requests(*each, "0+60x30") for each in (("2xx", "a"), ("2xx", "b"), ("4xx", "c"))),
        requests("5xx", "a", "0+6x30"),
    ],
    "MCProxyBackendFull": [
        {"series": 'mcproxy_route_backend_waited_too_long_total{instance="m", hostname="a"}', "values": "0+1x30"}
    ],
    "MCProxyBackendPoisons": [
        {"series": 'mcproxy_route_backend_poisoned_total{instance="m", hostname="a"}', "values": "0x20 1x10"}
    ],
    "MCProxyClientsRefused": [
        finished("ok", "routed", "0+1x30"),
        finished("route_unknown", "refused", "0+60x30"),
        PROBES,
    ],
    "MCProxyBug": [finished("internal_error", "refused", "0x20 1x10")],
    "MCProxyDescriptorsLow": [
        {"series": 'mcproxy_process_open_fds{instance="m"}', "values": "90x30"},
        {"series": 'mcproxy_process_max_fds{instance="m"}', "values": "100x30"},
    ],
    "MCProxyHubLate": [
        {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="0.1"}', "values": "0+1x30"},
        {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="0.5"}', "values": "0+10x30"},
        {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="+Inf"}', "values": "0+10x30"},
    ],
    "MCProxyWorkerDown": [
        {"series": 'mcproxy_worker_serving{instance="m", worker="1"}', "values": "1x30"},
        {"series": 'mcproxy_worker_serving{instance="m", worker="2"}', "values": "0x30"},
        {"series": 'mcproxy_draining{instance="m"}', "values": "0x30"},
    ],
    "MCProxyWorkerDied": [{"series": 'mcproxy_worker_restarts_total{instance="m", worker="2"}', "values": "0x20 1x10"}],
    "MCProxyDatabaseErrors": [{"series": 'mcproxy_database_errors_total{instance="m"}', "values": "0x20 1x10"}],
    "MCProxyLogLost": [{"series": 'mcproxy_log_lines_dropped_total{instance="m"}', "values": "0x20 1x10"}],
    "MCProxyCertificateEnds": [
        {"series": 'mcproxy_certificate_not_after_seconds{instance="m", hostname="a"}', "values": "86400x120"}
    ],
    "MCProxyOrderFails": [{"series": 'mcproxy_acme_failures{instance="m", hostname="a"}', "values": "0x5 3x25"}],
    "MCProxyOrderLate": [{"series": 'mcproxy_acme_next_try_seconds{instance="m", hostname="a"}', "values": "-7200x30"}],
    "MCProxyGeoIPOld": [{"series": 'mcproxy_geoip_build_time_seconds{instance="m"}', "values": "-9000000x120"}],
}
HEALTHY = [
    {"series": 'node_textfile_mtime_seconds{instance="m", file="/x/mcproxy.prom"}', "values": "0+60x120"},
    finished("ok", "routed", "0+60x120"),
    finished("backend_refused", "refused", "0+1x120"),
    finished("route_unknown", "refused", "0+20x120"),
    finished("internal_error", "refused", "7x120"),
    PROBES,
    requests("2xx", "a", "0+60x120"),
    requests("4xx", "a", "0+60x120"),
    requests("5xx", "a", "0+5x120"),
    requests("5xx", "idle", "7x120"),  # some time ago
    {"series": 'mcproxy_route_backend_waited_too_long_total{instance="m", hostname="a"}', "values": "7x120"},
    {"series": 'mcproxy_route_backend_poisoned_total{instance="m", hostname="a"}', "values": "7x120"},
    {"series": 'mcproxy_process_open_fds{instance="m"}', "values": "50x120"},
    {"series": 'mcproxy_process_max_fds{instance="m"}', "values": "100x120"},
    {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="0.005"}', "values": "0+240x120"},
    {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="+Inf"}', "values": "0+240x120"},
    {"series": 'mcproxy_worker_serving{instance="m", worker="1"}', "values": "1x120"},
    {"series": 'mcproxy_worker_serving{instance="n", worker="1"}', "values": "0x120"},  # it drains
    {"series": 'mcproxy_draining{instance="m"}', "values": "0x120"},
    {"series": 'mcproxy_draining{instance="n"}', "values": "1x120"},
    {"series": 'mcproxy_worker_restarts_total{instance="m", worker="1"}', "values": "3x120"},
    {"series": 'mcproxy_worker_process_open_fds{instance="m", worker="1"}', "values": "50x120"},
    {"series": 'mcproxy_worker_process_max_fds{instance="m", worker="1"}', "values": "100x120"},
    {"series": 'mcproxy_worker_hub_lag_seconds_bucket{instance="m", worker="1", le="0.005"}', "values": "0+240x120"},
    {"series": 'mcproxy_worker_hub_lag_seconds_bucket{instance="m", worker="1", le="+Inf"}', "values": "0+240x120"},
    {"series": 'mcproxy_database_errors_total{instance="m"}', "values": "3x120"},
    {"series": 'mcproxy_log_lines_dropped_total{instance="m"}', "values": "3x120"},
    {"series": 'mcproxy_certificate_not_after_seconds{instance="m", hostname="a"}', "values": "2600000x120"},
    # One of 160 hours, of which 112 are left: it was warned of for all of its life.
    {"series": 'mcproxy_certificate_not_after_seconds{instance="m", hostname="short"}', "values": "403200x120"},
    {"series": 'mcproxy_certificate_not_before_seconds{instance="m", hostname="short"}', "values": "-172800x120"},
    {"series": 'mcproxy_acme_failures{instance="m", hostname="a"}', "values": "2x120"},
    {"series": 'mcproxy_acme_next_try_seconds{instance="m", hostname="a"}', "values": "0x120"},  # it is under way
    {"series": 'mcproxy_geoip_build_time_seconds{instance="m"}', "values": "0x120"},
]


def asked(tmp_path: Path, series: list[dict[str, str]], query: str, samples: list[dict[str, Any]], at: str) -> None:
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": query, "eval_time": at, "exp_samples": samples}],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}))  # JSON is YAML
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", FIRING)
def test_each_alert_fires(alert: str, tmp_path: Path) -> None:
    hours = alert in {"MCProxyCertificateEnds", "MCProxyGeoIPOld"}
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    asked(tmp_path, FIRING[alert], query, [{"labels": "{}", "value": 1}], "119m" if hours else "25m")


# The others are idle, so that the sum of all is healthy.
ONE_OF_MANY: dict[str, list[dict[str, str]]] = {
    "MCProxyDescriptorsLow": [
        {"series": 'mcproxy_process_open_fds{instance="m"}', "values": "10x30"},
        {"series": 'mcproxy_process_max_fds{instance="m"}', "values": "100x30"},
        {"series": 'mcproxy_worker_process_open_fds{instance="m", worker="1"}', "values": "90x30"},
        {"series": 'mcproxy_worker_process_max_fds{instance="m", worker="1"}', "values": "100x30"},
    ],
    "MCProxyHubLate": [
        {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="0.1"}', "values": "0+95x30"},
        {"series": 'mcproxy_hub_lag_seconds_bucket{instance="m", le="+Inf"}', "values": "0+100x30"},
        {"series": 'mcproxy_worker_hub_lag_seconds_bucket{instance="m", worker="1", le="0.1"}', "values": "0+1x30"},
        {"series": 'mcproxy_worker_hub_lag_seconds_bucket{instance="m", worker="1", le="0.5"}', "values": "0+10x30"},
        {"series": 'mcproxy_worker_hub_lag_seconds_bucket{instance="m", worker="1", le="+Inf"}', "values": "0+10x30"},
    ],
}


@pytest.mark.parametrize("alert", ONE_OF_MANY)
def test_one_worker_is_not_hidden_by_the_others(alert: str, tmp_path: Path) -> None:
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    asked(tmp_path, ONE_OF_MANY[alert], query, [{"labels": "{}", "value": 1}], "25m")


def test_every_alert_has_a_test() -> None:
    assert set(re.findall(r"alert: (\w+)", ALERTS.read_text())) == set(FIRING)


def test_a_healthy_server_wakes_nobody(tmp_path: Path) -> None:
    asked(tmp_path, HEALTHY, 'count(ALERTS{alertstate="firing"})', [], "119m")


def expressions() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["expr"] for each in dashboard["annotations"]["list"])
    yield from (each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query")


def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    questions = [each for each in expressions() if not each.startswith("label_values")]
    assert len(questions) > 15
    rules = [
        {"record": f"panel:{i}", "expr": re.sub(r"\$__rate_interval", "5m", each)} for i, each in enumerate(questions)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", path)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"^(\w+?)(?:\{| )", text, re.MULTILINE))


def test_what_is_asked_for_exists(tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    config = {
        **document(f"127.0.0.1:{port}", backend(echo).address), "grpc": {"addr": f"unix:{tmp_path}/admin.sock"},
    }  # fmt: skip
    with Server(tmp_path, config) as server:
        echoed(port)
        server.connections(1)
        command: list[str | Path] = [sys.executable, "-m", "mcproxy", "metrics", "-c", tmp_path / "mcproxy.toml"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    real = metric_names(done.stdout)
    assert f'mcproxy_connections_accepted_total{{listener="127.0.0.1:{port}"}} 1.0' in done.stdout
    assert re.search(
        r'mcproxy_route_dial_duration_seconds_count\{hostname="a.test",listener="[^"]+"\} 1\.0', done.stdout
    )
    asked_for = set(re.findall(r"mcproxy_\w+", "\n".join([ALERTS.read_text(), *expressions()])))
    backend_used = replace(counted(1, 1, 0, 1, 1, {"5xx": 1}), passed={"h2": 1}, backend=BackendCounters({"h2": 1}))
    route = RouteCounters(":443", "a.test", backend_used)
    made_up = metric_names(rendered(route))  # with certificates, GeoIP data and requests, which this server has not
    worker = WorkerInfo(1, WorkerState.SERVING, os.getpid())
    made_up |= metric_names(metrics.render(replace(STATUS, workers=[worker]), [], TABLE, metrics.Own()))
    assert asked_for <= real | made_up
    assert len(asked_for & real) > 12


def test_requests_are_counted_by_listener_and_by_route(
    tmp_path: Path, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    routes = {"up.test": backend(h2(says("up"))).address, "down.test": f"127.0.0.1:{free_port()}"}
    running = proxy({"grpc": grpc_section(tmp_path), "listeners": [l7_listener(routes, authority)]})
    for name in ("up.test", "down.test", "up.test"):
        with authority.client_context().wrap_socket(connect(running.port), server_hostname=name) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % name.encode())
            read_all(client)
    until(lambda: sum(" request " in line for line in running.lines) == 3, "the requests to have ended")
    with stub(tmp_path) as admin:
        text = admin.GetMetrics(pb.GetMetricsRequest(), timeout=DEADLINE).text
    counted = {line for line in text.splitlines() if re.match(r"mcproxy_(route_)?requests_total\{", line)}
    assert counted == {
        'mcproxy_requests_total{class="2xx",listener="127.0.0.1:0"} 2.0',
        'mcproxy_requests_total{class="5xx",listener="127.0.0.1:0"} 1.0',
        'mcproxy_route_requests_total{class="2xx",hostname="up.test",listener="127.0.0.1:0"} 2.0',
        'mcproxy_route_requests_total{class="5xx",hostname="down.test",listener="127.0.0.1:0"} 1.0',
    }
