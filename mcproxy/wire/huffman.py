"""The Huffman code of header blocks (RFC 7541, section 5.2 and appendix B), decoded a byte at a time.

The code is a binary tree: 256 inner nodes, and a leaf for each byte and for EOS. A decoder stands at an inner node, and
a byte of input leads it over one, two or no leaves to another. So there is a row for each node, with an entry for each
byte: what was passed, and the row to go on with. A byte of input costs one look-up, 0.03 us; to test bit after bit, or
half a byte and its flags, costs five times as much, and a header block may have 80 KB.

A row comes from the tree by doubling: steps of one bit, chained to two, to four, to eight. All rows take 12 MB, and the
text of header fields meets some fifty of them: so each is made, in 0.1 ms, when it is met, and is empty until then.
"""

from collections.abc import Iterator
from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

EOS: Final = 256
MAX_PADDING: Final = 7  # bits, all ones

Row = list[tuple[bytes, "Row"]]  # by byte of input: what it completes, and the row of the next one
Steps = list[list[tuple[bytes, int]]]  # by node and bit of input


class HuffmanFault(Exception):
    """The bytes are not a valid Huffman code."""


def _tree() -> Steps:
    """Steps of one bit: node 0 is the root, the last one is where EOS leads to and nothing away from."""
    lost = 256
    nodes: Steps = [[(b"", lost)] * 2 for _ in range(lost + 1)]
    made = 1
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if nodes[node][bit][1] == lost:
                nodes[node][bit] = (b"", made)
                made += 1
            node = nodes[node][bit][1]
        if symbol != EOS:
            nodes[node][code & 1] = (bytes((symbol,)), 0)
    return nodes


_TREE: Final = _tree()
_ROWS: Final[list[Row]] = [[] for _ in _TREE]  # by node
_NODES: Final = {id(row): node for node, row in enumerate(_ROWS)}
_ROOT: Final = _ROWS[0]


def _fill(row: Row) -> None:
    reached = [(b"", _NODES[id(row)])]
    for _ in range(8):
        reached = [(one + two, end) for one, node in reached for two, end in _TREE[node]]
    row += [(passed, _ROWS[node]) for passed, node in reached]


def _ends() -> frozenset[int]:
    """Which rows a string may end in, by id()."""
    padded = [0]
    for _ in range(MAX_PADDING):
        padded.append(_TREE[padded[-1]][1][1])
    return frozenset(id(_ROWS[node]) for node in padded)


_ENDS: Final = _ends()


def decode(raw: bytes) -> bytes:
    """The bytes that `raw` is the code of. Raises HuffmanFault."""
    passed, row = _walk(_ROOT, raw)
    _check_end(row)
    return passed


def decode_in_steps(raw: bytes, step: int) -> Iterator[bytes]:
    """The same piece by piece, each of `step` bytes of code."""
    row = _ROOT
    for start in range(0, len(raw), step):
        passed, row = _walk(row, raw[start : start + step])
        yield passed
    _check_end(row)


def _walk(row: Row, raw: bytes) -> tuple[bytes, Row]:
    pieces: list[bytes] = []
    add = pieces.append
    for byte in raw:
        try:
            passed, row = row[byte]
        except IndexError:  # it is met for the first time
            _fill(row)
            passed, row = row[byte]
        add(passed)
    return b"".join(pieces), row


def _check_end(row: Row) -> None:
    if id(row) not in _ENDS:
        raise HuffmanFault("the string ends inside a code, or holds EOS")
