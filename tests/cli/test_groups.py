import subprocess
import sys

import click
import pytest

from mcproxy.cli.groups import COMMANDS, LazyGroup
from mcproxy.cli.main import main


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_there_with_a_sentence_of_help(name: str) -> None:
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    assert command.get_short_help_str(200).endswith(".")
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            sub = command.get_command(context, each)
            assert sub is not None
            assert sub.get_short_help_str(200).endswith(".")


def test_all_commands_of_the_contract() -> None:
    assert {*COMMANDS, "server", "check"} == set(main.list_commands(click.Context(main)))
    assert {"snapshot", "status", "diff", "routes", "listeners", "firewall", "connections", "explain", "watch",
            "metrics", "rollback", "log-level", "top", "apply", "export", "completion",
            "certificates", "nodes", "database"} == set(COMMANDS)  # fmt: skip


def test_other_commands_are_found_as_usual_and_unknown_ones_are_not() -> None:
    group = LazyGroup("g", lazy={})
    group.add_command(click.Command("here"))
    context = click.Context(group)
    assert group.list_commands(context) == ["here"]
    assert group.get_command(context, "here") is not None
    assert group.get_command(context, "elsewhere") is None


def test_commands_load_no_more_than_they_use() -> None:
    program = (
        "import sys; from mcproxy.cli.main import main\n"
        "import click; main.get_command(click.Context(main), 'routes')\n"
        "heavy = {'gevent', 'dataset', 'sqlalchemy', 'rich.table', 'mcproxy.app'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
