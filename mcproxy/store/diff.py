"""What the configuration file says against what the database holds: the seed may have moved on, on either side."""

from collections.abc import Iterable
from dataclasses import dataclass

from mcproxy.model import FirewallRule
from mcproxy.store.change import Key, Value, table_values, values
from mcproxy.store.store import Pair
from mcproxy.table import Table


@dataclass(frozen=True, slots=True)
class Difference:
    """One key under which file and database don't hold the same; None: nothing."""

    key: Key
    file: Value | None
    database: Value | None


def differences(listeners: Iterable[Pair], rules: Iterable[FirewallRule], table: Table) -> list[Difference]:
    """Every key that differs, in order. Temporary rules count: the file doesn't know them."""
    seed, present = values(listeners, rules), table_values(table)
    keys = sorted({*seed, *present}, key=lambda key: (key.what, key.scope, key.name))
    return [Difference(key, seed.get(key), present.get(key)) for key in keys if seed.get(key) != present.get(key)]
