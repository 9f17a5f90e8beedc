"""A database is copied as a whole, between the kinds of it, or not at all."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, MetaData, insert, select

from mcproxy.certificates.acme.order import CaAccount, Order
from mcproxy.change import Change, Provenance, Said, route_key, rule_key, table_values
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.notation.server_url import ServerUrl, parse_server_url
from mcproxy.store import copying, history, schema
from mcproxy.store.acme import Records
from mcproxy.store.copying import BATCH, NOT_COPIED, copy
from mcproxy.store.errors import NewerSchema, NotOurs, StoreError, Unavailable
from mcproxy.store.postgres import Server, attach, upgrade
from mcproxy.store.store import Store, read_table
from tests.kit.control_plane import route, store_at
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def url(postgres: PostgresServer) -> ServerUrl:
    return parse_server_url(postgres.create(f"db_{uuid.uuid4().hex}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with rows of every table, and more of the audit than a batch has."""
    with store_at(tmp_path / "one.db") as store:
        added = [Change(route_key(":443", f"r{n}.test"), None, route(f"r{n}.test")) for n in range(BATCH)]
        store.apply(added, Provenance("ann", "apply", 2000.25, Said("ann", "a comment: ü")), 2)
        rule = Change(rule_key("ip", "192.0.2.99"), None, FirewallRule(RuleKind.IP, "192.0.2.99", 2e9))
        store.apply([rule], Provenance("ann", "firewall.add", 2001.0), 3)
        records = Records(store)
        records.write_account(CaAccount("https://ca.test/dir", "a key", "https://ca.test/1"))
        order = Order("r1.test", directory="https://ca.test/dir")
        records.write_start(order, 0.0)
        with store.transaction() as database:
            fill(database.executable)
    return tmp_path / "one.db"


def fill(connection: Connection) -> None:
    """Give each table without a row one: one that a copy leaves out would not be missed otherwise."""
    known = MetaData()
    known.reflect(bind=connection)
    samples: dict[type, object] = {str: "x", int: 7, float: 3.5, bool: True}
    for table in known.sorted_tables:
        if connection.execute(select(table)).first() is None:
            row = {column.name: samples[column.type.python_type] for column in table.columns}
            connection.execute(insert(table), [row])


def test_there_and_back_every_table_is_the_same(file: Path, url: ServerUrl, tmp_path: Path) -> None:
    there = copy(file, url)
    assert there.generation == 3
    assert there.rows["audit"] == BATCH + 1 + len(history_of(file, 1))
    back = copy(url, tmp_path / "two.db")
    assert (back.generation, back.rows) == (3, there.rows)
    assert dump(tmp_path / "two.db") == dump(file)
    assert (tmp_path / "two.db").stat().st_mode & 0o077 == 0, "it holds keys"
    with closing(attach(Server(url))) as store:
        assert table_values(store.load()) == table_values(read_table(file))
        (newest, *_) = history.revisions(store, 1)
        store.apply([Change(newest.key, FirewallRule(RuleKind.IP, "192.0.2.99", 2e9), None)], provenance(), 4)


def provenance() -> Provenance:
    return Provenance("a test", "firewall.remove", 3000.0)


def history_of(file: Path, generation: int) -> list[object]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM audit WHERE generation = ?", (generation,)).fetchall()


def dump(file: Path) -> list[object]:
    """All rows of all tables, but those that are not copied."""
    with closing(sqlite3.connect(file)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            (name, sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))))
            for name in sorted(set(names) - NOT_COPIED)
        ]


def test_one_that_has_anything_in_it_stays_as_it_is(file: Path, url: ServerUrl, tmp_path: Path) -> None:
    copy(file, url)
    with pytest.raises(StoreError, match="isn't empty: copy into a new one"):
        copy(file, url)
    with store_at(tmp_path / "other.db"):
        pass
    before = dump(tmp_path / "other.db")
    with pytest.raises(StoreError, match=r"other\.db isn't empty"):
        copy(url, tmp_path / "other.db")
    assert dump(tmp_path / "other.db") == before


def test_one_without_a_generation_but_with_keys_is_not_empty(file: Path, tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "other.db")) as store:
        Records(store).write_account(CaAccount("https://ca.test/dir", "its only key", ""))
    with pytest.raises(StoreError, match="isn't empty"):
        copy(file, tmp_path / "other.db")
    assert "its only key" in str(dump(tmp_path / "other.db"))


