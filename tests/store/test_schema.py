import hashlib
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.change import Change, Provenance, Said, What, route_key, rule_key
from mcproxy.model import BackendProtocol, FirewallRule, RuleKind
from mcproxy.store import history, schema
from mcproxy.store import sqlite as store_sqlite
from mcproxy.store.errors import NewerSchema, NotOurs
from mcproxy.store.operations import Operations
from mcproxy.store.records import AUDIT, HEAD, LISTENERS, NODES, ROUTES, RULES, from_json
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
        for table in (LISTENERS, ROUTES, RULES, AUDIT, HEAD, NODES):
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
            schema.migrate(Operations(database.executable), schema.VERSION, (*schema.MIGRATIONS, second))
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
        schema.migrate(Operations(database.executable), None, first)
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


def test_routes_from_before_backends_could_speak_any_http_have_the_defaults(tmp_path: Path) -> None:
    """Those of the database, and those of the audit, to which a rollback goes back."""
    path = tmp_path / "a.db"
    old = {
        "hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7", "tls_cert": "/c.pem", "tls_key": "/k.pem",
        "backend_tls": True, "backend_ca": "", "backend_server_name": "", "send_proxy_protocol": False,
    }  # fmt: skip
    with closing(store_sqlite.connect(path)) as database, database:
        schema.migrate(Operations(database.executable), None, schema.MIGRATIONS[:2])
        list(database.query("INSERT INTO listeners VALUES (:addr, 0, '', 0)", addr=":443"))
        columns, values = ", ".join(old), ", ".join(f":{name}" for name in old)
        route_row = f"INSERT INTO routes (listener, {columns}) VALUES (:addr, {values})"
        list(database.query(route_row, addr=":443", **old))
        row = "1, 0, 9.5, 'uid:0', 'seed', 'route', :addr, 'a.test', NULL, :new, '', ''"
        list(database.query(f"INSERT INTO audit VALUES ({row})", addr=":443", new=json.dumps(old)))
    key = route_key(":443", "a.test")
    with closing(Store.open(path)) as store:
        (route,) = store.load().listeners[":443"].routes.values()
        assert (route.backend_protocol, route.max_backend_connections, route.backend_tls) == ("auto", 64, True)
        changed = replace(route, backend_protocol=BackendProtocol.HTTP1, max_backend_connections=65_535)
        store.apply([Change(key, route, changed)], Provenance("user:ann:7", "route.update", 10.0), 2)
        (route,) = store.load().listeners[":443"].routes.values()
        assert route == changed
        later, first = history.revisions(store, 10)
        assert first.new is not None
        assert from_json(What.ROUTE, first.new) == from_json(What.ROUTE, later.old) != from_json(What.ROUTE, later.new)
    assert store_sqlite.schema_version(path) == schema.VERSION
