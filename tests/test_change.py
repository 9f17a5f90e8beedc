import pickle
from collections.abc import Callable

import pytest
from hypothesis import given

from mcproxy.change import (
    FEW_RULES,
    Change,
    Key,
    current,
    is_temporary,
    listener_key,
    next_table,
    route_key,
    rule_key,
    table_values,
    towards,
)
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, route
from tests.kit.tables import tables, with_value, without

TABLE = Table.build(SEED, RULES, 1)
OTHER = Listener(":8443", max_connections=5)


PUBLIC = Listener(":443", max_connections=5)
BEHIND = Listener("[::1]:8443", proxy_protocol=True, trusted_proxies=("10.0.0.0/8", "192.0.2.1"))
A, B, C = route("a.example"), route("b.example"), route("c.example")
IP = FirewallRule(RuleKind.IP, "192.0.2.66")
CIDR = FirewallRule(RuleKind.CIDR, "198.51.100.0/24", 99.5)
COUNTRY = FirewallRule(RuleKind.COUNTRY, "DE")
VALUES = [(PUBLIC, [A, B]), (BEHIND, [C])]


def rules(count: int) -> list[Change]:
    made = [FirewallRule(RuleKind.IP, f"10.0.{i // 250}.{i % 250 + 1}") for i in range(count)]
    return [Change(rule_key(each.kind, each.value), None, each) for each in made]


def test_a_table_has_each_value_under_its_key() -> None:
    found = table_values(TABLE)
    assert len(found) == 5
    for key, value in found.items():
        assert current(TABLE, key) == value


@pytest.mark.parametrize(
    "key",
    [
        listener_key(":1"),
        route_key(":1", "git.example.org"),
        route_key(":443", "no.example.org"),
        rule_key("ip", "192.0.2.99"),
        rule_key("cidr", "192.0.2.0/24"),
        rule_key("country", "DE"),
    ],
    ids=str,
)
def test_what_is_not_there_is_none(key: Key) -> None:
    assert current(TABLE, key) is None


def test_a_listener_comes_with_its_routes_in_one_step() -> None:
    changes = [
        Change(route_key(":8443", "a.example.org"), None, route("a.example.org")),
        Change(listener_key(":8443"), None, OTHER),
    ]
    following = next_table(TABLE, changes, 2)
    assert following.generation == 2
    assert following.listeners[":8443"].listener == OTHER
    assert list(following.listeners[":8443"].routes) == ["a.example.org"]
    assert following.listeners[":443"] is TABLE.listeners[":443"]


def test_a_listener_goes_with_its_routes() -> None:
    changes = [Change(key, value, None) for key, value in table_values(TABLE).items() if key.what != "rule"]
    assert not next_table(TABLE, changes, 2).listeners


def test_a_changed_listener_keeps_its_routes() -> None:
    changed = Listener(":443", max_connections=9)
    following = next_table(TABLE, [Change(listener_key(":443"), SEED[0][0], changed)], 2)
    assert following.listeners[":443"].listener.max_connections == 9
    assert len(following.listeners[":443"].routes) == 2


def test_the_table_before_stays_as_it_was() -> None:
    before = pickle.dumps(TABLE)
    next_table(TABLE, [*rules(3), Change(listener_key(":8443"), None, OTHER)], 2)
    assert pickle.dumps(TABLE) == before


@pytest.mark.parametrize("count", [1, FEW_RULES, FEW_RULES + 1, 1000])
def test_rules_come_and_go_alike_few_or_many_at_once(count: int) -> None:
    there = next_table(TABLE, rules(count), 2)
    assert len(there.firewall) == len(TABLE.firewall) + count
    back = next_table(there, [Change(each.key, each.new, None) for each in rules(count)], 3)
    assert table_values(back) == table_values(TABLE)


def test_values_that_can_not_be_compiled_are_refused() -> None:
    with pytest.raises(ValueError, match=r"listener :1: .*host bits"):
        with_value(TABLE, Listener(":1", trusted_proxies=("10.0.0.1/8",)))
    with pytest.raises(ValueError, match='firewall rule ip: "x" is not an IP address'):
        next_table(TABLE, [Change(rule_key("ip", "x"), None, FirewallRule(RuleKind.IP, "x"))], 2)


