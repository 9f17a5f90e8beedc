"""What a check finds in the files that the configuration points to, and where it will write."""

import grp
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from mcproxy import config
from mcproxy.check import check_files, check_places, check_seed_files, check_warnings
from mcproxy.config import Config
from mcproxy.model import FirewallRule, Listener, Mode, RuleKind
from mcproxy.store.store import Store
from tests.peers import Authority
from tests.policy.databases import located, write_database

Document = dict[str, Any]


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[Document], Config]:
    """Reads a document as if it were a file in the test's folder."""
    return lambda document: config.parse({"database": {"path": "x.db"}, **document}, tmp_path / "mcproxy.toml")


Parse = Callable[[Document], Config]


def found(parsed: Config) -> dict[str, str]:
    return {problem.key: problem.message for problem in (*check_files(parsed), *check_seed_files(parsed))}


def l7_route(certificate: str | Path, key: str | Path, **options: Any) -> Document:
    return {
        "hostname": "a.test", "backend": "127.0.0.1:1", "mode": Mode.L7.value,
        "tls_cert": str(certificate), "tls_key": str(key), **options,
    }  # fmt: skip


def test_a_check_of_good_files_finds_nothing(parse: Parse, authority: Authority, tmp_path: Path) -> None:
    write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("DE")})
    certificate, key = authority.pair("a.test")
    pair = {"tls_cert": str(certificate), "tls_key": str(key)}
    whole = {
        "listeners": [
            {
                "addr": ":1",
                "routes": [l7_route(certificate, key, backend_tls=True, backend_ca=str(authority.path))],
            }
        ],
        "grpc": {
            **pair, "client_cert": str(certificate), "client_key": str(key),
            "client_ca": str(authority.path), "server_ca": str(authority.path),
        },
        "firewall": {"geoip_db": "geo.mmdb"},
    }  # fmt: skip
    assert found(parse(whole)) == {}


