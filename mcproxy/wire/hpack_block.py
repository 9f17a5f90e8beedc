"""Header blocks (RFC 7541) as pure functions of a table and bytes.

The dynamic table is a value here: decoding a block yields its fields and the table *after* it, and the table before
stays what it was. Where a block leaves the table alone, the table after is the very same object. So the outcome of a
block can be cached by (table, bytes), shared by every connection that got to the same table the same way, and "did this
block move the table" is exact: an entry inserted (section 6.2.1), or a size update to another size (6.3), and not a
byte that looks like one.

The encoder has no state: matches in the static table, else literals without indexing (6.2.2; never indexed, 6.2.3, if
the field was so). It neither reads nor writes anybody's dynamic table, so its output decodes the same after
any history.
"""

from collections.abc import Generator
from functools import lru_cache
from typing import Final

from hpack.table import HeaderTable

from mcproxy.native import COMPILED, mypyc_attr
from mcproxy.wire import huffman
from mcproxy.wire.http2 import DEFAULT_TABLE_SIZE

ENTRY_OVERHEAD: Final = 32  # section 4.1; also how a header list is measured (RFC 9113, section 6.5.2)
MAX_INTEGER_BYTES: Final = 5  # beyond the prefix: enough for 32 bits; section 5.1 lets a decoder set its limit
HUFFMAN_CACHE: Final = 2_048  # strings; names and values of requests repeat
HUFFMAN_CACHEABLE: Final = 128  # bytes; longer ones would make the cache big and repeat less

FIELD_BYTES: Final = 32  # of Huffman codes are undone in the time that any field takes
BOMB: Final = 2  # times as many fields as may be kept are decoded, to keep the table right; beyond, it is no mistake

CLEAR_TABLE: Final = b"\x20"  # a size update to 0 (section 6.3)

# mypyc takes a pair apart and makes it again wherever it passes: it would not stay NeverIndexed.
if COMPILED:  # noqa: SIM108
    Field = tuple[bytes, ...]
else:
    Field = tuple[bytes, bytes]

STATIC: tuple[Field, ...] = HeaderTable.STATIC_TABLE
STATIC_COUNT: Final = len(STATIC)


class CompressionFault(Exception):
    """The block is malformed: COMPRESSION_ERROR for the connection (RFC 9113, section 4.3)."""


class HeaderBomb(Exception):
    """Far too many fields: a block of a few kilobytes can refer to the tables tens of thousands of times."""


@mypyc_attr(native_class=False)
class NeverIndexed(Field):
    """A field that may not enter any table, on any later hop either (section 6.2.3)."""

    __slots__ = ()


class DynamicTable:
    """A dynamic table, newest entry first. A value: never changed, equal by identity."""

    __slots__ = ("entries", "max_size", "size")

    def __init__(self, entries: tuple[Field, ...] = (), size: int = 0, max_size: int = DEFAULT_TABLE_SIZE) -> None:
        self.entries = entries
        self.size = size  # bytes, as section 4.1 counts them
        self.max_size = max_size

    def __repr__(self) -> str:
        return f"<DynamicTable {len(self.entries)} entries, {self.size} of {self.max_size} bytes>"


EMPTY_TABLE: Final = DynamicTable()


class Decoded:
    """The fields of one block, and the table after it."""

    __slots__ = ("fields", "oversized", "table")

    def __init__(self, fields: list[Field], table: DynamicTable, oversized: bool) -> None:
        self.fields = fields
        self.table = table
        self.oversized = oversized  # more than `max_list` or `max_count`: `fields` is cut short, `table` is right


class _Editor:
    """A table while one block is applied to it."""

    __slots__ = ("before", "entries", "max_size", "size", "touched")

    def __init__(self, table: DynamicTable) -> None:
        self.before = table
        self.entries = list(table.entries)
        self.size = table.size
        self.max_size = table.max_size
        self.touched = False

    def lookup(self, index: int) -> Field:
        """Sections 2.3.3 and 6.1."""
        if 0 < index <= STATIC_COUNT:
            return STATIC[index - 1]
        if STATIC_COUNT < index <= STATIC_COUNT + len(self.entries):
            return self.entries[index - STATIC_COUNT - 1]
        raise CompressionFault(f"index {index} is in neither table")

    def add(self, field: Field) -> None:
        """Section 4.4: an entry that is larger than the table empties it."""
        if not self.entries and self.cost(field) > self.max_size:
            return
        self.touched = True
        self.entries.insert(0, field)
        self.size += self.cost(field)
        self.evict()

    def resize(self, max_size: int) -> None:
        """Section 4.3."""
        if max_size != self.max_size:
            self.touched = True
            self.max_size = max_size
            self.evict()

    def evict(self) -> None:
        while self.size > self.max_size:
            self.size -= self.cost(self.entries.pop())

    @staticmethod
    def cost(field: Field) -> int:
        return len(field[0]) + len(field[1]) + ENTRY_OVERHEAD

    def after(self) -> DynamicTable:
        before = self.before
        if not self.touched:
            return before
        entries = tuple(self.entries)
        same = self.max_size == before.max_size and entries == before.entries  # such as 0 and back, when empty
        return before if same else DynamicTable(entries, self.size, self.max_size)


