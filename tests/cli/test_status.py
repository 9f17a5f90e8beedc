import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.admin.plane import KeyChange, ReloadReport
from mcproxy.certificates.routes import CertificateStatus, RouteProblem
from mcproxy.messages import RouteCounters, WorkerInfo, WorkerState
from mcproxy.native import BUILD
from mcproxy.stats import BackendCounters, Distribution, Spoken
from mcproxy.words import key_remedy
from tests.kit.commands import shell
from tests.kit.control_plane import counted
from tests.kit.peers import DEADLINE
from tests.kit.program import bounded, environment


def test_status(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.counters = [
            RouteCounters(":443", "git.example.org", counted(1, 2, 0, 1500, 4)),
            RouteCounters(":443", "www.example.org", counted(0, 7, 1, 0, 0), Spoken("http/1.1", "ALPN", 5.0)),
        ]
        control.plane.certificates = [
            CertificateStatus(":443", "l7.example.org", "/c.pem", time.time() + 86400 * 3 + 60),
            CertificateStatus(":443", "old.example.org", "/o.pem", time.time() - 1),
            CertificateStatus(":443", "new.example.org", "/n.pem", time.time() + 86400 * 30),
            CertificateStatus(":443", "week.example.org", "/w.pem", time.time() + 86400 * 4, time.time() - 86400 * 2),
            CertificateStatus(":443", "odd.example.org", "/odd.pem", 0.0, 0.0, "it is odd"),
        ]
        control.plane.problems = [
            RouteProblem(":443", "old.example.org", "tls_cert", "/o.pem expired on some day; renew it"),
            RouteProblem(":443", "l7.example.org", "backend_ca", "/ca.pem can't be read: No such file; check its path"),
        ]
        lines = user.ok("status").splitlines()
        assert re.match(rf"serving, mcproxy [\d.]+ \({BUILD}\), up ", lines[0])
        assert lines[1] == "generation 1, 2 routes, 2 firewall rules"
        assert "GeoIP /geo.mmdb, built 1970-01-01 00:00:01Z" in lines
        warnings = [line for line in lines if line.startswith("warning")]
        assert warnings[:2] == [
            "warning: old.example.org on :443: tls_cert: /o.pem expired on some day; renew it",
            "warning: l7.example.org on :443: backend_ca: /ca.pem can't be read: No such file; check its path",
        ]
        assert warnings[2].startswith("warning: the certificate of l7.example.org (/c.pem) expires in 3d")
        odd = "warning: the certificate of odd.example.org (/odd.pem) is used, but its names or dates can't be read"
        assert warnings[3:] == [f"{odd}: it is odd"], (
            "one of six days isn't warned of while more than a quarter of them is left"
        )
        assert ":443\taccepting\t2\t1\t5\t2\t10 B\t20 B" in lines
        assert lines[-2:] == [
            ":443\twww.example.org\t0\t7\t1\t0 B\t0 B\thttp/1.1",
            ":443\tgit.example.org\t1\t2\t0\t1.5 kB\t4 B\t-",
        ]


def test_a_file_that_differs_from_the_database_is_pointed_out(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert "differs" not in user.ok("status")
        user.ok("routes", "add", "new.example.org", "127.0.0.1:1")
        assert user.ok("status").splitlines()[2] == (
            "file and database differ in 1 value; the database is in force: mcproxy diff"
        )
        assert user.json("status")["file_differences"] == 1


def test_a_fresh_server_has_no_empty_table(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.ok("status").splitlines()[-1] == "No route has had a connection yet."
        control.plane.accepting = set()
        assert user.ok("status").splitlines()[-3:] == ["No listeners.", "", "No route has had a connection yet."]


def test_as_json(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        spoken = Spoken("http/1.1", "answered 400 to HTTP/2's preface", 5.0)
        counters = replace(counted(1, 2), backend=BackendCounters({"http/1.1": 3}, waiting=2), passed={"http/1.1": 4})
        control.plane.counters = [RouteCounters(":443", "git.example.org", counters, spoken)]
        found = user.json("status")
        assert (found["state"], found["generation"], found["listeners"][0]["addr"]) == ("serving", 1, ":443")
        (route,) = found["route_counters"]
        assert (route["accepted"], route["passed"]) == (2, {"http/1.1": 4})
        assert (route["backend_connections"]["made"], route["backend_connections"]["waiting"]) == ({"http/1.1": 3}, 2)
        assert route["spoken"] == {"version": "http/1.1", "how": "answered 400 to HTTP/2's preface", "at": 5.0}
        assert found["uptime_seconds"] > 0


def test_again_and_again_until_interrupted(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        command = (sys.executable, "-m", "mcproxy", "status", "--watch", "--json", "-c", user.config)
        with bounded(*command) as process:
            assert process.stdout is not None
            for _ in range(2):
                assert json.loads(process.stdout.readline())["generation"] == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 0


def test_metrics(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        text = user.ok("metrics")
        assert text.startswith("# HELP mcproxy_info ")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_log_level(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.ok("log-level", "warning") == "the log level is warning\n"
        assert control.plane.level == "warning"
        assert '"loud" is not one of' in user.fails(2, "log-level", "loud")


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("metrics",)])
def test_an_output_that_can_not_be_written_is_one_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    with shell(tmp_path) as (user, _), Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mcproxy", *command, "-c", user.config],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False, env=environment(),
        )  # fmt: skip
    told = (done.returncode, done.stderr)
    assert told == (1, "mcproxy: the output can't be written: No space left on device\n")


def test_what_the_last_reload_left_to_do(tmp_path: Path) -> None:
    """`systemctl reload` ends with 0 whatever came of it."""
    with shell(tmp_path) as (user, control):
        assert "reload" not in user.ok("status")
        assert user.json("status")["last_reload"] is None
        waiting = [KeyChange("proxy.workers", "1", "4")]
        control.plane.last_reload = ReloadReport(60.0, "", ["a.test: broken"], (), waiting)
        lines = user.ok("status").splitlines()
        assert "warning: the reload of 1970-01-01 00:01:00Z: a.test: broken" in lines
        assert f"warning: proxy.workers is 1, and 4 in the file: {key_remedy('proxy.workers')}" in lines
        control.plane.last_reload = ReloadReport(60.0, "/etc/m.toml has 1 problem", ["log.lvel: is no key"])
        lines = user.ok("status").splitlines()
        assert "warning: the reload of 1970-01-01 00:01:00Z changed nothing: /etc/m.toml has 1 problem" in lines
        assert "warning: the reload of 1970-01-01 00:01:00Z: log.lvel: is no key" in lines
        assert user.json("status")["last_reload"]["refused"] == "/etc/m.toml has 1 problem"


def test_each_of_several_workers_is_shown(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.json("status")["workers"] == []
        lag = Distribution((0.001, 0.005), (50, 50, 0), 0.1)
        control.plane.processes = [
            WorkerInfo(1, WorkerState.SERVING, 71, time.time() - 60.5, 5, 2, lag, "killed by SIGKILL"),
            WorkerInfo(2, WorkerState.FAILING, failure="exit status 1; next start in 8 s", restarts=9),
        ]
        lines = user.ok("status").splitlines()
        assert "warning: worker 2 is failing: exit status 1; next start in 8 s" in lines
        assert not [line for line in lines if "worker 1" in line]
        assert lines[lines.index("1\tserving\t71\t1m\t5\t2\t5 ms") + 1] == "2\tfailing\t-\t-\t0\t9\t0 ms"
        first, second = user.json("status")["workers"]
        assert (first["number"], first["pid"], first["lag_seconds"], first["restarts"]) == (1, 71, 0.005, 2)
        assert (second["state"], second["failure"]) == ("failing", "exit status 1; next start in 8 s")
