"""The differences between the configuration file and the database: either may have changed since the seed."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from mcproxy.change import Change, Key, What, is_temporary, towards, values
from mcproxy.model import FirewallRule, Listener, Route
from mcproxy.store.store import ListenerRoutes
from mcproxy.table import Table

T = TypeVar("T")

ONLY_IN_FILE = "the configuration file has it, but the database is in force: mcproxy diff, mcproxy apply"

Seed = tuple[Iterable[ListenerRoutes], Iterable[FirewallRule]]


class FileSeed:
    """The listeners, routes and rules of the configuration file, as it was last read.

    The differences from a table are counted once for each table, because `mcproxy status` asks often. If the routes of
    both are the same objects, 100,000 of them take some 10 ms.
    """

    def __init__(self, seed: Seed) -> None:
        self.is_due = False  # true if the database is empty, and is to be filled with it
        self.read(seed)

    def __repr__(self) -> str:
        return f"<FileSeed listeners={len(self._listeners)} rules={len(self._rules)}>"

    def __bool__(self) -> bool:
        """True if the file names anything at all."""
        return bool(self._listeners or self._rules)

    def read(self, seed: Seed) -> None:
        """Replace the seed with the file's present one."""
        listeners, rules = seed
        self._listeners: Mapping[str, tuple[Listener, Mapping[str, Route]]] = {
            listener.addr: (listener, {route.hostname: route for route in routes}) for listener, routes in listeners
        }
        self._rules: Mapping[tuple[str, str], FirewallRule] = {(rule.kind, rule.value): rule for rule in rules}
        self._counted: tuple[Table, int] | None = None

    def seed(self) -> Seed:
        """The values that fill an empty database."""
        pairs = [(listener, list(routes.values())) for listener, routes in self._listeners.values()]
        return pairs, self._rules.values()

    def names(self, key: Key) -> bool:
        """True if the file has something under this key."""
        match key.what:
            case What.LISTENER:
                return key.name in self._listeners
            case What.ROUTE:
                return key.scope in self._listeners and key.name in self._listeners[key.scope][1]
            case What.RULE:
                return (key.scope, key.name) in self._rules

    def hint(self, key: Key) -> str:
        """The end of an error about a value that the database lacks: that the file has it."""
        return f"; {ONLY_IN_FILE}" if self.names(key) else ""

    def differing(self, table: Table) -> int:
        """The number of `differences`; 0 if the file has no listeners, routes or rules."""
        counted = self._counted
        if counted is None or counted[0] is not table:
            self._counted = counted = (table, self._count(table) if self else 0)
        return counted[1]

    def _count(self, table: Table) -> int:
        listeners = {addr: listener for addr, (listener, _) in self._listeners.items()}
        found = _differing(listeners, {addr: compiled.listener for addr, compiled in table.listeners.items()})
        for addr in {*listeners, *table.listeners}:
            _, routes = self._listeners.get(addr, (None, dict[str, Route]()))
            found += _differing(routes, table.listeners[addr].routes if addr in table.listeners else {})
        for_good = {(rule.kind, rule.value) for rule in table.firewall.rules() if not is_temporary(rule)}
        return found + len(for_good ^ self._rules.keys())


def _differing(wanted: Mapping[str, T], present: Mapping[str, T]) -> int:
    found = sum(1 for name in present if name not in wanted)
    for name, value in wanted.items():
        held = present.get(name)
        if held is not value and held != value:  # comparing two routes takes a microsecond
            found += 1
    return found


def differences(seed: Seed, table: Table) -> list[Change]:
    """The changes that would make the database hold the file's values, in order.

    Temporary rules that are not in the file don't count: no file has them.
    """
    changes = towards(values(*seed), table, prune=True)
    return sorted(changes, key=lambda change: (change.key.what, change.key.scope, change.key.name))
