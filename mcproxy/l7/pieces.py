"""What waits to be sent: small pieces are joined, large ones stay where they are."""

from collections.abc import Sequence
from typing import Final

from mcproxy.wire.http2 import Piece

MIN_BULK: Final = 32_768  # bytes
MIN_PIECE: Final = 1_024  # bytes of a piece on average: to send shorter ones apart costs more than to join them


def taken(out: list[Piece]) -> Sequence[Piece]:
    """What is in `out`, which is empty then."""
    if not out:
        return ()
    is_bulk = len(out) == 1 or sum(map(len, out)) > max(MIN_BULK, len(out) * MIN_PIECE)
    pieces: Sequence[Piece] = out[:] if is_bulk else (b"".join(out),)
    out.clear()
    return pieces
