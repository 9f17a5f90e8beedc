"""A short slice of `make fuzz`, always the same; and that the engine finds a fault, makes it small and repeats it."""

from collections.abc import Hashable
from pathlib import Path

import pytest

from tests.fuzz.__main__ import main, save
from tests.fuzz.engine import STRETCHED, Failure, Target, attempt, run
from tests.fuzz.targets import TARGETS

SLOW = {"frames", "answers", "bridge", "config"}  # a millisecond or more for each input
SEED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_slice(name: str) -> None:
    found = run(TARGETS[name], SEED, executions=400 if name in SLOW else 3_000)
    if found.failure:
        raise AssertionError(f"{found}: {found.failure.data[:400]!a}") from found.failure.error
    assert len(found.reached) > 5, "the inputs reach too little to find anything"


def refuses_ab(data: bytes) -> Hashable:
    assert not (b"a" in data and b"b" in data), "both"
    return len(data) % 8


PLANTED = Target(
    "planted", "fails where there is an a and a b", refuses_ab, [b"hello a", b"other words, all of them long"], [b"b"]
)


def test_a_fault_is_found_made_small_and_found_again() -> None:
    found = run(PLANTED, SEED, executions=100_000)
    assert found.failure
    assert sorted(found.failure.data) == sorted(b"ab")
    again = run(PLANTED, SEED, executions=100_000)
    assert (again.executions, again.failure and again.failure.data) == (found.executions, found.failure.data)
    assert isinstance(attempt(PLANTED, found.failure.data), Failure)


def test_now_and_then_an_input_is_stretched() -> None:
    """A head of 60 KB of blanks took a minute to refuse, and short inputs never showed it."""
    sizes: list[int] = []
    target = Target("sizes", "notes sizes", lambda data: sizes.append(len(data)), [b"a: b"])
    run(target, SEED, executions=5_000)
    assert max(sizes) > STRETCHED
    assert sorted(sizes)[-100] < STRETCHED, "seldom: such inputs take longer"


def test_a_failing_input_is_saved_for_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(save(run(PLANTED, SEED, executions=100_000)))
    assert sorted(path.read_bytes()) == sorted(b"ab")
    assert path.name.startswith("planted-")


def test_one_input_is_run_again_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "input").write_bytes(b"PROXY UNKNOWN\r\n")
    assert main(["--target", "proxy", "--file", str(tmp_path / "input")]) == 0
    assert "proxy: no fault" in capsys.readouterr().out
