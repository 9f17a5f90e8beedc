"""The share of a node: the listeners that it has, with their routes, and all rules. Values in, values out.

A listener that names nodes is theirs only. The fleet's table and its database hold the listeners of all nodes; what
serves clients on a node gets its share of them, and the changes as they look from there: a listener that names other
nodes from now on is one that is removed, with its routes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mcproxy.change import Change, Key, Value, What, values
from mcproxy.model import Listener
from mcproxy.table import Table


def has(node: str, listener: Listener) -> bool:
    """True if this node listens there."""
    return not listener.nodes or node in listener.nodes


def orphaned(table: Table) -> Iterator[tuple[str, str]]:
    """Listeners that name nodes, in the database of a server that is in no fleet, and what is to be known of each."""
    for addr, each in table.listeners.items():
        if nodes := ", ".join(each.listener.nodes):
            remedy = f"`mcproxy listeners set {addr} --no-node` makes that plain"
            yield addr, f"it names nodes ({nodes}); this server is in no fleet and listens there nevertheless: {remedy}"


def share(table: Table, node: str) -> Table:
    """The part of a table that is a node's; the table itself if that is all of it."""
    mine = {addr: each for addr, each in table.listeners.items() if has(node, each.listener)}
    return table if len(mine) == len(table.listeners) else replace(table, listeners=mine)


def seen(changes: Iterable[Change], before: Table, after: Table) -> Sequence[Change]:
    """Changes of the whole table as those that lead from one share of a node to its next."""
    lost, gained = before.listeners.keys() - after.listeners.keys(), after.listeners.keys() - before.listeners.keys()
    kept = before.listeners.keys() & after.listeners.keys()
    return [
        *(change for change in changes if change.key.what is What.RULE or _listener(change.key) in kept),
        *(Change(key, value, None) for key, value in _values(before, lost).items()),
        *(Change(key, None, value) for key, value in _values(after, gained).items()),
    ]


def _listener(key: Key) -> str:
    return key.name if key.what is What.LISTENER else key.scope


def _values(table: Table, addrs: Iterable[str]) -> dict[Key, Value]:
    compiled = (table.listeners[addr] for addr in addrs)
    return values(((each.listener, each.routes.values()) for each in compiled), ())
