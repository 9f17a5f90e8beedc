"""Real shells complete real lines."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mcproxy.cli.completion import SHELLS
from mcproxy.cli.main import main
from tests.kit.commands import Shell, shell, write_config
from tests.kit.program import environment

PROGRAM = Path(sys.executable).parent
DEADLINE = 60.0  # seconds for a shell to start, load the script and complete one line; each starts the program
FIRST = "ready-to-type"

# How each is started without anybody's own settings, and what it reads first.
STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], 'PS1="> "; eval "$(mcproxy completion bash)"'),
    "zsh": (["-f", "-i"], 'PS1="> "; autoload -U compinit; compinit -u -D; eval "$(mcproxy completion zsh)"'),
    "fish": (["--no-config", "-i"], "mcproxy completion fish | source"),
}


class Terminal:
    """An interactive shell with the completion loaded; what it shows is read as it comes."""

    def __init__(self, name: str, folder: Path, config: Path) -> None:
        options, loading = STARTS[name]
        program = shutil.which(name) or name
        self._ours, its = pty.openpty()
        path = f"{PROGRAM}:{os.environ['PATH']}"
        env = environment(PATH=path, HOME=str(folder), TERM="dumb", MCPROXY_CONFIG=str(config), LC_ALL="C.UTF-8")
        self._process = subprocess.Popen(
            [program, *options], stdin=its, stdout=its, stderr=its, env=env, start_new_session=True, cwd=folder
        )
        os.close(its)
        self.shown = ""
        self.type(f"{loading}; echo {FIRST[:5]}''{FIRST[5:]}\n")
        self.wait(FIRST)

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def wait(self, expected: str) -> None:
        """Read until this is shown."""
        end = time.monotonic() + DEADLINE
        while expected not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {expected!r} in {self.shown!r}"
            self.shown += os.read(self._ours, 65536).decode(errors="replace")

    def completes(self, line: str, expected: str) -> None:
        """A line, the Tab key, and what the line becomes."""
        self.shown = ""
        self.type(f"{line}\t")
        self.wait(expected)
        self.type("\x15")  # empties the line: none of these is to be run

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


LINES = (
    ("mcproxy rou", "mcproxy routes"),
    ("mcproxy routes rem", "mcproxy routes remove"),
    ("mcproxy routes remove g", "mcproxy routes remove git.example.org"),
    ("mcproxy firewall remove 198", "mcproxy firewall remove 198.51.100.0/24"),
    ("mcproxy listeners remove 127.0.0.1:84", "mcproxy listeners remove 127.0.0.1:8443"),
    ("mcproxy watch --refus", "mcproxy watch --refused"),
    ("mcproxy log-level warn", "mcproxy log-level warning"),
)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_line_is_completed(name: str, tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("listeners", "add", "127.0.0.1:8443")
        terminal = Terminal(name, tmp_path, user.config)
        try:
            for line, expected in LINES:
                terminal.completes(line, expected)
        finally:
            terminal.close()


def fish(folder: Path, config: Path, line: str) -> list[str]:
    """What fish itself says that a line may be completed to."""
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"mcproxy completion fish | source; complete -C '{line}'"],
        env=environment(PATH=f"{PROGRAM}:{os.environ['PATH']}", HOME=str(folder), MCPROXY_CONFIG=str(config)),
        capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_fish_shows_what_each_candidate_is(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert fish(tmp_path, user.config, "mcproxy routes remove g") == ["git.example.org\t:443 to 127.0.0.1:3000"]
        assert fish(tmp_path, user.config, "mcproxy listeners remove :4") == [":443"]
        assert "routes\tWhich server name leads to which backend." in fish(tmp_path, user.config, "mcproxy ro")


@pytest.fixture
def bash(tmp_path: Path) -> Callable[[Shell | Path, str], list[str]]:
    """What our function offers to bash for a line; the cursor is at its end."""

    def offered(user: Shell | Path, line: str) -> list[str]:
        script = (
            f'eval "$(mcproxy completion bash)"; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; '
            '_mcproxy_completion mcproxy; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        config = user.config if isinstance(user, Shell) else user
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=environment(PATH=f"{PROGRAM}:{os.environ['PATH']}", MCPROXY_CONFIG=str(config)),
            capture_output=True, text=True, timeout=DEADLINE, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return offered


def test_bash_gets_what_follows_the_last_colon(bash: Callable[[Shell | Path, str], list[str]], tmp_path: Path) -> None:
    """bash ends words at colons: it would put a whole address behind the half that is there."""
    with shell(tmp_path) as (user, _):
        user.ok("listeners", "add", "[2001:db8::1]:8443")
        assert bash(user, "mcproxy listeners remove ") == [":443", "[2001:db8::1]:8443"]
        assert bash(user, "mcproxy listeners remove :4") == ["443"]
        assert bash(user, "mcproxy listeners remove [2001:db8") == ["db8::1]:8443"]
        assert bash(user, "mcproxy routes list --listener=:4") == ["443"]


def test_without_a_server_bash_is_told_nothing(bash: Callable[[Shell | Path, str], list[str]], tmp_path: Path) -> None:
    config = write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"')
    assert bash(config, "mcproxy routes remove g") == []
    assert "routes" in bash(config, "mcproxy r")


@pytest.mark.parametrize("name", SHELLS)
def test_the_scripts_are_printed(name: str) -> None:
    done = CliRunner().invoke(main, ["completion", name])
    assert done.exit_code == 0
    assert f"{name}_complete" in done.stdout
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2
