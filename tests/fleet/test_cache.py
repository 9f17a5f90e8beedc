import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mcproxy.fleet.cache import Cache, Claim, open_cache
from mcproxy.store import schema
from mcproxy.store.errors import Unavailable
from mcproxy.store.store import Store
from tests.kit.control_plane import store_at


def test_a_copy_is_opened_with_what_it_holds(tmp_path: Path) -> None:
    with store_at(tmp_path / "c.db"):
        pass
    store, table = open_cache(tmp_path / "c.db")
    with closing(store):
        assert table.generation == 1
    store, table = open_cache(tmp_path / "new.db")
    with closing(store):
        assert (table.generation, table.listeners) == (0, {})


def test_one_process_at_a_time_has_a_copy(tmp_path: Path) -> None:
    with closing(Claim(tmp_path / "c.db")), pytest.raises(Unavailable, match=r"another mcproxy has .*c\.db in use"):
        Claim(tmp_path / "c.db")
    Claim(tmp_path / "c.db").close()
    with pytest.raises(Unavailable, match=r"can't be written to: No such file"):
        Claim(tmp_path / "missing" / "c.db")


def _newer(path: Path) -> None:
    with closing(Store.open(path)) as store, store.transaction() as database:
        database.executable.exec_driver_sql(f"INSERT INTO schema_version VALUES ({schema.VERSION + 1})")


def _broken(path: Path) -> None:
    path.write_bytes(b"\x01" * 4096)


def _invalid(path: Path) -> None:
    with closing(Store.open(path)) as store, store.transaction() as database:
        database.executable.exec_driver_sql("INSERT INTO firewall_rules (kind, value) VALUES ('ip', 'nobody')")


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_newer, "a newer mcproxy has written it"),
        (_broken, "it is not a SQLite database"),
        (_foreign, "it is a database of another program"),
        (_invalid, 'table firewall_rules, the row with kind "ip", value "nobody", column value can\'t be read: '),
    ],
)
def test_one_that_cannot_be_used_is_moved_aside(
    damage: Callable[[Path], None], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log had the remedies of a database of its own: to check database.path, or to restore a snapshot."""
    path = tmp_path / "c.db"
    damage(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        store, table = open_cache(path)
    with closing(store):
        assert table.generation == 0
    assert (tmp_path / "c.db.unusable").read_bytes() == before
    assert "c.db can't be used, so it is moved to" in caplog.text
    assert f"fetched again: {says}" in caplog.text
    assert "restore" not in caplog.text


def test_a_problem_is_logged_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with store_at(tmp_path / "c.db") as store, caplog.at_level(logging.INFO):
        cache = Cache(store, store.load())
        cache.failed(Unavailable("the disk is full"))
        cache.failed(Unavailable("the disk is full"))
        assert "the disk is full" in cache.problem
        cache.is_whole()
        cache.is_whole()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert not cache.problem
