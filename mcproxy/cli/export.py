"""`mcproxy export`: the database's listeners, routes and permanent rules as a TOML file that `mcproxy apply` takes.

The file is for git: it is sorted, has one value on each line, leaves out defaults, and nothing in it changes by itself
but a comment for each temporary rule.
"""

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import Message

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output, settings
from mcproxy.cli.client import connected
from mcproxy.cli.options import example, fail
from mcproxy.cli.target import target_options
from mcproxy.model import BLOCKED_LISTS, LISTENER_FIELDS, ROUTE_FIELDS, counted
from mcproxy.settings import Field

TIMEOUT = 120.0  # seconds; 100,000 routes take one or two
HEAD = "# Listeners, routes and permanent firewall rules of mcproxy. `mcproxy apply FILE` puts them into the database."


@click.command(epilog=example("mcproxy export > routes.toml"))
@target_options
@click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def export(config_file: Path | None, target: Path | None) -> None:
    """Print the database's listeners, routes and rules as a file that `mcproxy apply` takes.

    All of it is of one generation. Temporary rules are comments: they end by themselves.
    """
    whole, generation = pb.Values(), 0
    with connected(config_file) as client:
        for part in client.stream("Export", pb.ExportRequest(), TIMEOUT):
            whole.MergeFrom(part.values)
            generation = part.generation
    text = document(whole)
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        _replace(target, text)
    except OSError as error:
        fail(f"mcproxy: {target} can't be written: {error.strerror}")
    count = len(whole.listeners) + len(whole.routes) + len(whole.rules)
    output.say(f"{target}: {counted(count, 'value')} of generation {generation}")


def _replace(target: Path, text: str) -> None:
    """Write a file as a whole, or leave it as it is; what a link leads to stays as it is, too. Raises OSError.

    The folder may belong to another user, who must not have us, who may be root, write somewhere else.
    """
    before = _before(target)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if before is not None:
                with suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, _usual_mode() if before is None else stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise


def _before(target: Path) -> os.stat_result | None:
    """The file that is there, if one is. Raises OSError if it is anything else."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link; name the file that it leads to")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file; leave out -o, and use > or |")
    return found


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def document(whole: pb.Values) -> str:
    """The file with these values."""
    routes: dict[str, list[pb.Route]] = {}
    for each in whole.routes:
        routes.setdefault(each.listener, []).append(each.route)
    lines = [HEAD]
    for listener in sorted(whole.listeners, key=lambda each: each.addr):
        lines += ["", "[[listeners]]", *_keys(listener, LISTENER_FIELDS)]
        for route in sorted(routes.get(listener.addr, ()), key=lambda each: each.hostname):
            lines += ["", "  [[listeners.routes]]", *(f"  {line}" for line in _keys(route, ROUTE_FIELDS))]
    return "\n".join([*lines, *_rules(whole.rules), ""])


def _keys(message: Message, declared: Iterable[Field]) -> Iterator[str]:
    """A line for each key that isn't at its default; in the words of the file."""
    for field, value in settings.set_of(declared, message):
        yield f"{field.name} = {_value(value)}"


def _rules(messages: Iterable[pb.FirewallRule]) -> Iterator[str]:
    rules = sorted(map(output.plain, messages), key=lambda each: str(each["value"]))
    if any(not each["expires_at"] for each in rules):
        yield from ("", "[firewall]")
    for kind, key in BLOCKED_LISTS.items():
        if values := [each["value"] for each in rules if each["kind"] == kind and not each["expires_at"]]:
            yield from (f"{key} = [", *(f"  {_text(value)}," for value in values), "]")
    if temporary := [each for each in rules if each["expires_at"]]:
        yield from ("", "# Temporary rules, which are not applied:")
        yield from (
            output.clean(f"#   {each['kind']} {each['value']} until {output.moment(each['expires_at'])}")
            for each in temporary
        )


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(value)  # true, false, numbers


def _text(text: str) -> str:
    """A basic string (TOML 1.0): JSON's, with everything escaped that isn't printable, as DEL must be."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
