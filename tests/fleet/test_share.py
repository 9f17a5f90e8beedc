"""A node's share of the table, and the changes as they look from there."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.change import Change, merged, next_table, table_values, values
from mcproxy.fleet.share import has, orphaned, seen, share
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.table import Table
from tests.kit.control_plane import route

ADDRS = (":1", ":2", ":3")
_NODES = st.lists(st.sampled_from(["edge1", "edge2"]), unique=True).map(sorted).map(tuple)
_ROUTES = st.lists(st.sampled_from(["a.test", "b.test"]), unique=True).map(
    lambda names: [route(each) for each in names]
)
_RULES = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), unique=True)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    pairs = [
        (Listener(addr, max_connections=draw(st.integers(0, 1)), nodes=draw(_NODES)), draw(_ROUTES))
        for addr in draw(st.lists(st.sampled_from(ADDRS), unique=True))
    ]
    return Table.build(pairs, [FirewallRule(RuleKind.IP, each) for each in draw(_RULES)])


def between(old: Table, new: Table) -> list[Change]:
    before, after = table_values(old), table_values(new)
    keys = sorted(before.keys() | after.keys(), key=str)
    return [Change(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


@given(tables(), tables())
def test_the_changes_that_a_node_sees_lead_from_its_share_to_its_next(old: Table, new: Table) -> None:
    """A worker has only its node's share, and follows by changes alone."""
    before, after = share(old, "edge1"), share(new, "edge1")
    changes = seen(between(old, new), before, after)
    assert table_values(next_table(before, changes, 2)) == table_values(after)
    assert {each.key for each in changes} == {each.key for each in between(before, after)}


@given(st.lists(tables(), min_size=2, max_size=4))
def test_the_changes_of_several_mutations_are_one(several: list[Table]) -> None:
    """A node that was away follows several at once. A listener that was removed and added again stayed away then."""
    changes = [change for old, new in pairwise(several) for change in between(old, new)]
    assert table_values(next_table(several[0], merged(changes), 9)) == table_values(several[-1])


def test_a_listener_without_nodes_is_everybodys_and_the_whole_table_is_not_copied() -> None:
    everywhere, there = Listener(":1"), Listener(":2", nodes=("edge2",))
    assert [has("edge1", everywhere), has("edge1", there), has("edge2", there)] == [True, False, True]
    table = Table.build([(everywhere, [])])
    assert share(table, "edge1") is table
    assert list(share(Table.build([(everywhere, []), (there, [])]), "edge1").listeners) == [":1"]


@pytest.mark.parametrize(("nodes", "routes"), [((), 0), (("edge2",), 2)])
def test_a_listener_that_moves_away_takes_its_routes_along(nodes: tuple[str, ...], routes: int) -> None:
    old = Table.build([(Listener(":1"), [route("a.test"), route("b.test")])])
    (there,) = [each for each in table_values(old).values() if isinstance(each, Listener)]
    change = Change(next(iter(values([(there, [])], ()))), there, replace(there, nodes=nodes, max_connections=5))
    new = next_table(old, [change], 2)
    changes = seen([change], share(old, "edge1"), share(new, "edge1"))
    assert len([each for each in changes if each.new is None]) == (routes and routes + 1)


def test_a_server_without_a_fleet_is_told_of_nodes() -> None:
    table = Table.build([(Listener(":1"), []), (Listener(":2", nodes=("edge1", "edge2")), [])])
    ((addr, remark),) = orphaned(table)
    assert addr == ":2"
    assert "(edge1, edge2)" in remark
    assert "`mcproxy listeners set :2 --no-node`" in remark
