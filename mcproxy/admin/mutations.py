"""Decides the changes of each mutation on the table in force: values in, changes or a refusal out."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

from mcproxy.admin.errors import AlreadyThere, InvalidField, InvalidFields, NotThere, TooMany
from mcproxy.admin.explain import until
from mcproxy.change import Change, Key, Value, What, current, listener_key, route_key, rule_key, towards
from mcproxy.conflicts import clash, meet
from mcproxy.model import FirewallRule, Listener, Route, RuleKind
from mcproxy.policy.loops import LOOP, OwnListeners
from mcproxy.table import Table

MAX_LISTENERS = 1_000  # each is a descriptor or two, of the 1,024 that a process has by default
MAX_ROUTES = 1_000_000  # of one listener; some 1 kB of memory each
MAX_RULES = 1_000_000  # some 300 bytes of memory each

_LEADS_HERE = "the {} leads there, which would be a loop: change that route first"
_LEADS_AWAY = "the {} leads to another listener of these nodes, which would be a loop: change that route first"

# Decides on a table and the time (seconds since the epoch). Raises Refusal.
Decision = Callable[[Table, float], Sequence[Change]]


def put_listener(listener: Listener, *, exists: bool) -> Decision:
    """Add a listener, or replace the settings of one that exists."""

    def decide(table: Table, _now: float) -> list[Change]:
        key = listener_key(listener.addr)
        changes = _put(table, key, listener, exists=exists)
        for problem in (*_clashes(changes, table, {key: "listener"}), *_loops(changes, table, {key: "listener"})):
            raise problem
        if changes and not exists and len(table.listeners) >= MAX_LISTENERS:
            raise TooMany(f"there are {MAX_LISTENERS} listeners, which is the limit: remove one first")
        return changes

    return decide


def change_listener(addr: str, changed: Callable[[Listener], Listener]) -> Decision:
    """Change some settings of a listener: `changed` returns it with them, from what it is at this change's turn."""

    def decide(table: Table, now: float) -> Sequence[Change]:
        listener = changed(table.listeners[only_listener(table, addr)].listener)
        return put_listener(listener, exists=True)(table, now)

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
        key = route_key(listener, route.hostname)
        changes = _put(table, key, route, exists=exists)
        for problem in _loops(changes, table, {key: "route"}):
            raise problem
        if changes and not exists and len(table.listeners[listener].routes) >= MAX_ROUTES:
            raise TooMany(f"{listener} has {MAX_ROUTES} routes, which is the limit: remove one first")
        return changes

    return decide


def change_route(addr: str, hostname: str, changed: Callable[[Route], Route]) -> Decision:
    """Change some settings of a route: `changed` returns it with them, from what it is at this change's turn.

    So changes of one route that race lose nothing of each other, and none is refused for it.
    """

    def decide(table: Table, now: float) -> Sequence[Change]:
        return put_route(addr, changed(present_route(table, addr, hostname)), exists=True)(table, now)

    return decide


def present_route(table: Table, addr: str, hostname: str) -> Route:
    """The route of a name. Raises NotThere."""
    key = route_key(only_listener(table, addr), hostname)
    found = current(table, key)
    if not isinstance(found, Route):
        raise NotThere(f"there is no {key}", key)
    return found


def remove_route(addr: str, hostname: str) -> Decision:
    """Remove a route from a listener."""
    return lambda table, _now: [_remove(table, route_key(only_listener(table, addr), hostname))]


def add_rule(rule: FirewallRule, ttl: float, *, may_replace: bool = False, may_stay: bool = False) -> Decision:
    """Add a rule for `ttl` seconds, or permanently if that is 0. A temporary one that exists takes the new end.

    A permanent one becomes temporary, or the reverse, only where it `may_replace`; a permanent one `may_stay` instead.
    """

    def decide(table: Table, now: float) -> list[Change]:
        key = rule_key(rule.kind, rule.value)
        new = replace(rule, expires_at=now + ttl if ttl else None)
        old = current(table, key)
        assert old is None or isinstance(old, FirewallRule)
        if old == new:
            return []
        if old is None and len(table.firewall) >= MAX_RULES:
            raise TooMany(f"there are {MAX_RULES} firewall rules, which is the limit: remove one first")
        if old is not None and not may_replace and (refusal := _turned(old, new, now)):
            if may_stay and old.expires_at is None:
                return []
            raise AlreadyThere(f"the {key} {refusal}", key.what)
        return [Change(key, old, new)]

    return decide