def test_a_check_finds_everything_at_once(parse: Parse, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    certificate, key = authority.pair("a.test")
    _, other_key = authority.pair("b.test")
    document = {
        "listeners": [
            {"addr": ":1"},
            {
                "addr": ":2",
                "routes": [
                    l7_route(certificate, key, backend_tls=True, backend_ca="empty.pem"),
                    l7_route(certificate, other_key, hostname="b.test"),
                    l7_route("none.pem", key, hostname="c.test", backend_tls=True, backend_ca="none.pem"),
                ],
            },
        ],
        "grpc": {
            "tls_cert": "empty.pem", "tls_key": str(key), "client_cert": "none.pem", "client_key": str(key),
            "client_ca": "empty.pem", "server_ca": "none.pem",
        },
        "firewall": {"geoip_db": "empty.pem"},
    }  # fmt: skip
    problems = found(parse(document))
    assert set(problems) == {
        "firewall.geoip_db",
        "grpc.tls_cert",
        "grpc.client_cert",
        "grpc.client_ca",
        "grpc.server_ca",
        "listeners[1].routes[0].backend_ca",
        "listeners[1].routes[1].tls_key",
        "listeners[1].routes[2].tls_cert",
        "listeners[1].routes[2].backend_ca",
    }
    assert "is empty" in problems["firewall.geoip_db"]
    assert "no CA certificate" in problems["grpc.client_ca"]
    assert "No such file" in problems["grpc.server_ca"]
    assert f"{other_key} is not the key of {certificate}" in problems["listeners[1].routes[1].tls_key"]
    assert f"{tmp_path}/none.pem can't be read: No such file" in problems["listeners[1].routes[2].tls_cert"]


def test_a_key_with_a_passphrase_is_a_problem_and_asks_for_nothing(
    parse: Parse, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.pair("a.test")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "encrypted.key").write_bytes(encrypted)
    document = {"listeners": [{"addr": ":1", "routes": [l7_route(certificate, "encrypted.key")]}]}
    assert "store it without a passphrase" in found(parse(document))["listeners[0].routes[0].tls_key"]


def test_a_certificate_for_another_name_is_a_problem(parse: Parse, authority: Authority) -> None:
    document = {"listeners": [{"addr": ":1", "routes": [l7_route(*authority.pair("b.test"))]}]}
    assert "is for b.test, not for a.test" in found(parse(document))["listeners[0].routes[0].tls_cert"]


def test_certificates_that_cover_each_others_routes_are_warned_of(parse: Parse, tmp_path: Path) -> None:
    trustme.CA().issue_cert("a.test", "b.test").private_key_and_cert_chain_pem.write_to_path(tmp_path / "ab.pem")
    routes = [l7_route("ab.pem", "ab.pem"), l7_route("ab.pem", "ab.pem", hostname="b.test")]
    parsed = parse({"listeners": [{"addr": ":1", "routes": routes}]})
    assert found(parsed) == {}
    warnings = {warning.key: warning.message for warning in check_warnings(parsed)}
    assert set(warnings) == {"listeners[0].routes[0].tls_cert", "listeners[0].routes[1].tls_cert"}
    assert "also covers b.test" in warnings["listeners[0].routes[0].tls_cert"]


def test_places_that_can_not_be_written_to_are_problems(parse: Parse, tmp_path: Path) -> None:
    def told(path: str, addr: str) -> dict[str, str]:
        checked = check_places(parse({"database": {"path": path}, "grpc": {"addr": addr}}))
        return {problem.key: problem.message for problem in checked}

    (tmp_path / "folder").mkdir()
    assert told("folder/x.db", "unix:folder/a.sock") == {}
    missing = f"there is no folder {tmp_path}/no: make it, for mcproxy's user to write in"
    assert told("no/x.db", "unix:no/a.sock") == {"database.path": missing, "grpc.addr": missing}
    assert "is a folder" in told("folder", "unix:a.sock")["database.path"]
    deeper = "/run/mcproxy-never/deeper"
    assert told("x.db", f"unix:{deeper}/a.sock")["grpc.addr"].startswith(f"there is no folder {deeper}:")


def test_a_folder_that_systemd_makes_at_the_start_is_not_missing_before(parse: Parse) -> None:
    parsed = parse({"grpc": {"addr": "unix:/run/mcproxy-never/admin.sock"}})
    assert list(check_places(parsed)) == []
    (warning,) = map(str, check_warnings(parsed))
    assert warning == (
        "grpc.addr: there is no /run/mcproxy-never yet: systemd makes it at the start; without systemd, put the socket "
        "beside the database, where mcproxy's user may write"
    )


def test_a_file_that_is_not_what_the_database_has_is_warned_of(parse: Parse, tmp_path: Path) -> None:
    parsed = parse({"listeners": [{"addr": ":443"}], "firewall": {"blocked_ips": ["192.0.2.1"]}})
    assert list(check_warnings(parsed)) == [], "there is no database yet"
    assert not (tmp_path / "x.db").exists()
    with closing(Store.open(tmp_path / "x.db")) as store:
        assert list(check_warnings(parsed)) == [], "it will be seeded"
        store.seed([(Listener(":8443"), [])], [FirewallRule(RuleKind.IP, "192.0.2.1")], 1.0)
    differs = "the listeners, routes and rules differ from the database in 2 values"
    assert list(map(str, check_warnings(parsed))) == [f"{differs}; the database is in force: mcproxy diff"]
    same = parse({"listeners": [{"addr": ":8443"}], "firewall": {"blocked_ips": ["192.0.2.1"]}})
    assert list(check_warnings(same)) == []
    (tmp_path / "x.db").write_bytes(b"junk" * 1000)
    assert list(check_warnings(parsed)) == [], "what can't be read can't be compared"


def test_a_group_must_exist(tmp_path: Path, parse: Parse) -> None:
    parsed = parse({"grpc": {"addr": f"unix:{tmp_path}/a.sock", "group": "of-nobody"}})
    assert [str(each) for each in check_files(parsed)] == [
        "grpc.group: there is no group of-nobody on this machine: make it, or name another one"
    ]
    assert not [each for each in check_warnings(parsed) if each.key == "grpc.group"]


def test_the_members_of_a_group_need_a_way_to_the_socket(tmp_path: Path, parse: Parse) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)

    def told() -> list[str]:
        parsed = parse({"grpc": {"addr": f"unix:{folder}/a.sock", "group": group}})
        assert not list(check_files(parsed))
        return [str(each) for each in check_warnings(parsed) if str(folder) in each.message]

    assert told() == [
        f"grpc.group: its members can't pass the folder {folder}: chgrp {group} {folder} && chmod g+x {folder}"
    ]
    folder.chmod(0o710)
    assert not told()
