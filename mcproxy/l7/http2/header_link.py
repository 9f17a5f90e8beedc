"""One direction of header blocks through the relay: read, checked, and passed on as the sender encoded them.

The relay keeps a mirror of the sender's dynamic table, reads each block against it, and passes the sender's own bytes,
so that the receiver's table follows the sender's. That is *in step*. Appending literals without indexing keeps it so.

A block that has moved the sender's table and is not passed as it is (refused, or a field of it dropped) breaks the step
for good: the receiver's table can no longer follow. From then on the stateless encoder encodes every block again. It
uses no dynamic table; the first block says so to the receiver with a size update to 0, so that its memory is freed and
no later SETTINGS_HEADER_TABLE_SIZE asks anything of us. (The table could be brought back to size and filled by an
encoder of ours. It would save bytes on a link that is usually a loopback, and cost a second table to get wrong.)
A block that has *not* moved the table may be refused or changed at any time without any such effect.

The one change that never matters is how a string is coded. A large block's Huffman codes take milliseconds to undo, so
`unpacked` does that a turn at a time, and what is read and passed is the block without them: the same fields, with the
same effect on every table. The largest blocks are never cached: they repeat too seldom.

What a block says depends on nothing but the table before it and its bytes, so `BlockCache` keeps the section: fields,
checked value, table after. It is shared by all connections of the process: in the steady state a request costs one
look-up, on its first connection too. A client can learn from timing whether somebody sent exactly the same whole block
before it, from the same table; it can't learn a secret piece by piece.
"""

from collections.abc import Callable, Generator
from typing import Final, Generic, TypeVar

from mcproxy.l7.core import Turn
from mcproxy.l7.generations import Generations
from mcproxy.l7.http2.budgets import (
    BYTES_DECODED,
    CACHE_BLOCK_BYTES,
    CACHE_BLOCKS,
    CACHE_FIELD_BYTES,
    CACHE_FIELDS,
    FIELD_COST,
    UNPACKED,
)
from mcproxy.wire.fields import (
    BODILESS,
    FINAL_STATUS,
    MAX_FIELDS,
    MAX_HEADER_LIST,
    Answer,
    BadRequest,
    Malformed,
    Request,
    Trailers,
    check_answer,
    check_answer_trailers,
    check_request_trailers,
    passed_answer,
    passed_answer_trailers,
    passed_request_trailers,
)
from mcproxy.wire.hpack_block import (
    CLEAR_TABLE,
    EMPTY_TABLE,
    CompressionFault,
    DynamicTable,
    Field,
    HeaderBomb,
    decode,
    encode,
    encode_integer,
    without_huffman,
)
from mcproxy.wire.http2 import DEFAULT_TABLE_SIZE, ConnectionFault, ErrorCode, Flag

T = TypeVar("T", bound=Request | Answer | Trailers)
Pass = Callable[[list[Field]], list[Field]]


class TooLarge(Exception):
    """More fields, or larger ones, than MAX_FIELDS and MAX_HEADER_LIST allow: 431."""

    def __init__(self) -> None:
        super().__init__(f"a header list of more than {MAX_HEADER_LIST} bytes or {MAX_FIELDS} fields")


class Section(Generic[T]):
    """The meaning of a block, wherever it comes with these bytes after this table. Frozen once it has been judged."""

    __slots__ = (
        "_around", "_encoded", "express", "fault", "fields", "fits_all", "may_pass", "moved", "neutral", "passed",
        "table", "template", "value",
    )  # fmt: skip

    def __init__(self, fields: list[Field], before: DynamicTable, after: DynamicTable, passed: Pass) -> None:
        self.fields = fields
        self.passed = passed  # what of them goes on
        self.table = after
        self.moved = after is not before  # the sender's table changed
        self.value: T | None = None  # None where `fault` is not
        self.fault: Exception | None = None  # Malformed, BadRequest, TooLarge
        self.may_pass = True  # as it is
        self.fits_all = False  # a request that is right whatever its flags and the connection are
        self.express: T | None = None  # `value`, where nothing about it needs a closer look: for the express lane
        self._encoded: bytes | None = None
        self._around: tuple[bytes, bytes] | None = None
        self.neutral: object = None  # a memo of the bridge's: the head in neutral form
        self.template: Section[T] | None = None  # that it was made from (request_blocks.py)

    @property
    def encoded(self) -> bytes:
        """The fields that may pass, encoded without state. A memo: it is the same for every reader."""
        if self._encoded is None:
            if self.template is not None:
                before, behind = self.template.around_path
                path = [field for field in self.fields if field[0] == b":path"]
                self._encoded = before + encode(path) + behind
            else:
                self._encoded = encode(self.fields if self.may_pass else self.passed(self.fields))
        return self._encoded

    @property
    def around_path(self) -> tuple[bytes, bytes]:
        """What `encoded` has before :path and behind it, for sections that differ in that only. A memo."""
        if self._around is None:
            fields = self.fields if self.may_pass else self.passed(self.fields)
            place = [name for name, _ in fields].index(b":path")
            self._around = encode(fields[:place]), encode(fields[place + 1 :])
        return self._around


