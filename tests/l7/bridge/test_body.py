"""A request's body on its way: what waits, and what is kept for a second attempt."""

from mcproxy.l7.bridge.body import Body
from mcproxy.l7.bridge.bounds import MAX_REPLAY


def test_what_was_sent_can_be_sent_again_in_order() -> None:
    one = Body(0.0)
    for piece in (b"abc", b"def", b"ghi"):
        one.add(piece)
    assert (one.waiting_bytes, one.received) == (9, 9)
    assert [one.next_piece(2), one.next_piece(2), one.next_piece(2)] == [b"ab", b"cd", b"ef"]
    one.rewind()
    assert one.waiting_bytes == 9
    assert one.next_piece(100) == b"abcdefghi", "frames of a client are joined"
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


def test_what_waits_does_not_keep_a_read_that_is_much_larger() -> None:
    read = bytes(100_000)
    for size, kept in ((1_000, False), (60_000, True)):
        one = Body(0.0)
        one.add(b"a")
        one.add(memoryview(read)[:size])
        one.settle()
        assert any(isinstance(piece, memoryview) for piece in one._waiting) is kept
        assert one.next_piece(1 << 20) == b"a" + bytes(size)


def test_a_piece_that_is_alone_is_not_copied() -> None:
    one = Body(0.0)
    one.keep_no_more()
    one.add(piece := memoryview(bytes(1_000)))
    assert one.next_piece(1_000) is piece
