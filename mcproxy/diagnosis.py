"""Turns pydantic's errors into messages for operators: the place, what is wrong, and what to write there.

Messages of our own validators are kept. For the others the model of the tables shows which keys a table has, and in
which table a misplaced key belongs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mcproxy.notation.address import MAX_PORT
from mcproxy.settings import MAX_COUNT, bound
from mcproxy.words import VERY_NEAR, meant, quoted

Location = tuple[int | str, ...]  # of a value: ("listeners", 0, "addr")
Model = type[BaseModel]

# What to write for a key, where its type alone doesn't show it.
_EXAMPLES = {
    "addr": '":443"',
    "backend": '"127.0.0.1:8080"',
    "hostname": '"www.example.org"',
    "path": '"mcproxy.db"',
    "tls_cert": '"www.pem"',
    "tls_key": '"www.key"',
    "backend_ca": '"ca.pem"',
    "backend_server_name": '"www.example.org"',
    "client_ca": '"ca.pem"',
    "client_cert": '"me.pem"',
    "client_key": '"me.key"',
    "server_ca": '"ca.pem"',
    "geoip_db": '"country.mmdb"',
    "trusted_proxies": '["192.0.2.0/24"]',
    "nodes": '["edge1"]',
    "blocked_ips": '["192.0.2.1"]',
    "blocked_cidrs": '["192.0.2.0/24"]',
    "blocked_countries": '["AQ"]',
}
_YES = {"true", "yes", "on", "1"}
_NO = {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A value that pydantic refuses."""

    location: Location
    value: Any
    context: Mapping[str, Any]  # pydantic's: what was expected
    model: Model  # of the whole

    @property
    def name(self) -> str:
        """The key, or that of the array that it is in."""
        return self.names[-1] if self.names else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The keys on the way, without the places in arrays."""
        return tuple(part for part in self.location if isinstance(part, str))

    @property
    def within_array(self) -> bool:
        """True if it is an element of an array."""
        return isinstance(self.location[-1], int)

    @property
    def header(self) -> str:
        """The header of the table that should be here; "" if none should."""
        return next((table.header for table in _tables(self.model) if table.path == self.names), "")


def problems(error: ValidationError, model: Model, table: Location = ()) -> Iterator[tuple[str, str]]:
    """The key and the message of each problem; `model` is of the whole, of which `table` was validated."""
    for details in error.errors(include_url=False):
        wrong = _Wrong((*table, *details["loc"]), details["input"], details.get("ctx", {}), model)
        say = _MESSAGES.get(details["type"])
        yield key(wrong.location), say(wrong) if say else details["msg"]


def key(location: Location) -> str:
    """A place as a path of keys: "listeners[0].routes[2].backend"."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part)
            path += f".{name}" if path else name
    return path


# --- keys -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that the file may have."""

    path: tuple[str, ...]
    model: Model
    header: str  # as it is written: "[[listeners.routes]]"; "" for the top of the file


def _tables(model: Model, path: tuple[str, ...] = (), *, repeated: bool = False) -> Iterator[_Table]:
    """The table of this model and all within it."""
    name = ".".join(path)
    yield _Table(path, model, f"[[{name}]]" if repeated else f"[{name}]" if name else "")
    for key_of, field in model.model_fields.items():
        if inner := _model_in(field.annotation):
            yield from _tables(inner, (*path, key_of), repeated=get_origin(field.annotation) is tuple)


def _model_in(annotation: Any) -> Model | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _missing(wrong: _Wrong) -> str:
    if header := wrong.header:
        inner = next(table for table in _tables(wrong.model) if table.header == header)
        fields = inner.model.model_fields
        first = next((name for name, field in fields.items() if field.is_required()), next(iter(fields)))
        return f"is required; write {header}, and below it {_line(first)}"
    return f"is required; write {_line(wrong.name)}"


def _unknown(wrong: _Wrong) -> str:
    """The message for a key that its table doesn't have: it belongs in another one, or is misspelt."""
    *path, name = wrong.names
    tables = list(_tables(wrong.model))
    here = next(table for table in tables if table.path == tuple(path))
    headers = {table.path[-1]: table.header for table in tables if table.path}
    if name in headers and isinstance(wrong.value, dict | list):
        return f"belongs elsewhere; write {headers[name]}"
    if homes := [table.header for table in tables if name in table.model.model_fields and name not in headers]:
        return f"belongs in {' or '.join(homes)}"
    a_table = isinstance(wrong.value, dict)
    candidates = [each for each in here.model.model_fields if each in headers or not a_table]
    if near := meant(name, candidates):
        return f"is not a key here; did you mean {headers.get(near, near)}?"
    owners = {each: table.header for table in tables for each in table.model.model_fields if table.path and not a_table}
    if near := meant(name, owners, VERY_NEAR):
        return f"is not a key here; did you mean {near} of {owners[near]}?"
    known = ", ".join(headers.get(each, each) for each in here.model.model_fields)
    return f"is not a key here; {here.header or 'the file'} has {known}"


