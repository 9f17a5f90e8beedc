"""Several nodes on a real PostgreSQL: every one writes, all have one order, none depends on being told."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from mcproxy.admin.errors import AlreadyThere, NotThere, Overtaken
from mcproxy.admin.expiry import Expiry
from mcproxy.admin.mutations import put_listener, put_route, remove_listener
from mcproxy.change import table_values
from mcproxy.fleet import nodes
from mcproxy.fleet.fleet import Fleet
from mcproxy.fleet.standing import State
from mcproxy.model import Listener
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import history, schema
from mcproxy.store.errors import NameTaken, NewerSchema, NotOurs, Unavailable, Unsure
from tests.kit.commit_cutter import CommitCutter, Cut
from tests.kit.control_plane import route
from tests.kit.fleet_nodes import MakeNode, Node, same
from tests.kit.peers import DEADLINE, until
from tests.kit.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.xdist_group("postgres")


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


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


def test_a_listener_is_opened_by_the_nodes_that_it_names(node: MakeNode) -> None:
    one, two = node("edge1"), node("edge2")
    addr = "127.0.0.1:8443"
    one.writer.mutate("a test", "x", put_listener(Listener(addr, nodes=("edge2",)), exists=False))
    one.writer.mutate("a test", "x", put_route(addr, route("there.test"), exists=False))
    two.writer.follow()
    assert same(one, two)
    assert (addr in one.plane.accepting, addr in two.plane.accepting) == (False, True)
    assert two.plane.live is not None
    assert two.plane.live.has_route((addr, "there.test"))
    one.writer.mutate("a test", "x", put_listener(Listener(addr, nodes=("edge1",)), exists=True))
    two.writer.follow()
    assert (addr in one.plane.accepting, addr in two.plane.accepting) == (True, False)
    assert one.plane.live is not None
    assert one.plane.live.has_route((addr, "there.test"))
    assert table_values(two.fleet.cache.store.load()) == table_values(one.writer.table)


def test_a_listener_that_came_back_meanwhile_stays_open(node: MakeNode) -> None:
    """A node follows several changes at once; it closed a listener that one had removed and the next added again."""
    one, two = node("edge1"), node("edge2")
    (addr,) = one.writer.table.listeners
    one.writer.mutate("a test", "x", remove_listener(addr))
    one.writer.mutate("a test", "x", put_listener(Listener(addr), exists=False))
    two.writer.follow()
    assert same(one, two)
    assert two.plane.accepting == {addr}


def test_an_address_is_taken_once_the_one_in_its_way_is_closed(node: MakeNode) -> None:
    """Both come in one step to a node that was away. It had waited for the next poll."""
    one, two = node("edge1"), node("edge2")
    (addr,) = one.writer.table.listeners
    one.writer.mutate("a test", "x", remove_listener(addr))
    one.writer.mutate("a test", "x", put_listener(Listener(f"127.0.0.1{addr}"), exists=False))
    two.plane.clashes = True
    two.writer.follow()
    assert two.plane.accepting == {f"127.0.0.1{addr}"}
    assert not two.fleet.unbound


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
    with closing(Node(url, "edge1", tmp_path).follows(0.05)) as one:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO schema_version VALUES (%s)", (schema.VERSION + 1,))
        until(lambda: one.fleet.standing.state is State.OUTDATED)
        until(lambda: any("run the newer mcproxy" in each for each in one.fleet.nodes()[0][0].warnings))
        with pytest.raises(Unavailable, match=r"edge1 is outdated .*run the newer mcproxy"):
            one.add("new.test")
        names = one.names
    again = node("edge1")
    assert again.fleet.standing.state is State.OUTDATED
    assert again.names == names


def test_a_node_writes_nothing_once_the_schema_is_newer(node: MakeNode, url: str) -> None:
    """It would until its next poll, and leave out what the newer version has added."""
    one = node("edge1")
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE routes ADD COLUMN colour text NOT NULL DEFAULT ''")
        connection.execute("INSERT INTO schema_version VALUES (%s)", (schema.VERSION + 1,))
    with pytest.raises(NewerSchema, match="run the newer mcproxy"):
        one.add("new.test")
    assert one.fleet.standing.state is State.OUTDATED
    assert rows(url, "SELECT generation FROM head") == [(1,)]


def test_another_programs_database_ends_the_start(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")
    with pytest.raises(NotOurs):
        Node(url, "edge1", tmp_path)


@pytest.fixture
def cutter(postgres: PostgresServer) -> Iterator[CommitCutter]:
    with closing(CommitCutter(postgres.port)) as relay:
        yield relay


def test_a_commit_whose_answer_is_lost_was_made(url: str, tmp_path: Path, cutter: CommitCutter) -> None:
    """The caller gets what the database has, although its connection broke before the answer."""
    with closing(Node(by(cutter, url), "edge1", tmp_path)) as one, closing(Node(url, "edge2", tmp_path)) as two:
        cutter.arm(Cut.ANSWER)
        assert one.add("done.test") == 2
        assert cutter.cuts == 1
        two.writer.follow()
        assert same(one, two)
        assert "done.test" in two.names
        assert one.fleet.cache.store.load().generation == 2


def test_a_commit_that_never_arrived_was_not_made(url: str, tmp_path: Path, cutter: CommitCutter) -> None:
    with closing(Node(by(cutter, url), "edge1", tmp_path)) as one, closing(Node(url, "edge2", tmp_path)) as two:
        cutter.arm(Cut.BEFORE)
        with pytest.raises(Unavailable):
            one.add("lost.test")
        assert "lost.test" not in one.names
        assert one.add("next.test") == 2
        two.writer.follow()
        assert same(one, two)


def test_a_commit_that_cannot_be_looked_for_is_unsure(url: str, tmp_path: Path, cutter: CommitCutter) -> None:
    """It isn't in force here until the database is back and says so; the caller is told to look."""
    with closing(Node(by(cutter, url), "edge1", tmp_path)) as one:
        cutter.arm(Cut.ANSWER_AND_SERVER)
        with pytest.raises(Unsure, match="it isn't known whether the change was made: look for it in the history"):
            one.add("done.test")
        assert "done.test" not in one.names
        cutter.refuses = False
        one.writer.follow()
        assert "done.test" in one.names
        assert one.fleet.cache.store.load().generation == 2


