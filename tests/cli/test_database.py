import json
from pathlib import Path

from mcproxy.store.store import read_table
from tests.kit.commands import Shell, shell, write_config
from tests.kit.control_plane import store_at


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
        told = user.run("diff")
        assert told.stdout.splitlines() == [
            "~ route git.example.org on :443: backend 127.0.0.1:9 -> 127.0.0.1:3000",
            "- route new.example.org on :443",
            "+ route www.example.org on :443: backend=127.0.0.1:3001, mode=l4",
            f"1 to add, 1 to change, 1 to remove: {tmp_path}/mcproxy.toml against the database (generation 4)",
        ]
        assert told.exit_code == 1
        as_json = user.run("diff", "--json")
        first = json.loads(as_json.stdout)[0]
        assert (first["change"], first["what"], first["scope"], first["name"]) == (
            "change", "route", ":443", "git.example.org"
        )  # fmt: skip
        assert (first["old"]["backend"], first["new"]["backend"]) == ("127.0.0.1:9", "127.0.0.1:3000")
        assert as_json.exit_code == 1


def test_a_temporary_rule_is_no_difference(tmp_path: Path) -> None:
    """No file can have one, so a ban for an hour would keep the two from ever agreeing."""
    with shell(tmp_path) as (user, _):
        user.ok("firewall", "add", "192.0.2.9", "--ttl", "1h")
        assert "agree" in user.ok("diff")
