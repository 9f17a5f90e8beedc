import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.wire.hpack_block import (
    CLEAR_TABLE,
    EMPTY_TABLE,
    CompressionFault,
    Decoded,
    DynamicTable,
    Field,
    HeaderBomb,
    NeverIndexed,
    decode,
    encode,
    encode_integer,
    literal,
    path_value,
    without_huffman,
)

NAMES = st.sampled_from([b":method", b":path", b"cookie", b"x-a", b"x-long-name", b"accept"])
VALUES = st.one_of(st.sampled_from([b"GET", b"/", b"", b"1"]), st.binary(max_size=40))
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


def read(
    block: bytes, table: DynamicTable = EMPTY_TABLE, allowed: int = 4096, max_list: int = 65_536, count: int = 100
) -> Decoded:
    return decode(block, table, allowed, max_list, count)


def unpack(block: bytes, step: int = 4_096, count: int = 100) -> tuple[bytes, int]:
    """A block without its Huffman codes, and how often others had their turn."""
    turns = 0
    unpacking = without_huffman(block, step, count)
    while True:
        try:
            next(unpacking)
        except StopIteration as stop:
            return stop.value, turns
        turns += 1


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"\x82\x87\xbe\x04\x02/a\xbf", (4, 5, 7)),
        (b"\x15\x80", (1, 2, 2)),
        (b"\x04\x7f\x01" + b"a" * 130, (1, 3, 131)),
        (b"\x41\x01a\x40\x01b\x01c\x00\x01d\x01e\x0e\x01f\x14\x01/", (17, 18, 19)),
        (b"", (0, 0, 0)),
        (b"\x82\x84", (0, 0, 0)),
        (b"\x44\x02/a\x82", (0, 0, 0)),
        (b"\x00\x05:path\x01/", (0, 0, 0)),
        (b"\x20\x04\x01/", (0, 0, 0)),
        (b"\x80\x04\x01/", (0, 0, 0)),
        (b"\xff\x04\x04\x01/", (0, 0, 0)),
        (b"\x7f\x04\x01a\x04\x01/", (0, 0, 0)),
        (b"\x0f\x04\x01a\x04\x01/", (0, 0, 0)),
        (b"\x00\x7f\x04\x01/", (0, 0, 0)),
        (b"\x04", (0, 0, 0)),
        (b"\x04\x02/", (0, 0, 0)),
        (b"\x04\x7f\xff\xff\xff\xff\xff\xff\x01/", (0, 0, 0)),
        (b"\x00\x01a", (0, 0, 0)),
    ],
)  # fmt: skip
def test_where_a_block_says_the_path(block: bytes, expected: tuple[int, int, int]) -> None:
    assert path_value(block) == expected


# RFC 7541, appendix C: the three requests of C.3 (plain) and C.4 (Huffman), and the tables after each.
C3 = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
C4 = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [C3, C4])
def test_the_examples_of_the_rfc(blocks: list[str]) -> None:
    table = EMPTY_TABLE
    sizes = []
    for block in blocks:
        decoded = read(bytes.fromhex(block), table)
        table = decoded.table
        sizes.append(table.size)
    assert sizes == [57, 110, 164]
    assert decoded.fields[-1] == (b"custom-key", b"custom-value")
    assert table.entries == (
        (b"custom-key", b"custom-value"),
        (b"cache-control", b"no-cache"),
        (b":authority", b"www.example.com"),
    )
    assert repr(table) == "<DynamicTable 3 entries, 164 of 4096 bytes>"


@given(st.lists(st.tuples(FIELDS, st.sampled_from([None, None, 0, 60, 200, 4096]), st.booleans()), max_size=12))
def test_every_block_of_a_connection_reads_as_hpack_reads_it(
    blocks: list[tuple[list[Field], int | None, bool]],
) -> None:
    encoder, reference, table = Encoder(), Decoder(), EMPTY_TABLE
    for fields, size, huffman in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = bytes(encoder.encode(fields, huffman=huffman))
        expected = [(bytes(n), bytes(v)) for n, v in reference.decode(block, raw=True)]
        decoded = read(block, table)
        assert decoded.fields == expected == fields
        after = decoded.table
        changed = (after.entries, after.max_size) != (table.entries, table.max_size)
        assert changed == (after is not table), "moved exactly where it is another table"
        assert after.entries == tuple(reference.header_table.dynamic_entries)
        assert after.size == sum(len(n) + len(v) + 32 for n, v in after.entries)
        assert after.max_size == reference.header_table_size
        table = after


@given(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=10))
def test_the_encoder_needs_and_changes_no_table(given_fields: list[tuple[bytes, bytes, bool]]) -> None:
    fields = [NeverIndexed((n, v)) if never else (n, v) for n, v, never in given_fields]
    block = encode(fields)
    full = read(b"\x40\x01a\x01b").table
    for table in (EMPTY_TABLE, full):
        decoded = read(block, table)
        assert decoded.fields == fields
        assert [type(field) for field in decoded.fields] == [type(field) for field in fields]
        assert decoded.table is table
    assert [(bytes(n), bytes(v)) for n, v in Decoder().decode(block, raw=True)] == fields


@given(st.integers(0, 2**31), st.sampled_from([0x0F, 0x1F, 0x3F, 0x7F]))
def test_integers_come_back(number: int, mask: int) -> None:
    block = encode_integer(number, mask, 0)
    if mask == 0x1F:
        assert read(bytes((block[0] | 0x20,)) + block[1:], allowed=2**31).table.max_size == number


