"""The table that a start would load: the file's if the database is empty, else the database's."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy.check.loaded import Loaded, load
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import schema, sqlite
from mcproxy.store.operations import Operations
from mcproxy.store.schema import VERSION_TABLE
from mcproxy.store.store import Store
from tests.check.conftest import Parse
from tests.kit.control_plane import SEED, route, store_at

DOCUMENT: dict[str, Any] = {"listeners": [{"addr": ":1", "routes": [{"hostname": "a.test", "backend": "127.0.0.1:1"}]}]}


def found(parse: Parse, document: dict[str, Any] = DOCUMENT) -> tuple[Loaded | None, list[str]]:
    loaded, told = load(parse(document))
    return loaded, [f"{'' if each.serious else 'warning: '}{each}" for each in told]


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("kind", ["none", "empty", "never written to"])
def test_an_empty_database_will_be_filled_from_the_file(kind: str, parse: Parse, tmp_path: Path) -> None:
    if kind == "empty":
        (tmp_path / "x.db").touch()
    elif kind == "never written to":
        Store.open(tmp_path / "x.db").close()
    before = sorted(tmp_path.iterdir())
    loaded, told = found(parse)
    assert loaded is not None
    assert (told, loaded.seeded, str(loaded)) == ([], True, "1 listener, 1 route")
    assert loaded.listener(":1") == "listeners[0].addr"
    assert loaded.route(":1", "a.test", "backend") == "listeners[0].routes[0].backend"
    assert sorted(tmp_path.iterdir()) == before


def test_the_database_counts_where_there_is_something_in_it(parse: Parse, tmp_path: Path) -> None:
    with store_at(tmp_path / "x.db"):
        loaded, told = found(parse)
    assert loaded is not None
    assert str(loaded) == "1 listener, 2 routes, generation 1 of the database"
    assert loaded.listener(":443") == "listener :443"
    assert loaded.route(":443", "git.example.org", "backend") == "route git.example.org on :443: backend"
    differs = "the listeners, routes and rules differ from the database in 7 values"
    assert told == [f"warning: {differs}; the database is in force: mcproxy diff"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


def test_a_database_that_was_a_fleets_is_told(parse: Parse, tmp_path: Path) -> None:
    with store_at(tmp_path / "x.db", [(Listener(":443", nodes=("edge1",)), [])]):
        loaded, told = found(parse, {})
    assert loaded is not None
    assert list(loaded.table.listeners) == [":443"]
    assert any(each.startswith("warning: listener :443: it names nodes (edge1); this server is in") for each in told)


def test_what_a_running_server_has_just_written_is_seen(parse: Parse, tmp_path: Path) -> None:
    with store_at(tmp_path / "x.db") as store:
        copy = tmp_path / "copy.db"
        shutil.copy(tmp_path / "x.db", copy)
        assert "git.example.org" not in copy.read_bytes().decode("latin-1"), "it is in the -wal file only"
        loaded, _ = found(parse)
        assert loaded is not None
        assert set(loaded.table.listeners[":443"].routes) == {"git.example.org", "www.example.org"}
        assert store.load().generation == 1


def test_no_difference_is_no_warning(parse: Parse, tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "x.db")) as store:
        store.seed([(Listener(":8443"), [])], [FirewallRule(RuleKind.IP, "192.0.2.1")], 1.0)
    same: dict[str, Any] = {"listeners": [{"addr": ":8443"}], "firewall": {"blocked_ips": ["192.0.2.1"]}}
    assert found(parse, same)[1] == []
    assert found(parse, {})[1] == [], "a file without any doesn't mean to say anything"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("junk", "the file is not a SQLite database: check database.path"),
        ("foreign", "is a SQLite database, but not one of mcproxy's: check database.path"),
        ("newer", f"schema version {schema.VERSION + 1}, this mcproxy knows {schema.VERSION}: run the newer mcproxy"),
        ("page", "is damaged: stop mcproxy and restore a snapshot ("),
        ("reference", "is damaged: stop mcproxy and restore a snapshot (dangling reference in routes)"),
        (
            "row",
            'table routes, the row with listener ":443", hostname "7.example.org", column backend can\'t be read: ',
        ),
    ],
)
def test_a_database_that_a_start_would_refuse(harm: str, says: str, parse: Parse, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    if harm == "junk":
        path.write_bytes(b"junk" * 1000)
    elif harm == "foreign":
        edit(path, "CREATE TABLE other (a)")
    else:
        many = [route(f"{i}.example.org") for i in range(2000)]
        with store_at(path, [(SEED[0][0], many)]):
            pass
    if harm == "newer":
        edit(path, f"INSERT INTO {VERSION_TABLE} VALUES ({schema.VERSION + 1})")
    elif harm == "page":
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xff" * 8192)
    elif harm == "reference":
        edit(path, "UPDATE routes SET listener = ':9' WHERE hostname = '7.example.org'")
    elif harm == "row":
        edit(path, "UPDATE routes SET backend = 'nonsense' WHERE hostname = '7.example.org'")
    before = path.read_bytes()
    loaded, told = found(parse)
    assert loaded is None
    assert len(told) == 1
    assert told[0].startswith("database.path: ")
    assert says in told[0]
    assert path.read_bytes() == before


def test_an_older_schema_is_upgraded_in_a_copy(parse: Parse, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite.connect(path)) as database, database:
        schema.migrate(Operations(database.executable), None, schema.MIGRATIONS[:1])
    listener = "INSERT INTO listeners VALUES (':9', 0, '', 0)"
    edit(path, listener, "INSERT INTO audit VALUES (1, 0, 1.0, 'seed', 'seed', 'listener', '', ':9', NULL, '{}')")
    before = path.read_bytes()
    loaded, told = found(parse, {})
    assert told == [
        f"warning: database.path: {path} has schema version 1: the next start upgrades it to {schema.VERSION}"
    ]
    assert loaded is not None
    assert str(loaded) == "1 listener, 0 routes, generation 1 of the database"
    assert (path.read_bytes(), schema.VERSION > 1) == (before, True)


def test_an_upgrade_that_fails_is_found_before_the_start(parse: Parse, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with store_at(path):
        pass
    edit(path, f"DELETE FROM {VERSION_TABLE}", f"INSERT INTO {VERSION_TABLE} VALUES (0)")
    loaded, told = found(parse)
    assert loaded is None
    assert "already exists" in told[0], "what the first migration makes"
