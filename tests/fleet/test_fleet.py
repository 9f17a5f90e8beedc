"""Several nodes on a real PostgreSQL: every one writes, all have one order, none depends on being told."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from mcproxy.admin.errors import AlreadyThere, NotThere, Overtaken
from mcproxy.admin.mutations import put_listener, put_route
from mcproxy.change import table_values
from mcproxy.fleet.standing import State
from mcproxy.model import Listener
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import history, schema
from mcproxy.store.errors import NameTaken, NotOurs, Unavailable
from mcproxy.store.postgres import Server, attach
from tests.kit.control_plane import route
from tests.kit.fleet_nodes import Node
from tests.kit.peers import DEADLINE, until
from tests.kit.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.xdist_group("postgres")

MakeNode = Callable[..., Node]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create(f"db_{uuid.uuid4().hex}")


@pytest.fixture
def node(url: str, tmp_path: Path) -> Iterator[MakeNode]:
    """Makes nodes of one fleet."""
    with ExitStack() as stack:

        def make(name: str, **options: object) -> Node:
            return stack.enter_context(closing(Node(url, name, tmp_path, **options)))  # type: ignore[arg-type]

        yield make


def same(*nodes: Node) -> bool:
    """True if all have one generation, and the same table."""
    tables = [each.writer.table for each in nodes]
    return len({each.generation for each in tables}) == 1 and all(
        table_values(each) == table_values(tables[0]) for each in tables
    )


def test_the_first_node_seeds_and_the_second_takes_what_it_finds(node: MakeNode) -> None:
    one = node("edge1")
    two = node("edge2", seed=([(Listener(":1"), [])], []))
    assert same(one, two)
    assert one.writer.table.generation == 1
    (revision, *_) = history.revisions(two.fleet.cache.store, 1)
    assert (revision.node, revision.who) == ("edge1", "seed")


def test_nodes_that_start_together_seed_once(node: MakeNode) -> None:
    with ThreadPoolExecutor(4) as pool:
        nodes = list(pool.map(node, [f"edge{number}" for number in range(4)]))
    assert same(*nodes)
    assert nodes[0].writer.table.generation == 1


def test_a_change_wakes_the_others(node: MakeNode) -> None:
    one, two = node("edge1").follows(), node("edge2").follows()
    assert one.add("new.test") == 2
    until(lambda: "new.test" in two.names)
    assert two.add("other.test") == 3
    until(lambda: same(one, two))
    found = history.revisions(one.fleet.cache.store, 2)
    assert [(each.generation, each.node) for each in found] == [(3, "edge2"), (2, "edge1")]


def test_without_notifications_a_node_asks(node: MakeNode) -> None:
    one, two = node("edge1", notifies=False).follows(0.05), node("edge2", notifies=False).follows(0.05)
    one.add("new.test")
    until(lambda: "new.test" in two.names)


def test_a_node_that_has_not_heard_decides_on_what_the_database_has(node: MakeNode) -> None:
    """Neither follows: only the database can say what the other has done."""
    one, two = node("edge1"), node("edge2")
    one.add("new.test")
    with pytest.raises(AlreadyThere):
        two.writer.mutate("a test", "x", put_route("", route("new.test", "127.0.0.1:9"), exists=False))
    two.remove("new.test")
    with pytest.raises(NotThere):
        one.remove("new.test")
    assert same(one, two)


def test_an_expected_generation_that_another_node_has_overtaken_is_refused(node: MakeNode) -> None:
    one, two = node("edge1"), node("edge2")
    one.add("new.test")
    with pytest.raises(Overtaken, match="generation is 2, not 1"):
        two.add("other.test", expected=1)
    assert two.add("other.test", expected=2) == 3


def test_changes_of_all_nodes_at_once_have_one_order_and_none_is_lost(node: MakeNode) -> None:
    nodes = [node(f"edge{number}").follows() for number in range(3)]

    def work(number: int) -> list[int]:
        return [nodes[number].add(f"r{number}-{each}.test") for each in range(30)]

    with ThreadPoolExecutor(3) as pool:
        given = [generation for found in pool.map(work, range(3)) for generation in found]
    assert sorted(given) == list(range(2, 92))
    until(lambda: same(*nodes))
    assert len(nodes[0].names) == 92
    for each in nodes:
        assert table_values(each.fleet.cache.store.load()) == table_values(each.writer.table)


def test_a_node_that_was_away_catches_up_by_revisions(
    node: MakeNode, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = node("edge1")
    with closing(Node(url, "edge2", tmp_path)):
        pass
    for number in range(5):
        one.add(f"r{number}.test")
    caplog.clear()
    with caplog.at_level("INFO"):
        assert same(one, node("edge2"))
    assert "whole table" not in caplog.text


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM audit WHERE generation = 2", "UPDATE audit SET at = 5 WHERE generation = 1"],
    ids=["a gap", "another past"],
)
def test_what_does_not_continue_our_past_is_loaded_whole(node: MakeNode, url: str, statement: str) -> None:
    one, two = node("edge1"), node("edge2")
    one.add("new.test")
    one.add("other.test")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
    two.writer.follow()
    assert same(one, two)
    assert table_values(two.fleet.cache.store.load()) == table_values(two.writer.table)


def test_a_database_that_lost_its_last_changes_is_followed_back(node: MakeNode, url: str) -> None:
    """As after a failover to a standby that was behind."""
    one = node("edge1")
    one.add("lost.test")
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM audit WHERE generation = 2")
        connection.execute("DELETE FROM routes WHERE hostname = 'lost.test'")
        connection.execute("UPDATE head SET generation = 1")
    one.writer.follow()
    assert (one.writer.table.generation, "lost.test" in one.names) == (1, False)
    assert one.fleet.cache.store.load().generation == 1
    assert one.add("next.test") == 2


def test_a_copy_that_cannot_be_written_is_written_later(node: MakeNode) -> None:
    one, two = node("edge1"), node("edge2")
    path = two.fleet.cache.store.path
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(FAIL, 'full'); END")
        one.add("new.test")
        two.writer.follow()
        assert "new.test" in two.names, "the data path doesn't wait for a disk"
        assert two.fleet.standing.cache_problem
        other.execute("DROP TRIGGER full")
    two.writer.follow()
    assert not two.fleet.standing.cache_problem
    assert table_values(two.fleet.cache.store.load()) == table_values(one.writer.table)


def test_an_address_that_one_node_lacks_is_only_its_own_warning(node: MakeNode) -> None:
    one, two = node("edge1"), node("edge2")
    two.plane.fail["bind_listener"] = OSError(99, "Cannot assign requested address")
    one.writer.mutate("a test", "listener.add", put_listener(Listener("192.0.2.1:8443"), exists=False))
    two.writer.follow()
    assert same(one, two)
    assert "no such address" in two.fleet.unbound["192.0.2.1:8443"]
    assert "192.0.2.1:8443" in one.plane.accepting
    two.plane.fail.clear()
    two.writer.follow()
    assert not two.fleet.unbound
    assert "192.0.2.1:8443" in two.plane.accepting


def test_a_node_without_the_database_serves_its_copy_and_refuses_changes(tmp_path: Path) -> None:
    with postgres_server() as server:
        url = server.create("fleet")
        with closing(Node(url, "edge1", tmp_path)) as one:
            one.add("new.test")
        server.stop()
        with closing(Node(url, "edge1", tmp_path).follows(0.1)) as one:
            assert one.fleet.standing.state is State.ALONE
            assert "new.test" in one.names
            with pytest.raises(Unavailable, match=r"edge1 is alone since .*takes no changes; generation 2 stays"):
                one.add("other.test")
            with pytest.raises(Unavailable, match="no copy of the fleet's table yet"):
                Node(url, "edge2", tmp_path)
            server.start()
            until(lambda: one.fleet.standing.state is State.FOLLOWING)
            assert one.add("other.test") == 3


def test_a_running_node_outlives_the_database_and_catches_up(tmp_path: Path) -> None:
    with postgres_server() as server:
        url = server.create("fleet")
        with closing(Node(url, "edge1", tmp_path).follows(0.1)) as one:
            until(lambda: one.fleet.standing.state is State.FOLLOWING)
            server.stop()
            until(lambda: one.fleet.standing.state is State.ALONE)
            server.start()
            with closing(Node(url, "edge2", tmp_path)) as two:
                two.add("new.test")
                until(lambda: "new.test" in one.names)


def test_a_newer_schema_makes_a_node_outdated_and_it_serves_on(node: MakeNode, url: str, tmp_path: Path) -> None:
    one = node("edge1").follows(0.05)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_version VALUES (%s)", (schema.VERSION + 1,))
    until(lambda: one.fleet.standing.state is State.OUTDATED)
    with pytest.raises(Unavailable, match=r"edge1 is outdated .*run the newer mcproxy"):
        one.add("new.test")
    again = Node(url, "edge1", tmp_path)
    with closing(again):
        assert again.fleet.standing.state is State.OUTDATED
        assert again.names == one.names


def test_another_programs_database_ends_the_start(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")
    with pytest.raises(NotOurs):
        Node(url, "edge1", tmp_path)


def test_a_commit_whose_answer_is_lost_is_looked_for(node: MakeNode, url: str) -> None:
    """The commit is done and its connection is cut: the caller is answered with what the database says."""
    one = node("edge1")
    server = one.fleet.truth.place
    assert isinstance(server, Server)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CUT_AT_COMMIT)
    with pytest.raises(Unavailable):
        one.add("cut.test")
    with closing(attach(Server(parse_server_url(url)))) as truth:
        assert truth.load().generation == 1


# A deferred trigger runs within the commit, before it is done.
CUT_AT_COMMIT = """
CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut();
"""


def test_an_idle_node_has_two_connections(node: MakeNode, postgres: PostgresServer, url: str) -> None:
    one = node("edge1").follows()
    one.add("new.test")
    name = url.rpartition("/")[2]
    counted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    until(lambda: one.fleet.standing.state is State.FOLLOWING)
    until(lambda: postgres.execute("postgres", counted) == [(2,)])


def test_a_poll_alone_leaves_an_idle_node_without_work(node: MakeNode) -> None:
    """Else each poll would be two transactions: an idle node is to cost the server less than a query a second."""
    one, two = node("edge1"), node("edge2")
    with two.fleet.listen() as ear:
        two.fleet.found(ear.poll())
        assert not two.fleet.has_work()
        one.add("new.test")
        two.fleet.found(ear.poll())
        assert two.fleet.has_work()
        assert two.fleet.standing.behind(two.writer.table.generation) == 1
        two.writer.follow()
        assert not two.fleet.has_work()


def test_two_nodes_of_one_name_are_refused(node: MakeNode, url: str, tmp_path: Path) -> None:
    one = node("edge1").follows(0.05)
    (tmp_path / "other").mkdir()
    with pytest.raises(NameTaken, match=r"set node\.name to another name"):
        Node(url, "edge1", tmp_path / "other")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE nodes SET identity = 'of another', seen_at = seen_at + 5")
    with closing(one.fleet.listen()) as ear, pytest.raises(NameTaken) as caught:
        ear.tell(one.fleet.report())
    one.fleet.lost(caught.value)
    with pytest.raises(Unavailable, match="edge1 is refused"):
        one.add("new.test")


def test_a_node_keeps_its_name_when_it_restarts(node: MakeNode, url: str, tmp_path: Path) -> None:
    with closing(Node(url, "edge1", tmp_path)):
        pass
    one = node("edge1").follows(0.05)
    one.add("new.test")
    until(lambda: [(each.name, each.generation) for each in one.fleet.nodes()[0]] == [("edge1", 2)])


def test_the_clock_is_the_databases(node: MakeNode) -> None:
    one = node("edge1").follows()
    until(lambda: one.fleet.standing.state is State.FOLLOWING)
    assert abs(one.fleet.clock() - time.time()) < DEADLINE