def decode(block: bytes, table: DynamicTable, allowed: int, max_list: int, max_count: int) -> Decoded:
    """Decode one whole block against `table`.

    `allowed` is the largest table size that this decoder has announced; `max_list` (bytes, with 32 for each field) and
    `max_count` (fields) bound what is kept. Raises CompressionFault, and HeaderBomb far beyond `max_count`.
    """
    try:
        return _decode(block, _Editor(table), allowed, max_list, max_count)
    except IndexError:
        raise CompressionFault("the block ends inside a field") from None
    except huffman.HuffmanFault as fault:
        raise CompressionFault(f"Huffman code: {fault}") from None


def _decode(block: bytes, editor: _Editor, allowed: int, max_list: int, max_count: int) -> Decoded:
    fields: list[Field] = []
    oversized = False
    total = count = 0
    pos = _size_updates(block, editor, allowed)
    while pos < len(block):
        first = block[pos]
        if 0x80 < first <= 0x80 | STATIC_COUNT:  # indexed (6.1), in the static table
            field = STATIC[first - 0x81]
            pos += 1
        elif first & 0x80:  # indexed
            index, pos = _integer(block, pos, 0x7F)
            field = editor.lookup(index)
        elif first & 0x40:  # literal with incremental indexing (6.2.1)
            name, value, pos = _literal(block, pos, 0x3F, editor)
            field = (name, value)
            editor.add(field)
        elif first & 0x20:
            raise CompressionFault("a size update after the first field")  # 4.2
        else:  # literal without indexing (6.2.2), or never indexed (6.2.3)
            name, value, pos = _literal(block, pos, 0x0F, editor)
            field = (name, value)
            if first & 0x10:
                field = NeverIndexed((name, value))
        total += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        count += 1
        oversized = oversized or total > max_list or count > max_count
        if not oversized:  # a short block may refer to a long entry often: keep nothing of that
            fields.append(field)
        elif count > BOMB * max_count:
            raise HeaderBomb
    return Decoded(fields, editor.after(), oversized)


def _size_updates(block: bytes, editor: _Editor, allowed: int) -> int:
    """Apply the size updates that a block may begin with (sections 4.2 and 6.3)."""
    pos = 0
    while pos < len(block) and block[pos] & 0xE0 == 0x20:
        size, pos = _integer(block, pos, 0x1F)
        if size > allowed:
            raise CompressionFault(f"a table of {size} bytes, where {allowed} are allowed")
        editor.resize(size)
    if editor.max_size > allowed:
        raise CompressionFault("the table was not reduced to what is allowed")
    return pos


def _literal(block: bytes, pos: int, mask: int, editor: _Editor) -> tuple[bytes, bytes, int]:
    index, pos = _integer(block, pos, mask)
    if index:
        name = editor.lookup(index)[0]
    else:
        name, pos = _string(block, pos)
    value, pos = _string(block, pos)
    return name, value, pos


def _integer(block: bytes, pos: int, mask: int) -> tuple[int, int]:
    """Section 5.1; `mask` is the prefix."""
    number = block[pos] & mask
    pos += 1
    if number < mask:
        return number, pos
    for shift in range(0, 7 * MAX_INTEGER_BYTES, 7):
        byte = block[pos]
        pos += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, pos
    raise CompressionFault("an integer of too many bytes")


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    """Section 5.2."""
    begin, end = _extent(block, pos)
    raw = block[begin:end]
    if not block[pos] & 0x80:
        return raw, end
    return (_huffman(raw) if end - begin <= HUFFMAN_CACHEABLE else huffman.decode(raw)), end


def _extent(block: bytes, pos: int) -> tuple[int, int]:
    """Where a string's bytes start and end."""
    length, start = _integer(block, pos, 0x7F)
    end = start + length
    if end > len(block):
        raise CompressionFault("a string ends beyond the block")
    return start, end


@lru_cache(HUFFMAN_CACHE)
def _huffman(raw: bytes) -> bytes:
    return huffman.decode(raw)


