"""The cache of heads by their bytes."""

import pytest

from mcproxy.l7.bridge.bounds import CACHE_HEAD_BYTES
from mcproxy.l7.bridge.head_cache import HeadCache


class Reader:
    """Reads a head as the number of its reading."""

    __name__ = "reader"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, raw: bytes) -> int:
        if raw == b"bad":
            raise ValueError(raw)
        self.count += 1
        return self.count


def test_a_head_is_read_once() -> None:
    cache = HeadCache(Reader(), 2)
    assert cache.find(b"a") == 1
    assert cache.young == {b"a": 1}
    assert "1+0" in repr(cache)


def test_a_head_of_the_old_generation_is_not_read_again() -> None:
    cache = HeadCache(Reader(), 1)
    assert [cache.find(raw) for raw in (b"a", b"b", b"a", b"c", b"b")] == [1, 2, 1, 3, 4]


def test_large_heads_and_faults_are_not_kept() -> None:
    cache = HeadCache(Reader(), 8)
    cache.find(b"x" * (CACHE_HEAD_BYTES + 1))
    with pytest.raises(ValueError, match="bad"):
        cache.find(b"bad")
    assert not cache.young
