import uuid
from pathlib import Path

import pytest

from mcproxy.store.store import read_table
from tests.kit.commands import Shell, shell, typed, write_config
from tests.kit.control_plane import store_at
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


def test_the_configured_database_is_copied_there_and_back(tmp_path: Path, postgres: PostgresServer) -> None:
    with store_at(tmp_path / "mcproxy.db") as store:
        generation = store.load().generation
    url = postgres.create(f"db_{uuid.uuid4().hex}")
    user = Shell(write_config(tmp_path, ""))
    told = f"{url}: generation {generation}, 1 listener, 2 routes, 2 firewall rules, 5 revisions, verified\n"
    assert user.ok("database", "copy", url) == told
    back = typed("database", "copy", "--from", url, tmp_path / "back.db")
    assert (back.exit_code, back.stderr) == (0, "")
    assert read_table(tmp_path / "back.db").generation == generation
    assert "back.db isn't empty" in user.fails(1, "database", "copy", tmp_path / "back.db")


def test_a_server_that_runs_is_warned_of(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        told = user.run("database", "copy", tmp_path / "copy.db")
    assert told.exit_code == 0
    assert told.stderr == (
        f"warning: {tmp_path}/mcproxy.db may be in use: the copy has nothing that its server changes later; "
        "stop it first\n"
    )


def test_a_url_that_is_invalid_or_of_nobody_shows_no_password(tmp_path: Path) -> None:
    with store_at(tmp_path / "mcproxy.db"):
        pass
    user = Shell(write_config(tmp_path, ""))
    told = user.fails(2, "database", "copy", "mysql://ann:s3cret@h/x")
    assert 'the URL must begin with "postgresql://"' in told
    assert "s3cret" not in told
    told = user.fails(1, "database", "copy", "postgresql://ann:s3cret@127.0.0.1:1/x")
    assert told.startswith("mcproxy: database postgresql://ann:***@127.0.0.1:1/x: ")
    assert "s3cret" not in told
