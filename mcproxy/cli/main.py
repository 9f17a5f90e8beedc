"""The `mcproxy` command, with the two commands that need no running server. The others: lazy.py."""

import sys
from pathlib import Path

import click

from mcproxy import __version__
from mcproxy.cli.lazy import COMMANDS, LazyGroup
from mcproxy.cli.options import FAILED, INVALID, config_option, fail, find_config, load_config
from mcproxy.config import Config, ConfigError


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcproxy", message="%(prog)s %(version)s")
def main() -> None:
    """TLS SNI router: passes connections on by name, or terminates TLS and proxies HTTP."""


@main.command()
@config_option
def server(given: Path | None) -> None:
    """Run the proxy in the foreground."""
    config = load_checked(find_config(given))
    from mcproxy.app import StartError, serve  # noqa: PLC0415 - the other commands do without gevent

    try:
        sys.exit(serve(config))
    except StartError as error:
        fail(f"mcproxy: {error}", FAILED)


@main.command()
@config_option
def check(given: Path | None) -> None:
    """Validate the configuration file and what it points to. Starts nothing."""
    path = find_config(given)
    config = load_checked(path)
    routes = sum(len(listener.routes) for listener in config.listeners)
    click.echo(f"{path}: OK ({len(config.listeners)} listeners, {routes} routes)")


def load_checked(path: Path) -> Config:
    """Load the file and look at what it points to, or end the program with every problem."""
    config = load_config(path)
    from mcproxy.app import check_files  # noqa: PLC0415

    if problems := list(check_files(config)):
        fail(str(ConfigError(path, problems)), INVALID)
    return config