# --- values -----------------------------------------------------------------------------------------------------------


def _line(name: str, value: str = "") -> str:
    """A line as it should be in the file."""
    return f"{name} = {value or _EXAMPLES.get(name, quoted('...'))}"


def _own(wrong: _Wrong) -> str:
    return str(wrong.context["error"])


def _word(wrong: _Wrong) -> str:
    expected = str(wrong.context["expected"])  # 'l4' or 'l7'
    near = meant(wrong.value, re.findall("'([^']*)'", expected)) if isinstance(wrong.value, str) else ""
    expected = expected.replace("'", '"')
    return f"must be {expected}" + (f"; did you mean {quoted(near)}?" if near else "")


def _string(wrong: _Wrong) -> str:
    value, name = wrong.value, wrong.name
    if name in {"addr", "backend"} and type(value) is int and 0 < value <= MAX_PORT:
        host = "" if wrong.names[0] == "listeners" and name == "addr" else "127.0.0.1"
        return f"must be a string; write {_line(name, quoted(f'{host}:{value}'))}"
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and not wrong.within_array:
        return f"must be a string, not an array; write {_line(name, quoted(value[0]))}"
    return f"must be a string, not {_kind(value)}; write {_line(name)}"


def _whole_number(wrong: _Wrong) -> str:
    return _number(wrong, "a whole number")


def _number(wrong: _Wrong, kind: str = "a number") -> str:
    value = wrong.value
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,20}", value.strip()):
        return f"must be {kind}; write {_line(wrong.name, value.strip())}, without quotes"
    if isinstance(value, float) and value.is_integer():
        return f"must be {kind}; write {_line(wrong.name, str(int(value)))}"
    return f"must be {kind}, not {_kind(value)}; write {_line(wrong.name, '100')}"


def _switch(wrong: _Wrong) -> str:
    word = str(wrong.value).strip().lower()
    if word not in _YES | _NO:
        return f"must be true or false, not {_kind(wrong.value)}"
    quotes = ", without quotes" if isinstance(wrong.value, str) else ""
    return f"must be true or false; write {_line(wrong.name, 'true' if word in _YES else 'false')}{quotes}"


def _array(wrong: _Wrong) -> str:
    if header := wrong.header:
        if isinstance(wrong.value, dict):
            return f"must be an array of tables; write {header}, in double brackets"
        return f"must be an array of tables, not {_kind(wrong.value)}; write {header}, and its keys below it"
    if isinstance(wrong.value, str) and wrong.value:
        return f"must be an array; write {_line(wrong.name, f'[{quoted(wrong.value)}]')}"
    return f"must be an array, not {_kind(wrong.value)}; write {_line(wrong.name)}"


def _table(wrong: _Wrong) -> str:
    if isinstance(wrong.value, list) and not wrong.within_array:
        return f"must be one table; write {wrong.header}, in single brackets"
    return f"must be a table, not {_kind(wrong.value)}; write {wrong.header}, and its keys below it"


def _kind(value: Any) -> str:
    """The kind of a TOML value, for a sentence."""
    match value:
        case bool():
            return f"{value}".lower()
        case int():
            return "a number"
        case float():
            return f"{value:g}"
        case str():
            return quoted(value)
        case list():
            return "an array"
        case dict():
            return "a table"
    return "a date or a time"


# By pydantic's type of the error.
_MESSAGES: Mapping[str, Callable[[_Wrong], str]] = {
    "value_error": _own,
    "missing": _missing,
    "extra_forbidden": _unknown,
    "enum": _word,
    "literal_error": _word,
    "string_type": _string,
    "string_too_short": lambda wrong: f"must not be empty; write {_line(wrong.name)}",
    "int_type": _whole_number,
    "int_from_float": _whole_number,
    "int_parsing_size": lambda _: "is too large",
    "float_type": _number,
    "finite_number": lambda _: "must be a finite number",
    "bool_type": _switch,
    "tuple_type": _array,
    "model_type": _table,
    "model_attributes_type": _table,
    "greater_than": lambda wrong: f"must be more than {wrong.context['gt']:g}; write {_line(wrong.name, quoted('5s'))}",
    "greater_than_equal": lambda wrong: bound("at least", wrong.context["ge"], unlimited=0),
    "less_than_equal": lambda wrong: bound("at most", wrong.context["le"], unlimited=MAX_COUNT),
}
