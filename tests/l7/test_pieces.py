"""What waits to be sent, as it is taken."""

import pytest

from mcproxy.l7.pieces import MIN_BULK, MIN_PIECE, taken
from mcproxy.wire.http2 import Piece


@pytest.mark.parametrize(
    ("sizes", "joined"),
    [
        ([], False),
        ([9], False),  # there is nothing to join
        ([9, MIN_BULK - 9], True),
        ([9, MIN_BULK], False),
        ([MIN_PIECE - 1] * 100, True),  # many small ones: each would cost more apart
        ([9, MIN_BULK] * 20, False),
    ],
)
def test_small_pieces_are_joined(sizes: list[int], joined: bool) -> None:
    out: list[Piece] = [bytes([number]) * size for number, size in enumerate(sizes)]
    before = list(out)
    pieces = taken(out)
    assert b"".join(pieces) == b"".join(before)
    assert len(pieces) == (1 if joined else len(before))
    assert joined or all(piece is kept for piece, kept in zip(pieces, before, strict=True))
    assert not out