def _turned(old: FirewallRule, new: FirewallRule, now: float) -> str:
    """The end of a refusal to make a permanent rule temporary, or the reverse; "" if this does neither."""
    if old.expires_at is None:
        return "is permanent and would become temporary" if new.expires_at is not None else ""
    has_ended = old.expires_at <= now  # and is removed in a moment
    return "" if has_ended or new.expires_at is not None else f"is temporary,{until(old)}, and would become permanent"


def remove_rule(kind: RuleKind, value: str) -> Decision:
    """Remove a rule."""
    return lambda table, _now: [_remove(table, rule_key(kind, value))]


def end_rules(rules: Sequence[FirewallRule]) -> Decision:
    """Remove those temporary rules that are still there as they were and have ended."""

    def decide(table: Table, now: float) -> list[Change]:
        keys = [(rule_key(rule.kind, rule.value), rule) for rule in rules if (rule.expires_at or now + 1) <= now]
        return [Change(key, rule, None) for key, rule in keys if current(table, key) == rule]

    return decide


def apply(wanted: Mapping[Key, Value], places: Mapping[Key, str], *, prune: bool) -> Decision:
    """Make everything as it is wanted; `places` has where each value is in the request, for what is refused."""

    def decide(table: Table, _now: float) -> list[Change]:
        if prune and table.listeners and not any(key.what is What.LISTENER for key in wanted):
            raise InvalidField("options.prune", "would remove every listener: keep at least one")
        changes = towards(wanted, table, prune=prune)
        problems = [*_clashes(changes, table, places), *_loops(changes, table, places)]
        if problems:
            raise InvalidFields(problems)
        _refuse_too_many(changes, table)
        return changes

    return decide


def _clashes(changes: Sequence[Change], table: Table, places: Mapping[Key, str]) -> Iterator[InvalidField]:
    """Listeners whose address the kernel of some node refuses beside another's: new ones, and those of other nodes now.

    Also where that other one is to be removed: it is closed after the commit, when the new ones are bound already.
    """
    spreading = spread(changes)
    nodes = {**_nodes_of(table), **{addr: each.nodes for addr, each in spreading.items()}}
    by_port: dict[str, list[str]] = {}
    for addr in nodes:
        by_port.setdefault(addr.rpartition(":")[2], []).append(addr)
    for here in spreading:
        others = [addr for addr in by_port[here.rpartition(":")[2]] if addr != here and meet(nodes[addr], nodes[here])]
        if other := clash(here, others):
            remedy = f"remove {other} first" if other in table.listeners else "remove one of them"
            place = places[listener_key(here)]
            yield InvalidField(f"{place}.addr", f"{here} and {other} can't both be listened on; {remedy}")


def _loops(changes: Sequence[Change], table: Table, places: Mapping[Key, str]) -> Iterator[InvalidField]:
    """Routes that lead to a listener of a node that has both: of new or changed routes, and of listeners likewise."""
    removed = {change.key.name for change in changes if isinstance(change.old, Listener) and change.new is None}
    spreading = spread(changes)
    nodes = {**_nodes_of(table), **{addr: each.nodes for addr, each in spreading.items()}}
    nodes = {addr: each for addr, each in nodes.items() if addr not in removed}
    ours = _Ours(nodes)
    routes = {change.key for change in changes if change.key.what is What.ROUTE}
    for change in changes:
        if isinstance(change.new, Route) and (taken := ours.reached(change.key.scope, change.new)):
            yield InvalidField(f"{places[change.key]}.backend", LOOP.format(change.new.backend, taken))
    for addr in spreading:
        if key := _leading_to(addr, table, nodes, routes):
            yield InvalidField(f"{places[listener_key(addr)]}.addr", _LEADS_HERE.format(key))
        elif key := _leading_from(addr, table, ours, routes):
            yield InvalidField(f"{places[listener_key(addr)]}.nodes", _LEADS_AWAY.format(key))


def spread(changes: Iterable[Change]) -> dict[str, Listener]:
    """By address, listeners that more nodes may have after these changes: new ones, and those that name others."""
    return {
        change.key.name: change.new
        for change in changes
        if isinstance(change.new, Listener)
        and not (isinstance(change.old, Listener) and change.old.nodes == change.new.nodes)
    }


