"""What each mutation changes, decided against the table that is in force: values in, changes or a refusal out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mcproxy.admin.errors import AlreadyThere, InvalidField, NotThere, TooMany
from mcproxy.change import Change, Key, Value, What, current, listener_key, route_key, rule_key
from mcproxy.model import FirewallRule, Listener, Route, RuleKind
from mcproxy.table import Table

MAX_LISTENERS = 1_000  # each is a descriptor or two, of the 1,024 that a process has where nobody raised the limit
MAX_ROUTES = 1_000_000  # of one listener; some 1 kB of memory each
MAX_RULES = 1_000_000  # some 300 bytes of memory each

# Decides on a table and the time (seconds since the epoch). Raises Refusal.
Decision = Callable[[Table, float], Sequence[Change]]


def put_listener(listener: Listener, *, exists: bool) -> Decision:
    """Add a listener, or change the settings of one that exists."""

    def decide(table: Table, _now: float) -> list[Change]:
        if not exists and len(table.listeners) >= MAX_LISTENERS:
            raise TooMany(f"there are {MAX_LISTENERS} listeners, which is the limit: remove one first")
        return _put(table, listener_key(listener.addr), listener, exists=exists)

    return decide


def remove_listener(addr: str) -> Decision:
    """Remove a listener with its routes."""

    def decide(table: Table, _now: float) -> list[Change]:
        listener = _remove(table, listener_key(addr))
        routes = table.listeners[addr].routes.values()
        return [*(Change(route_key(addr, route.hostname), route, None) for route in routes), listener]

    return decide


def put_route(addr: str, route: Route, *, exists: bool) -> Decision:
    """Add a route to a listener, or replace one that exists."""

    def decide(table: Table, _now: float) -> list[Change]:
        listener = only_listener(table, addr)
        if not exists and len(table.listeners[listener].routes) >= MAX_ROUTES:
            raise TooMany(f"{listener} has {MAX_ROUTES} routes, which is the limit: remove one first")
        return _put(table, route_key(listener, route.hostname), route, exists=exists)

    return decide


def remove_route(addr: str, hostname: str) -> Decision:
    """Remove a route from a listener."""
    return lambda table, _now: [_remove(table, route_key(only_listener(table, addr), hostname))]


def add_rule(rule: FirewallRule, ttl: float, *, may_exist: bool = False) -> Decision:
    """Add a rule for `ttl` seconds, or for good where that is 0. A temporary one that exists takes the new end.

    A permanent one stays as it is, which is no refusal where it `may_exist`.
    """

    def decide(table: Table, now: float) -> list[Change]:
        if len(table.firewall) >= MAX_RULES:
            raise TooMany(f"there are {MAX_RULES} firewall rules, which is the limit: remove one first")
        key = rule_key(rule.kind, rule.value)
        old = current(table, key)
        # A temporary rule never replaces a permanent one: the address would be free again when it ends.
        if isinstance(old, FirewallRule) and old.expires_at is None:
            if may_exist:
                return []
            raise AlreadyThere(f"the {key} exists, for good", key.what)
        return [Change(key, old, replace(rule, expires_at=now + ttl if ttl else None))]

    return decide


def remove_rule(kind: RuleKind, value: str) -> Decision:
    """Remove a rule."""
    return lambda table, _now: [_remove(table, rule_key(kind, value))]


def end_rules(rules: Sequence[FirewallRule]) -> Decision:
    """Remove those temporary rules that are still there as they were and have ended."""

    def decide(table: Table, now: float) -> list[Change]:
        keys = [(rule_key(rule.kind, rule.value), rule) for rule in rules if (rule.expires_at or now + 1) <= now]
        return [Change(key, rule, None) for key, rule in keys if current(table, key) == rule]

    return decide


def only_listener(table: Table, addr: str) -> str:
    """The listener that is meant; it needs no name where there is only one."""
    if addr:
        if addr not in table.listeners:
            raise NotThere(f"there is no listener {addr}; there are {_known(table)}", What.LISTENER)
        return addr
    if len(table.listeners) != 1:
        raise InvalidField("listener", f"say which one: there are {_known(table)}")
    return next(iter(table.listeners))


def _known(table: Table) -> str:
    shown = list(table.listeners)[:5]
    more = len(table.listeners) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def _put(table: Table, key: Key, value: Value, *, exists: bool) -> list[Change]:
    old = current(table, key)
    if old is not None and not exists:
        raise AlreadyThere(f"the {key} exists", key.what)
    if old is None and exists:
        raise NotThere(f"there is no {key}", key.what)
    return [] if old == value else [Change(key, old, value)]


def _remove(table: Table, key: Key) -> Change:
    old = current(table, key)
    if old is None:
        raise NotThere(f"there is no {key}", key.what)
    return Change(key, old, None)
