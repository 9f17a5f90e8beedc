"""Heads of HTTP/1.1 by their bytes: one that came before costs a look-up, on whatever connection.

What a head says depends on nothing but its bytes, so the caches are shared by all connections of the process, as those
of header blocks are (l7/http2/header_link.py). A client can learn from timing whether somebody sent exactly the same
whole head before; it can't learn a secret piece by piece. Two generations bound each: a full young one becomes the old
one, and what is used again moves back. What the old one held then is given up one by one, because a thousand heads at
once take half a millisecond to free.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from mcproxy.l7.bridge.bounds import CACHE_HEAD_BYTES, CACHE_HEADS

T = TypeVar("T")


class HeadCache(Generic[T]):
    """What `read` returns for a head, of one kind; it may raise, and then nothing is kept."""

    __slots__ = ("_dying", "capacity", "old", "read", "young")

    def __init__(self, read: Callable[[bytes], T], capacity: int = CACHE_HEADS) -> None:
        self.read = read
        self.capacity = capacity  # of a generation
        self.young: dict[bytes, T] = {}  # where the caller looks first
        self.old: dict[bytes, T] = {}
        self._dying: dict[bytes, T] = {}  # as many as fit into `young`, at most

    def __repr__(self) -> str:
        return f"<HeadCache {self.read.__name__} {len(self.young)}+{len(self.old)} heads>"

    def find(self, raw: bytes) -> T:
        """The meaning of a head that is not in `young`; to read it is what takes long. Raises as `read` does."""
        found = self.old.get(raw)
        if found is None:
            found = self.read(raw)
        if len(raw) <= CACHE_HEAD_BYTES:
            if len(self.young) >= self.capacity:
                self._dying, self.old, self.young = self.old, self.young, {}
            self.young[raw] = found
            if self._dying:
                self._dying.popitem()
        return found
