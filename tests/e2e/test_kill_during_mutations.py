import json
import subprocess
import sys
from pathlib import Path

ROUNDS = 200
TIMEOUT = 600.0  # seconds; it takes some 20, on a loaded machine many times that


def test_what_was_acknowledged_is_there_and_nothing_is_there_by_half(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.killed_writer", str(tmp_path), str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rounds"] == ROUNDS
    assert report["acknowledged"] > ROUNDS, "it was killed in the middle of its work"
