"""One request's books: what waits, what is kept for a second attempt, and when it is too slow."""

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.bounds import BODY_GRACE_SECONDS, MAX_REPLAY, MIN_BODY_RATE
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.wire.fields import NO_LENGTH, Request


def exchange(length: int = NO_LENGTH) -> Exchange:
    return Exchange(1, b"POST", Request(b"POST", b"one.test", b"one.test", b"/", content_length=length), 0.0)


def test_what_was_sent_can_be_sent_again_in_order() -> None:
    one = exchange()
    for piece in (b"abc", b"def", b"ghi"):
        one.wait(piece)
    assert (one.waiting_bytes, one.bytes_up) == (9, 9)
    assert [one.next_piece(2), one.next_piece(9), one.next_piece(9)] == [b"ab", b"c", b"def"]
    one.again()
    assert one.waiting_bytes == 9
    assert b"".join(one.next_piece(100) for _ in range(4)) == b"abcdefghi"
    assert (one.waiting_bytes, one.stream) == (0, 0)
    assert repr(one) == "<Exchange 1 b'POST' b'/' 0>"


def test_no_more_than_that_is_kept() -> None:
    one = exchange()
    one.wait(bytes(MAX_REPLAY))
    one.next_piece(MAX_REPLAY)
    assert one.replay == [bytes(MAX_REPLAY)]
    one.wait(b"a")
    one.next_piece(1)
    assert not one.replayable
    assert one.replay == []


def test_before_it_is_known_to_be_a_request() -> None:
    one = exchange()
    assert (one.fields, one.key, one.is_websocket, one.takes_interim, one.has_more) == ((), b"", False, False, False)


def test_slowness() -> None:
    one = exchange()
    assert not one.is_slow(BODY_STALL_SECONDS)
    assert one.is_slow(BODY_STALL_SECONDS + 1)
    one.wait(b"a")
    assert not one.is_slow(BODY_STALL_SECONDS + 1), "it is the backend's turn"
    one.next_piece(1)
    assert not one.is_slow(BODY_STALL_SECONDS + 2)
    counted = exchange(length=10_000)
    counted.progress = BODY_GRACE_SECONDS + 10
    assert counted.is_slow(BODY_GRACE_SECONDS + 10)
    counted.bytes_up = 10 * MIN_BODY_RATE
    assert not counted.is_slow(BODY_GRACE_SECONDS + 10)
