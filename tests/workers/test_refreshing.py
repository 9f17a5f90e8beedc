"""A reload of several workers: all of them use what was read, one that is stuck and its successor too."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.change import Change, rule_key
from mcproxy.messages import FindCountry, PlaneStopping, ReadFiles, Settle, Unsettled
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.policy.networks import pack
from tests.conftest import MakeBackend
from tests.kit.crowd import SETTINGS, Crowd, crowd
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import echo
from tests.kit.worker_bench import table_for

ADDRESS = pack("192.0.2.1")


@pytest.fixture
def running(backend: MakeBackend) -> Iterator[Crowd]:
    with crowd(table_for(backend(echo).address), patience=1.0) as made:
        yield made


def use(running: Crowd, path: Path) -> None:
    assert not running.courier.ask(ReadFiles(geoip=str(path))).geoip_problem
    running.courier.ask(Settle(SETTINGS, geoip=True))


def test_a_successor_has_what_was_used_and_not_what_was_only_read(running: Crowd, tmp_path: Path) -> None:
    first = write_database(tmp_path / "first.mmdb", {"192.0.2.0/24": located("DE")})
    second = write_database(tmp_path / "second.mmdb", {"192.0.2.0/24": located("FR")})
    use(running, first)
    assert running.courier.ask(ReadFiles(geoip=str(second))).geoip is not None
    first.unlink()
    for pid in running.pids():
        os.kill(pid, signal.SIGKILL)
    running.until(lambda found: [each.restarts for each in found] == [1, 1], "successors")
    running.until(lambda found: {each.state for each in found} == {"serving"}, "them to serve")
    assert running.courier.ask(FindCountry(ADDRESS)) == "DE"
    second.unlink()
    running.courier.ask(Settle(replace(SETTINGS, max_connections=7), geoip=True))
    assert running.courier.ask(FindCountry(ADDRESS)) == "FR", "though they have not read it before"


def test_country_rules_keep_their_database_and_nothing_changes(running: Crowd, tmp_path: Path) -> None:
    use(running, write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("DE")}))
    running.publish(Change(rule_key("country", "DE"), None, FirewallRule(RuleKind.COUNTRY, "DE")))
    running.courier.ask(ReadFiles())
    with pytest.raises(Unsettled, match="remove them first"):
        running.courier.ask(Settle(SETTINGS, geoip=True))
    assert running.courier.ask(FindCountry(ADDRESS)) == "DE"
    broken = running.courier.ask(ReadFiles(geoip=str(tmp_path / "absent.mmdb")))
    assert (broken.geoip, "does not exist" in broken.geoip_problem) == (None, True)


def test_a_stuck_worker_does_not_go_on_with_old_settings(running: Crowd) -> None:
    first, second = running.pids()
    running.courier.ask(ReadFiles())
    os.kill(first, signal.SIGSTOP)
    running.courier.ask(Settle(replace(SETTINGS, max_connections=1)))
    running.until(lambda found: found[0].restarts == 1 and found[0].state == "serving", "its successor")
    assert running.pids()[1] == second


def test_a_server_that_stops_settles_nothing(running: Crowd) -> None:
    running.courier.ask(ReadFiles())
    running.workers.stop_listening()
    with pytest.raises(PlaneStopping):
        running.courier.ask(Settle(SETTINGS))
