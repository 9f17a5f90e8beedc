"""A change is one value before and after: the form of mutations for the database, the table and the audit alike.

Adding has no old value, removing no new one. A mutation is some changes that go in together, with one new generation.
Undoing one is changing back; going back to a generation is undoing all that came after it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from mcproxy.changed_routes import changed_routes
from mcproxy.model import FirewallRule, Listener, Route, RuleKind
from mcproxy.policy.firewall import Firewall
from mcproxy.policy.networks import pack
from mcproxy.table import ListenerTable, Table

FEW_RULES = 32  # changes of rules that are made one by one (about 2 ms each at 100,000); more are compiled together

Value = Listener | Route | FirewallRule


class What(StrEnum):
    """The kind of a value that changed."""

    LISTENER = "listener"
    ROUTE = "route"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Key:
    """Identifies a value: a listener by its address, a route by listener and name, a rule by kind and value."""

    what: What
    scope: str  # the listener of a route, the kind of a rule, "" for a listener
    name: str

    def __str__(self) -> str:
        match self.what:
            case What.ROUTE:
                return f"route {self.name} on {self.scope}"
            case What.RULE:
                return f"firewall rule {self.scope} {self.name}"
            case What.LISTENER:
                return f"listener {self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One value, before and after."""

    key: Key
    old: Value | None
    new: Value | None


@dataclass(frozen=True, slots=True)
class Said:
    """Claims of a caller, which are not verified."""

    claim: str = ""  # who it is: the user that sudo was run by
    comment: str = ""  # why it makes the change


@dataclass(frozen=True, slots=True)
class Provenance:
    """The author of a change, its action and its time."""

    who: str
    action: str
    at: float  # seconds since the epoch
    said: Said = Said()
    node: str = ""  # of a fleet, that it was made on


def listener_key(addr: str) -> Key:
    """The key of a listener."""
    return Key(What.LISTENER, "", addr)


def route_key(addr: str, hostname: str) -> Key:
    """The key of a route."""
    return Key(What.ROUTE, addr, hostname)


def rule_key(kind: str, value: str) -> Key:
    """The key of a rule; the value is in canonical form."""
    return Key(What.RULE, str(kind), value)


def values(listeners: Iterable[tuple[Listener, Iterable[Route]]], rules: Iterable[FirewallRule]) -> dict[Key, Value]:
    """Every value under its key."""
    found: dict[Key, Value] = {}
    for listener, routes in listeners:
        found[listener_key(listener.addr)] = listener
        found.update((route_key(listener.addr, route.hostname), route) for route in routes)
    found.update((rule_key(rule.kind, rule.value), rule) for rule in rules)
    return found


def table_values(table: Table) -> dict[Key, Value]:
    """Every value of a table under its key."""
    return values(((t.listener, t.routes.values()) for t in table.listeners.values()), table.firewall.rules())


def current(table: Table, key: Key) -> Value | None:
    """The value that a table has under a key."""
    match key.what:
        case What.LISTENER:
            return table.listeners[key.name].listener if key.name in table.listeners else None
        case What.ROUTE:
            return table.listeners[key.scope].routes.get(key.name) if key.scope in table.listeners else None
        case What.RULE:
            return _current_rule(table.firewall, RuleKind(key.scope), key.name)


def _current_rule(firewall: Firewall, kind: RuleKind, value: str) -> FirewallRule | None:
    match kind:
        case RuleKind.IP:
            return firewall.ips.get(pack(value))
        case RuleKind.CIDR:
            return firewall.cidrs.get(value)
        case RuleKind.COUNTRY:
            return firewall.countries.get(value)


def towards(wanted: Mapping[Key, Value], table: Table, *, prune: bool) -> list[Change]:
    """The changes after which a table holds the wanted values; empty if it holds them already.

    `prune` also removes all other values but temporary rules, which end by themselves.
    """
    changes = [Change(key, old, new) for key, new in wanted.items() if (old := current(table, key)) != new]
    if prune:
        unwanted = (each for each in table_values(table).items() if each[0] not in wanted)
        changes += [Change(key, old, None) for key, old in unwanted if not is_temporary(old)]
    return changes


def is_temporary(value: Value) -> bool:
    """True if the value is a temporary rule."""
    return isinstance(value, FirewallRule) and value.expires_at is not None


def merged(changes: Iterable[Change]) -> list[Change]:
    """The changes of several mutations, in order, as if they were one's: each value once, from the first to the last.

    A listener that was removed and added again is one that has changed, or not at all.
    """
    found: dict[Key, Change] = {}
    for change in changes:
        first = found.get(change.key, change)
        found[change.key] = Change(change.key, first.old, change.new)
    return [change for change in found.values() if change.old != change.new]


def next_table(table: Table, changes: Iterable[Change], generation: int) -> Table:
    """The table after these changes. It shares everything else with the old one.

    Raises ValueError if a value can't be compiled.
    """
    listeners: dict[str, Listener] = {}
    gone: set[str] = set()
    routes: dict[str, list[Change]] = {}
    rules: list[Change] = []
    for change in changes:
        match change.key.what:
            case What.LISTENER if isinstance(change.new, Listener):
                listeners[change.key.name] = change.new
            case What.LISTENER:
                gone.add(change.key.name)
            case What.ROUTE:
                routes.setdefault(change.key.scope, []).append(change)
            case What.RULE:
                rules.append(change)
    compiled = dict(table.listeners)
    for addr in {*listeners, *routes} - gone:
        compiled[addr] = _next_listener(compiled.get(addr), listeners.get(addr), routes.get(addr, ()))
    for addr in gone:
        compiled.pop(addr, None)
    return Table(generation, compiled, _next_firewall(table.firewall, rules))


def _next_listener(old: ListenerTable | None, listener: Listener | None, changes: Iterable[Change]) -> ListenerTable:
    changed = {change.key.name: change.new if isinstance(change.new, Route) else None for change in changes}
    routes = changed_routes(old.routes if old else {}, changed)
    if listener is not None:
        return ListenerTable.build(listener, routes.values())
    if old is None:
        raise ValueError("a route needs its listener")
    return replace(old, routes=routes)


def _next_firewall(firewall: Firewall, changes: list[Change]) -> Firewall:
    if len(changes) > FEW_RULES:
        rules = {rule_key(rule.kind, rule.value): rule for rule in firewall.rules()}
        for change in changes:
            rules.pop(change.key, None)
            if isinstance(change.new, FirewallRule):
                rules[change.key] = change.new
        return Firewall.compile(rules.values())
    for change in changes:
        if isinstance(change.new, FirewallRule):
            firewall = firewall.with_rule(change.new)
        elif isinstance(change.old, FirewallRule):
            firewall = firewall.without_rule(change.old.kind, change.old.value)
    return firewall
