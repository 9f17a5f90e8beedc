"""Groups of commands; the program's are imported when they are used: `server` needs no rich, `routes` no gevent."""

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from mcproxy.cli.options import COMPLETION, fail
from mcproxy.words import meant, quoted

FEW_COMMANDS = 8  # as many as one line of an error may list
_OF_COMMANDS = {"-c", "--config", "--server", "--ca", "--cert", "--key", "--json"}
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a broken pipe is click's own business


class Group(click.Group):
    """Names the commands that there are where one is misspelt or unknown."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does, even where it isn't imported yet. Raises UsageError."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            names = self.list_commands(ctx)
            near = meant(name, names)
            rest = f"there are {', '.join(names)}" if len(names) <= FEW_COMMANDS else "see --help"
            ctx.fail(f"there is no command {quoted(name)}; " + (f"did you mean {near}?" if near else rest))
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Commands by name, as "module:attribute", beside those that were added as usual."""

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, sorted."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or find it among the others; None if the name is unknown."""
        place = self._lazy.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; the message for a command's option before the command says where it belongs."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _OF_COMMANDS:
                raise
            ctx.fail(f"{error.option_name} belongs after the command, as in mcproxy status {error.option_name} ...")

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, or answer a shell that completes a line of it."""
        if COMPLETION in os.environ:
            from mcproxy.cli.completion import register  # noqa: PLC0415 - no other call needs it

            register()
        return super().main(*args, **{"complete_var": COMPLETION, **kwargs})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an output that can't be written is one sentence and a failure."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # what is left in the buffer is written when Python ends
            os.close(nowhere)
            fail(f"mcproxy: the output can't be written: {error.strerror}")


# The clients of the admin API, and what opens the database file.
COMMANDS = {
    "apply": "mcproxy.cli.apply:apply",
    "certificates": "mcproxy.cli.certificates:certificates",
    "completion": "mcproxy.cli.completion:completion",
    "connections": "mcproxy.cli.connections:connections",
    "database": "mcproxy.cli.copying:database",
    "diff": "mcproxy.cli.database:diff",
    "explain": "mcproxy.cli.explain:explain",
    "export": "mcproxy.cli.export:export",
    "firewall": "mcproxy.cli.firewall:firewall",
    "listeners": "mcproxy.cli.listeners:listeners",
    "log-level": "mcproxy.cli.status:log_level",
    "metrics": "mcproxy.cli.status:metrics",
    "nodes": "mcproxy.cli.nodes:nodes",
    "rollback": "mcproxy.cli.rollback:rollback",
    "routes": "mcproxy.cli.routes:routes",
    "snapshot": "mcproxy.cli.database:snapshot_command",
    "status": "mcproxy.cli.status:status",
    "top": "mcproxy.cli.top:top",
    "watch": "mcproxy.cli.connections:watch",
}
