"""A changed table is a new one that shares what did not change; the old one stays as it was."""

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from mcproxy.model import Backend, FirewallRule, Listener, Route, RuleKind
from mcproxy.policy.networks import pack
from mcproxy.table import ListenerTable, Live, Table

PUBLIC = Listener(":443", max_connections=5)
BEHIND = Listener("[::1]:8443", proxy_protocol=True, trusted_proxies=("10.0.0.0/8", "192.0.2.1"))


def route(hostname: str, port: int = 3000) -> Route:
    return Route(hostname, Backend("127.0.0.1", port))


A, B, C = route("a.example"), route("b.example"), route("c.example")
IP = FirewallRule(RuleKind.IP, "192.0.2.66")
CIDR = FirewallRule(RuleKind.CIDR, "198.51.100.0/24", 99.5)
COUNTRY = FirewallRule(RuleKind.COUNTRY, "DE")


def build() -> Table:
    return Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], generation=7)


def test_an_empty_table() -> None:
    table = Table()
    assert (table.generation, dict(table.listeners), list(table.firewall.rules())) == (0, {}, [])
    assert Table.build([]) == table


def test_build() -> None:
    table = build()
    assert table.generation == 7
    assert list(table.listeners) == [":443", "[::1]:8443"]
    assert table.listeners[":443"].routes == {"a.example": A, "b.example": B}
    assert table.listeners[":443"].listener is PUBLIC
    assert table.listeners["[::1]:8443"].trusted.find(pack("10.9.9.9")) == "10.0.0.0/8"
    assert list(table.firewall.rules()) == [IP, CIDR, COUNTRY]


def test_bad_values_are_refused() -> None:
    bad = Listener(":1", trusted_proxies=("10.0.0.1/8",))
    with pytest.raises(ValueError, match=r"listener :1: 10\.0\.0\.1/8 has host bits set"):
        Table.build([(bad, [])])
    with pytest.raises(ValueError, match=r"listener :1: .*host bits"):
        build().with_listener(bad)
    with pytest.raises(ValueError, match="firewall rule ip 'x'"):
        Table.build([], [FirewallRule(RuleKind.IP, "x")])
    with pytest.raises(ValueError, match="firewall rule ip 'x'"):
        build().with_rule(FirewallRule(RuleKind.IP, "x"))


CHANGES: list[tuple[Callable[[Table], Table], Table]] = [
    (lambda table: table.with_listener(Listener(":1")),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C]), (Listener(":1"), [])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.with_listener(Listener(":443")),
     Table.build([(Listener(":443"), [A, B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.without_listener(":443"), Table.build([(BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.with_route(":443", C),
     Table.build([(PUBLIC, [A, B, C]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.with_route(":443", route("a.example", 4)),
     Table.build([(PUBLIC, [route("a.example", 4), B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.without_route(":443", "a.example"),
     Table.build([(PUBLIC, [B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: table.with_rule(FirewallRule(RuleKind.IP, "2001:db8::1")),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, FirewallRule(RuleKind.IP, "2001:db8::1"), CIDR, COUNTRY], 8)),
    (lambda table: table.with_rule(FirewallRule(RuleKind.CIDR, "198.51.100.0/24", 120.0)),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, FirewallRule(RuleKind.CIDR, CIDR.value, 120.0), COUNTRY], 8)),
    (lambda table: table.without_rule(RuleKind.COUNTRY, "DE"),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, CIDR], 8)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_makes_the_next_table_and_leaves_the_old_one(
    change: Callable[[Table], Table], expected: Table
) -> None:
    table = build()
    assert change(table) == expected
    assert table == build()


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_table_survives_pickling(change: Callable[[Table], Table], expected: Table) -> None:
    assert pickle.loads(pickle.dumps(change(build()))) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.without_listener(":1"),
        lambda table: table.with_route(":1", A),
        lambda table: table.without_route(":1", "a.example"),
        lambda table: table.without_route(":443", "c.example"),
        lambda table: table.without_rule(RuleKind.IP, "192.0.2.67"),
        lambda table: table.without_rule(RuleKind.CIDR, "198.51.100.0/25"),
        lambda table: table.without_rule(RuleKind.COUNTRY, "FR"),
    ],
)
def test_what_is_not_there_cannot_be_changed(change: Callable[[Table], Table]) -> None:
    table = build()
    with pytest.raises(KeyError):
        change(table)
    assert table == build()


def test_routes_and_listeners_that_did_not_change_are_shared() -> None:
    before = build()
    after = before.with_route(":443", C)
    assert after.firewall is before.firewall
    assert after.listeners["[::1]:8443"] is before.listeners["[::1]:8443"]
    assert after.listeners[":443"].trusted is before.listeners[":443"].trusted
    assert after.listeners[":443"].routes["a.example"] is A
    replaced = before.with_listener(Listener(":443", max_connections=6))
    assert replaced.listeners[":443"].routes is before.listeners[":443"].routes
    assert before.without_listener(":443").listeners["[::1]:8443"] is before.listeners["[::1]:8443"]


def test_rules_that_did_not_change_are_shared() -> None:
    before = build()
    after = before.with_rule(FirewallRule(RuleKind.IP, "2001:db8::1"))
    assert after.listeners is before.listeners
    assert after.firewall.networks is before.firewall.networks
    assert after.firewall.countries is before.firewall.countries
    assert before.without_rule(RuleKind.IP, IP.value).listeners is before.listeners


def test_nothing_can_be_assigned() -> None:
    table = build()
    with pytest.raises(FrozenInstanceError):
        table.generation = 8  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        table.listeners[":443"].routes = {}  # type: ignore[misc]


def test_live_publishes_by_assignment() -> None:
    live = Live(build())
    taken = live.table
    live.table = live.table.without_route(":443", "a.example")
    assert (taken.generation, live.table.generation) == (7, 8)
    assert "a.example" in taken.listeners[":443"].routes
    assert "a.example" not in live.table.listeners[":443"].routes
    assert repr(live) == "<Live <Table generation=8 listeners=2 routes=2 rules=3>>"


def test_prints_its_size_not_its_content() -> None:
    assert repr(build()) == "<Table generation=7 listeners=2 routes=3 rules=3>"
    assert repr(ListenerTable.build(BEHIND, [A])) == "<ListenerTable [::1]:8443 routes=1 trusted=2>"
