"""Problems with the table that a start would load, from the file or the database."""

from contextlib import closing
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from mcproxy.check.loaded import load
from mcproxy.check.table import check_table
from mcproxy.configuration import Config
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.store.store import Store
from tests.check.conftest import Parse, l7_route
from tests.kit.peers import Authority


def found(parsed: Config, *, serious: bool = True) -> dict[str, str]:
    loaded, _ = load(parsed)
    assert loaded is not None
    return {each.key: each.message for each in check_table(parsed, loaded) if each.serious is serious}


def test_good_files(parse: Parse, authority: Authority) -> None:
    pair = authority.pair("a.test")
    routes = [l7_route(*pair, backend_tls=True, backend_ca=str(authority.path))]
    assert found(parse({"listeners": [{"addr": ":1", "routes": routes}]})) == {}


def test_everything_at_once(parse: Parse, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    certificate, key = authority.pair("a.test")
    _, other_key = authority.pair("b.test")
    routes = [
        l7_route(certificate, key, backend_tls=True, backend_ca="empty.pem"),
        l7_route(certificate, other_key, hostname="b.test"),
        l7_route("none.pem", key, hostname="c.test", backend_tls=True, backend_ca="none.pem"),
        {"hostname": "d.test", "backend": "localhost:2"},
    ]
    problems = found(parse({"listeners": [{"addr": ":1"}, {"addr": ":2", "routes": routes}]}))
    assert set(problems) == {
        "listeners[1].routes[0].backend_ca", "listeners[1].routes[1].tls_key", "listeners[1].routes[2].tls_cert",
        "listeners[1].routes[2].backend_ca", "listeners[1].routes[3].backend",
    }  # fmt: skip
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
    warnings = found(parsed, serious=False)
    assert set(warnings) == {"listeners[0].routes[0].tls_cert", "listeners[0].routes[1].tls_cert"}
    assert "also covers b.test" in warnings["listeners[0].routes[0].tls_cert"]


def test_what_the_database_has_is_judged_and_the_seed_is_not(
    parse: Parse, authority: Authority, tmp_path: Path
) -> None:
    """The seed's files may be long gone."""
    pair = [str(path) for path in authority.pair("a.test")]
    routes = [
        Route("gone.test", Backend("127.0.0.1", 1), Mode.L7, str(tmp_path / "gone.pem"), pair[1]),
        Route("loop.test", Backend("0.0.0.0", 443)),
        Route("fine.test", Backend("127.0.0.1", 8443)),
    ]
    with closing(Store.open(tmp_path / "x.db")) as store:
        store.seed([(Listener(":443"), routes)], [FirewallRule(RuleKind.COUNTRY, "AQ")], 1.0)
    seed = {"listeners": [{"addr": ":1", "routes": [l7_route("absent.pem", "absent.pem")]}]}
    problems = found(parse(seed))
    assert set(problems) == {
        "route gone.test on :443: tls_cert", "route loop.test on :443: backend", "firewall.geoip_db",
    }  # fmt: skip
    assert "gone.pem can't be read" in problems["route gone.test on :443: tls_cert"]
    assert problems["route loop.test on :443: backend"].startswith("0.0.0.0:443 is mcproxy's own listener :443")
    assert "country rules (1 rule)" in problems["firewall.geoip_db"]


@pytest.mark.parametrize("backend", ["127.0.0.1:443", "localhost:443", "[::]:443"])
def test_a_route_to_its_own_listener(backend: str, parse: Parse) -> None:
    document = {"listeners": [{"addr": ":443", "routes": [{"hostname": "a.test", "backend": backend}]}]}
    assert "is mcproxy's own listener :443" in found(parse(document))["listeners[0].routes[0].backend"]


def acme_routes(*names: str) -> dict[str, object]:
    routes = [{"hostname": each, "backend": "127.0.0.1:2", "mode": "l7", "tls": "acme"} for each in names]
    return {"listeners": [{"addr": ":1", "routes": routes}]}


def test_what_ordering_certificates_lacks_is_told_once(parse: Parse) -> None:
    (missing,) = found(parse(acme_routes("a.test", "b.test"))).items()
    assert missing[0] == "listeners[0].routes[0].tls"
    assert missing[1].startswith("there is no [acme] in the configuration file; add it, with accept_terms = true")
    assert missing[1].endswith(" (and 1 other route)")
    assert found(parse({**acme_routes("a.test"), "acme": {"accept_terms": True}})) == {}


@pytest.mark.parametrize(("name", "why"), [("intranet", "has no dot"), ("my_app.test", "has an underscore")])
def test_names_that_no_public_ca_certifies_are_warned_of(name: str, why: str, parse: Parse) -> None:
    (said,) = found(parse({**acme_routes(name), "acme": {"accept_terms": True}}), serious=False).values()
    assert said.startswith(f"{name} {why}: public CAs issue no certificate for it")


def test_country_rules_may_keep_a_ca_out(parse: Parse, tmp_path: Path) -> None:
    firewall = {"geoip_db": str(tmp_path / "geo.mmdb"), "blocked_countries": ["DE", "FR"]}
    document = {**acme_routes("a.test"), "acme": {"accept_terms": True}, "firewall": firewall}
    (told,) = found(parse(document), serious=False).values()
    assert told.startswith("the firewall blocks DE, FR, and a CA validates from several countries and networks: ")
