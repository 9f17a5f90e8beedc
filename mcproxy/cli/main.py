"""The `mcproxy` command: where the configuration is found, and the commands that need no running server.

Exit status: 0 done, 1 failed, 2 wrong usage or invalid configuration, 3 the server can't be reached.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from mcproxy import __version__
from mcproxy import config as configuration
from mcproxy.config import Config, ConfigError

FAILED, INVALID = 1, 2
ENVIRONMENT = "MCPROXY_CONFIG"
PLACES = ("./mcproxy.toml", "/srv/mcproxy/mcproxy.toml", "/etc/mcproxy/mcproxy.toml")


def find_config(given: Path | None) -> Path:
    """The file to use: the one given, else the first of the environment's and the usual places that exists."""
    if given is not None:
        return given
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    for place in map(Path, PLACES):
        if place.exists():
            return place
    raise click.UsageError(
        f"no configuration found; give -c FILE, set {ENVIRONMENT}, or have one of {', '.join(PLACES)}"
    )


def load_config(path: Path) -> Config:
    """Load the file or end the program, with every problem on standard error."""
    try:
        return configuration.load(path)
    except ConfigError as error:
        fail(str(error), INVALID)


def fail(message: str, status: int) -> NoReturn:
    """End the program with a message on standard error."""
    click.echo(message, err=True)
    sys.exit(status)


config_option = click.option(
    "-c",
    "--config",
    "given",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Configuration file. Default: ${ENVIRONMENT}, or the first of {', '.join(PLACES)} that exists.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    from mcproxy.app import check_warnings  # noqa: PLC0415

    for warning in check_warnings(config):
        click.echo(f"{path}: warning: {warning}", err=True)
    routes = sum(len(listener.routes) for listener in config.listeners)
    click.echo(f"{path}: OK ({len(config.listeners)} listeners, {routes} routes)")


def load_checked(path: Path) -> Config:
    """Load the file and look at what it points to, or end the program with every problem."""
    config = load_config(path)
    from mcproxy.app import check_files  # noqa: PLC0415

    if problems := list(check_files(config)):
        fail(str(ConfigError(path, problems)), INVALID)
    return config
