"""Everything at once; what the real command says is shown by tests/e2e/test_check.py."""

from pathlib import Path

from mcproxy.check.check import check, check_workers
from tests.check.conftest import Parse, l7_route


def test_everything_at_once(parse: Parse, tmp_path: Path) -> None:
    document = {
        "listeners": [{"addr": "192.0.2.1:443", "routes": [l7_route("absent.pem", "absent.pem")]}],
        "grpc": {"addr": "unix:no/admin.sock", "client_cert": "absent.pem", "client_key": "absent.pem"},
        "firewall": {"geoip_db": "absent.mmdb"},
        "proxy": {"workers": 64},
    }
    checked = check(parse(document), lambda: None)
    assert [each.key for each in checked.problems] == [
        "firewall.geoip_db", "grpc.client_cert", "grpc.addr", "listeners[0].routes[0].tls_cert", "listeners[0].addr",
    ]  # fmt: skip
    assert [each.key for each in checked.warnings] == ["proxy.workers"]
    assert list(tmp_path.iterdir()) == []


def test_a_broken_database_hides_nothing_else(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"junk" * 1000)
    checked = check(parse({"firewall": {"geoip_db": "absent.mmdb"}}), lambda: None)
    assert [each.key for each in checked.problems] == ["database.path", "firewall.geoip_db"]
    assert checked.loaded is None


def test_more_workers_than_cores_are_warned_of(parse: Parse) -> None:
    for workers, found in (
        (2, []), ("auto", []),
        (3, ["proxy.workers: 3 workers have 2 cores: more workers than cores only cost memory"]),
    ):  # fmt: skip
        assert list(map(str, check_workers(parse({"proxy": {"workers": workers}}), 2))) == found
