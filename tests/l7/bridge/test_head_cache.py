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


def test_what_is_used_again_survives_and_the_rest_is_given_up() -> None:
    reader = Reader()
    cache = HeadCache(reader, 2)
    for raw in (b"a", b"b", b"c"):
        cache.find(raw)
    assert (set(cache.young), set(cache.old)) == ({b"c"}, {b"a", b"b"})
    assert cache.find(b"a") == 1, "of the old generation, without a second reading"
    cache.find(b"d")
    assert (set(cache.young), set(cache.old)) == ({b"d"}, {b"c", b"a"})
    assert cache.find(b"b") == 5, "it was given up"


def test_the_cache_is_bounded() -> None:
    cache = HeadCache(Reader(), 8)
    for number in range(1_000):
        cache.find(b"%d" % number)
        assert len(cache.young) <= 8
        assert len(cache.old) <= 8


def test_large_heads_and_faults_are_not_kept() -> None:
    cache = HeadCache(Reader(), 8)
    cache.find(b"x" * (CACHE_HEAD_BYTES + 1))
    with pytest.raises(ValueError, match="bad"):
        cache.find(b"bad")
    assert not cache.young
