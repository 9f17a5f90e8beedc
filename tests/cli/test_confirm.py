"""Dangerous mutations ask on a terminal, take --yes, and do nothing where neither is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy.cli.confirm import SHOWN_LINES
from tests.kit.commands import Shell, shell
from tests.kit.control_plane import Control
from tests.kit.operator_terminal import at_terminal

QUESTION = "Do it? [y/N]: "

DANGEROUS: list[tuple[tuple[object, ...], str]] = [
    (("rollback", 1), "it changes 1 value; the route www.example.org on :443 changes from l7 to l4"),
    (("listeners", "remove", ":443"), "removing :443 removes 2 routes: git.example.org, www.example.org"),
    (("firewall", "add", "0.0.0.0/0"), "it blocks every IPv4 address"),
    (("firewall", "add", "cidr", "32.0.0.0/3", "--ttl", "1h"), "it blocks a /3 of IPv4, 1 address in 8"),
    (("firewall", "add", "FR", "--kill"), "it cuts 500 live connections"),
    (
        ("routes", "add", "www.example.org", "127.0.0.1:1", "--replace"),
        "the route www.example.org on :443 changes from l7 to l4",
    ),
]


@pytest.fixture(scope="module")
def dangerous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Control]]:
    """A server on which each of DANGEROUS is; nothing here changes it."""
    with shell(tmp_path_factory.mktemp("dangerous")) as (user, control):
        control.plane.matching = 500
        user.ok("routes", "set", "www.example.org", "--mode", "l7", "--tls-cert", "/c.pem", "--tls-key", "/k.pem")
        yield user, control


@pytest.mark.parametrize(("command", "risk"), DANGEROUS)
def test_without_a_terminal_nothing_is_done(
    dangerous: tuple[Shell, Control], command: tuple[object, ...], risk: str
) -> None:
    user, control = dangerous
    assert user.fails(2, *command) == f"mcproxy: {risk}; there is no terminal to ask on: add --yes to do it"
    assert control.writer.table.generation == 2


@pytest.mark.parametrize("answer", ["", "n", "no"])
@pytest.mark.parametrize(("command", "risk"), DANGEROUS[:1])
def test_who_does_not_agree_changes_nothing(
    dangerous: tuple[Shell, Control], command: tuple[object, ...], risk: str, answer: str
) -> None:
    user, control = dangerous
    status, screen = at_terminal(user.config, *command, answer=answer)
    assert status == 1
    assert f"{risk}\n{QUESTION}" in screen
    assert screen.endswith("mcproxy: nothing has changed\n")
    assert control.writer.table.generation == 2


@pytest.mark.parametrize(("command", "risk"), DANGEROUS)
def test_on_a_terminal_it_shows_what_changes_and_asks(
    dangerous: tuple[Shell, Control], command: tuple[object, ...], risk: str
) -> None:
    user, control = dangerous
    status, screen = at_terminal(user.config, *command, answer="n")
    assert (status, control.writer.table.generation) == (1, 2)
    shown, _, _ = screen.partition(f"{risk}\n{QUESTION}")
    assert shown
    assert {line[:2] for line in shown.splitlines()} <= {"+ ", "- ", "~ "}


def test_who_agrees_has_it_done(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        status, screen = at_terminal(user.config, "listeners", "remove", ":443", answer="y")
        assert status == 0
        assert screen.endswith("removed listener :443 with 2 routes (generation 2)\n")
        assert control.writer.table.generation == 2


def test_it_asks_on_the_terminal_while_the_output_goes_into_a_pipe(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        status, screen = at_terminal(user.config, "listeners", "remove", ":443", "--json", answer="y", piped=True)
        assert status == 0
        assert QUESTION in screen
        assert "generation" not in screen
        assert control.writer.table.generation == 2


def test_with_yes_it_does_not_ask(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        status, screen = at_terminal(user.config, "listeners", "remove", ":443", "--yes")
        assert (status, screen) == (0, "removed listener :443 with 2 routes (generation 2)\n")


def test_what_is_no_slip_is_not_asked_about(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert at_terminal(user.config, "firewall", "add", "203.0.113.0/24", "--kill")[0] == 0
        assert at_terminal(user.config, "listeners", "add", ":8443")[0] == 0
        assert at_terminal(user.config, "listeners", "remove", ":8443")[0] == 0


def test_what_came_between_question_and_answer_was_not_agreed_to(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        user.ok("routes", "remove", "git.example.org")

        def meanwhile() -> None:
            user.ok("firewall", "remove", "192.0.2.1")

        status, screen = at_terminal(user.config, "rollback", 1, answer="y", before_answer=meanwhile)
        assert status == 1
        assert screen.endswith("mcproxy: the generation is 3, not 2: look at the change and decide again\n")
        assert control.writer.table.generation == 3


def test_a_long_plan_leaves_the_question_on_the_screen(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        for i in range(SHOWN_LINES + 2):
            user.ok("routes", "add", f"{i}.example.org", "127.0.0.1:1")
        _, screen = at_terminal(user.config, "rollback", 1, answer="n")
        assert "and 2 more\nit changes 22 values\n" in screen
        assert len(screen.splitlines()) <= 24
