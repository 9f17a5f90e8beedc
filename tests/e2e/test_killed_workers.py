"""Workers are killed under traffic and changes. `python -m tests.kit.killed_workers FOLDER 200` does it for longer."""

from pathlib import Path

from tests.kit.program import report_of

KILLS = 20


def test_an_acknowledged_change_holds_at_every_worker_and_nothing_else_is_lost(tmp_path: Path) -> None:
    report = report_of("killed_workers", tmp_path, KILLS)
    assert (report["kills"], report["changes"]) == (KILLS, 3 * KILLS)
    assert report["served"] > 20 * KILLS
