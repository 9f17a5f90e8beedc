"""What the configuration file says against what the database holds: the seed may have moved on, on either side."""

from collections.abc import Iterable

from mcproxy.change import Change, towards, values
from mcproxy.model import FirewallRule
from mcproxy.store.store import Pair
from mcproxy.table import Table

Seed = tuple[Iterable[Pair], Iterable[FirewallRule]]


def differences(seed: Seed, table: Table) -> list[Change]:
    """What would have to change in the database to make it say what the file says, in order.

    Temporary rules that are not in the file don't count: no file has them.
    """
    changes = towards(values(*seed), table, prune=True)
    return sorted(changes, key=lambda change: (change.key.what, change.key.scope, change.key.name))
