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
from mcproxy.notation.address import parse_backend
from mcproxy.settings import LISTS, Field, Kind, fields_of
from mcproxy.store.schema import VERSION_TABLE

Row = Mapping[str, Any]

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
        case Kind.WORD | Kind.SWITCH:  # SQLite has a boolean as a number
            return field.type
        case Kind.NETWORKS | Kind.NODES:
            return _texts
    return _as_it_is


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _rule_fields(value: Value) -> dict[str, Any]:
    assert isinstance(value, FirewallRule)
    return {"kind": str(value.kind), "value": value.value, "expires_at": value.expires_at}


def _rule(row: Row) -> FirewallRule:
    return FirewallRule(RuleKind(row["kind"]), row["value"], row["expires_at"])


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
    return Record(table, scope, fields[0].name, to_row, from_row, unset)


@dataclass(frozen=True, slots=True)
class Record:
    """How one kind of value is stored."""

    table: TableClause
    scope: str  # the column of `Key.scope`, "" where it has none
    name: str  # the column of `Key.name`
    fields: Callable[[Value], dict[str, Any]]
    value: Callable[[Row], Value]
    unset: Row  # the defaults, for JSON that was written before a field was there

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
    What.RULE: Record(RULES, "kind", "value", _rule_fields, _rule, {}),
}


def to_json(what: What, value: Value | None) -> str | None:
    """The value's fields as JSON; None for no value."""
    return None if value is None else json.dumps(RECORDS[what].fields(value), separators=(",", ":"))


def from_json(what: What, text: str | None) -> Value | None:
    """The value that `to_json` wrote, or a version that knew fewer fields did."""
    if text is None:
        return None
    record = RECORDS[what]
    return record.value({**record.unset, **json.loads(text)})
