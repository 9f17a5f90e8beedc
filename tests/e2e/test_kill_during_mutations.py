from pathlib import Path

from tests.kit.program import report_of

ROUNDS = 200


def test_what_was_acknowledged_is_there_and_nothing_is_there_by_half(tmp_path: Path) -> None:
    report = report_of("killed_writer", tmp_path, ROUNDS)
    assert report["rounds"] == ROUNDS
    assert report["acknowledged"] > ROUNDS, "it was killed in the middle of its work"
