import sqlite3
import weakref
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mcproxy.store import sqlite
from mcproxy.store.errors import Conflict, NotOurs, StoreError, Unavailable
from mcproxy.store.store import Store
from tests.kit.control_plane import store_at


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
def test_every_connection_is_durable_and_consistent(tmp_path: Path, pragma: str, value: object) -> None:
    with closing(Store.open(tmp_path / "a.db")) as store, store.transaction() as database:
        assert next(iter(database.executable.exec_driver_sql(f"PRAGMA {pragma}")))[0] == value


def test_only_its_owner_may_read_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    assert path.stat().st_mode & 0o777 == sqlite.FILE_MODE


def test_looking_at_the_version_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:  # a rollback journal, as restored snapshots have
        connection.execute("CREATE TABLE schema_version (version INTEGER)")
        connection.execute("INSERT INTO schema_version VALUES (7)")
        connection.commit()
    before = path.read_bytes()
    assert sqlite.schema_version(path) == 7
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


def test_the_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no/a\.db can't be created: there is no folder .*no: make it"):
        Store.open(tmp_path / "no" / "a.db")


def test_a_commit_needs_the_file_that_was_opened(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    path.write_bytes(b"x")
    other.write_bytes(b"y")
    opened = sqlite.identity(path)
    with pytest.raises(Unavailable, match="-wal file is missing"):
        sqlite.refuse_moved(path, opened)
    (tmp_path / "a.db-wal").touch()
    sqlite.refuse_moved(path, opened)
    other.replace(path)
    with pytest.raises(Unavailable, match="it is another file"):
        sqlite.refuse_moved(path, opened)
    path.write_bytes(b"")
    with pytest.raises(Unavailable, match="it is empty"):
        sqlite.refuse_moved(path, opened)


def _error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("its own words")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("SQLITE_FULL", Unavailable, "free some space"),
        ("SQLITE_BUSY_SNAPSHOT", Unavailable, "another process holds its lock"),
        ("SQLITE_READONLY_DBMOVED", Unavailable, "write permission"),
        ("SQLITE_IOERR_FSYNC", Unavailable, "check the disk"),
        ("SQLITE_CORRUPT_INDEX", NotOurs, "restore a snapshot"),
        ("SQLITE_CONSTRAINT_PRIMARYKEY", Conflict, "another process has changed it"),
        ("SQLITE_TOOBIG", Unavailable, "its own words"),
    ],
)
def test_errors_say_what_to_do(name: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught, sqlite.errors(Path("/srv/a.db")):
        raise _error(name)
    assert "/srv/a.db" in str(caught.value)
    assert name in str(caught.value)


def test_defects_finds_a_dangling_reference(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with store_at(path):
        assert sqlite.defects(path) == []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM listeners")
        connection.commit()
    assert sqlite.defects(path) == ["dangling reference in routes"] * 2


def test_defects_finds_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with store_at(path):
        pass
    content = bytearray(path.read_bytes())
    for at in range(8192, len(content), 4096):  # past the pages of the schema
        content[at : at + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(NotOurs, match="damaged: stop mcproxy and restore a snapshot"):
        sqlite.defects(path)


class Marker:
    """Something of a caller's."""


def test_an_error_leaves_nothing_to_the_collector(tmp_path: Path, no_collector: None) -> None:
    """SQLAlchemy's errors are cycles with all frames up to the caller's.

    Calls of the admin API lived on with them, until gRPC refused every further one of their connection.
    """
    seen: list[weakref.ref[Marker]] = []

    def fails(opened: Store) -> None:
        ours = Marker()
        seen.append(weakref.ref(ours))
        with suppress(StoreError), opened.transaction() as database:
            database.executable.exec_driver_sql("SELECT * FROM no_such_table")

    with store_at(tmp_path / "mcproxy.db") as store:
        fails(store)
    assert seen[0]() is None
