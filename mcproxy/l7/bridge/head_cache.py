"""Heads of HTTP/1.1 by their bytes: one that came before costs a look-up, on whatever connection.

What a head says depends on nothing but its bytes, so the caches are shared by all connections of the process, as those
of header blocks are (l7/http2/header_link.py). A client can learn from timing whether somebody sent exactly the same
whole head before; it can't learn a secret piece by piece.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from mcproxy.l7.bridge.bounds import CACHE_HEAD_BYTES, CACHE_HEADS
from mcproxy.l7.generations import Generations

T = TypeVar("T")


class HeadCache(Generations[bytes, T], Generic[T]):
    """What `read` returns for a head, of one kind; it may raise, and then nothing is kept."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[bytes], T], capacity: int = CACHE_HEADS) -> None:
        super().__init__(capacity)
        self.read = read

    def find(self, raw: bytes) -> T:
        """The meaning of a head that is not in `young`; to read it is what takes long. Raises as `read` does."""
        found = self.old.get(raw)
        if found is None:
            found = self.read(raw)
        if len(raw) <= CACHE_HEAD_BYTES:
            self.keep(raw, found)
        return found
