"""The firewall comes before everything else: by address, network and country, in either family, whatever the socket.

Loopback is a whole network (127.0.0.0/8), so clients of different addresses are at hand; IPv6 has only ::1.
"""

from pathlib import Path
from typing import Any

import pytest

from mcproxy.change import rule_key
from mcproxy.model import FirewallRule, Reason, RuleKind
from mcproxy.net.shared import Phase
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.geoip_files import located, write_database
from tests.kit.hub import messages
from tests.kit.peers import client_hello, connect, read_all, until
from tests.kit.tables import with_value, without
from tests.kit.verdicts import HELLO, routes, verdict

GARBAGE = b"GET / HTTP/1.1\r\n\r\n"


def test_an_address(backend: MakeBackend, proxy: MakeProxy) -> None:
    document = {"listeners": [listener(routes(backend))], "firewall": {"blocked_ips": ["127.0.0.2", "192.0.2.1"]}}
    running = proxy(document)
    assert verdict(running, "127.0.0.2") == Reason.BLOCKED_IP
    assert verdict(running, "127.0.0.1") == Reason.OK
    assert verdict(running, "127.0.0.3") == Reason.OK


def test_a_network(backend: MakeBackend, proxy: MakeProxy) -> None:
    document = {"listeners": [listener(routes(backend))], "firewall": {"blocked_cidrs": ["127.1.0.0/16", "10.0.0.0/8"]}}
    running = proxy(document)
    for inside in ("127.1.0.0", "127.1.0.1", "127.1.255.254"):
        assert verdict(running, inside) == Reason.BLOCKED_CIDR
    for outside in ("127.0.255.254", "127.2.0.1"):
        assert verdict(running, outside) == Reason.OK
    assert running.connection(reason=Reason.BLOCKED_CIDR)["detail"] == '"127.1.0.0/16"'


@pytest.fixture
def geoip_db(tmp_path: Path) -> Path:
    """127.1.0.0/16 and ::1 are in XX, 127.2.0.0/16 is in YY; of the rest nothing is known."""
    records = {"127.1.0.0/16": located("XX"), "127.2.0.0/16": located("YY"), "::1/128": located("XX")}
    return write_database(tmp_path / "geo.mmdb", records)


def test_a_country(backend: MakeBackend, proxy: MakeProxy, geoip_db: Path) -> None:
    firewall = {"geoip_db": str(geoip_db), "blocked_countries": ["xx"]}
    running = proxy({"listeners": [listener(routes(backend))], "firewall": firewall})
    assert verdict(running, "127.1.2.3") == Reason.BLOCKED_COUNTRY
    assert verdict(running, "127.2.2.3") == Reason.OK
    assert verdict(running, "127.0.0.1") == Reason.OK
    assert running.connection(reason=Reason.BLOCKED_COUNTRY)["detail"] == '"XX"'


@pytest.mark.parametrize(
    ("firewall", "reason"),
    [
        ({"blocked_ips": ["::1"]}, Reason.BLOCKED_IP),
        ({"blocked_cidrs": ["::/64"]}, Reason.BLOCKED_CIDR),
        ({"blocked_countries": ["XX"]}, Reason.BLOCKED_COUNTRY),
    ],
)
def test_ipv6(firewall: dict[str, Any], reason: Reason, backend: MakeBackend, proxy: MakeProxy, geoip_db: Path) -> None:
    both = [{**listener(routes(backend)), "addr": addr} for addr in ("[::1]:0", "127.0.0.1:0")]
    running = proxy({"listeners": both, "firewall": {"geoip_db": str(geoip_db), **firewall}})
    assert verdict(running, "::1") == reason
    assert verdict(running, "127.0.0.1", port=running.ports[1]) == Reason.OK


@pytest.mark.parametrize(
    ("firewall", "reason"),
    [
        ({"blocked_ips": ["127.1.0.1"]}, Reason.BLOCKED_IP),
        ({"blocked_ips": ["::ffff:127.1.0.1"]}, Reason.BLOCKED_IP),
        ({"blocked_cidrs": ["127.1.0.0/16"]}, Reason.BLOCKED_CIDR),
        ({"blocked_cidrs": ["::ffff:127.1.0.0/112"]}, Reason.BLOCKED_CIDR),
        ({"blocked_countries": ["XX"]}, Reason.BLOCKED_COUNTRY),
    ],
)
def test_ipv4_is_ipv4_on_a_socket_of_both_families(
    firewall: dict[str, Any], reason: Reason, backend: MakeBackend, proxy: MakeProxy, geoip_db: Path
) -> None:
    document = {"listeners": [{**listener(routes(backend)), "addr": ":0"}]}
    running = proxy({**document, "firewall": {"geoip_db": str(geoip_db), **firewall}})
    assert verdict(running, "127.1.0.1") == reason
    assert verdict(running, "127.3.0.1") == Reason.OK
    assert verdict(running, "::1") == (reason if reason is Reason.BLOCKED_COUNTRY else Reason.OK)


def test_a_rule_for_all_of_ipv6_means_no_ipv4(backend: MakeBackend, proxy: MakeProxy) -> None:
    running = proxy(
        {"listeners": [{**listener(routes(backend)), "addr": ":0"}], "firewall": {"blocked_cidrs": ["::/0"]}}
    )
    assert verdict(running, "::1") == Reason.BLOCKED_CIDR
    assert verdict(running, "127.0.0.1") == Reason.OK