def test_a_connection_that_the_server_has_ended_costs_no_change(node: MakeNode, postgres: PostgresServer) -> None:
    """The first change after a restart of the server was refused, with the words of the old connection's end."""
    one = node("edge1")
    name = str(one.fleet.truth.place).rpartition("/")[2]
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    assert postgres.execute("postgres", ended)
    assert one.add("new.test") == 2
    assert postgres.execute("postgres", ended)
    assert [each.name for each in one.fleet.nodes()[0]] == ["edge1"]


def test_a_change_has_a_node_that_is_alone_connect_at_once(node: MakeNode) -> None:
    """It waited for the end of the pause between two tries, after a long outage a long one."""
    one = node("edge1")
    one.fleet.lost(Unavailable("it was away"))
    with pytest.raises(Unavailable, match="it was away"):
        one.add("early.test")
    one.writer.reach(0.0)  # nobody follows
    one.follows()
    one.writer.reach(DEADLINE)
    assert one.add("new.test") == 2


def by(cutter: CommitCutter, url: str) -> str:
    """The same database, through the relay."""
    return f"postgresql://postgres@127.0.0.1:{cutter.port}/{url.rpartition('/')[2]}"


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
    node("edge1").follows()
    (tmp_path / "other").mkdir()
    with pytest.raises(NameTaken, match=r"set node\.name to another name"):
        Node(url, "edge1", tmp_path / "other")


