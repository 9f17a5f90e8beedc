"""How answers look: tables on a terminal, tab-separated lines in a pipe, JSON where it is asked for.

Every text from a client of the proxy, or from a server that may not be ours, passes `clean` or is escaped: it can't
command a terminal or forge a line.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from google.protobuf.message import Message

from mcproxy import words
from mcproxy.cli.columns import Column, lay_out
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS
from mcproxy.settings import Kind, proto_name

# The words of declared fields, by their names in the proto, which have no "/" or "-".
_DECLARED = (field for field in (*ROUTE_FIELDS, *LISTENER_FIELDS) if field.kind is Kind.WORD)
_WORDS = {proto_name(word): str(word) for field in _DECLARED for word in field.type}

Cell = str | int | float | bool


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it: every field, numbers as numbers, enums in the words of the commands."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_one(each, field) for each in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _one(value, field)


def _one(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return word(field.enum_type, value)
    if field.name.endswith("_json"):
        return _parsed(value)
    return value


def _parsed(text: str) -> Any:
    """A value that an answer has as JSON; what isn't JSON, as somebody may have written into the audit, as its text."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def word(enum: Any, number: int) -> str:
    """An enum's value as people write it: RULE_KIND_IP is "ip"."""
    name: str = enum.values_by_number[number].name
    if name in _WORDS:
        return _WORDS[name]
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_") + "_"
    return name.removeprefix(prefix).lower()


def state(session: str) -> str:
    """A session's state for a table: the server's word for l7, where TLS terminates, would look like an end."""
    return "proxying" if session == "terminating" else session


def say(text: str, err: bool = False) -> None:
    """Print one line."""
    click.echo(clean(text), err=err)


def emit_json(value: Any) -> None:
    """Print a value; indented for people, on one line for pipes."""
    click.echo(_json(value, 2 if on_terminal() else None))


def _json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, whose line breaks are its own; everything else that isn't printable is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def emit_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]], empty: str) -> None:
    """Print rows under their columns: all of them for a pipe, what fits on a terminal.

    `empty` says, on a terminal, that there are no rows.
    """
    whole = [each if isinstance(each, Column) else Column(each) for each in columns]
    shown = [[clean(cell) for cell in row] for row in rows]
    if not on_terminal():
        lines = [[column.name.lower() for column in whole], *shown]
        click.echo("\n".join(map("\t".join, lines)))
    elif not shown:
        click.echo(empty)
    else:
        head, *rest = lay_out(whole, shown, shutil.get_terminal_size().columns)
        if os.environ.get("TERM", "dumb") != "dumb":
            head = click.style(head, bold=True)
        click.echo("\n".join([head, *rest]))


def clean(cell: Cell) -> str:
    """One cell's text, on one line, without control characters."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    text = str(cell)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def moment(seconds: float) -> str:
    """A point in time, in UTC; "-" for never."""
    return words.moment(seconds) if seconds else "-"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def amount(count: int) -> str:
    """A number of bytes."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def emit_done(answer: Any, as_json: bool, text: str, more: str = "") -> None:
    """Print that a change is in force, or was already, with its generation, and the server's warnings."""
    if as_json:
        emit_json(plain(answer))
        return
    already = " already" if answer.HasField("effect") and not answer.effect.changes else ""
    say(f"{text}{already}{more} (generation {answer.generation})")
    if http := getattr(answer, "backend_http", ""):
        say(f"its backend speaks {http}")
    for warning in getattr(answer, "warnings", ()):
        say(f"warning: {warning}", err=True)


def emit_steps(steps: Iterable[Any], otherwise: str = "REFUSE") -> None:
    """Print the steps of a decision, one a line; those that don't pass do `otherwise`."""
    rows = [(each.name, "pass" if each.passed else otherwise, each.detail) for each in steps]
    emit_table(("STEP", "OUTCOME", Column("DETAIL", prose=True)), rows, "No steps.")


def on_terminal() -> bool:
    """True if a person reads the output."""
    return sys.stdout.isatty()


def one_line(message: Message) -> str:
    """A message as JSON on one line."""
    return _json(plain(message))


def emit_line(value: Any) -> None:
    """Print a value as JSON on one line."""
    click.echo(_json(value))
