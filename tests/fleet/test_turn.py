"""Turns of nodes at one real PostgreSQL: who waits, what is decided on, and what comes into force."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mcproxy.admin.errors import NotThere
from mcproxy.admin.mutations import put_route, remove_route
from mcproxy.change import Change
from mcproxy.store.errors import Conflict
from mcproxy.table import Table
from tests.kit.control_plane import route
from tests.kit.fleet_nodes import MakeNode, Node, same
from tests.kit.peers import until
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'mcproxy edge_'"
)


class Deciding:
    """Adds a route, and keeps what it was decided on."""

    def __init__(self, name: str) -> None:
        self.on: list[int] = []
        self._decide = put_route("", route(name), exists=False)

    def __call__(self, table: Table, now: float) -> Sequence[Change]:
        self.on.append(table.generation)
        return self._decide(table, now)


def mutate(node: Node, deciding: Deciding) -> int:
    return node.writer.mutate("a test", "route.add", deciding).generation


def test_a_node_waits_for_its_turn_and_decides_on_what_came_first(
    node: MakeNode, postgres: PostgresServer, url: str
) -> None:
    """Both decided at once, and the second one for nothing."""
    one, two = node("edge1"), node("edge2")
    first, second = Deciding("first.test"), Deciding("second.test")
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(url) as holder:
            holder.execute("SELECT generation FROM head FOR UPDATE")
            found = []
            for waiting, (each, deciding) in enumerate([(one, first), (two, second)], start=1):
                found.append(pool.submit(mutate, each, deciding))
                until(lambda waiting=waiting: postgres.execute("postgres", WAITING) == [(waiting,)])  # type: ignore[misc]
            assert (first.on, second.on) == ([1], [1]), "before their turns, which a long decision would lengthen"
        assert [each.result() for each in found] == [2, 3]
    assert (first.on, second.on) == ([1], [1, 2])
    assert {"first.test", "second.test"} < two.names
    one.writer.follow()
    assert same(one, two)


def test_a_node_that_lacks_nothing_decides_once(node: MakeNode) -> None:
    one, deciding = node("edge1"), Deciding("new.test")
    assert mutate(one, deciding) == 2
    assert deciding.on == [1]


def test_nothing_is_refused_by_a_copy_that_lacks_what_the_turn_has(node: MakeNode) -> None:
    """A rollback is decided by the copy's audit."""
    one, two = node("edge1"), node("edge2")
    one.add("new.test")

    def decide(table: Table, now: float) -> Sequence[Change]:
        if two.fleet.cache.store.load().generation < table.generation:
            raise NotThere("the copy doesn't go so far")
        return remove_route("", "new.test")(table, now)

    assert two.writer.mutate("a test", "x", decide).generation == 3
    one.writer.follow()
    assert same(one, two)


def test_a_mutation_without_changes_still_brings_what_came_first(node: MakeNode) -> None:
    one, two = node("edge1"), node("edge2")
    one.add("new.test")
    assert two.writer.mutate("a test", "x", lambda _table, _now: ()).generation == 2
    assert same(one, two)


def test_a_turn_is_put_off_where_everything_is_to_be_loaded(node: MakeNode, url: str) -> None:
    one, two = node("edge1"), node("edge2")
    for name in ("a.test", "b.test"):
        one.add(name)
    with one.fleet.truth.transaction() as database:
        database.executable.exec_driver_sql("DELETE FROM audit WHERE generation = 2")
    with pytest.raises(Conflict, match="than this node can follow"), two.fleet.turn(two.writer.table):
        pass
    assert two.add("c.test") == 4
    one.writer.follow()
    assert same(one, two)
