"""The bytes that wait in one worker for all l7 clients that read slowly.

One client may have some 256 kB waiting (l7/bounds.py); ten thousand would have 2.6 GB. So the sum has a bound, too.
Beyond it no client is cut, and every client goes on: but a backend is read only for a client that has taken everything
that waited for it. Each is then slower, and has one read at most.
"""

from typing import Final

# Bytes: 500 slow readers as if they were alone, and far less than their connections themselves take.
MOST: Final = 128 << 20


class Backlog:
    """The sum of it, in bytes. Everything here happens on the hub's thread."""

    __slots__ = ("_most", "waiting")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Backlog {self.waiting} of {self._most}>"

    @property
    def is_full(self) -> bool:
        """Whether more may wait only for clients for which nothing waits."""
        return self.waiting > self._most
