"""Pieces of bytes, cut and joined into TLS records: what is large stays where it is.

A record is made just before it is encrypted: its bytes are in the nearest cache then, where an answer of 2 MiB that was
joined as a whole would have left it (a sixth of the CPU of a bulk answer).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from mcproxy.wire.http2 import Piece

RECORD: Final = 16_384  # bytes of a full TLS record (RFC 8446, section 5.1)


def records(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The same bytes in full records, the last one perhaps shorter."""
    begun, size = list[Piece](), 0  # a record that isn't full yet
    for piece in pieces:
        if size + len(piece) < RECORD:
            begun.append(piece)
            size += len(piece)
            continue
        view = memoryview(piece)
        at = RECORD - size if size else 0
        if size:
            begun.append(view[:at])
            yield b"".join(begun)
            begun.clear()
        while len(view) - at >= RECORD:
            yield view[at : at + RECORD]
            at += RECORD
        size = len(view) - at
        if size:
            begun.append(view[at:])
    if size:
        yield b"".join(begun)
