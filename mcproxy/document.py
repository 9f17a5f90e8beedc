"""Reads a TOML file as a document, or explains why it isn't one, with the line and the remedy.

tomllib finds the place; the messages are ours, because its own mention namespaces and quote as Python does.
"""

import codecs
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcproxy import disk
from mcproxy.words import printable

MAX_DOCUMENT = 64 << 20  # 100,000 routes take some 15 MB; more is a wrong file
READ_SECONDS = 5.0  # for a file: many times what MAX_DOCUMENT takes from a disk that answers
MAX_SHOWN_LINE = 80  # characters of the offending line

# How tomllib's messages begin, and our messages for them.
_REMEDIES = {
    "Cannot declare": "this table is in the file twice; put its keys under one header",
    "Cannot overwrite": "this is set twice; remove one of the two",
    "Cannot mutate": "this table is complete already; put all of its keys in one place",
    "Cannot redefine": "this table is complete already; put all of its keys in one place",
    "Duplicate inline": "a key is in this table twice; remove one of the two",
    "Expected '='": "a line is KEY = VALUE; the = is missing",
    "Expected newline": "something follows the value; put text in quotes, and a comment begins with #",
    "Expected ']'": "the header of this table isn't closed; end it with ]",
    "Expected ']]'": "the header of this table isn't closed; end it with ]]",
    'Expected \'"""\'': 'the string isn\'t closed; end it with """',
    'Expected "\'"': "the string isn't closed; end it with '",
    "Expected \"'''\"": "the string isn't closed; end it with '''",
    "Invalid initial": "the name of a key or table is missing here, or it has a character that must be in quotes",
    "Invalid statement": "write KEY = VALUE, [TABLE] or # and a comment",
    "Invalid date": "there is no such date; put text in quotes",
    "Invalid value": 'no value can be read here; put text in quotes, as in KEY = "TEXT"',
    "Invalid hex": "after \\x, \\u or \\U hexadecimal digits must follow; a backslash itself is written \\\\",
    "Escaped character": "there is no such character; a backslash itself is written \\\\",
    "Unescaped": "a backslash must be doubled in \"...\"; or put the text in single quotes: '...'",
    "Unclosed array": "the array isn't closed; separate its values with commas and end it with ]",
    "Unclosed inline": "the table isn't closed; separate its keys with commas and end it with }",
    "Unterminated": "the string isn't closed; end it with \"",
    "Illegal character '\\n'": "the string isn't closed on its line; end it with \"",
    "Illegal character": "this holds a control character; remove it, or write it as an escape such as \\t",
    "Found invalid": "this holds a control character; remove it",
}
CONNECTED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # what a shell has connected may take its time
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
_CURLED = re.compile("[\u201c\u201d\u2018\u2019\u201e\u00ab\u00bb]")


class NotADocument(Exception):
    """The file can't be read as TOML; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the file."""

    key: str  # "listeners[0].routes[2].backend", or "" for the file as a whole
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(Exception):
    """The file can't be used; `problems` has all that is wrong with it."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"{self.path}: {problem}" for problem in self.problems)


def absolute(text: str, folder: Path) -> str:
    """A path of a file in this folder, made absolute; "" stays "": not set."""
    return text if not text or Path(text).is_absolute() else str(Path(folder, text))


def load_document(path: Path) -> dict[str, Any]:
    """The document in a configuration file. Raises ConfigError; opens no other file."""
    try:
        return read_document(path)
    except NotADocument as error:
        raise ConfigError(path, [Problem("", str(error))]) from error


def read_document(path: Path, seconds: float = READ_SECONDS) -> dict[str, Any]:
    """The document in a file that can be read in so many seconds. Raises NotADocument; opens no other file."""
    try:
        connected = str(path).startswith(CONNECTED)
        text = _text(_content(path) if connected else disk.within(str(path), lambda: _content(path), seconds))
    except disk.Hangs as error:
        raise NotADocument(f"can't be read: {error.strerror}; keep it on a local disk") from error
    except OSError as error:
        raise NotADocument(f"can't be read: {error.strerror}") from error
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise NotADocument("is not TOML for mcproxy: its arrays or tables are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; so is what int() says to a number of 5,000 digits
        raise NotADocument(_explained(str(error), text)) from error


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 of a pipe
        data = file.read(MAX_DOCUMENT + 1) if size <= MAX_DOCUMENT else b""
    if max(size, len(data)) > MAX_DOCUMENT:
        raise NotADocument(f"is larger than {MAX_DOCUMENT >> 20} MiB; is this the right file?")
    return data


def _text(data: bytes) -> str:
    """UTF-8, with or without the mark that editors of Windows put before it. Raises NotADocument."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise NotADocument("is UTF-16, as some editors of Windows write it; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotADocument(f"line {line}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _explained(said: str, text: str) -> str:
    """The message of tomllib about a text, in our words and with the offending line."""
    place = _PLACE.search(said)
    if place is None:
        return f"is not TOML: {said}"
    lines = text.splitlines()
    number = int(place[1]) if place[1] else len(lines)
    line = lines[number - 1].strip() if number <= len(lines) else ""
    if "://" in line:  # which may hold a password
        line = line.partition("://")[0] + "://..."
    at = f"line {number}, column {place[2]}" if place[1] else f"line {number}, at the end of the file"
    shown = printable(line[:MAX_SHOWN_LINE]) + ("..." if len(line) > MAX_SHOWN_LINE else "")
    return f"{at}: is not TOML: {_remedy(said[: place.start()], line)}" + (f": {shown}" if shown else "")


def _remedy(said: str, line: str) -> str:
    if _CURLED.search(line):
        return 'these quotes are curly; write straight ones: "'
    return next((remedy for begin, remedy in _REMEDIES.items() if said.startswith(begin)), said)