def test_a_clone_is_noticed_and_who_is_refused_follows_on(
    node: MakeNode, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine was copied with its cache while it ran; both believed to be the one node."""
    one = node("edge1")
    (tmp_path / "clone").mkdir()
    with closing(sqlite3.connect(tmp_path / "edge1.db")) as there:
        there.execute("VACUUM INTO ?", (str(tmp_path / "clone" / "edge1.db"),))
    with closing(Node(url, "edge1", tmp_path / "clone")) as clone:
        one.follows(0.05)
        until(lambda: one.fleet.standing.state is State.REFUSED)
        with pytest.raises(Unavailable, match=r"edge1 is refused .*one may be a clone"):
            one.add("new.test")
        clone.add("other.test")
        until(lambda: "other.test" in one.names)
        assert one.fleet.standing.state is State.REFUSED
    assert "node edge1 is refused and takes no changes: " in caplog.text


def test_a_second_process_of_a_node_changes_nothing(node: MakeNode, url: str, tmp_path: Path) -> None:
    """It took the name from the one that runs, which was refused then."""
    one = node("edge1").follows(0.05)
    with pytest.raises(Unavailable, match=r"another mcproxy has .*edge1\.db in use: stop it first"):
        Node(url, "edge1", tmp_path)
    assert one.add("new.test") == 2


def test_a_node_that_ended_clean_needs_no_copy_to_have_its_name_again(node: MakeNode, url: str, tmp_path: Path) -> None:
    """Such as one in a container, whose disk is gone with it."""
    with closing(Node(url, "edge1", tmp_path).follows()) as one:
        until(lambda: one.fleet.standing.state is State.FOLLOWING)
    (tmp_path / "edge1.db").unlink()
    until(lambda: rows(url, "SELECT identity FROM nodes") == [("",)])
    assert node("edge1").fleet.standing.state is State.FOLLOWING


def test_a_node_keeps_its_name_when_it_restarts(node: MakeNode, url: str, tmp_path: Path) -> None:
    with closing(Node(url, "edge1", tmp_path)):
        pass
    one = node("edge1").follows(0.05)
    one.add("new.test")
    until(lambda: [(each.name, each.generation) for each in one.fleet.nodes()[0]] == [("edge1", 2)])


def test_a_node_that_starts_without_its_database_upgrades_it_when_it_comes(url: str, tmp_path: Path) -> None:
    """It asked for tables that only the new schema has, so it stayed alone until it was started again."""
    with closing(Fleet(parse_server_url(url), "edge1", tmp_path / "cache.db")) as fleet, fleet.listen() as ear:
        assert ear.poll().schema_version == schema.VERSION


NAME = "SELECT identity, seen_at FROM nodes WHERE name = 'edge1'"


def test_a_process_that_succeeds_another_is_the_same_node(node: MakeNode, url: str, tmp_path: Path) -> None:
    """The name is not free in between: a clone is refused. What others have changed meanwhile is there."""
    one, two = node("edge1").follows(), node("edge2")
    until(lambda: one.fleet.standing.state is State.FOLLOWING)
    ((identity, seen_at),) = rows(url, NAME)
    one.hand_over()
    two.add("meanwhile.test")
    (tmp_path / "clone").mkdir()
    with pytest.raises(NameTaken):
        Node(url, "edge1", tmp_path / "clone")
    assert rows(url, NAME) == [(identity, seen_at)]
    heir = node("edge1", succeeds=True)
    ((name, later),) = rows(url, NAME)
    assert name == identity
    assert isinstance(seen_at, float)
    assert isinstance(later, float)
    assert later > seen_at
    assert "meanwhile.test" in heir.names
    assert heir.add("next.test") == 3


def test_a_node_whose_successor_failed_follows_from_its_own_table_on(
    node: MakeNode, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its successor had written the copy, which then is ahead of the table in force."""
    one, two = node("edge1").follows(), node("edge2")
    one.fleet.unbound["192.0.2.1:1"] = "no such address"
    until(lambda: one.fleet.standing.state is State.FOLLOWING)
    one.hand_over()
    two.add("meanwhile.test")
    failed = Node(url, "edge1", tmp_path, succeeds=True)
    failed.hand_over()
    one.goes_on()
    assert "meanwhile.test" not in one.names
    assert one.fleet.unbound
    with pytest.raises(Unavailable, match="edge1 is alone"):
        one.add("too-early.test")
    one.follows()
    until(lambda: one.fleet.standing.state is State.FOLLOWING and "meanwhile.test" in one.names)
    assert one.add("next.test") == 3
    assert same(one, node("edge3"))
    assert table_values(one.fleet.cache.store.load()) == table_values(one.writer.table)
    assert not one.fleet.standing.cache_problem
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_node_whose_successor_was_newer_and_failed_serves_on(node: MakeNode, url: str, tmp_path: Path) -> None:
    """Its copy and the fleet's database have a schema that it doesn't know; its name is still its own."""
    one = node("edge1").follows()
    until(lambda: one.fleet.standing.state is State.FOLLOWING)
    ((identity, _),) = rows(url, NAME)
    one.hand_over()
    newer = schema.VERSION + 1
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_version VALUES (%s)", (newer,))
    with closing(sqlite3.connect(tmp_path / "edge1.db", isolation_level=None)) as copy:
        copy.execute("INSERT INTO schema_version VALUES (?)", (newer,))
    names = one.names
    one.goes_on().follows()
    until(lambda: one.fleet.standing.state is State.OUTDATED)
    assert one.names == names
    assert [name for name, _ in rows(url, NAME)] == [identity]
    assert nodes.identities(one.fleet.cache.store, "edge1", succeeds=True)[0] == identity, "for the next successor"


HOUR = 3600.0


@pytest.mark.parametrize("off", [HOUR * 3, -HOUR * 3])
def test_bans_end_by_the_databases_clock_whatever_a_nodes_own_shows(node: MakeNode, url: str, off: float) -> None:
    one, two = node("edge1").follows(), node("edge2", clock=lambda: time.time() + off).follows()
    with psycopg.connect(url, autocommit=True) as connection:
        before = two.ban("203.0.113.1", HOUR)
        (now,) = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone() or (0.0,)
    assert float(now) - DEADLINE < before - HOUR < float(now) + DEADLINE
    with closing(Expiry(two.writer)):
        two.ban("203.0.113.2", 0.001)
        until(lambda: one.banned == two.banned == {"203.0.113.1"})
