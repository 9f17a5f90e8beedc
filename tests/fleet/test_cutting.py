"""Connections that all nodes cut, and the sum of them."""

from typing import Any

import psycopg
import pytest

from mcproxy.admin.mutations import add_rule
from mcproxy.fleet.cutting import CutElsewhere
from mcproxy.messages import PlaneBusy
from mcproxy.model import FirewallRule, RuleKind
from tests.kit.fleet_nodes import MakeNode, Node
from tests.kit.peers import DEADLINE, until

pytestmark = pytest.mark.xdist_group("postgres")

RULE = FirewallRule(RuleKind.IP, "203.0.113.9")


def ban(node: Node, wait: float = DEADLINE) -> CutElsewhere:
    """As the admin API does it, after it has cut the connections of its own node."""
    generation = node.writer.mutate("a test", "rule.add", add_rule(RULE, 0.0, may_stay=True)).generation
    return node.fleet.cutter.ask(RULE, generation, wait)


def cuts(node: Node) -> list[Any]:
    return [call for call in node.plane.calls if call[0] == "kill_matching"]


@pytest.mark.parametrize("notifies", [True, False])
def test_all_nodes_cut_and_the_sum_is_answered(node: MakeNode, notifies: bool) -> None:
    poll = {} if notifies else {"poll": 0.05}
    one, two, three = (node(f"edge{number}", notifies=notifies).follows(**poll) for number in (1, 2, 3))
    one.plane.matching, two.plane.matching, three.plane.matching = 100, 3, 4
    assert ban(one) == CutElsewhere(7)
    assert ban(one) == CutElsewhere(7), "again, though the rule was there"
    assert (len(cuts(one)), len(cuts(two))) == (0, 2), "each request once"


def test_a_dry_run_counts_on_all_nodes_and_cuts_nothing(node: MakeNode) -> None:
    one, two, three = (node(f"edge{number}").follows() for number in (1, 2, 3))
    one.plane.matching, two.plane.matching, three.plane.matching = 100, 3, 4
    assert one.fleet.cutter.count(RULE, DEADLINE) == CutElsewhere(7)
    assert not cuts(two)
    assert one.writer.table.generation == 1


def test_a_node_that_does_not_answer_is_named_and_cuts_when_it_follows(node: MakeNode) -> None:
    one, two, three = node("edge1").follows(), node("edge2").follows(), node("edge3")
    two.plane.matching = 1
    assert ban(one, 0.5).unanswered[-1] == "edge3"
    three.follows()
    until(lambda: cuts(three))
    assert three.writer.table.firewall.match(b"\xcb\x00\x71\x09", lambda _packed: None)


def test_a_node_that_is_gone_is_not_waited_for(node: MakeNode, url: str) -> None:
    one = node("edge1").follows()
    node("edge2")
    node("edge3")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE nodes SET seen_at = seen_at - 60 WHERE name = 'edge2'")
        connection.execute("UPDATE nodes SET identity = '' WHERE name = 'edge3'")  # as it does when it ends
    assert ban(one) == CutElsewhere(0)


def test_a_node_whose_hub_is_busy_cuts_later(node: MakeNode) -> None:
    one, two = node("edge1").follows(), node("edge2").follows(0.05)
    two.plane.fail["kill_matching"] = PlaneBusy("the data path is too busy to answer; try again")
    assert ban(one, 0.5) == CutElsewhere(0, ("edge2",))
    two.plane.fail.clear()
    until(lambda: cuts(two))


def test_old_requests_are_forgotten(node: MakeNode, url: str) -> None:
    one, two = node("edge1").follows(), node("edge2").follows()
    ban(one)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE cut_requests SET asked_at = asked_at - 60")
        ban(two)
        assert connection.execute("SELECT count(*) FROM cut_requests").fetchone() == (1,)
        assert connection.execute("SELECT count(DISTINCT request) FROM cut_answers").fetchone() == (1,)
