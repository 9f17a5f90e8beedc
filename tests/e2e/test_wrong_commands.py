"""Mistyped commands: the place, what is wrong, and what to type, for each."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.commands import Shell, shell, typed
from tests.kit.program import ROOT


def mistakes() -> list[tuple[str, int, list[str]]]:
    """What is written in tests/mistyped.txt: a command, its exit status, and what it says."""
    found = []
    for block in (ROOT / "tests/mistyped.txt").read_text().split("\n\n"):
        command, *said = block.strip().splitlines()
        if command.startswith("$ "):
            found.append((command[2:], int(said[0][0]), [line[2:] for line in said]))
    return found


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with shell(tmp_path_factory.mktemp("admin")) as (user, _):
        yield user


def test_there_are_mistakes() -> None:
    assert len(mistakes()) > 80


@pytest.mark.parametrize(("command", "status", "said"), mistakes())
def test_each_mistake_has_its_place_and_its_remedy(user: Shell, command: str, status: int, said: list[str]) -> None:
    words = shlex.split(command)
    result = typed(*words) if "--server" in words else user.run(*words)
    told = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage: ", "Try "))]
    assert (result.exit_code, told) == (status, said)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-c", "x.toml", "status"], "-c belongs after the command, as in mcproxy status -c ..."),
        (["--server", "a.test:1", "status"], "--server belongs after the command, as in mcproxy status --server ..."),
        (["statsu"], 'there is no command "statsu"; did you mean status?'),
        (["Routes", "list"], 'there is no command "Routes"; did you mean routes?'),
        (["xyz"], 'there is no command "xyz"; see --help'),
    ],
)
def test_what_stands_before_the_command(words: list[str], told: str) -> None:
    result = typed(*words)
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == f"Error: {told}"


def test_a_rule_for_good_and_one_that_ends_do_not_replace_each_other_unasked(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        told = user.fails(1, "firewall", "add", "192.0.2.1", "--ttl", "1h")
        assert (
            told
            == "mcproxy: the firewall rule ip 192.0.2.1 is permanent and would become temporary; --replace changes it"
        )
        user.ok("firewall", "add", "203.0.113.9", "--ttl", "1h")
        told = user.fails(1, "firewall", "add", "203.0.113.9")
        assert told.startswith("mcproxy: the firewall rule ip 203.0.113.9 is temporary, until 20")
        assert told.endswith("Z, and would become permanent; --replace changes it")
