"""A reload reads everything again in a native thread, swaps it in one step, and says what came of it.

What it does to connections is shown by tests/e2e/test_reload.py.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcproxy import config
from mcproxy.admin.plane import KeyChange, ReloadReport
from mcproxy.app import App
from mcproxy.change import Change, next_table, rule_key
from mcproxy.messages import PlaneBusy, PlaneStopping
from mcproxy.model import FirewallRule, RuleKind, Timeouts
from mcproxy.policy.networks import pack
from mcproxy.reload.reloader import lines
from mcproxy.words import key_remedy
from tests.kit.geoip_files import located, write_database
from tests.kit.hub import HubThread, messages, paused
from tests.kit.peers import DEADLINE, Authority, until
from tests.kit.program import write_config

Start = Callable[..., App]


@pytest.fixture
def start(hub: HubThread, tmp_path: Path) -> Iterator[Start]:
    """Makes what a file describes, but for its listeners, and ends it."""
    made: list[App] = []

    def make(**tables: Any) -> App:
        path = write_config(tmp_path, tables)
        made.append(hub.call(App, config.load(path), lambda _lines: None, None, None, path))
        return made[-1]

    yield make
    for app in made:
        hub.spawn(app.stop).result(DEADLINE)


def reload(app: App, folder: Path, **tables: Any) -> tuple[ReloadReport, list[str]]:
    """Write this file and reload. Returns the report and the lines of the log."""
    write_config(folder, tables)
    with messages() as logged:
        return app.reloader.reload(), logged


# --- the configuration ------------------------------------------------------------------------------------------------


def test_what_can_change_changes(start: Start, tmp_path: Path) -> None:
    app = start()
    proxy = {"connect_timeout": 1, "handshake_timeout": 2, "idle_timeout": 3, "half_close_timeout": 4,
             "backend_idle_timeout": 9, "shutdown_timeout": 0.5, "max_connections": 5}  # fmt: skip
    firewall = {"max_connections_per_ip": 6, "connection_rate_per_ip": 7, "connection_burst_per_ip": 8}
    report, logged = reload(app, tmp_path, proxy=proxy, firewall=firewall)
    assert len(report.applied) == 10
    assert app.worker.shared.timeouts == Timeouts(
        handshake=2.0, connect=1.0, idle=3.0, half_close=4.0, backend_idle=9.0
    )
    assert app.config.proxy.shutdown_timeout == 0.5
    limits = app.worker.shared.limits
    clients = limits.clients
    assert (limits.max_connections, clients.max_per_ip, clients.rate, clients.burst) == (5, 6, 7.0, 8)
    assert "proxy.idle_timeout from 5m to 3s, " in logged[0]
    assert logged[0].startswith(f"info reloaded {tmp_path}/mcproxy.toml: ")
    report, logged = reload(app, tmp_path, proxy=proxy, firewall=firewall)
    assert report.applied == []
    assert logged == [f"info reloaded {tmp_path}/mcproxy.toml: no key has changed"]


def test_an_invalid_file_is_refused_whole(start: Start, tmp_path: Path) -> None:
    app = start(proxy={"idle_timeout": 100})
    report, logged = reload(app, tmp_path, proxy={"idle_timeout": 3, "colour": 1}, log={"level": "loud"})
    path = tmp_path / "mcproxy.toml"
    assert report.refused == f"{path} has 2 problems"
    unknown, level, whole = logged
    assert unknown.startswith(f"error {path}: proxy.colour: is not a key here; ")
    assert level == f'error {path}: log.level: must be "debug", "info", "warning" or "error"'
    assert whole == f"error not reloaded: {path} has 2 problems; nothing has changed"
    assert app.worker.shared.timeouts.idle == 100.0
    path.unlink()
    with messages() as logged:
        assert app.reloader.reload().problems == ["can't be read: No such file or directory"]
    assert logged[-1].startswith("error not reloaded: ")
    report, _ = reload(app, tmp_path, proxy={"idle_timeout": 3})
    assert list(map(str, report.applied)) == ["proxy.idle_timeout from 1m40s to 3s"]


def test_what_takes_a_restart_is_named_each_time(start: Start, tmp_path: Path) -> None:
    app = start(listeners=[{"addr": ":1"}])
    for seed in (["listeners"], []):
        report, logged = reload(app, tmp_path, proxy={"workers": 4}, listeners=[{"addr": ":2"}])
        assert list(report.seed) == seed
        assert report.waiting == (KeyChange("proxy.workers", "1", "4"),)
        assert f"warning proxy.workers from 1 to 4: {key_remedy('proxy.workers')}" in logged
    assert list(app.worker.shared.live.table.listeners) == [":1"]


def test_the_level_changes_with_the_file_and_else_stays_as_a_command_set_it(start: Start, tmp_path: Path) -> None:
    app, logger = start(), logging.getLogger("mcproxy")
    with messages() as logged:
        app.plane.set_log_level("warning")
        app.reloader.reload()
        assert logger.level == logging.WARNING
        write_config(tmp_path, {"log": {"level": "error"}})
        app.plane.set_log_level("info")
        app.reloader.reload()
        assert logger.level == logging.ERROR
        write_config(tmp_path, {"log": {"level": "debug"}})
        app.reloader.reload()
        assert logger.level == logging.DEBUG
    changes = [line.rpartition(": ")[2] for line in logged]
    assert changes == ["log.level from info to error", "log.level from error to debug"], "each at its own level"


# --- what the file points to ------------------------------------------------------------------------------------------


def test_a_new_geoip_database_is_taken_and_for_a_broken_one_the_old_stays(
    hub: HubThread, start: Start, tmp_path: Path
) -> None:
    path, other = tmp_path / "geo.mmdb", tmp_path / "other.mmdb"
    write_database(path, {"192.0.2.0/24": located("DE")})
    app = start(firewall={"geoip_db": "geo.mmdb"})

    def country() -> str | None:
        return hub.call(app.worker.shared.country, pack("192.0.2.1"))

    assert country() == "DE"
    path.write_bytes(path.read_bytes()[:-40])
    assert country() == "DE", "what is open does not depend on the file"
    report, logged = reload(app, tmp_path, firewall={"geoip_db": "geo.mmdb"}, proxy={"idle_timeout": 3})
    assert country() == "DE"
    assert logged[0].startswith(f"error firewall.geoip_db: {path} ")
    assert logged[0].endswith("; the open database stays in use")
    assert logged[1].startswith("warning reloaded ")
    assert logged[1].endswith("idle_timeout from 5m to 3s; but 1 problem: see the errors above")
    assert app.worker.shared.timeouts.idle == 3.0, "the rest is applied"
    report, logged = reload(app, tmp_path, firewall={"geoip_db": "other.mmdb"}, proxy={"idle_timeout": 3})
    assert "does not exist" in report.problems[0]
    assert (country(), report.applied) == ("DE", [])
    write_database(other, {"192.0.2.0/24": located("FR")})
    report, logged = reload(app, tmp_path, firewall={"geoip_db": "other.mmdb"}, proxy={"idle_timeout": 3})
    assert country() == "FR"
    assert list(map(str, report.applied)) == [f"firewall.geoip_db from {path} to {other}"]
    assert "; GeoIP database of " in logged[0]


def test_a_database_that_country_rules_need_is_not_taken_away(hub: HubThread, start: Start, tmp_path: Path) -> None:
    """Else those who are blocked would come in."""
    write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("DE")})
    app = start(firewall={"geoip_db": "geo.mmdb"})
    without, rule = app.worker.shared.live.table, FirewallRule(RuleKind.COUNTRY, "DE")
    with_rule = next_table(without, [Change(rule_key(rule.kind, rule.value), None, rule)], 1)
    hub.call(app.worker.publish, with_rule)
    report, _ = reload(app, tmp_path, proxy={"idle_timeout": 3})
    assert report.refused
    assert "remove them first" in report.problems[0]
    assert app.worker.shared.timeouts.idle == 300.0
    assert hub.call(app.worker.shared.country, pack("192.0.2.1")) == "DE"
    hub.call(app.worker.publish, without)
    report, _ = reload(app, tmp_path)
    assert not report.refused
    assert hub.call(app.worker.shared.country, pack("192.0.2.1")) is None


def test_certificates_that_changed_are_taken_and_broken_ones_left_out(
    hub: HubThread, start: Start, authority: Authority, tmp_path: Path
) -> None:
    chain, key = tmp_path / "a.pem", tmp_path / "a.key"
    for source, target in zip(authority.pair("a.test"), (chain, key), strict=True):
        shutil.copy(source, target)
    route = {"hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7", "tls_cert": str(chain), "tls_key": str(key)}
    document = {"listeners": [{"addr": ":1", "routes": [route]}]}
    app = start(**document)
    in_table = app.worker.shared.live.table.listeners[":1"].routes["a.test"]
    before = hub.spawn(app.data.terminator.contexts.server, ":1", in_table).result(DEADLINE)
    _, logged = reload(app, tmp_path, **document)
    assert logged[0].endswith("no key has changed; 0 of 1 certificate in use changed")
    key.write_text(f"{key.read_text()}\n")
    _, logged = reload(app, tmp_path, **document)
    assert logged[0].endswith("no key has changed; 1 of 1 certificate in use changed")
    assert (after := hub.spawn(app.data.terminator.contexts.server, ":1", in_table).result(DEADLINE)) is not before
    chain.write_text("junk")
    _, logged = reload(app, tmp_path, **document)
    assert [line for line in logged if line.startswith(f"error a.test: {chain} holds no certificate")]
    assert "; but 1 problem" in logged[-1]
    assert hub.spawn(app.data.terminator.contexts.server, ":1", in_table).result(DEADLINE) is after
    with pytest.raises(ValueError, match="holds no certificate"):
        app.reloader.reload_certificates()


# --- who asks, and when -----------------------------------------------------------------------------------------------


def blocked_file(folder: Path) -> Path:
    """A configuration file that nobody can read until somebody writes it."""
    path = folder / "mcproxy.toml"
    path.unlink()
    os.mkfifo(path)
    return path


def test_while_a_file_is_read_the_hub_turns_and_all_who_ask_then_get_one_reload_more(
    hub: HubThread, start: Start, tmp_path: Path
) -> None:
    app = start()
    path = blocked_file(tmp_path)
    with messages() as logged:
        hub.call(app.reloader.begin)
        with path.open("w") as pipe:  # it is being read
            for _ in range(20):
                hub.call(app.reloader.begin)
            path.unlink()
            write_config(tmp_path, {"proxy": {"idle_timeout": 3}})
            pipe.write('[database]\npath = "mcproxy.db"\n[proxy]\nidle_timeout = 2\n')
        until(lambda: "running=False" in repr(app.reloader), "the reloads to end")
    assert [line.rpartition(": ")[2] for line in logged] == [
        "proxy.idle_timeout from 5m to 2s",
        "proxy.idle_timeout from 2s to 3s",
    ]


def test_a_server_that_stops_reloads_nothing_and_waits_for_no_disk(start: Start, tmp_path: Path) -> None:
    app = start()
    path = blocked_file(tmp_path)
    with messages() as logged:
        app.data.door.call(app.reloader.begin)
        pipe = path.open("w")
        app.data.door.call(app.reloader.close)
        app.data.door.call(app.reloader.begin)
        with pipe:
            pipe.write('[database]\npath = "mcproxy.db"\n[proxy]\nidle_timeout = 2\n')
        until(lambda: "running=False" in repr(app.reloader), "the reload to end")
    assert logged == ["info not reloaded: the server is stopping", "warning not reloaded: the server is stopping"]
    assert app.worker.shared.timeouts.idle == 300.0
    path.unlink()
    write_config(tmp_path, {})
    with pytest.raises(PlaneStopping):
        app.reloader.reload()


def test_a_hub_that_does_not_turn_changes_nothing(start: Start, tmp_path: Path) -> None:
    app = start()
    write_config(tmp_path, {"proxy": {"idle_timeout": 3}})
    with paused(app.data.door), pytest.raises(PlaneBusy):
        app.reloader.reload()
    assert app.worker.shared.timeouts.idle == 300.0
    assert app.reloader.reload().applied


def test_lines() -> None:
    report = ReloadReport(
        1.0, "", ["a.test: broken"], [KeyChange("log.level", "info", "debug")],
        [KeyChange("proxy.workers", "1", "4")], ["listeners", "firewall.blocked_ips"],
    )  # fmt: skip
    said = list(lines(report, ["2 of 3 certificates in use changed"], Path("/etc/m.toml")))
    assert [severity for severity, _ in said] == [logging.ERROR, *[logging.WARNING] * 3]
    assert [text for _, text in said][:2] == [
        "a.test: broken",
        f"proxy.workers from 1 to 4: {key_remedy('proxy.workers')}",
    ]
    assert said[2][1].startswith("listeners, firewall.blocked_ips: only ")
    assert said[3][1] == (
        "reloaded /etc/m.toml: log.level from info to debug; 2 of 3 certificates in use changed; but 1 problem:"
        " see the errors above"
    )
