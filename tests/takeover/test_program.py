"""What is installed, and what a process runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcproxy.takeover.program import installed, is_keeper, is_server, replaced
from tests.kit.peers import DEADLINE
from tests.kit.program import ROOT


def test_the_same_files_are_the_same_program() -> None:
    assert installed() == installed()


@pytest.mark.parametrize("change", ["another file", "the same text again", "a new file"])
def test_a_file_that_is_written_again_makes_another_program(change: str, tmp_path: Path) -> None:
    package = tmp_path / "mcproxy"
    for name in ("__init__.py", "takeover/__init__.py", "takeover/program.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "mcproxy" / name, package / name)

    def seen() -> str:
        command = [sys.executable, "-c", "from mcproxy.takeover.program import installed; print(installed())"]
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout

    before = seen()
    assert seen() == before, "the interpreter's own files don't count"
    target = package / "takeover/__init__.py"
    if change == "a new file":
        (package / "new.py").touch()
    else:
        fresh = target.with_suffix(".fresh")
        fresh.write_text(target.read_text() if change == "the same text again" else "")
        fresh.rename(target)
    assert seen() != before


def test_a_process_whose_program_is_replaced_is_found(tmp_path: Path) -> None:
    """As after an update of a library of the system. Memory without a name, which we use, is no such library."""
    program = tmp_path / "cat"
    shutil.copy(os.path.realpath(shutil.which("cat") or ""), program)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        assert not replaced(process.pid)
        fresh = tmp_path / "fresh"
        shutil.copy(program, fresh)
        fresh.rename(program)
        assert replaced(process.pid)
        process.stdin.close()
        process.wait(DEADLINE)
    assert not replaced(process.pid), "it isn't known"


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["mcproxy", "server"], True),
        (["mcproxy", "server", "-c", "mcproxy.toml"], True),
        (["mcproxy", "server", "--keep-pid", "--config=mcproxy.toml"], True),
        (["mcproxy", "server", "-c", "another.toml"], False),
        (["mcproxy", "server", "--reload", "1"], False),
        (["mcproxy", "status"], False),
        (["another", "server"], False),
    ],
)
def test_a_server_is_known_by_its_command_line(words: list[str], known: bool, tmp_path: Path) -> None:
    (tmp_path / words[0]).write_text("import signal\nprint(flush=True)\nsignal.pause()")
    with subprocess.Popen([sys.executable, *words], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # by now it is that program
        assert is_server(process.pid, tmp_path / "mcproxy.toml") == known
        assert not is_keeper(os.getpid(), process.pid)
        process.kill()
