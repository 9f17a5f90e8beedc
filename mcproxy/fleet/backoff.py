"""Tries to connect, and the pauses between them.

They double, and differ from node to node, so that a server that comes back isn't met by all nodes at once. Somebody who
needs the database now has the next try made at once; that is a person or a script on one node, not all of them.
"""

import threading
from collections.abc import Callable, Iterator
from random import uniform

# Seconds: a restart of PostgreSQL takes about one; 1,000 nodes make 270 tries a second while it is away.
FIRST, LAST = 0.25, 5.0


def pauses(choose: Callable[[float, float], float] = uniform) -> Iterator[float]:
    """Seconds, without end; `choose` returns a number between two."""
    longest = FIRST
    while True:
        yield choose(longest / 2, longest)
        longest = min(longest * 2, LAST)


class Tries:
    """The tries of one thread to connect, as others see them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ended = 0
        self._is_wanted = False

    def __repr__(self) -> str:
        return f"<Tries ended={self._ended} wanted={self._is_wanted}>"

    def ended(self) -> None:
        """One has succeeded or failed, and others can see which."""
        with self._changed:
            self._ended += 1
            self._is_wanted = False
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait between two tries: so long, or until the next one is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_wanted, seconds)
            self._is_wanted = False

    def want(self, wait: float = 0.0) -> None:
        """Have the next one made now, and wait for the end of one, `wait` seconds at most."""
        with self._changed:
            before = self._ended
            self._is_wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended > before, wait)
