"""Workers are killed under traffic and changes. `python -m tests.kit.killed_workers FOLDER 200` does it for longer."""

import json
import subprocess
import sys
from pathlib import Path

KILLS = 20
TIMEOUT = 600.0  # seconds; it takes some 10, on a loaded machine many times that


def test_an_acknowledged_change_holds_at_every_worker_and_nothing_else_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.killed_workers", str(tmp_path), str(KILLS)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["kills"], report["changes"]) == (KILLS, 3 * KILLS)
    assert report["served"] > 20 * KILLS
