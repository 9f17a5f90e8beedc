"""The table: everything that decides where a connection goes, compiled, frozen, published by one assignment.

A reader takes `live.table` once a connection and keeps it; it needs no lock, because a table never changes. A writer
builds the next table and assigns it: connections that began with the old one finish with the old one (RCU). A changed
table shares everything else with its predecessor, many routes too (changed_routes.py).

A table holds values only (no sockets, no contexts), so it can be pickled and handed to another process.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcproxy.model import FirewallRule, Listener, Route, RouteKey
from mcproxy.native import mypyc_attr
from mcproxy.policy.firewall import Firewall
from mcproxy.policy.networks import Networks


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True, repr=False)
class ListenerTable:
    """One listener, compiled for the data path."""

    listener: Listener
    trusted: Networks
    routes: Mapping[str, Route]  # by normalised host name

    @classmethod
    def build(cls, listener: Listener, routes: Iterable[Route] = ()) -> "ListenerTable":
        """Compile one listener. Of two routes with the same name the later one holds. Raises ValueError naming it."""
        try:
            trusted = Networks.of(listener.trusted_proxies)
        except ValueError as error:
            raise ValueError(f"listener {listener.addr}: {error}") from None
        return cls(listener, trusted, {route.hostname: route for route in routes})

    def __repr__(self) -> str:
        return f"<ListenerTable {self.listener.addr} routes={len(self.routes)} trusted={len(self.trusted)}>"


@mypyc_attr(native_class=False)  # for pickling
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

    def has_route(self, key: RouteKey) -> bool:
        """True if it has this route."""
        addr, hostname = key
        return addr in self.listeners and hostname in self.listeners[addr].routes

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
