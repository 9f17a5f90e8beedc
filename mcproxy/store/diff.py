"""What the configuration file says against what the database holds: the seed may have moved on, on either side."""

from collections.abc import Iterable
from dataclasses import dataclass

from mcproxy.change import Key, Value, table_values, values
from mcproxy.model import FirewallRule
from mcproxy.store.store import Pair
from mcproxy.table import Table

Seed = tuple[Iterable[Pair], Iterable[FirewallRule]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key under which file and database don't hold the same; None: nothing."""

    key: Key
    file: Value | None
    database: Value | None


def differences(seed: Seed, table: Table) -> list[Difference]:
    """Every key that differs, in order. Temporary rules count: the file doesn't know them."""
    wanted, present = values(*seed), table_values(table)
    keys = sorted({*wanted, *present}, key=lambda key: (key.what, key.scope, key.name))
    return [Difference(key, wanted.get(key), present.get(key)) for key in keys if wanted.get(key) != present.get(key)]
