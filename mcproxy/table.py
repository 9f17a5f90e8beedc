"""The table: everything that decides where a connection goes, compiled, frozen, published by one assignment.

A reader takes `live.table` once a connection and keeps it; it needs no lock, because a table never changes. A writer
builds the next table and assigns it: connections that began with the old one finish with the old one (RCU). A changed
table shares with its predecessor whatever did not change, so that one new route among 100,000 costs one copied
dictionary of references and nothing else.

A table holds values only (no sockets, no contexts), so it can be pickled and handed to another process.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mcproxy.model import FirewallRule, Listener, Route, RuleKind
from mcproxy.policy.firewall import Firewall
from mcproxy.policy.networks import Networks


@dataclass(frozen=True, slots=True, repr=False)
class ListenerTable:
    """One listener with what the data path needs of it."""

    listener: Listener
    trusted: Networks
    routes: Mapping[str, Route]  # by normalised host name

    @classmethod
    def build(cls, listener: Listener, routes: Iterable[Route] = ()) -> "ListenerTable":
        """Compile one listener. Of two routes with the same name the later one holds. Raises ValueError naming it."""
        return cls(listener, _trusted(listener), {route.hostname: route for route in routes})

    def __repr__(self) -> str:
        return f"<ListenerTable {self.listener.addr} routes={len(self.routes)} trusted={len(self.trusted)}>"


def _trusted(listener: Listener) -> Networks:
    try:
        return Networks.of(listener.trusted_proxies)
    except ValueError as error:
        raise ValueError(f"listener {listener.addr}: {error}") from None


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """One generation of listeners, routes and rules."""

    generation: int = 0
    listeners: Mapping[str, ListenerTable] = field(default_factory=dict)  # by Listener.addr
    firewall: Firewall = field(default_factory=Firewall)

    @classmethod
    def build(
        cls,
        listeners: Iterable[tuple[Listener, Iterable[Route]]],
        rules: Iterable[FirewallRule] = (),
        generation: int = 0,
    ) -> "Table":
        """Compile a whole table. Raises ValueError naming the listener or rule with a bad address or network."""
        compiled = {listener.addr: ListenerTable.build(listener, routes) for listener, routes in listeners}
        return cls(generation, compiled, Firewall.compile(rules))

    def with_listener(self, listener: Listener) -> "Table":
        """The next table, with this listener added, or replaced with its routes kept. Raises ValueError."""
        old = self.listeners.get(listener.addr)
        new = ListenerTable(listener, _trusted(listener), old.routes if old else {})
        return self._next(listeners={**self.listeners, listener.addr: new})

    def without_listener(self, addr: str) -> "Table":
        """The next table, without this listener and its routes. Raises KeyError."""
        listeners = dict(self.listeners)
        del listeners[addr]
        return self._next(listeners=listeners)

    def with_route(self, addr: str, route: Route) -> "Table":
        """The next table, with this route added to that listener or replaced there. Raises KeyError."""
        old = self.listeners[addr]
        return self._with_routes(old, {**old.routes, route.hostname: route})

    def without_route(self, addr: str, hostname: str) -> "Table":
        """The next table, without that route. Raises KeyError."""
        old = self.listeners[addr]
        routes = dict(old.routes)
        del routes[hostname]
        return self._with_routes(old, routes)

    def with_rule(self, rule: FirewallRule) -> "Table":
        """The next table, with this rule added, or replaced with its new expiry. Raises ValueError naming the rule."""
        return self._next(firewall=self.firewall.with_rule(rule))

    def without_rule(self, kind: RuleKind, value: str) -> "Table":
        """The next table, without that rule. Raises KeyError, and ValueError where no rule can have that value."""
        return self._next(firewall=self.firewall.without_rule(kind, value))

    def _with_routes(self, old: ListenerTable, routes: Mapping[str, Route]) -> "Table":
        return self._next(listeners={**self.listeners, old.listener.addr: replace(old, routes=routes)})

    def _next(self, listeners: Mapping[str, ListenerTable] | None = None, firewall: Firewall | None = None) -> "Table":
        return Table(
            self.generation + 1,
            self.listeners if listeners is None else listeners,
            self.firewall if firewall is None else firewall,
        )

    def __repr__(self) -> str:
        routes = sum(len(each.routes) for each in self.listeners.values())
        return (
            f"<Table generation={self.generation} listeners={len(self.listeners)} routes={routes}"
            f" rules={len(self.firewall)}>"
        )


class Live:
    """The one mutable reference. Assigning `table` publishes; reading it is atomic."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        self.table = table

    def __repr__(self) -> str:
        return f"<Live {self.table!r}>"