class BlockCache(Generations[tuple[DynamicTable, bytes], Section[T]], Generic[T]):
    """Sections by (table, block), of one kind of field section."""

    __slots__ = ("check", "passed")

    def __init__(self, check: Callable[[list[Field]], T], passed: Pass, capacity: int = CACHE_BLOCKS) -> None:
        super().__init__(capacity)
        self.check = check
        self.passed = passed

    def read(self, block: bytes, table: DynamicTable, allowed: int, turn: Turn) -> Section[T]:
        """The section of a block that is not in `young`; to decode it is what takes long. Raises ConnectionFault."""
        key = (table, block)
        section = self.old.get(key) if table.max_size <= allowed else None
        if section is None:
            section = self._judge(block, table, allowed)
            turn.left -= FIELD_COST * len(section.fields) + len(block) // BYTES_DECODED
        # A size update may be right for this connection's settings only.
        if is_small(block, section.fields) and block and block[0] & 0xE0 != 0x20:
            self.learn(block, table, section)
        return section

    def learn(self, block: bytes, table: DynamicTable, section: Section[T]) -> None:
        """Keep a section that is small."""
        self.keep((table, block), section)

    def _judge(self, block: bytes, table: DynamicTable, allowed: int) -> Section[T]:
        try:
            decoded = decode(block, table, allowed, MAX_HEADER_LIST, MAX_FIELDS)
        except (CompressionFault, HeaderBomb) as fault:
            raise _as_connection_fault(fault) from None
        section: Section[T] = Section(decoded.fields, table, decoded.table, self.passed)
        if decoded.oversized:
            section.fault = TooLarge()
            return section
        try:
            section.value = self.check(decoded.fields)
        except (Malformed, BadRequest) as found:
            section.fault = found
        value = section.value
        if value is not None:
            section.may_pass = not value.rewrite
        if isinstance(value, Request):
            section.fits_all = not value.protocol and not value.refusal and value.content_length <= 0
            section.express = value if section.fits_all and section.may_pass else None
        elif isinstance(value, Answer) and value.status >= FINAL_STATUS and value.status not in BODILESS:
            section.express = value if section.may_pass else None
        return section


def is_small(block: bytes, fields: list[Field]) -> bool:
    """Whether a section is worth the memory that it takes, and that others make of it: both encodings again."""
    return (
        len(block) <= CACHE_BLOCK_BYTES
        and len(fields) <= CACHE_FIELDS
        and sum([len(name) + len(value) for name, value in fields]) <= CACHE_FIELD_BYTES
    )


def _as_connection_fault(fault: CompressionFault | HeaderBomb) -> ConnectionFault:
    if isinstance(fault, HeaderBomb):
        return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list without end")
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(fault))


def unpacked(block: bytes) -> Generator[None, None, bytes]:
    """A large block without its Huffman codes; yields when others should have their turn. Raises ConnectionFault."""
    try:
        plain = yield from without_huffman(block, UNPACKED, MAX_FIELDS)
    except (CompressionFault, HeaderBomb) as fault:
        raise _as_connection_fault(fault) from None
    yield  # to decode it takes long enough for a turn of its own
    return plain


ANSWERS: Final = BlockCache(check_answer, passed_answer)
REQUEST_TRAILERS: Final = BlockCache(check_request_trailers, passed_request_trailers)
ANSWER_TRAILERS: Final = BlockCache(check_answer_trailers, passed_answer_trailers)


def trailers_fault(section: Section[Trailers], flags: int, frame_fault: str, left: int) -> str:
    """Return what is wrong with trailers (RFC 9113, section 8.1), or "".

    `frame_fault` is what is wrong with their frame; the body still lacks `left` bytes.
    """
    if section.fault or frame_fault:
        return f"invalid trailers: {section.fault or frame_fault}"
    if not flags & Flag.END_STREAM:
        return "a second head, or trailers without END_STREAM"
    return "trailers before the end of the body" if left > 0 else ""


class HeaderLink:
    """The header blocks of one direction of one connection."""

    __slots__ = ("_prefix", "allowed", "in_step", "table")

    def __init__(self) -> None:
        self.table = EMPTY_TABLE  # the sender's
        self.allowed = DEFAULT_TABLE_SIZE  # the largest table that the receiver lets the sender use
        self.in_step = True
        self._prefix = b""  # of the next block that we encode

    def __repr__(self) -> str:
        return f"<HeaderLink {'in step' if self.in_step else 'encoding again'} {self.table!r}>"

    def read(self, block: bytes, cache: BlockCache[T], turn: Turn) -> Section[T]:
        """Read a whole block. Every block that arrives must come through here. Raises ConnectionFault."""
        table = self.table
        section = cache.young.get((table, block))
        if section is None or table.max_size > self.allowed:
            section = cache.read(block, table, self.allowed, turn)
        if section.moved:
            self.table = section.table
        return section

    def passed(self, block: bytes, section: Section[T]) -> bytes:
        """The block for the receiver: `block` itself wherever that is right."""
        if self.in_step and section.may_pass:
            return block
        self.withheld(section)
        return self.prefix() + section.encoded

    def passed_without(self, section: Section[T], name: bytes) -> bytes:
        """The block for the receiver, without a field."""
        self.withheld(section)
        return self.prefix() + encode([field for field in section.passed(section.fields) if field[0] != name])

    def prefix(self) -> bytes:
        """Return what a block that we encode must begin with: a size update (RFC 7541, section 4.2), where one is due.

        In step, one is due where the receiver has lowered its table and the sender's first block is still to come.
        """
        if self.in_step:
            allowed = self.allowed
            return encode_integer(allowed, 0x1F, 0x20) if allowed < self.table.max_size else b""
        prefix, self._prefix = self._prefix, b""
        return prefix

    def withheld(self, section: Section[T]) -> None:
        """The block was not passed as it was."""
        if section.moved:
            self.lose_step()

    def lose_step(self) -> None:
        """From here on, the receiver's table doesn't follow the sender's."""
        if self.in_step:
            self.in_step = False
            self._prefix = CLEAR_TABLE
