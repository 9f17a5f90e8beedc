"""The `mcproxy` command, with the two commands that need no running server. The others: lazy.py."""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from mcproxy import __version__
from mcproxy.cli.lazy import COMMANDS, LazyGroup
from mcproxy.cli.options import FAILED, INVALID, config_option, example, fail, find_config, load_config
from mcproxy.document import ConfigError, Problem
from mcproxy.model import counted


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("mcproxy server -c /srv/mcproxy/mcproxy.toml", "mcproxy status"),
)
@click.version_option(__version__, prog_name="mcproxy", message="%(prog)s %(version)s")
def main() -> None:
    """TLS SNI router: passes connections on by name, or terminates TLS and proxies HTTP."""


@main.command(epilog=example("mcproxy server -c /srv/mcproxy/mcproxy.toml"))
@config_option
def server(given: Path | None) -> None:
    """Run the proxy in the foreground."""
    path = find_config(given)
    _end_clean_when_told()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is loaded: its own lines would mix with the log
    config = load_config(path)
    from mcproxy.app import StartError, serve  # noqa: PLC0415 - the other commands do without gevent
    from mcproxy.check import check_files  # noqa: PLC0415

    fail_for(path, check_files(config))
    try:
        sys.exit(serve(config, path))
    except StartError as error:
        fail(f"mcproxy: {error}", FAILED)


def _end_clean_when_told() -> None:
    """Until `serve` has its own handlers; reading a long file and loading the libraries takes a while.

    SIGHUP waits until the server can answer it: the file may have changed after it was read.
    """
    signal.signal(signal.SIGHUP, lambda *_: None)  # one that is ignored, as under nohup, would not wait
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


@main.command(epilog=example("mcproxy check -c mcproxy.toml"))
@config_option
def check(given: Path | None) -> None:
    """Validate the configuration file and what it points to. Starts nothing."""
    path = find_config(given)
    config = load_config(path)
    from mcproxy.check import check_files, check_places, check_seed_files, check_warnings  # noqa: PLC0415

    fail_for(path, (*check_files(config), *check_places(config), *check_seed_files(config)))
    for warning in check_warnings(config):
        click.echo(f"{path}: warning: {warning}", err=True)
    routes = sum(len(listener.routes) for listener in config.listeners)
    click.echo(f"{path}: OK ({counted(len(config.listeners), 'listener')}, {counted(routes, 'route')})")


def fail_for(path: Path, problems: Iterable[Problem]) -> None:
    """End the program if there are any, and print them all."""
    if found := list(problems):
        fail(str(ConfigError(path, found)), INVALID)
