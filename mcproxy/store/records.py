"""Rows <-> values <-> JSON: the columns of each table, and nothing about when they are read or written.

The tables are named here once more, without types, for queries; migrations (schema.py) made them. A row is the value's
own fields, with texts for what SQL has no type for. The JSON in the audit has the same fields.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import TableClause, column, table

from mcproxy.change import Key, Value, What
from mcproxy.model import FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.wire.address import parse_backend

Row = Mapping[str, Any]


def _listener_fields(value: Value) -> dict[str, Any]:
    assert isinstance(value, Listener)
    return {
        "addr": value.addr,
        "proxy_protocol": value.proxy_protocol,
        "trusted_proxies": " ".join(value.trusted_proxies),
        "max_connections": value.max_connections,
    }


def _listener(row: Row) -> Listener:
    return Listener(
        row["addr"], bool(row["proxy_protocol"]), tuple(row["trusted_proxies"].split()), row["max_connections"]
    )


def _route_fields(value: Value) -> dict[str, Any]:
    assert isinstance(value, Route)
    return {
        "hostname": value.hostname,
        "backend": str(value.backend),
        "mode": str(value.mode),
        "tls_cert": value.tls_cert,
        "tls_key": value.tls_key,
        "backend_tls": value.backend_tls,
        "backend_ca": value.backend_ca,
        "backend_server_name": value.backend_server_name,
        "send_proxy_protocol": value.send_proxy_protocol,
    }


def _route(row: Row) -> Route:
    return Route(
        row["hostname"],
        parse_backend(row["backend"]),
        Mode(row["mode"]),
        row["tls_cert"],
        row["tls_key"],
        bool(row["backend_tls"]),
        row["backend_ca"],
        row["backend_server_name"],
        bool(row["send_proxy_protocol"]),
    )


def _rule_fields(value: Value) -> dict[str, Any]:
    assert isinstance(value, FirewallRule)
    return {"kind": str(value.kind), "value": value.value, "expires_at": value.expires_at}


def _rule(row: Row) -> FirewallRule:
    return FirewallRule(RuleKind(row["kind"]), row["value"], row["expires_at"])


@dataclass(frozen=True, slots=True)
class Record:
    """How one kind of value is stored."""

    table: TableClause
    scope: str  # the column of `Key.scope`, "" where it has none
    name: str  # the column of `Key.name`
    fields: Callable[[Value], dict[str, Any]]
    value: Callable[[Row], Value]

    def key(self, key: Key) -> dict[str, str]:
        """The primary key's columns."""
        return {**({self.scope: key.scope} if self.scope else {}), self.name: key.name}

    def row(self, key: Key, value: Value) -> dict[str, Any]:
        """The whole row."""
        return {**self.fields(value), **self.key(key)}


def _table(name: str, *columns: str) -> TableClause:
    return table(name, *map(column, columns))


LISTENERS: Final = _table("listeners", "addr", "proxy_protocol", "trusted_proxies", "max_connections")
ROUTES: Final = _table(
    "routes",
    "listener",
    "hostname",
    "backend",
    "mode",
    "tls_cert",
    "tls_key",
    "backend_tls",
    "backend_ca",
    "backend_server_name",
    "send_proxy_protocol",
)
RULES: Final = _table("firewall_rules", "kind", "value", "expires_at")
AUDIT: Final = _table("audit", "generation", "sequence", "at", "who", "action", "what", "scope", "name", "old", "new")

RECORDS: Final[Mapping[What, Record]] = {
    What.LISTENER: Record(LISTENERS, "", "addr", _listener_fields, _listener),
    What.ROUTE: Record(ROUTES, "listener", "hostname", _route_fields, _route),
    What.RULE: Record(RULES, "kind", "value", _rule_fields, _rule),
}


def to_json(what: What, value: Value | None) -> str | None:
    """The value's fields as JSON; None for none."""
    return None if value is None else json.dumps(RECORDS[what].fields(value), separators=(",", ":"))


def from_json(what: What, text: str | None) -> Value | None:
    """The value that `to_json` wrote."""
    return None if text is None else RECORDS[what].value(json.loads(text))
