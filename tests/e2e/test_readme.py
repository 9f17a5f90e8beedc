"""README.md: its first page is a path that works from top to bottom in a fresh clone, typed as it stands there.

A copy of this tree without anything that was made in it stands for the clone, but for the virtual environment, which
`make` finds there already. Ports and the home folder are the test's own; nothing else of a command is changed.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mcproxy import config
from tests.e2e.test_devserver import BACKENDS
from tests.kit.pages import matches, steps
from tests.kit.peers import free_port, until
from tests.kit.program import ROOT
from tests.kit.screen import Terminal

TIMEOUT = 300.0  # seconds; pip needs the package index
MADE = (".git", ".venv*", "srv", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis", "__pycache__")
README = (ROOT / "README.md").read_text()
IN_FRONT = ("make devserver", "bin/mcproxy server")  # they go on until Ctrl-C
DEVSERVER, STARTER = 8443, 4443  # the ports that the page has


class Shell:
    """One command on a terminal of 80 columns."""

    def __init__(self, script: str, env: dict[str, str]) -> None:
        self._terminal = Terminal(columns=80)
        on = self._terminal.descriptor
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", script], env=env, stdin=on, stdout=on, stderr=on
        )
        self.shown = ""  # all of it, when the command has ended

    @property
    def so_far(self) -> str:
        """What it has printed so far."""
        return self._terminal.shown

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._terminal.type(b"\x03")

    def wait(self) -> int:
        """Its exit status, once all of its output is read."""
        status = self._process.wait(TIMEOUT)
        self.shown = self._terminal.close()
        return status


class Reader:
    """Types the commands of the page in a clone of its own."""

    def __init__(self, folder: Path) -> None:
        clone, home = folder / "clone", folder / "home"
        self._port, self._own = free_port(beside=BACKENDS), free_port()
        self._state = folder
        shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*MADE), symlinks=True)
        self._lend_environment(clone / ".venv")
        starter = clone / "etc" / "mcproxy.toml"
        starter.write_text(starter.read_text().replace(str(STARTER), str(self._own)))
        home.mkdir()
        (folder / "pwd").write_text(f"{clone}\n")
        (folder / "env").touch()
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "http"))}
        self._env = {**kept, "PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm", "NO_COLOR": "1"}
        self.in_front: list[Shell] = []

    @staticmethod
    def _lend_environment(folder: Path) -> None:
        """The one that runs the tests, as if `make` had just made it: it must never be made to point at the clone."""
        folder.mkdir()
        for each in Path(sys.prefix).iterdir():
            if each.name != ".installed":
                (folder / each.name).symlink_to(each)
        (folder / ".installed").touch()

    def type(self, command: str) -> Shell:
        """Begin a command where the last one has left the shell."""
        state = self._state
        typed = (
            f'. {state}/env; cd "$(cat {state}/pwd)"; {self._here(command)}\n'
            f"status=$?; pwd >{state}/pwd; export -p >{state}/env; exit $status"
        )
        return Shell(typed, self._env)

    def _here(self, command: str) -> str:
        command = command.replace("make devserver", f"make devserver PORT={self._port}")
        command = re.sub(r"\bsrv\b", f"srv/{self._port}", command).replace("cd ..", "cd ../..")
        for offset in (0, *BACKENDS):
            command = command.replace(str(DEVSERVER + offset), str(self._port + offset))
        return command

    def as_on_the_page(self, text: str) -> str:
        """What a command printed, with the ports of the page."""
        for offset in (0, *BACKENDS):
            text = text.replace(str(self._port + offset), str(DEVSERVER + offset))
        return text.replace(str(self._own), str(STARTER))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("r"))


def test_every_command_prints_what_the_page_says(reader: Reader) -> None:
    failures = []
    try:
        for step in steps(README):
            shell = reader.type(step.command)
            if step.command in IN_FRONT:
                reader.in_front.append(shell)
                expected = step.text.rstrip() + "..."  # and more as it goes on
                until(lambda: matches(expected, reader.as_on_the_page(shell.so_far)), step.command)  # noqa: B023
                continue
            status = shell.wait()
            silent_failure = status != 0 and not step.text
            if silent_failure or not matches(step.text, reader.as_on_the_page(shell.shown)):
                failures.append(f"README.md:{step.line}: $ {step.command}\n{shell.shown}")
    finally:
        for shell in reader.in_front:
            shell.interrupt()
        for shell in reader.in_front:
            shell.wait()
    assert not failures, "\n".join(failures)
    assert len(reader.in_front) == len(IN_FRONT)
    for shell in reader.in_front:
        assert "Traceback" not in shell.shown
        assert shell.shown.rstrip().endswith("stopped")


def test_there_are_commands() -> None:
    assert len(steps(README)) > 10
    assert {step.command for step in steps(README)} >= set(IN_FRONT)


def test_the_configuration_that_it_shows_is_valid() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert config.parse(tomllib.loads(block), ROOT / "mcproxy.toml").listeners
