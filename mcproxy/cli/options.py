"""Common parts of all commands: finding the configuration, and ending with a message.

Exit status: 0 done, 1 failed, 2 wrong usage or invalid configuration, 3 the server can't be reached.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mcproxy import disk
from mcproxy.document import ConfigError
from mcproxy.words import printable

if TYPE_CHECKING:
    from mcproxy.configuration import Config

FAILED, INVALID, UNREACHABLE = 1, 2, 3
ENVIRONMENT = "MCPROXY_CONFIG"
COMPLETION = "_MCPROXY_COMPLETE"  # of the environment too: set by a shell that completes a line of ours
PLACES = ("./mcproxy.toml", "/srv/mcproxy/mcproxy.toml", "/etc/mcproxy/mcproxy.toml")


def find_config(config_file: Path | None, places: Sequence[str] = PLACES, elsewhere: str = "") -> Path:
    """The file to use: this one, else the first of the environment's and the usual places that exists.

    `elsewhere` is a further remedy for the message that no file was found.
    """
    if config_file is not None:
        return config_file
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    for place in map(Path, places):
        if _exists(place):
            return place
    remedies = f"give -c FILE, set {ENVIRONMENT}, or create one of {', '.join(places)}"
    raise click.UsageError(f"no configuration found; {remedies}" + (f"; {elsewhere}" if elsewhere else ""))


def _exists(place: Path) -> bool:
    """Whether a file is there; one that hangs is, and the one who reads it says so."""
    try:
        return disk.within(str(place), place.exists)
    except disk.Hangs:
        return True


class _File(click.Path):
    """A file's path. It is not looked at here, as click would: that would hang where the file does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Return the path."""
        return self.coerce_path_result(value)


FILE = _File(path_type=Path, dir_okay=False)


def load_config(path: Path) -> "Config":
    """Load the file or end the program, with every problem on standard error."""
    from mcproxy import config  # noqa: PLC0415 - it takes longer to load than a command that does without takes to run

    try:
        return config.load(path)
    except ConfigError as error:
        fail(str(error), INVALID)


def fail(message: str, status: int = FAILED) -> NoReturn:
    """End the program with a message on standard error, whose line breaks are its own."""
    click.echo("\n".join(map(printable, message.split("\n"))), err=True)
    sys.exit(status)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """The work of a command that only its user ends: SIGINT ends the process, wherever it is, with status 0.

    KeyboardInterrupt may come out of any line of a library, and not all are ready for it: in `threading.Condition.wait`
    (Python 3.11 to 3.13) it can leave a lock released that is then released again, a RuntimeError.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def example(*lines: str) -> str:
    """The end of a command's help page: lines as they are typed; one that begins with blanks goes on."""
    several = sum(not line.startswith(" ") for line in lines) > 1
    return "\n".join(["\b", "Examples:" if several else "Example:", *(f"  {line}" for line in lines)])


config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=FILE,
    help=f"Configuration file. Default: ${ENVIRONMENT}, or the first of {', '.join(PLACES)} that exists.",
)

comment_option = click.option(
    "--comment", default="", metavar="TEXT", help="Why, for `routes history`: at most 500 characters."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
