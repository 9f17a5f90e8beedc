"""The `mcproxy` command, with the two commands that need no running server. The others: groups.py."""

import gc
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from mcproxy import __version__
from mcproxy.cli.groups import COMMANDS, LazyGroup
from mcproxy.cli.options import FAILED, INVALID, UNREACHABLE, config_option, example, fail, find_config, load_config
from mcproxy.document import ConfigError
from mcproxy.native import BUILD

if TYPE_CHECKING:
    from mcproxy.configuration import Config

ANSWER_TIME = 3.0  # seconds that `check` waits for a server to say that an address is in use by itself


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("mcproxy server -c /srv/mcproxy/mcproxy.toml", "mcproxy status"),
)
@click.version_option(__version__, prog_name="mcproxy", message=f"%(prog)s %(version)s ({BUILD})")
def main() -> None:
    """TLS SNI router: passes connections on by name, or terminates TLS and proxies HTTP."""


@main.command(epilog=example("mcproxy server -c /srv/mcproxy/mcproxy.toml"))
@config_option
@click.option(
    "--reload",
    "running",
    type=click.IntRange(min=1),
    metavar="PID",
    help="For a service manager: have the server that runs as this process read its files again, and end. If the "
    "program on the disk is another one, or a key has changed that needs a restart, start a server that takes over.",
)
@click.option(
    "--keep-pid", is_flag=True,
    help="For supervisors that only know the process that they start: stay as a small parent of the server, also when "
    "another one takes over. SIGHUP to it is --reload.",
)  # fmt: skip
def server(config_file: Path | None, running: int | None, keep_pid: bool) -> None:
    """Run the proxy in the foreground. Beside one that runs with the same configuration file, it takes over from it."""
    if keep_pid:
        from mcproxy.takeover.keeper import CantRun, keep  # noqa: PLC0415 - as the imports below

        try:
            sys.exit(keep(_command_without("--keep-pid")))
        except CantRun as error:
            fail(f"mcproxy: {error}", FAILED)
    path = find_config(config_file)
    if running is not None:
        _reload(path, running)
        return
    _end_clean_when_told()
    gc.disable()  # until `serve` tunes it: what a start makes stays, and looking for cycles takes a sixth of its time
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is loaded: its own lines would mix with the log
    config = _judged(path)
    from mcproxy.app import StartError, serve  # noqa: PLC0415 - the other commands do without gevent
    from mcproxy.check.files import check_files  # noqa: PLC0415

    fail_for(path, check_files(config))
    try:
        sys.exit(serve(config, path))
    except StartError as error:
        fail(f"mcproxy: {error}", FAILED)


def _judged(path: Path) -> "Config":
    """Load the file or end the program, as `load_config`, in another process while this one loads the server."""
    from mcproxy.judging import Judge  # noqa: PLC0415 - as above
    from mcproxy.later import OF_SERVER, left_out  # noqa: PLC0415

    with Judge(path) as judge:
        with left_out(*OF_SERVER):
            import mcproxy.app  # noqa: F401, PLC0415
        try:
            return judge.config()
        except ConfigError as error:
            fail(str(error), INVALID)


def _command_without(*words: str) -> list[str]:
    """The command line of this process, without these words."""
    return [sys.executable, *(each for each in sys.orig_argv[1:] if each not in words)]


def _reload(path: Path, running: int) -> None:
    """Have the server that runs reload, or be succeeded."""
    from mcproxy import config  # noqa: PLC0415 - only this needs them
    from mcproxy.reload.keys import fixed  # noqa: PLC0415
    from mcproxy.takeover.program import installed  # noqa: PLC0415
    from mcproxy.takeover.renewal import (  # noqa: PLC0415
        Edition,
        RenewalError,
        Stranger,
        begin,
        due,
        hang_up,
        must_be_server,
        renew,
    )
    from mcproxy.takeover.seat import Seat  # noqa: PLC0415

    if not Path(f"/proc/{running}").exists():
        fail(f"mcproxy: there is no process {running}", UNREACHABLE)
    try:
        wanted = config.load(path)
        seat = Seat(wanted.database.file)
        why = due(seat, running, Edition(installed(), fixed(wanted)))
        if why:
            click.echo(f"mcproxy: {why}: a new server takes over")
            pid = renew(seat, lambda: begin(_command_without("--reload", str(running))))
            click.echo(f"mcproxy: process {pid} has taken over from process {running}")
        elif why is None:
            must_be_server(running, path)
            hang_up(running)
            click.echo(f"mcproxy: nobody can take over from process {running}: only a restart upgrades it")
        else:
            hang_up(running)
    except ConfigError as error:
        with suppress(Stranger):
            must_be_server(running, path)
            hang_up(running)  # its status says what is wrong, too
        fail(str(error), INVALID)
    except Stranger as error:
        fail(f"mcproxy: {error}")
    except RenewalError as error:
        hang_up(running)
        fail(f"mcproxy: {error}")


def _end_clean_when_told() -> None:
    """Until `serve` has its own handlers; reading a long file and loading the libraries takes a while.

    SIGHUP waits until the server can answer it: the file may have changed after it was read.
    """
    signal.signal(signal.SIGHUP, lambda *_: None)  # one that is ignored, as under nohup, would not wait
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


@main.command(epilog=example("mcproxy check -c mcproxy.toml --dial"))
@config_option
@click.option("--dial", is_flag=True, help="Connect to the backends of l7 routes, and say what they speak.")
def check(config_file: Path | None, dial: bool) -> None:
    """Validate the configuration file and what a start would load and meet. Starts nothing.

    It looks at the files that it names, the database with its routes, their certificates and backends, folders, the
    admin socket, addresses and descriptors, and prints everything that it finds, each with its key or row.
    """
    path = find_config(config_file)
    config = load_config(path)
    from mcproxy.check import check as checking  # noqa: PLC0415
    from mcproxy.check.backends import look_at_backends  # noqa: PLC0415

    checked = checking.check(config, lambda: _running(path))
    heard = look_at_backends(checked.loaded) if dial and checked.loaded is not None else []
    for warning in (*checked.warnings, *(each.found for each in heard if each.found is not None)):
        click.echo(f"{path}: warning: {warning}", err=True)
    fail_for(path, checked.problems)
    for each in heard:
        if each.said:
            click.echo(f"{path}: {each.place}: {each.said}")
    click.echo(f"{path}: OK ({checked.loaded})")


def _running(path: Path) -> list[str] | None:
    """The listeners of the server that answers at [grpc] of this file; None if none answers."""
    from mcproxy.admin.pb import admin_pb2 as pb  # noqa: PLC0415
    from mcproxy.cli.client import connected  # noqa: PLC0415

    if load_config(path).grpc is None:
        return None

    def none_there(_message: str, _status: int) -> NoReturn:
        raise ConnectionError

    try:
        with connected(path, none_there, ANSWER_TIME) as client:
            return [each.addr for each in client.call("GetStatus", pb.GetStatusRequest()).listeners if each.accepting]
    except ConnectionError:
        return None


def fail_for(path: Path, problems: Iterable[object]) -> None:
    """End the program if there are any, and print them all."""
    if found := [f"{path}: {problem}" for problem in problems]:
        fail("\n".join(found), INVALID)
