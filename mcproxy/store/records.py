"""Rows <-> values <-> JSON: the columns of each table, and nothing about when they are read or written.

The tables are named here once more, without types, for queries; migrations (schema.py) made them. A row is the value's
own fields, with texts for types that SQL lacks. The JSON in the audit has the same fields.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import TableClause, column, table

from mcproxy.change import Key, Value, What
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS, FirewallRule, Listener, Route, RuleKind
from mcproxy.notation.address import parse_backend, parse_listen
from mcproxy.policy import firewall
from mcproxy.policy.networks import canonical_network
from mcproxy.settings import LISTS, Field, Kind, fields_of
from mcproxy.store.schema import VERSION_TABLE
from mcproxy.words import printable, quoted

Row = Mapping[str, Any]

# What reading a row may raise that somebody has written by hand; SQLite takes any type in any column.
INVALID: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
MAX_PROBLEM = 200  # characters of what is wrong in a row: one line of a log
BY_HAND = "nothing of mcproxy writes that: correct or delete the row by hand, or restore a backup"

# How a value of a kind is written where SQL and JSON have no type for it, and read back.
_TO_ROW: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    Kind.BACKEND: str, Kind.WORD: str, **dict.fromkeys(LISTS, " ".join),
}  # fmt: skip


def _as_it_is(value: Any) -> Any:
    return value


def _reading(field: Field) -> Callable[[Any], Any]:
    match field.kind:
        case Kind.BACKEND:
            return parse_backend
        case Kind.LISTEN:
            return _listen
        case Kind.WORD | Kind.SWITCH:  # SQLite has a boolean as a number
            return field.type
        case Kind.NETWORKS:
            return _networks
        case Kind.NODES:
            return _texts
        case Kind.COUNT:
            return _count
        case Kind.HOSTNAME | Kind.FILE:
            return _text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{quoted(str(value))} is not a text")
    return value


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _networks(text: str) -> tuple[str, ...]:
    found = _texts(text)
    for each in found:
        canonical_network(each)
    return found


def _listen(text: str) -> str:
    parse_listen(text)
    return text


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{quoted(str(value))} is not a number")
    return value


def _rule_fields(value: Value) -> dict[str, Any]:
    assert isinstance(value, FirewallRule)
    return {"kind": str(value.kind), "value": value.value, "expires_at": value.expires_at}


def _rule(row: Row) -> FirewallRule:
    return firewall.rule(RuleKind(row["kind"]), row["value"], _end(row["expires_at"]))


def _end(value: Any) -> float | None:
    return None if value is None else float(value)


def _declared(table: TableClause, scope: str, declaring: type[Listener] | type[Route]) -> "Record":
    """The record of a value whose fields are declared; the first one names it."""
    fields = fields_of(declaring)
    writing = {field.name: _TO_ROW.get(field.kind, _as_it_is) for field in fields}
    reading = [(field.name, _reading(field)) for field in fields]

    def to_row(value: Value) -> dict[str, Any]:
        return {name: write(getattr(value, name)) for name, write in writing.items()}

    def from_row(row: Row) -> Value:
        return declaring(*[read(row[name]) for name, read in reading])

    unset = {field.name: writing[field.name](field.default) for field in fields if field.has_default}
    return Record(table, scope, fields[0].name, to_row, from_row, unset, dict(reading))


@dataclass(frozen=True, slots=True)
class Record:
    """How one kind of value is stored."""

    table: TableClause
    scope: str  # the column of `Key.scope`, "" where it has none
    name: str  # the column of `Key.name`
    fields: Callable[[Value], dict[str, Any]]
    value: Callable[[Row], Value]  # raises one of INVALID
    unset: Row  # the defaults, for JSON that was written before a field was there
    reading: Mapping[str, Callable[[Any], Any]]  # how each column is read

    def key(self, key: Key) -> dict[str, str]:
        """The primary key's columns."""
        return {**({self.scope: key.scope} if self.scope else {}), self.name: key.name}

    def row(self, key: Key, value: Value) -> dict[str, Any]:
        """The whole row."""
        return {**self.fields(value), **self.key(key)}


def _table(name: str, *columns: str) -> TableClause:
    return table(name, *map(column, columns))


LISTENERS: Final = _table("listeners", *(field.name for field in LISTENER_FIELDS))
ROUTES: Final = _table("routes", "listener", *(field.name for field in ROUTE_FIELDS))
RULES: Final = _table("firewall_rules", "kind", "value", "expires_at")
_AUDIT = (
    "generation", "sequence", "at", "who", "action", "what", "scope", "name", "old", "new", "claim", "comment", "node",
)  # fmt: skip
AUDIT: Final = _table("audit", *_AUDIT)
_NODES = (
    "name", "identity", "version", "generation", "connections", "warnings", "started_at", "seen_at",
    "acme_version",
)  # fmt: skip
NODES: Final = _table("nodes", *_NODES)
ACME_HEAD: Final = _table("acme_head", "version", "orderer")  # its only row: see fleet/lead.py
VERSIONS: Final = _table(VERSION_TABLE, "version")
HEAD: Final = _table("head", "generation")  # its only row has the last generation

RECORDS: Final[Mapping[What, Record]] = {
    What.LISTENER: _declared(LISTENERS, "", Listener),
    What.ROUTE: _declared(ROUTES, "listener", Route),
    What.RULE: Record(RULES, "kind", "value", _rule_fields, _rule, {}, {"kind": RuleKind, "expires_at": _end}),
}


def misread(what: What, row: Row, error: Exception) -> str:
    """Which column of which row can't be read, and why: `error` is what reading the row has raised."""
    record = RECORDS[what]
    named = ", ".join(f"{name} {quoted(str(row.get(name)))}" for name in (record.scope, record.name) if name)
    column, problem = record.name, error
    for name, read in record.reading.items():
        try:
            read(row[name])
        except INVALID as found:
            column, problem = name, found
            break
    return f"table {record.table.name}, the row with {named}, column {column} can't be read: {reason(problem)}"


def reason(error: Exception) -> str:
    """An error of reading a row, in one line."""
    return printable(" ".join(str(error).split()))[:MAX_PROBLEM] or type(error).__name__


def to_json(what: What, value: Value | None) -> str | None:
    """The value's fields as JSON; None for no value."""
    return None if value is None else json.dumps(RECORDS[what].fields(value), separators=(",", ":"))


def from_json(what: What, text: str | None) -> Value | None:
    """The value that `to_json` wrote, or a version that knew fewer fields did. Raises ValueError."""
    if text is None:
        return None
    record = RECORDS[what]
    try:
        return record.value({**record.unset, **json.loads(text)})
    except INVALID as error:
        raise ValueError(reason(error)) from None
