"""Pauses between tries to connect.

They double, and differ from node to node, so that a server that comes back isn't met by all nodes at once.
"""

from collections.abc import Callable, Iterator
from random import uniform

# Seconds: a restart of PostgreSQL takes about one; a node is back within a quarter of a minute.
FIRST, LAST = 0.25, 15.0


def pauses(choose: Callable[[float, float], float] = uniform) -> Iterator[float]:
    """Seconds, without end; `choose` returns a number between two."""
    longest = FIRST
    while True:
        yield choose(longest / 2, longest)
        longest = min(longest * 2, LAST)
