"""How a node catches up, on a real PostgreSQL: by revisions, or by loading everything."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from mcproxy.change import table_values
from mcproxy.fleet.standing import State
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store.copying import copy
from mcproxy.store.errors import Unavailable
from tests.kit.fleet_nodes import MakeNode, Node, same
from tests.kit.peers import until
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


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


LACKS = "the database lacks changes up to generation"


@pytest.mark.parametrize(
    ("statement", "lacks"),
    [("DELETE FROM audit WHERE generation = 3", False), ("UPDATE audit SET at = 5 WHERE generation = 2", True)],
    ids=["a gap", "another past"],
)
def test_what_does_not_continue_our_past_is_loaded_whole(
    node: MakeNode, url: str, statement: str, lacks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = node("edge1"), node("edge2")
    one.add("old.test")
    two.writer.follow()
    one.add("new.test")
    one.add("other.test")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
    two.writer.follow()
    assert same(one, two)
    assert table_values(two.fleet.cache.store.load()) == table_values(two.writer.table)
    assert (f"{LACKS} 2 that this node has" in caplog.text) == lacks


@pytest.mark.parametrize("is_seeded", [False, True], ids=["empty", "seeded by another fleet"])
def test_a_database_that_was_made_anew_undoes_nothing(
    is_seeded: bool, node: MakeNode, url: str, tmp_path: Path
) -> None:
    """Each node made the schema in it and loaded the empty table, into its copy as well: the last ones were lost."""
    one = node("edge1")
    one.add("new.test")
    before = table_values(one.writer.table)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    if is_seeded:
        node("edge9").add("other.test")
        with pytest.raises(Unavailable, match="it is another database"):
            one.writer.follow()
    else:
        with pytest.raises(Unavailable, match="it is empty"):
            one.fleet.listen()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass('head')").fetchone() == (None,)
    assert table_values(one.writer.table) == table_values(one.fleet.cache.store.load()) == before
    one.close()
    again = node("edge1")
    assert again.fleet.standing.state is State.ALONE
    assert table_values(again.writer.table) == before


def test_a_database_that_lost_its_last_changes_is_followed_back(
    node: MakeNode, url: str, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert f"{LACKS} 2 that this node has" in caplog.text
    assert one.add("next.test") == 2


def test_a_new_database_made_from_a_nodes_copy_is_followed(
    node: MakeNode, tmp_path: Path, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the database is lost with all its backups: nodes go on from the copy, and have nothing to load."""
    one, two = node("edge1"), node("edge2")
    one.add("new.test")
    two.writer.follow()
    url = postgres.create(f"db_{uuid.uuid4().hex}")
    assert copy(tmp_path / "edge2.db", parse_server_url(url)).generation == 2
    for each in (one, two):
        each.close()
    with closing(Node(url, "edge1", tmp_path)) as one, closing(Node(url, "edge2", tmp_path)) as two:
        assert "new.test" in one.names
        assert two.add("next.test") == 3
        one.writer.follow()
        assert same(one, two)
    assert LACKS not in caplog.text
    assert "whole table" not in caplog.text


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


WHERE = r'table routes, the row with listener ":443", hostname "www.example.org", column backend can\'t be read: '


def test_a_node_is_stuck_at_a_row_that_it_cannot_read_until_that_is_mended(
    node: MakeNode, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It logged a traceback at each try, and its status went on saying that it follows."""
    one, two = node("edge1"), node("edge2").follows(0.05)
    until(lambda: two.fleet.standing.state is State.FOLLOWING)
    before = two.names
    with psycopg.connect(url) as connection:
        ((backend,),) = connection.execute("SELECT backend FROM routes WHERE hostname = 'www.example.org'").fetchall()
        connection.execute("UPDATE routes SET backend = 'nonsense' WHERE hostname = 'www.example.org'")
        connection.execute("UPDATE head SET generation = 3")  # a gap, so that everything is loaded
        columns = "sequence, at, who, action, what, scope, name, old, new"
        connection.execute(
            f"INSERT INTO audit (generation, {columns}) SELECT 3, {columns} FROM audit WHERE generation = 1"
        )
        connection.commit()
        one.fleet.close()
        with pytest.raises(Unavailable, match=WHERE):
            Node(url, "edge3", tmp_path)
        with closing(Node(url, "edge1", tmp_path)) as one:
            assert (one.fleet.standing.state, one.names) == (State.STUCK, before)
        until(lambda: two.fleet.standing.state is State.STUCK)
        until(lambda: any("column backend" in each for each in two.fleet.nodes()[0][1].warnings))
        with pytest.raises(Unavailable, match=f"edge2 is stuck since .* generation 1 stays in force: .*{WHERE}"):
            two.add("new.test")
        tries = two.fleet.truth.failures
        until(lambda: two.fleet.truth.failures > tries + 1)
        connection.execute("UPDATE routes SET backend = %s WHERE hostname = 'www.example.org'", (backend,))
        connection.commit()
        until(lambda: two.fleet.standing.state is State.FOLLOWING)
    assert two.add("new.test") == 4
    assert sum("edge2 is stuck" in record.message for record in caplog.records) == 1
    assert "Traceback" not in caplog.text


def test_a_row_of_the_audit_that_cannot_be_read_is_passed_by(
    node: MakeNode, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = node("edge1"), node("edge2")
    for number, damage in enumerate(("new = '{'", "new = '[]'", "new = '{}'", "what = 'colour'")):
        one.add(f"r{number}.test")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"UPDATE audit SET {damage} WHERE generation = {number + 2}")
        two.writer.follow()
        assert same(one, two)
        assert f"the row with generation {number + 2}, sequence 0, column" in caplog.text
    assert two.add("last.test") == 6
    one.writer.follow()
    assert same(one, two)
