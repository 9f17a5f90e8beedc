from pathlib import Path

from mcproxy.store.store import read_table
from tests.cli.runner import Shell, shell, write_config
from tests.control_plane import store_at


def test_a_snapshot_while_the_server_runs_and_after(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        told = user.ok("snapshot", "-o", tmp_path / "one.db")
        assert told.startswith(f"{tmp_path}/one.db: ")
        assert told.endswith("generation 1, verified\n")
        user.ok("routes", "add", "a.example.org", "127.0.0.1:1")
    found = user.json("snapshot", "-o", tmp_path / "two.db")
    assert (found["generation"], found["size_bytes"]) == (2, (tmp_path / "two.db").stat().st_size)
    assert [read_table(tmp_path / name).generation for name in ("one.db", "two.db")] == [1, 2]


def test_a_snapshot_gets_a_name_beside_the_database(tmp_path: Path) -> None:
    with store_at(tmp_path / "mcproxy.db"):
        pass
    Shell(write_config(tmp_path, "")).ok("snapshot")
    assert len(list(tmp_path.glob("mcproxy-*Z.db"))) == 1


def test_a_snapshot_never_overwrites(tmp_path: Path) -> None:
    with store_at(tmp_path / "mcproxy.db"):
        pass
    user = Shell(write_config(tmp_path, ""))
    target = tmp_path / "precious"
    target.write_text("precious")
    assert "is not overwritten: name another file" in user.fails(1, "snapshot", "-o", target)
    assert target.read_text() == "precious"


def test_no_database_yet(tmp_path: Path) -> None:
    user = Shell(write_config(tmp_path, ""))
    assert "there is no database" in user.fails(1, "snapshot")
    assert "first start" in user.fails(1, "diff")
    assert not (tmp_path / "mcproxy.db").exists()


def test_how_file_and_database_differ(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.ok("diff").endswith("the database agree (generation 1)\n")
        user.ok("routes", "add", "new.example.org", "127.0.0.1:1")
        user.ok("routes", "add", "git.example.org", "127.0.0.1:9", "--replace")
        user.ok("routes", "remove", "www.example.org")
        values = 'backend is "127.0.0.1:3000" in the file, "127.0.0.1:9" in the database'
        assert user.ok("diff").splitlines() == [
            f"differs: route git.example.org on :443: {values}",
            "only in the database: route new.example.org on :443",
            "only in the file: route www.example.org on :443",
        ]
        first = user.json("diff")[0]
        assert (first["what"], first["scope"], first["name"]) == ("route", ":443", "git.example.org")
        assert (first["file"]["backend"], first["database"]["backend"]) == ("127.0.0.1:3000", "127.0.0.1:9")
