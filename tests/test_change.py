import pickle

import pytest
from hypothesis import given, settings

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
from tests.control_plane import RULES, SEED, route
from tests.tables import tables

TABLE = Table.build(SEED, RULES, 1)
OTHER = Listener(":8443", max_connections=5)


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


def test_a_route_without_its_listener_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its listener"):
        next_table(TABLE, [Change(route_key(":1", "a.b"), None, route("a.b"))], 2)


@settings(deadline=None)
@given(tables(temporary=False), tables())
def test_afterwards_a_table_is_the_one_that_is_wanted(wanted: Table, table: Table) -> None:
    changes = towards(table_values(wanted), table, prune=True)
    following = next_table(table, changes, table.generation + 1)
    kept = {key: value for key, value in table_values(table).items() if is_temporary(value)}
    assert table_values(following) == {**kept, **table_values(wanted)}
    assert towards(table_values(wanted), following, prune=True) == []


@settings(deadline=None)
@given(tables(temporary=False), tables())
def test_without_pruning_nothing_is_removed(wanted: Table, table: Table) -> None:
    changes = towards(table_values(wanted), table, prune=False)
    following = next_table(table, changes, table.generation + 1)
    assert table_values(following) == {**table_values(table), **table_values(wanted)}
    assert towards(table_values(wanted), following, prune=False) == []


@settings(deadline=None)
@given(tables())
def test_a_table_is_changed_by_its_own_values_in_nothing(table: Table) -> None:
    for prune in (True, False):
        assert towards(table_values(table), table, prune=prune) == []
