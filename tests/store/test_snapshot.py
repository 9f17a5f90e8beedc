import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from mcproxy.change import Change, Provenance, route_key, table_values
from mcproxy.store import snapshot, sqlite
from mcproxy.store.errors import Exists, NotOurs, StoreError, Unavailable
from mcproxy.store.store import Store, read_table
from tests.kit.control_plane import route, store_at
from tests.kit.peers import DEADLINE

MUTATIONS = 25


def leftovers(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if "unfinished" in each.name]


def test_a_snapshot_has_what_the_database_has(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        taken = snapshot.take(store.path, tmp_path / "b.db")
        assert taken == snapshot.Snapshot(tmp_path / "b.db", (tmp_path / "b.db").stat().st_size, 1)
        assert table_values(read_table(tmp_path / "b.db")) == table_values(store.load())
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600
    assert not leftovers(tmp_path)


def test_it_works_with_the_server_down(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db"):
        pass
    assert snapshot.take(tmp_path / "a.db", tmp_path / "b.db").generation == 1


def test_it_has_what_a_killed_server_left_in_the_log(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        for name in ("a.db", "a.db-wal", "a.db-shm"):  # as they are in the middle of things
            (tmp_path / name.replace("a", "killed", 1)).write_bytes((tmp_path / name).read_bytes())
        assert store.load().generation == 1
    assert (tmp_path / "killed.db-wal").stat().st_size
    assert snapshot.take(tmp_path / "killed.db", tmp_path / "b.db").generation == 1


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("precious")
    with store_at(tmp_path / "a.db") as store, pytest.raises(Exists, match="name another file with -o"):
        snapshot.take(store.path, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_text() == "precious"
    assert not leftovers(tmp_path)


def test_a_file_that_appears_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    target.symlink_to("nowhere")  # `exists` doesn't see it, only the last step does
    with store_at(tmp_path / "a.db") as store, pytest.raises(Exists):
        snapshot.take(store.path, target)
    assert target.is_symlink()
    assert not leftovers(tmp_path)


def test_what_can_not_be_copied_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no database"):
        snapshot.take(tmp_path / "no.db", tmp_path / "b.db")
    (tmp_path / "junk.db").write_bytes(b"junk " * 1000)
    with pytest.raises(NotOurs):
        snapshot.take(tmp_path / "junk.db", tmp_path / "b.db")
    with store_at(tmp_path / "a.db") as store, pytest.raises(Unavailable, match="can't write a snapshot"):
        snapshot.take(store.path, tmp_path / "no" / "b.db")
    assert not (tmp_path / "b.db").exists()
    assert not leftovers(tmp_path)


def test_a_copy_that_is_damaged_is_no_snapshot(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("DELETE FROM listeners")  # and the routes refer to nothing
        connection.commit()
    with pytest.raises(StoreError, match="damaged"):
        snapshot.take(tmp_path / "a.db", tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()
    assert not leftovers(tmp_path)


def test_the_name_has_the_time_in_it() -> None:
    assert snapshot.default_name(Path("/srv/mcproxy.db"), 0.0) == "mcproxy-19700101T000000Z.db"


def test_snapshots_under_mutations_are_consistent_and_restore(tmp_path: Path) -> None:
    """Each mutation adds two routes, so a copy that has half of one would show."""
    with store_at(tmp_path / "a.db") as store:
        stop = threading.Event()
        done: list[int] = []
        writer = threading.Thread(target=_mutate, args=(store, stop, done))
        writer.start()
        deadline = time.monotonic() + DEADLINE
        taken: list[snapshot.Snapshot] = []
        try:
            while len(done) < MUTATIONS and time.monotonic() < deadline:
                taken.append(snapshot.take(store.path, tmp_path / f"copy-{len(taken)}.db"))
        finally:
            stop.set()
            writer.join(DEADLINE)
        assert len(done) >= MUTATIONS
    assert [each.generation for each in taken] == sorted(each.generation for each in taken)
    for each in taken:
        table = read_table(each.path)
        assert table.generation == each.generation
        assert len(table.listeners[":443"].routes) == 2 + 2 * (each.generation - 1)
    _restore(tmp_path, taken[-1])


def _mutate(store: Store, stop: threading.Event, done: list[int]) -> None:
    generation = 1
    while not stop.wait(0.02):  # 50 a second
        generation += 1
        names = (f"a{generation}.example.org", f"b{generation}.example.org")
        changes = [Change(route_key(":443", name), None, route(name)) for name in names]
        store.apply(changes, Provenance("test", "route.add", 0.0), generation)
        done.append(generation)


def _restore(folder: Path, taken: snapshot.Snapshot) -> None:
    """Stopped; copy, remove the log of the old database, start."""
    database = folder / "a.db"
    database.write_bytes(taken.path.read_bytes())
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    with closing(Store.open(database)) as store:
        assert store.load().generation == taken.generation
        store.apply(
            [Change(route_key(":443", "after.example.org"), None, route("after.example.org"))],
            Provenance("test", "route.add", 0.0),
            taken.generation + 1,
        )
    assert sqlite.defects(database) == []
