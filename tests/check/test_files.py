"""Problems with the files that the configuration names."""

from pathlib import Path

from mcproxy.check.files import check_files
from mcproxy.check.places import check_places
from mcproxy.configuration import Config
from tests.check.conftest import Parse
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import Authority


def found(parsed: Config) -> dict[str, str]:
    return {each.key: each.message for each in check_files(parsed)}


def test_good_files(parse: Parse, authority: Authority, tmp_path: Path) -> None:
    write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("DE")})
    certificate, key = map(str, authority.pair("a.test"))
    grpc = {
        "tls_cert": certificate, "tls_key": key, "client_cert": certificate, "client_key": key,
        "client_ca": str(authority.path), "server_ca": str(authority.path),
    }  # fmt: skip
    assert found(parse({"grpc": grpc, "firewall": {"geoip_db": "geo.mmdb"}})) == {}


def test_everything_at_once(parse: Parse, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    _, key = authority.pair("a.test")
    document = {
        "grpc": {
            "tls_cert": "empty.pem", "tls_key": str(key), "client_cert": "none.pem", "client_key": str(key),
            "client_ca": "empty.pem", "server_ca": "none.pem",
        },
        "firewall": {"geoip_db": "empty.pem"},
    }  # fmt: skip
    problems = found(parse(document))
    assert set(problems) == {
        "firewall.geoip_db", "grpc.tls_cert", "grpc.client_cert", "grpc.client_ca", "grpc.server_ca",
    }  # fmt: skip
    assert "is empty" in problems["firewall.geoip_db"]
    assert "no CA certificate" in problems["grpc.client_ca"]
    assert "No such file" in problems["grpc.server_ca"]


def test_a_group_must_exist(parse: Parse, tmp_path: Path) -> None:
    parsed = parse({"grpc": {"addr": f"unix:{tmp_path}/a.sock", "group": "of-nobody"}})
    assert [str(each) for each in (*check_files(parsed), *check_places(parsed)) if each.key == "grpc.group"] == [
        "grpc.group: there is no group of-nobody on this machine: make it, or name another one"
    ]
