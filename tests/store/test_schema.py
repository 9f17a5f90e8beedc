import hashlib
import io
from contextlib import closing
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from mcproxy.change import Change, Provenance, Said, rule_key
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.store import history, schema
from mcproxy.store import sqlite as store_sqlite
from mcproxy.store.errors import NewerSchema, NotOurs
from mcproxy.store.records import AUDIT, LISTENERS, ROUTES, RULES
from mcproxy.store.store import Store
from tests.kit.control_plane import store_at

RULE, KEY = FirewallRule(RuleKind.IP, "192.0.2.1"), rule_key("ip", "192.0.2.1")


def test_a_new_database_has_the_present_version(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    assert store_sqlite.schema_version(path) == schema.VERSION


def test_a_second_start_migrates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    with closing(Store.open(path)) as store, store.transaction() as database:
        assert len(list(database.query("SELECT * FROM schema_version"))) == schema.VERSION


def test_the_tables_that_queries_name_are_those_that_migrations_made(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store, store.transaction() as database:
        for table in (LISTENERS, ROUTES, RULES, AUDIT):
            made = {column["name"] for column in database.inspect.get_columns(table.name)}
            assert made == {column.name for column in table.columns}, table.name


def test_a_newer_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with store_at(path) as store, store.transaction() as database:
        list(database.query("INSERT INTO schema_version (version) VALUES (:v)", v=schema.VERSION + 1))

    def state() -> tuple[bytes, int]:
        return hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns

    before = state()
    with pytest.raises(NewerSchema, match=rf"version {schema.VERSION + 1}.*knows {schema.VERSION}.*newer mcproxy"):
        Store.open(path)
    assert state() == before


def test_a_migration_that_fails_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    def second(op: Operations) -> None:
        op.execute("CREATE TABLE half (done INTEGER)")
        raise RuntimeError("power went out")

    with closing(Store.open(path)) as store:
        with pytest.raises(RuntimeError, match="power"), store.transaction() as database:
            schema.migrate(database.op, schema.VERSION, (*schema.MIGRATIONS, second))
        with store.transaction() as database:
            assert not database.has_table("half")
    assert store_sqlite.schema_version(path) == schema.VERSION


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to have a header" * 2, b"\x01" * 4096])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(NotOurs, match=r"database\.path"):
        Store.open(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(store_sqlite.connect(path)) as database, database:
        list(database.query("CREATE TABLE cookies (host TEXT)"))
    with pytest.raises(NotOurs, match="not one of mcproxy's"):
        Store.open(path)


def test_the_database_of_an_older_version_is_upgraded_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = schema.MIGRATIONS[:1]
    with closing(store_sqlite.connect(path)) as database, database:
        schema.migrate(database.op, None, first)
        columns = "generation, sequence, at, who, action, what, scope, name, old, new"
        row = "1, 0, 9.5, 'uid:0', 'seed', 'rule', 'ip', '192.0.2.1', NULL, '{}'"
        list(database.query(f"INSERT INTO audit ({columns}) VALUES ({row})"))
        list(database.query("INSERT INTO firewall_rules (kind, value) VALUES ('ip', '192.0.2.1')"))
    assert store_sqlite.schema_version(path) == 1
    with closing(Store.open(path)) as store:
        table = store.load()
        assert (table.generation, len(table.firewall)) == (1, 1)
        (revision,) = history.revisions(store, 10)
        assert (revision.who, revision.said) == ("uid:0", Said())
        store.apply([Change(KEY, RULE, None)], Provenance("user:ann:7", "rule.remove", 10.0, Said("bob", "why")), 2)
        assert history.revisions(store, 1)[0].said == Said("bob", "why")
    assert store_sqlite.schema_version(path) == schema.VERSION


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_every_dialect_has_words_for_the_schema(dialect: str) -> None:
    out = io.StringIO()
    context = MigrationContext.configure(dialect_name=dialect, opts={"as_sql": True, "output_buffer": out})
    schema.migrate(Operations(context), None)
    made = out.getvalue()
    for name in ("listeners", "routes", "firewall_rules", "audit", schema.VERSION_TABLE):
        assert f"CREATE TABLE {name}" in made