def without_huffman(block: bytes, step: int, max_count: int) -> Generator[None, None, bytes]:
    """The same block with its Huffman codes undone: same fields, same effect on the table, and quick to decode.

    Yields after every `step` bytes or so of codes, a field counting for FIELD_BYTES, so that others have their turn in
    the middle of a large block. Raises as `decode` does, with which it shares `max_count`.
    """
    try:
        return (yield from _without_huffman(block, step, max_count))
    except IndexError:
        raise CompressionFault("the block ends inside a field") from None
    except huffman.HuffmanFault as fault:
        raise CompressionFault(f"Huffman code: {fault}") from None


def _without_huffman(block: bytes, step: int, max_count: int) -> Generator[None, None, bytes]:
    out: list[bytes] = []
    pos = kept = count = done = 0
    while pos < len(block):
        count += 1
        if count > BOMB * max_count:
            raise HeaderBomb
        pos, strings = _strings(block, pos)
        done += FIELD_BYTES
        for _ in range(strings):
            begin, end = _extent(block, pos)
            if block[pos] & 0x80:
                string = b""
                for piece in huffman.decode_in_steps(block[begin:end], step):
                    string += piece
                    done += min(step, end - begin)
                    begin += step
                    if done >= step:
                        done = 0
                        yield
                out += (block[kept:pos], encode_integer(len(string), 0x7F, 0), string)
                kept = end
            pos = end
        if done >= step:
            done = 0
            yield
    out.append(block[kept:])
    return b"".join(out)


def _strings(block: bytes, pos: int) -> tuple[int, int]:
    """Where the strings of the field at `pos` begin, and how many it has."""
    first = block[pos]
    if first & 0x80:
        return _integer(block, pos, 0x7F)[1], 0
    if first & 0xE0 == 0x20:  # a size update
        return _integer(block, pos, 0x1F)[1], 0
    index, pos = _integer(block, pos, 0x3F if first & 0x40 else 0x0F)
    return pos, 1 if index else 2


# A literal of :path that leaves the table alone, by its first byte: without indexing, or never indexed, and its name
# that of entry 4 or 5 of the static table.
_PATH_LITERALS: Final = b"\x04\x05\x14\x15"


def path_value(block: bytes) -> tuple[int, int, int]:
    """Where a block says the value of :path: the position of its length, and the extent of its bytes.

    (0, 0, 0) where it says it in another way than a literal that leaves the table alone, or has something before it
    that is rare. Real clients say it so; most others of their fields are one byte each.
    """
    pos, size = 0, len(block)
    while pos < size:
        first = block[pos]
        pos += 1
        if first > 0x80:
            if first == 0xFF:
                break  # an index of several bytes
        elif first in _PATH_LITERALS:
            try:
                return pos, *_extent(block, pos)
            except (CompressionFault, IndexError):
                break
        else:
            mask = 0x3F if first & 0x40 else 0x0F
            if first & 0xE0 == 0x20 or first == 0x80 or first & mask == mask:
                break  # a size update, an error, an index of several bytes
            for _ in range(1 if first & mask else 2):  # strings
                if pos >= size or block[pos] & 0x7F == 0x7F:
                    return 0, 0, 0
                pos += 1 + (block[pos] & 0x7F)
    return 0, 0, 0


def encode_integer(number: int, mask: int, first: int) -> bytes:
    """Section 5.1; `first` holds the bits above the prefix."""
    if number < mask:
        return bytes((first | number,))
    out = bytearray((first | mask,))
    number -= mask
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_EXACT: dict[Field, int] = {field: index for index, field in reversed(list(enumerate(STATIC, 1)))}
_NAMES: Final = {field[0]: index for index, field in reversed(list(enumerate(STATIC, 1)))}


def literal(name: bytes, value: bytes, never: bool = False) -> bytes:
    """One field as a literal without indexing, which leaves every table as it is (sections 6.2.2, 6.2.3)."""
    first = 0x10 if never else 0x00
    index = _NAMES.get(name, 0)
    head = encode_integer(index, 0x0F, first)
    if not index:
        head += encode_integer(len(name), 0x7F, 0) + name
    return head + encode_integer(len(value), 0x7F, 0) + value


def encode(fields: list[Field]) -> bytes:
    """A block that needs and changes no dynamic table."""
    out = []
    for field in fields:
        index = None if isinstance(field, NeverIndexed) else _EXACT.get(field)
        if index:
            out.append(encode_integer(index, 0x7F, 0x80))
        else:
            out.append(literal(field[0], field[1], isinstance(field, NeverIndexed)))
    return b"".join(out)
