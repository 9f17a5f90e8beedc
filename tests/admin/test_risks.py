from dataclasses import replace

import pytest

from mcproxy.admin import risks
from mcproxy.change import Change, Value, listener_key, route_key, rule_key
from mcproxy.model import FirewallRule, Listener, Mode, RuleKind
from mcproxy.policy.networks import pack
from tests.kit.control_plane import route

IP, CIDR, COUNTRY = RuleKind.IP, RuleKind.CIDR, RuleKind.COUNTRY


def routes(*names: str, old: bool = True) -> list[Change]:
    return [Change(route_key(":443", name), *((route(name), None) if old else (None, route(name)))) for name in names]


def listener(old: Value | None, new: Value | None) -> Change:
    return Change(listener_key(":443"), old, new)


GONE = listener(Listener(":443"), None)
L4 = route("a.test")
TO_L7 = Change(route_key(":443", "a.test"), L4, replace(L4, mode=Mode.L7))


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ([], []),
        ([GONE], []),
        ([listener(None, Listener(":443")), *routes("a.test", old=False)], []),
        ([GONE, *routes("a.test")], ["removing :443 removes 1 route: a.test"]),
        ([*routes(*"abcde"), GONE], ["removing :443 removes 5 routes: a, b, c and 2 more"]),
        (routes("a.test"), []),
        ([Change(route_key(":443", "a.test"), L4, route("a.test", "127.0.0.1:9"))], []),
        ([TO_L7], ["the route a.test on :443 changes from l4 to l7"]),
    ],
)
def test_changes(changes: list[Change], sentences: list[str]) -> None:
    assert list(risks.of_changes(changes)) == sentences


def test_many_changes_have_few_sentences() -> None:
    listeners = [Change(listener_key(f":{i}"), Listener(f":{i}"), None) for i in range(1000)]
    gone = [Change(route_key(f":{i}", "a.test"), route("a.test"), None) for i in range(1000)]
    turned = [replace(TO_L7, key=route_key(":8443", f"{i}.test")) for i in range(1000)]
    assert list(risks.of_changes([*gone, *listeners, *turned])) == [
        "removing :0 removes 1 route: a.test",
        "removing :1 removes 1 route: a.test",
        "removing :2 removes 1 route: a.test",
        "the same applies to 997 more listeners",
        "1000 routes change from l4 to l7",
    ]


def test_a_rollback() -> None:
    assert list(risks.of_rollback([])) == []
    rule = FirewallRule(IP, "192.0.2.1")
    assert list(risks.of_rollback([Change(rule_key("ip", "192.0.2.1"), rule, None)])) == ["it changes 1 value"]
    assert list(risks.of_rollback([TO_L7, *routes("b.test")])) == [
        "it changes 2 values",
        "the route a.test on :443 changes from l4 to l7",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "cut", "sentences"),
    [
        (IP, "192.0.2.1", 0, []),
        (IP, "192.0.2.7", 0, ["it blocks 192.0.2.7, your own address"]),
        (IP, "192.0.2.1", 5000, []),
        (CIDR, "198.51.100.0/24", 100, []),
        (CIDR, "198.51.100.0/24", 101, ["it cuts 101 live connections"]),
        (CIDR, "10.0.0.0/8", 0, []),
        (CIDR, "10.0.0.0/7", 0, ["it blocks a /7 of IPv4, 1 address in 128"]),
        (CIDR, "192.0.2.0/24", 0, ["it blocks 192.0.2.7, your own address"]),
        (CIDR, "0.0.0.0/0", 0, ["it blocks 192.0.2.7, your own address", "it blocks every IPv4 address"]),
        (CIDR, "::/0", 0, ["it blocks 2001:db8::1, your own address", "it blocks every IPv6 address"]),
        (CIDR, "2600::/19", 0, []),
        (CIDR, "2600::/12", 0, ["it blocks a /12 of IPv6, 1 address in 4096"]),
        (COUNTRY, "DE", 1000, ["it cuts 1000 live connections"]),
        (COUNTRY, "FR", 0, ["it blocks 192.0.2.7, your own address"]),
    ],
)
def test_a_rule(kind: RuleKind, value: str, cut: int, sentences: list[str]) -> None:
    own = [pack("192.0.2.7"), pack("2001:db8::1"), pack("192.0.2.7")]
    countries = {own[0]: "FR"}
    assert list(risks.of_rule(FirewallRule(kind, value), own, countries.get, cut)) == sentences
