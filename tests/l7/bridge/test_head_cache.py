"""The cache of heads by their bytes."""

import pytest

from mcproxy.l7.bridge.bounds import ANSWER_COST, CACHE_HEAD_BYTES, KNOWN_HEAD_COST, STEP_COST
from mcproxy.l7.bridge.head_cache import HeadCache
from mcproxy.l7.bridge.http1_connection import Http1Connection
from mcproxy.l7.core import Turn
from tests.kit.exchange_ends import request_head
from tests.kit.noted_exchange import FORWARDED, NotedExchange


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


@pytest.mark.parametrize("size", [1, CACHE_HEAD_BYTES])
def test_the_head_of_an_answer_costs_the_same_whatever_comes_with_it(size: int) -> None:
    """Alone, with a part of its body, with all of it, with more than that; one that is known costs less."""
    new, costs = ANSWER_COST + 2 * STEP_COST, []
    for mark, body in ((b"a", b""), (b"b", b"hel"), (b"c", b"hello"), (b"d", b"hello..."), (b"d", b"hello")):
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-New: %b\r\n\r\n%b" % (mark * size, body)
        connection, exchange, turn = Http1Connection(0.0, reused=False), NotedExchange(), Turn(1_000)
        connection.begin(request_head(), FORWARDED, ended=True)
        assert connection.receive(raw, turn, exchange, 0.0) == len(raw)
        assert exchange.body == body[:5]
        assert connection.reusable is (body == b"hello")
        costs.append(1_000 - turn.left)
    again = KNOWN_HEAD_COST if size == 1 else new  # the last one
    assert costs == [new, *[new + STEP_COST] * 3, again + STEP_COST]
