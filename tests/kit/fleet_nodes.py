"""Nodes of a fleet in this process: a real database, a real copy, and a data plane that only remembers."""

import time
from collections.abc import Callable
from pathlib import Path

from mcproxy.admin.mutations import add_rule, put_route, remove_route
from mcproxy.admin.writer import Writer
from mcproxy.change import table_values
from mcproxy.fleet.fleet import Fleet, again
from mcproxy.fleet.follower import Follower
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store.diff import Seed
from tests.kit.acme_stub import Workers
from tests.kit.control_plane import RULES, SEED, FakePlane, route

WITHOUT_END = 3600.0  # seconds between two polls of a node that only notifications wake


class Node:
    """One node. `follows` starts its follower."""

    def __init__(
        self, url: str, name: str, folder: Path, *, notifies: bool = True, seed: Seed | None = None,
        clock: Callable[[], float] = time.time, succeeds: bool = False,
    ) -> None:  # fmt: skip
        cache = folder / f"{name}.db"
        self.fleet = Fleet(parse_server_url(url), name, cache, notifies=notifies, clock=clock, succeeds=succeeds)
        self.plane = FakePlane()
        self.workers = Workers()  # as far as certificates go
        self._follower: Follower | None = None
        try:
            table = self.fleet.begin((SEED, RULES) if seed is None else seed)
        except BaseException:
            self.fleet.close()
            raise
        self.plane.live = table
        self.plane.bound = set(table.listeners)
        self.plane.accepting = set(table.listeners)
        self.writer = Writer(self.fleet.cache.store, table, self.plane, self.fleet.clock, self.fleet)

    def follows(self, poll: float = WITHOUT_END) -> "Node":
        """Follow from now on; the first poll is at once."""
        orderer = self.fleet.orderer(self.workers, lambda: self.writer.table, None)
        self._follower = Follower(self.fleet, self.writer.follow, poll, orderer, self.plane)
        return self

    def add(self, name: str, expected: int = 0) -> int:
        """Add a route; returns the generation."""
        return self.writer.mutate("a test", "route.add", put_route("", route(name), exists=False), expected).generation

    def ban(self, ip: str, seconds: float) -> float:
        """Ban an address for a time; returns when that ends."""
        rule = FirewallRule(RuleKind.IP, ip)
        (change,) = self.writer.mutate("a test", "rule.add", add_rule(rule, seconds)).changes
        assert isinstance(change.new, FirewallRule)
        assert change.new.expires_at is not None
        return change.new.expires_at

    @property
    def banned(self) -> set[str]:
        """The addresses that temporary rules ban."""
        return {rule.value for rule in self.writer.table.firewall.rules() if rule.expires_at is not None}

    def remove(self, name: str) -> int:
        """Remove a route; returns the generation."""
        return self.writer.mutate("a test", "route.remove", remove_route("", name)).generation

    @property
    def names(self) -> set[str]:
        """The host names of the table in force, which is the data plane's."""
        assert self.plane.live is self.writer.table
        return {name for listener in self.writer.table.listeners.values() for name in listener.routes}

    def hand_over(self) -> None:
        """End all but the data plane, for another process of this node."""
        self.fleet.hands_over = True
        self.close()

    def goes_on(self) -> "Node":
        """That one has failed."""
        self._follower, self.fleet = None, again(self.fleet)
        table = self.writer.table
        self.writer = Writer(self.fleet.cache.store, table, self.plane, self.fleet.clock, self.fleet)
        return self

    def close(self) -> None:
        """End the follower, give all connections back."""
        if self._follower is not None:
            self._follower.close()
        self.fleet.close()


MakeNode = Callable[..., Node]  # by its name


def same(*nodes: Node) -> bool:
    """True if all have one generation, and the same table."""
    tables = [each.writer.table for each in nodes]
    return len({each.generation for each in tables}) == 1 and all(
        table_values(each) == table_values(tables[0]) for each in tables
    )
