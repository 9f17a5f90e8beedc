"""What was worked out before, in two generations: a bounded cache whose look-up is one of a dictionary.

A full young generation becomes the old one, and what is used again moves back. What the old one held then is given up
one by one, because a thousand values at once take half a millisecond to free.
"""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """Values by keys. The caller looks into `young` first, and gives `keep` what it has found elsewhere."""

    __slots__ = ("_dying", "capacity", "old", "young")

    def __init__(self, capacity: int) -> None:
        """`capacity` is that of one generation."""
        self.capacity = capacity
        self.young: dict[K, V] = {}
        self.old: dict[K, V] = {}
        self._dying: dict[K, V] = {}  # as many as fit into `young`, at most

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.young)}+{len(self.old)}>"

    def again(self, key: K) -> V | None:
        """Return a value of the old generation, which is young from then on; None: there is none."""
        value = self.old.get(key)
        if value is not None:
            self.keep(key, value)
        return value

    def keep(self, key: K, value: V) -> None:
        """Have a value in the young generation."""
        if len(self.young) >= self.capacity:
            self._dying, self.old, self.young = self.old, self.young, {}
        self.young[key] = value
        if self._dying:
            self._dying.popitem()
