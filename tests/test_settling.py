"""What a reload changes in a worker: nothing while files are read, and all of it in one step."""

import shutil
from pathlib import Path

import pytest

from mcproxy.change import Change, next_table, rule_key
from mcproxy.desk import ByDoor
from mcproxy.messages import (
    Drain,
    FindCountry,
    PlaneStopping,
    Publish,
    ReadFiles,
    ReadFilesInUse,
    ReadStatus,
    Settings,
    Settle,
    Unsettled,
)
from mcproxy.model import FirewallRule, RuleKind, Timeouts
from mcproxy.policy.networks import pack
from tests.conftest import MakeProxy, listener
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import Authority, connect, is_reset, until
from tests.kit.proxy import Proxy

ADDRESS = pack("192.0.2.1")
SETTINGS = Settings(Timeouts(1.0, 2.0, 3.0, 4.0), 5, 6, 7.0, 8, "text")


def courier(running: Proxy) -> ByDoor:
    return ByDoor(running.app.data.desk, running.app.data.door)


def test_files_are_used_in_one_step_with_the_settings(proxy: MakeProxy, tmp_path: Path) -> None:
    first, second = (
        write_database(tmp_path / f"{code}.mmdb", {"192.0.2.0/24": located(code)}) for code in ("DE", "FR")
    )
    running = proxy({"listeners": [listener({})], "firewall": {"geoip_db": str(first)}})
    ask = courier(running).ask
    read = ask(ReadFiles(geoip=str(second)))
    assert (read.geoip is not None and read.geoip.path, read.geoip_problem) == (str(second), "")
    assert (ask(FindCountry(ADDRESS)), ask(ReadStatus()).geoip.path) == ("DE", str(first)), "nothing has changed yet"
    ask(Settle(SETTINGS, geoip=True))
    shared = running.app.worker.shared
    assert (shared.timeouts, shared.limits.max_connections) == (SETTINGS.timeouts, 5)
    assert ask(FindCountry(ADDRESS)) == "FR"
    ask(Settle())
    assert ask(FindCountry(ADDRESS)) == "FR", "what was read is used once"
    broken = ask(ReadFiles(geoip=str(tmp_path / "absent.mmdb")))
    assert (broken.geoip, "does not exist" in broken.geoip_problem) == (None, True)
    ask(Settle())
    assert ask(FindCountry(ADDRESS)) == "FR"
    ask(Settle(geoip=True))
    assert ask(FindCountry(ADDRESS)) is None


def test_country_rules_keep_their_database(proxy: MakeProxy, tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("DE")})
    running = proxy({"listeners": [listener({})], "firewall": {"geoip_db": str(path)}})
    ask = courier(running).ask
    changes = [Change(rule_key("country", "DE"), None, FirewallRule(RuleKind.COUNTRY, "DE"))]
    ask(Publish(next_table(running.app.control.database.table, changes, 2), changes))
    ask(ReadFiles())
    with pytest.raises(Unsettled, match="remove them first"):
        ask(Settle(SETTINGS, geoip=True))
    assert running.app.worker.shared.timeouts != SETTINGS.timeouts, "nothing has changed"
    assert ask(FindCountry(ADDRESS)) == "DE"


def test_certificates_that_changed_are_named_with_their_files(
    proxy: MakeProxy, authority: Authority, tmp_path: Path
) -> None:
    chain, key = tmp_path / "a.pem", tmp_path / "a.key"
    for source, target in zip(authority.pair("a.test"), (chain, key), strict=True):
        shutil.copy(source, target)
    route = {"hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7", "tls_cert": str(chain), "tls_key": str(key)}
    running = proxy({"listeners": [{**listener({}), "routes": [route]}]})
    ask = courier(running).ask
    assert ask(ReadFilesInUse()) == frozenset()
    with authority.client_context().wrap_socket(connect(running.port), server_hostname="a.test"):
        assert ask(ReadFilesInUse()) == {str(chain), str(key)}
    assert not ask(ReadFiles()).renewed
    key.write_text(f"{key.read_text()}\n")
    assert not ask(ReadFiles(changed=frozenset({"/another.pem"}))).certificates
    assert not ask(ReadFiles(certificates=False)).certificates
    read = ask(ReadFiles(changed=frozenset({str(key)})))
    assert read.renewed == {("127.0.0.1:0", "a.test"): str(chain)}
    ask(Settle())
    assert not ask(ReadFiles()).renewed
    chain.write_text("junk")
    assert "holds no certificate" in ask(ReadFiles()).problems[0]


def test_a_worker_drains_when_it_is_asked_to(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})]})
    ask = courier(running).ask
    with connect(running.port) as client:
        until(running.sessions, "the session")
        assert ask(Drain(0.01)) is False
        assert is_reset(client)
    assert ask(Drain(0.01)) is True, "there is nobody left"
    with pytest.raises(ConnectionRefusedError):
        connect(running.port)
    with pytest.raises(PlaneStopping):
        ask(Settle())