@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_a_fault(data: bytes) -> None:
    try:
        decoded = read(data)
    except CompressionFault:
        return
    assert [(bytes(n), bytes(v)) for n, v in Decoder().decode(data, raw=True)] == decoded.fields


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "neither table"),
        (b"\x7f\x07\x01a", "neither table"),
        (b"\x40", "ends inside"),
        (b"\x40\x01", "beyond the block"),
        (b"\x00\x05ab", "beyond the block"),
        (b"\xff\x80\x80\x80\x80\x80\x01", "too many bytes"),
        (b"\x82\x20", "size update after"),
        (b"\x3f\xe2\x1f", "4097 bytes"),
        (b"\x00\x01a\x81\x00", "Huffman"),
    ],
)
def test_what_is_no_block(block: bytes, why: str) -> None:
    with pytest.raises(CompressionFault, match=why):
        read(block)


def test_a_literal_that_only_looks_like_one_that_indexes_moves_nothing() -> None:
    decoded = read(literal(b"x-at", b"@@@@") + b"\x82")
    assert decoded.table is EMPTY_TABLE


def test_an_entry_larger_than_the_table_empties_it() -> None:
    small = read(b"\x3f\x45\x40\x01a\x01b").table
    assert (len(small.entries), small.max_size) == (1, 100)
    big = b"\x40\x01c\x64" + b"x" * 100
    emptied = read(big, small).table
    assert emptied.entries == ()
    assert read(big, emptied).table is emptied, "nothing left to lose"


def test_down_to_zero_and_back_with_an_empty_table_changes_nothing() -> None:
    assert read(CLEAR_TABLE + b"\x3f\xe1\x1f\x82").table is EMPTY_TABLE
    one = read(b"\x40\x01a\x01b").table
    assert read(CLEAR_TABLE + b"\x3f\xe1\x1f\x82", one).table.entries == ()


def test_a_table_that_must_shrink_has_to_say_so() -> None:
    with pytest.raises(CompressionFault, match="not reduced"):
        read(b"\x82", EMPTY_TABLE, allowed=0)
    assert read(b"\x20\x82", EMPTY_TABLE, allowed=0).table.max_size == 0


def test_a_short_block_of_long_entries_keeps_little() -> None:
    table = read(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000).table
    bomb = read(b"\xbe" * 150, table, max_list=20_000)
    assert bomb.oversized
    assert len(bomb.fields) == 4
    assert bomb.table is table
    assert read(b"\x82" * 6, count=5).oversized
    assert not read(b"\x82" * 5, count=5).oversized


def test_far_more_fields_than_allowed_are_not_even_decoded() -> None:
    assert read(b"\x82" * 10, count=5).oversized
    with pytest.raises(HeaderBomb):
        read(b"\x82" * 11, count=5)


def test_what_may_never_be_indexed_stays_so() -> None:
    decoded = read(b"\x1f\x08\x06secret\x0f\x11\x04none")
    assert [type(field) is NeverIndexed for field in decoded.fields] == [True, False]
    assert encode(decoded.fields)[:2] == b"\x1f\x08"


@given(
    st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8), st.sampled_from([None, 0, 60]), st.integers(1, 200)
)
def test_without_its_huffman_codes_a_block_is_the_same(
    fields: list[tuple[bytes, bytes, bool]], size: int | None, step: int
) -> None:
    encoder = Encoder()
    if size is not None:
        encoder.header_table_size = size
    block = bytes(encoder.encode(fields, huffman=True))
    plain, _ = unpack(block, step)
    before, after = read(block), read(plain)
    assert after.fields == before.fields
    assert [type(each) for each in after.fields] == [type(each) for each in before.fields]
    assert (after.table.entries, after.table.max_size) == (before.table.entries, before.table.max_size)
    assert unpack(plain, step)[0] == plain


@given(st.binary(max_size=60))
def test_bytes_without_huffman_codes_are_what_they_were(data: bytes) -> None:
    def outcome(block: bytes) -> object:
        try:
            decoded = read(block)
        except CompressionFault:
            return None
        return decoded.fields, decoded.table.entries

    try:
        plain, _ = unpack(data)
    except CompressionFault:
        assert outcome(data) is None
    else:
        assert outcome(plain) == outcome(data)


def test_long_codes_are_undone_a_step_at_a_time() -> None:
    long = b"\x00\x01a" + encode_integer(10_000, 0x7F, 0x80) + bytes(10_000)
    plain, turns = unpack(long, step=1_000)
    assert plain == literal(b"a", b"0" * 16_000)
    assert turns == 10
    many = b"\x00\x01a\x81\x07" * 100
    assert unpack(many, step=1_000) == (literal(b"a", b"0") * 100, 3)
    assert unpack(many, step=100_000)[1] == 0


def test_far_more_fields_than_allowed_are_not_unpacked() -> None:
    assert unpack(b"\x82" * 10, count=5)[0] == b"\x82" * 10
    with pytest.raises(HeaderBomb):
        unpack(b"\x82" * 11, count=5)


@pytest.mark.parametrize(
    ("block", "why"), [(b"\x00\x01a\x81\x00", "Huffman"), (b"\x00\x85a", "beyond"), (b"\x40", "inside")]
)
def test_what_can_not_be_unpacked(block: bytes, why: str) -> None:
    with pytest.raises(CompressionFault, match=why):
        unpack(block)