def _nodes_of(table: Table) -> dict[str, tuple[str, ...]]:
    return {addr: each.listener.nodes for addr, each in table.listeners.items()}


class _Ours:
    """Which listeners a node has beside the one of a route."""

    def __init__(self, nodes: Mapping[str, tuple[str, ...]]) -> None:
        """`nodes` are those that each listener names."""
        self._nodes = nodes
        self._beside: dict[tuple[str, ...], OwnListeners] = {}  # by the nodes of the route's listener

    def reached(self, addr: str, route: Route) -> str:
        """The listener that a route of the listener `addr` leads to, on a node that has both; "" if none."""
        named = self._nodes.get(addr, ())
        if named not in self._beside:
            self._beside[named] = OwnListeners(each for each, nodes in self._nodes.items() if meet(nodes, named))
        return self._beside[named].reached_by(route.backend)


def _leading_to(addr: str, table: Table, nodes: Mapping[str, tuple[str, ...]], but: Collection[Key] = ()) -> Key | None:
    """A route whose backend a listener on `addr` would be."""
    it = OwnListeners((addr,))
    for other, listener in table.listeners.items():
        if meet(nodes.get(other, ()), nodes[addr]):
            for route in listener.routes.values():
                if it.reached_by(route.backend) and (key := route_key(other, route.hostname)) not in but:
                    return key
    return None


def _leading_from(addr: str, table: Table, ours: _Ours, but: Collection[Key]) -> Key | None:
    """A route of a listener that leads to one which a node has beside it now."""
    routes = table.listeners[addr].routes.values() if addr in table.listeners else ()
    keys = (route_key(addr, route.hostname) for route in routes if ours.reached(addr, route))
    return next((key for key in keys if key not in but), None)


def _refuse_too_many(changes: Sequence[Change], table: Table) -> None:
    """Raise TooMany if there would be more of a kind than may be."""
    grown = Counter[tuple[What, str]]()
    for change in changes:
        scope = change.key.scope if change.key.what is What.ROUTE else ""
        grown[change.key.what, scope] += (change.new is not None) - (change.old is not None)
    for (what, scope), growth in grown.items():
        match what:
            case What.LISTENER:
                present, most, kind = len(table.listeners), MAX_LISTENERS, "listeners"
            case What.ROUTE:
                routes = table.listeners[scope].routes if scope in table.listeners else ()
                present, most, kind = len(routes), MAX_ROUTES, f"routes on {scope}"
            case What.RULE:
                present, most, kind = len(table.firewall), MAX_RULES, "firewall rules"
        if growth > 0 and present + growth > most:
            raise TooMany(f"there would be {present + growth} {kind}; the limit is {most}")


def only_listener(table: Table, addr: str) -> str:
    """The listener that is meant; it needs no name where there is only one."""
    if addr:
        if addr not in table.listeners:
            raise NotThere(f"there is no listener {addr}; {_known(table)}", listener_key(addr))
        return addr
    if len(table.listeners) != 1:
        raise InvalidField("listener", f"name one; {_known(table)}")
    return next(iter(table.listeners))


def _known(table: Table) -> str:
    shown = list(table.listeners)[:5]
    more = len(table.listeners) - len(shown)
    known = ", ".join(shown) + (f" and {more} more" if more else "")
    return f"the listeners are {known}" if known else "there are no listeners"


def _put(table: Table, key: Key, value: Value, *, exists: bool) -> list[Change]:
    old = current(table, key)
    if old is None and exists:
        raise NotThere(f"there is no {key}", key)
    if old == value:
        return []
    if old is not None and not exists:
        raise AlreadyThere(f"the {key} exists, with {_differing(old, value)}", key.what)
    return [Change(key, old, value)]


def _differing(old: Value, new: Value) -> str:
    """The fields of the old value that the new one has not."""
    names = [field.name for field in fields(old) if getattr(old, field.name) != getattr(new, field.name)]
    return ", ".join(f"{name} {_text(getattr(old, name))}" for name in names)


def _text(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(value) or "empty"
    return str(value) or "empty"


def _remove(table: Table, key: Key) -> Change:
    old = current(table, key)
    if old is None:
        raise NotThere(f"there is no {key}", key)
    return Change(key, old, None)
