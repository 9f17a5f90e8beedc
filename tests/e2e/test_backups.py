"""backup.sh and prune-backups.sh: what is taken can be restored; no more is removed than was asked for."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcproxy.store.store import Store, read_table
from tests.kit.control_plane import RULES, SEED, store_at
from tests.kit.program import ROOT, environment, write_config

SCRIPTS = ROOT / "deploy" / "scripts"
NOW = datetime(2026, 11, 22, 3, 30, 0, tzinfo=UTC)  # a Sunday


def prune(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(SCRIPTS / "prune-backups.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def name(at: datetime) -> str:
    return f"mcproxy-{at:%Y%m%dT%H%M%SZ}.db"


def fill(folder: Path, *moments: datetime) -> None:
    for at in moments:
        (folder / name(at)).touch()


def left(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir()), reverse=True)


def test_a_backup_is_a_database(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    program = tmp_path / "mcproxy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mcproxy "$@"\n')
    program.chmod(0o755)
    config = write_config(tmp_path, {})
    env = environment(MCPROXY=str(program), MCPROXY_CONFIG=str(config), BACKUPS=str(backups))
    with store_at(tmp_path / "mcproxy.db"):  # as a server has it open
        done = subprocess.run([SCRIPTS / "backup.sh"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "generation 1, verified" in done.stdout
    (taken,) = backups.iterdir()
    assert taken.stat().st_mode & 0o077 == 0, "nobody else's business"
    Store.open(taken).close()
    table = read_table(taken)
    assert list(table.listeners) == [listener.addr for listener, _ in SEED]
    assert list(table.firewall.rules()) == RULES


def test_a_backup_that_fails_prunes_nothing(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    fill(backups, *(NOW - timedelta(days=n) for n in range(40)))
    before = left(backups)
    env = environment(MCPROXY="/bin/false", MCPROXY_CONFIG="x", BACKUPS=str(backups))
    done = subprocess.run([SCRIPTS / "backup.sh"], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert left(backups) == before


def test_days_weeks_and_months(tmp_path: Path) -> None:
    fill(tmp_path, *(NOW - timedelta(days=n) for n in range(400)))
    fill(tmp_path, *(NOW - timedelta(hours=n) for n in range(1, 4)))  # more of today
    done = prune("--daily", 3, "--weekly", 3, "--monthly", 3, tmp_path)
    assert done.returncode == 0, done.stderr
    kept = [
        "2026-11-22", "2026-11-21", "2026-11-20",  # days; the first is the newest of its week and month too
        "2026-11-15", "2026-11-08",  # Sundays: each the last of an ISO week
        "2026-10-31", "2026-09-30",
    ]  # fmt: skip
    assert left(tmp_path) == [f"mcproxy-{day.replace('-', '')}T033000Z.db" for day in kept]
    assert prune("--daily", 3, "--weekly", 3, "--monthly", 3, tmp_path).stdout == "", "nothing more the second time"


def test_a_period_without_a_backup_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path, NOW, NOW - timedelta(days=300), NOW - timedelta(days=600), NOW - timedelta(days=900))
    prune("--daily", 3, "--weekly", 0, "--monthly", 0, tmp_path)
    assert left(tmp_path) == [name(NOW - timedelta(days=n)) for n in (0, 300, 600)]


def test_the_newest_stays_whatever_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, NOW, NOW - timedelta(seconds=1))
    done = prune("--daily", 0, "--weekly", 0, "--monthly", 0, tmp_path)
    assert done.returncode == 0
    assert left(tmp_path) == [name(NOW)]


def test_a_dry_run_only_tells(tmp_path: Path) -> None:
    fill(tmp_path, NOW, NOW - timedelta(seconds=1))
    done = prune("--dry-run", tmp_path)
    assert done.stdout == (
        f"keeps   {tmp_path}/{name(NOW)} (newest daily weekly monthly)\n"
        f"removes {tmp_path}/{name(NOW - timedelta(seconds=1))}\n"
    )
    assert len(left(tmp_path)) == 2


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    others = ["mcproxy.db", "mcproxy-2026.db", "mcproxy-20260101T000000Z.db.gz", "xmcproxy-20260101T000000Z.db"]
    for each in others:
        (tmp_path / each).touch()
    refused = prune(tmp_path)
    assert refused.returncode == 2
    assert "holds no backup of mcproxy's" in refused.stderr
    (tmp_path / "mcproxy-20250101T000000Z.db").symlink_to(tmp_path / "mcproxy.db")
    (tmp_path / "mcproxy-20250102T000000Z.db").mkdir()
    assert prune(tmp_path).returncode == 2
    fill(tmp_path, NOW, NOW - timedelta(seconds=1))
    assert prune("--daily", 0, "--weekly", 0, "--monthly", 0, tmp_path).returncode == 0
    assert set(left(tmp_path)) == {
        *others, "mcproxy-20250101T000000Z.db", "mcproxy-20250102T000000Z.db", name(NOW),
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [[], ["/nowhere"], ["--daily", "x", "/tmp"], ["--daily"], ["--yearly", "1", "/tmp"], ["/tmp", "/tmp"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = prune(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("prune-backups.sh: ")


def test_a_date_that_is_none_removes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, NOW, NOW - timedelta(seconds=1))
    (tmp_path / "mcproxy-20269999T000000Z.db").touch()
    assert prune("--daily", 0, tmp_path).returncode == 2
    assert len(left(tmp_path)) == 3
