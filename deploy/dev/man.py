"""Generate the man page docs/mcproxy.1 from the help pages of the commands; `make man` runs it."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from mcproxy import __version__
from mcproxy.cli.main import main as program
from mcproxy.cli.options import ENVIRONMENT, PLACES

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "mcproxy.1"
COMMON = 10  # commands that have an option from which on it is described once, for all

INTRODUCTION = """\
mcproxy stands in front of many TLS services on one port. It reads the server name in the first message of each
connection and either passes the raw stream to that name's backend (l4), or terminates TLS and proxies HTTP to it (l7).
`mcproxy server` is that proxy; the other commands look at a running one and change it, through its admin API.

A command that changes something has returned when the change is durable, and holds for the next connection. Lists are
tables on a terminal, tab-separated lines in a pipe, and JSON with `--json`.
"""
EXIT_STATUS = (
    ("0", "Done. The server: a signal stopped it, and all connections had ended."),
    ("1", "Failed. The server: connections had to be cut at `proxy.shutdown_timeout`."),
    ("2", "Wrong usage, or an invalid configuration."),
    ("3", "The server can't be reached."),
)
SIGNALS = (
    ("SIGTERM, SIGINT", "Stop accepting, let open connections finish, and exit; a second one exits at once."),
    ("SIGHUP", "Read the configuration, the certificates and the GeoIP database; what is broken changes nothing."),
)

Option = tuple[str, str]  # how it is written, and what it does


def page() -> str:
    """The whole page."""
    found = list(commands(program, "mcproxy"))
    shared = Counter(option for _, command in found for option in options(command))
    common = [option for option, count in shared.items() if count >= COMMON]
    lines = [
        f'.TH MCPROXY 1 "" "mcproxy {__version__}" "User Commands"',
        ".SH NAME", r"mcproxy \- route TLS connections by server name",
        ".SH SYNOPSIS", r"\fBmcproxy\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]...",
        ".SH DESCRIPTION", *paragraphs(INTRODUCTION),
        ".SH COMMANDS", *(line for path, command in found for line in section(path, command, common)),
        ".SH COMMON OPTIONS", *listed(common),
        ".SH EXIT STATUS", *listed(EXIT_STATUS),
        ".SH ENVIRONMENT", *listed(environment(found)),
        ".SH FILES", *listed([(", ".join(PLACES), "The configuration: the first that exists.")]),
        ".SH SIGNALS", *listed(SIGNALS),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with what is typed for it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = _context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, f"{path} {name}")


def _context(command: click.Command) -> click.Context:
    """A context as the program makes it: a command keeps the help option that the first one asks for."""
    return click.Context(command, **program.context_settings)


def options(command: click.Command) -> list[Option]:
    """The options of a command as its help page has them."""
    context = _context(command)
    records = [each.get_help_record(context) for each in command.params if isinstance(each, click.Option)]
    return [record for record in records if record is not None]


def section(path: str, command: click.Command, common: list[Option]) -> Iterator[str]:
    """One command."""
    pieces = " ".join(command.collect_usage_pieces(_context(command)))
    yield f".SS {text(path)} {text(pieces)}"
    yield from paragraphs(command.help or "")
    own = [option for option in options(command) if option not in common]
    yield from listed(own)
    examples = (command.epilog or "").splitlines()[2:]
    yield from (".PP", ".nf", ".RS 4", *(text(line.removeprefix("  ")) for line in examples), ".RE", ".fi")


def environment(found: list[tuple[str, click.Command]]) -> list[Option]:
    """The variables, and what they stand for."""
    variables = {ENVIRONMENT: "The configuration file."}
    for _, command in found:
        for each in command.params:
            if isinstance(each, click.Option) and isinstance(each.envvar, str):
                variables[each.envvar] = f"The same as `{each.opts[0]}`."
    return list(variables.items())


def listed(items: Iterable[Option]) -> Iterator[str]:
    """A list of terms and what they mean."""
    for term, meaning in items:
        yield from (".TP", rf"\fB{text(term)}\fR", text(re.sub(r"\s+", " ", meaning)))


def paragraphs(written: str) -> Iterator[str]:
    """Text with empty lines between its paragraphs."""
    for paragraph in written.split("\n\n"):
        yield from (".PP", text(re.sub(r"\s+", " ", paragraph.strip())))


def text(written: str) -> str:
    """One line, as roff has it; what is in backquotes is bold."""
    escaped = written.replace("\\", r"\e").replace("-", r"\-")
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> int:
    """Write the page."""
    OUT.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