def test_a_route_without_its_listener_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its listener"):
        next_table(TABLE, [Change(route_key(":1", "a.b"), None, route("a.b"))], 2)


CHANGES: list[tuple[Callable[[Table], Table], Table]] = [
    (lambda table: with_value(table, Listener(":1")),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C]), (Listener(":1"), [])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: with_value(table, Listener(":443")),
     Table.build([(Listener(":443"), [A, B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: without(table, listener_key(":443")), Table.build([(BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: with_value(table, C, ":443"),
     Table.build([(PUBLIC, [A, B, C]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: with_value(table, route("a.example", "127.0.0.1:4"), ":443"),
     Table.build([(PUBLIC, [route("a.example", "127.0.0.1:4"), B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: without(table, route_key(":443", "a.example")),
     Table.build([(PUBLIC, [B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], 8)),
    (lambda table: with_value(table, FirewallRule(RuleKind.IP, "2001:db8::1")),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, FirewallRule(RuleKind.IP, "2001:db8::1"), CIDR, COUNTRY], 8)),
    (lambda table: with_value(table, FirewallRule(RuleKind.CIDR, "198.51.100.0/24", 120.0)),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, FirewallRule(RuleKind.CIDR, CIDR.value, 120.0), COUNTRY], 8)),
    (lambda table: without(table, rule_key(RuleKind.COUNTRY, "DE")),
     Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, CIDR], 8)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_makes_the_next_table_and_leaves_the_old_one(
    change: Callable[[Table], Table], expected: Table
) -> None:
    table = Table.build(VALUES, [IP, CIDR, COUNTRY], 7)
    assert change(table) == expected
    assert table == Table.build(VALUES, [IP, CIDR, COUNTRY], 7)


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_changed_table_survives_pickling(change: Callable[[Table], Table], expected: Table) -> None:
    assert pickle.loads(pickle.dumps(change(Table.build(VALUES, [IP, CIDR, COUNTRY], 7)))) == expected


def test_what_did_not_change_is_shared() -> None:
    before = Table.build(VALUES, [IP, CIDR, COUNTRY], 7)
    after = with_value(before, C, ":443")
    assert after.firewall is before.firewall
    assert after.listeners["[::1]:8443"] is before.listeners["[::1]:8443"]
    assert after.listeners[":443"].trusted is before.listeners[":443"].trusted
    assert after.listeners[":443"].routes["a.example"] is A
    assert without(before, listener_key(":443")).listeners["[::1]:8443"] is before.listeners["[::1]:8443"]
    ruled = with_value(before, FirewallRule(RuleKind.IP, "2001:db8::1"))
    assert ruled.listeners == before.listeners
    assert ruled.firewall.networks is before.firewall.networks
    assert ruled.firewall.countries is before.firewall.countries


@given(tables(temporary=False), tables())
def test_afterwards_a_table_is_the_one_that_is_wanted(wanted: Table, table: Table) -> None:
    changes = towards(table_values(wanted), table, prune=True)
    following = next_table(table, changes, table.generation + 1)
    kept = {key: value for key, value in table_values(table).items() if is_temporary(value)}
    assert table_values(following) == {**kept, **table_values(wanted)}
    assert towards(table_values(wanted), following, prune=True) == []


@given(tables(temporary=False), tables())
def test_without_pruning_nothing_is_removed(wanted: Table, table: Table) -> None:
    changes = towards(table_values(wanted), table, prune=False)
    following = next_table(table, changes, table.generation + 1)
    assert table_values(following) == {**table_values(table), **table_values(wanted)}
    assert towards(table_values(wanted), following, prune=False) == []


@given(tables())
def test_a_table_is_changed_by_its_own_values_in_nothing(table: Table) -> None:
    for prune in (True, False):
        assert towards(table_values(table), table, prune=prune) == []
