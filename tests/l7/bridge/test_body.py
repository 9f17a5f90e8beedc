"""A request's body on its way: what waits, and what is kept for a second attempt."""

from mcproxy.l7.bridge.body import Body
from mcproxy.l7.bridge.bounds import MAX_REPLAY


def test_what_was_sent_can_be_sent_again_in_order() -> None:
    one = Body(0.0)
    for piece in (b"abc", b"def", b"ghi"):
        one.add(piece)
    assert (one.waiting_bytes, one.received) == (9, 9)
    assert [one.next_piece(2), one.next_piece(9), one.next_piece(9)] == [b"ab", b"c", b"def"]
    one.rewind()
    assert one.waiting_bytes == 9
    assert b"".join(one.next_piece(100) for _ in range(4)) == b"abcdefghi"
    assert one.waiting_bytes == 0
    assert repr(one) == "<Body received=9 waiting=0>"


def test_no_more_than_that_is_kept() -> None:
    one = Body(0.0)
    one.add(bytes(MAX_REPLAY))
    one.next_piece(MAX_REPLAY)
    one.add(b"a")
    one.next_piece(1)
    assert not one.replayable
    assert not one._kept


def test_what_nobody_needs_is_counted() -> None:
    one = Body(0.0)
    one.add(b"abc")
    one.drop()
    assert (one.waiting_bytes, one.received, one.dropped) == (0, 3, 3)