@pytest.mark.parametrize("sends", [b"", GARBAGE, client_hello("b.test"), client_hello(None), HELLO])
def test_it_comes_before_routing_and_before_the_hello_is_read(sends: bytes, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})], "firewall": {"blocked_ips": ["127.0.0.1"]}})
    assert verdict(running, sends=sends) == Reason.BLOCKED_IP
    assert running.connection()["sni"] == "-"


def test_the_kinds_are_tried_in_their_order(proxy: MakeProxy, geoip_db: Path) -> None:
    rules = {"blocked_ips": ["127.1.0.1"], "blocked_cidrs": ["127.1.0.0/24"], "blocked_countries": ["XX"]}
    running = proxy({"listeners": [listener({})], "firewall": {"geoip_db": str(geoip_db), **rules}})
    assert verdict(running, "127.1.0.1") == Reason.BLOCKED_IP
    assert verdict(running, "127.1.0.2") == Reason.BLOCKED_CIDR
    assert verdict(running, "127.1.1.1") == Reason.BLOCKED_COUNTRY


def test_who_a_trusted_header_names_is_asked_about_and_not_the_proxy(backend: MakeBackend, proxy: MakeProxy) -> None:
    trusting = listener(routes(backend), proxy_protocol=True, trusted_proxies=["127.0.0.0/8"])
    rules = {"blocked_ips": ["127.0.0.1", "192.0.2.1"], "blocked_cidrs": ["2001:db8::/32"]}
    running = proxy({"listeners": [trusting], "firewall": rules})
    v4, v6 = b"PROXY TCP4 %b 192.0.2.9 4711 443\r\n", b"PROXY TCP6 %b 2001:db8::9 4711 443\r\n"
    assert verdict(running, sends=v4 % b"192.0.2.1" + HELLO, client="192.0.2.1:4711") == Reason.BLOCKED_IP
    assert verdict(running, sends=v4 % b"192.0.2.1", client="192.0.2.1:4711") == Reason.BLOCKED_IP
    assert verdict(running, sends=v4 % b"192.0.2.2" + HELLO, client="192.0.2.2:4711") == Reason.OK
    assert verdict(running, sends=v6 % b"2001:db8::1" + HELLO, client="[2001:db8::1]:4711") == Reason.BLOCKED_CIDR
    assert verdict(running, sends=v6 % b"::ffff:192.0.2.1" + HELLO, client="192.0.2.1:4711") == Reason.BLOCKED_IP
    assert verdict(running, sends=v6 % b"2001:db9::1" + HELLO, client="[2001:db9::1]:4711") == Reason.OK


def test_a_new_rule_is_for_those_who_come_after_it(backend: MakeBackend, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener(routes(backend))]})
    live = running.app.worker.shared.live
    with connect(running.port) as client:
        until(lambda: [each.phase for each in running.sessions()] == [Phase.PEEKING], "the session")
        running.call(running.app.worker.publish, with_value(live.table, FirewallRule(RuleKind.IP, "127.0.0.1")))
        assert verdict(running) == Reason.BLOCKED_IP
        client.sendall(HELLO)
        assert b"here" in read_all(client)
    running.call(running.app.worker.publish, without(live.table, rule_key(RuleKind.IP, "127.0.0.1")))
    assert verdict(running) == Reason.OK


def test_a_reload_opens_the_database_anew_and_keeps_it_where_the_new_one_is_broken(
    backend: MakeBackend, proxy: MakeProxy, geoip_db: Path
) -> None:
    firewall = {"geoip_db": str(geoip_db), "blocked_countries": ["XX"]}
    running = proxy({"listeners": [listener(routes(backend))], "firewall": firewall})
    assert verdict(running, "127.1.0.1") == Reason.BLOCKED_COUNTRY
    broken = (b"", b"no database", geoip_db.read_bytes()[:-100])
    for content in broken:
        geoip_db.write_bytes(content)
        with messages() as logged:
            running.app.reloader.reload()
        assert "stays" in logged[0]
        assert verdict(running, "127.1.0.1") == Reason.BLOCKED_COUNTRY
        assert verdict(running, "127.2.0.1") == Reason.OK
    write_database(geoip_db, {"127.2.0.0/16": located("XX")})
    assert verdict(running, "127.1.0.1") == Reason.BLOCKED_COUNTRY, "before the reload"
    running.app.reloader.reload()
    assert verdict(running, "127.1.0.1") == Reason.OK
    assert verdict(running, "127.2.0.1") == Reason.BLOCKED_COUNTRY


def test_a_hundred_thousand_rules(backend: MakeBackend, proxy: MakeProxy) -> None:
    cidrs = [f"{10 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24" for i in range(100_000)]
    document = {"listeners": [listener(routes(backend))], "firewall": {"blocked_cidrs": [*cidrs, "127.1.0.0/16"]}}
    running = proxy(document)
    assert verdict(running, "127.1.0.1") == Reason.BLOCKED_CIDR
    assert verdict(running, "127.2.0.1") == Reason.OK