def test_another_programs_database_stays_as_it_is(file: Path, url: ServerUrl) -> None:
    with psycopg.connect(url.secret, autocommit=True) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")
        with pytest.raises(NotOurs):
            copy(file, url)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_an_older_or_newer_schema_is_refused(file: Path, url: ServerUrl, tmp_path: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (?)", (schema.VERSION + 1,))
    with pytest.raises(NewerSchema):
        copy(file, url)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM schema_version WHERE version >= ?", (schema.VERSION,))
    with pytest.raises(Unavailable, match="older than this mcproxy"):
        copy(file, url)
    with store_at(tmp_path / "source.db"):
        pass
    with pytest.raises(StoreError, match="isn't empty"):
        copy(tmp_path / "source.db", file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (schema.VERSION - 1,)
    with pytest.raises(Unavailable, match="is empty: nothing"):
        copy(url, tmp_path / "two.db")
    with pytest.raises(Unavailable, match="there is no database"):
        copy(tmp_path / "none.db", url)


# What a database can do to rows that are written to it, and when.
ALTERED = """
CREATE FUNCTION altered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.comment = 'another'; RETURN NEW; END $$;
CREATE TRIGGER altered BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION altered();
"""
DROPPED = """
CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER dropped BEFORE INSERT ON firewall_rules FOR EACH ROW EXECUTE FUNCTION dropped();
"""
REFUSED = "ALTER TABLE routes ADD CHECK (hostname <> 'r700.test')"


@pytest.mark.parametrize("fault", [ALTERED, DROPPED, REFUSED], ids=["altered", "dropped", "refused"])
def test_a_copy_that_goes_wrong_leaves_the_target_empty(file: Path, url: ServerUrl, fault: str) -> None:
    with closing(attach(Server(url))) as store:
        upgrade(store)
    with psycopg.connect(url.secret, autocommit=True) as connection:
        connection.execute(fault)
    with pytest.raises(StoreError) as caught:
        copy(file, url)
    assert fault is REFUSED or "doesn't hold what was written" in str(caught.value)
    with psycopg.connect(url.secret) as connection:
        found = connection.execute("SELECT (SELECT count(*) FROM audit), (SELECT generation FROM head)").fetchone()
    assert found == (0, 0)


# A function that runs while the copy is made, and changes what is being copied.
CHANGED = """
CREATE EXTENSION dblink;
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM dblink_exec('dbname=SOURCE port=PORT host=127.0.0.1 user=postgres',
    'UPDATE certificates SET key = ''renewed'''); RETURN NULL; END $$;
CREATE TRIGGER changed AFTER INSERT ON listeners FOR EACH STATEMENT EXECUTE FUNCTION changed();
"""


def test_a_source_that_changes_meanwhile_is_noticed(file: Path, url: ServerUrl, postgres: PostgresServer) -> None:
    copy(file, url)
    target = parse_server_url(postgres.create(f"db_{uuid.uuid4().hex}"))
    with closing(attach(Server(target))) as store:
        upgrade(store)
    source = str(url).rpartition("/")[2]
    with psycopg.connect(target.secret, autocommit=True) as connection:
        connection.execute(CHANGED.replace("SOURCE", source).replace("PORT", str(postgres.port)))
    with pytest.raises(StoreError, match="was changed meanwhile: certificates"):
        copy(url, target)
    with closing(attach(Server(target))) as store:
        assert store.load().generation == 0


# The connection is cut within the commit: before it is done.
CUT_AT_COMMIT = """
CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON listeners DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION cut();
"""


def test_a_commit_that_is_cut_is_looked_for(file: Path, url: ServerUrl) -> None:
    with closing(attach(Server(url))) as store:
        upgrade(store)
    with psycopg.connect(url.secret, autocommit=True) as connection:
        connection.execute(CUT_AT_COMMIT)
    with pytest.raises(StoreError, match="doesn't hold what was committed"):
        copy(file, url)


def test_a_server_that_may_still_run_is_noticed(file: Path) -> None:
    assert not copying.in_use(file)
    with closing(Store.open(file)) as store:
        store.load()
        assert copying.in_use(file)
