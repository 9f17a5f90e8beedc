"""Requests that differ in the path: whatever comes of a template is what a full reading comes to."""

from typing import NamedTuple

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.heads import RequestHead
from mcproxy.l7.bridge.stream_outlet import neutral
from mcproxy.l7.core import Turn
from mcproxy.l7.http2.budgets import BYTES_DECODED, CACHE_BLOCK_BYTES, FIELD_COST, KEPT_OF_MADE, PATH_COST
from mcproxy.l7.http2.header_link import BlockCache, HeaderLink, Section
from mcproxy.l7.http2.request_blocks import RequestBlocks
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import STATIC, encode_integer
from mcproxy.wire.http2 import ConnectionFault
from mcproxy.wire.requests import check_request, passed_request

_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode
WITHOUT, NEVER, INDEXED = 0x00, 0x10, 0x40  # first bytes of literals (RFC 7541, section 6.2)
MASKS = {WITHOUT: 0x0F, NEVER: 0x0F, INDEXED: 0x3F}


class Said(NamedTuple):
    """A field as an encoder may write it."""

    name: bytes
    value: bytes
    first: int = WITHOUT
    huffman: bool = False
    name_index: int = 0  # 0: the name is spelled out, unless the static table has it
    entry: int = 0  # the whole field is this index

    def __bytes__(self) -> bytes:
        if self.entry:
            return encode_integer(self.entry, 0x7F, 0x80)
        index = self.name_index or next((at for at, each in enumerate(STATIC, 1) if each[0] == self.name), 0)
        head = encode_integer(index, MASKS[self.first], self.first)
        return head + (b"" if index else string(self.name, self.huffman)) + string(self.value, self.huffman)


def string(value: bytes, huffman: bool) -> bytes:
    coded = _huffman(value) if huffman else value
    return encode_integer(len(coded), 0x7F, 0x80 if huffman else 0) + coded


def block_of(fields: list[Said], before: bytes = b"") -> bytes:
    return before + b"".join(map(bytes, fields))


def told(section: Section[Request]) -> tuple[object, ...]:
    """All that a section says, to its last byte."""
    table, value = section.table, section.value
    meaning: tuple[object, ...] = (
        [(type(field), *field) for field in section.fields], section.moved, value, section.may_pass, section.fits_all,
        section.express, type(section.fault), str(section.fault), table.entries, table.size, table.max_size,
    )  # fmt: skip
    if value is None:
        return meaning
    passed = [(type(field), *field) for field in section.passed(section.fields)]
    return (*meaning, passed, section.encoded, *told_by_head(neutral(section)))


def told_by_head(head: RequestHead) -> tuple[object, ...]:
    forms = head.request, head.scheme, head.fields, head.upgrade, head.upgrade_to, head.chunked, head.key
    flags = head.expects_continue, head.takes_interim, head.hides_its_body, head.is_websocket
    return *forms, *flags, head.lines, head.block


def outcome(link: HeaderLink, block: bytes, cache: BlockCache[Request]) -> object:
    try:
        return told(link.read(block, cache, Turn(10_000)))
    except ConnectionFault as fault:
        return fault.code, fault.why


PATHS = st.one_of(
    st.sampled_from(
        [
            b"", b"/", b"*", b"/index.html", b"//", b"/a?b=c", b"?a", b"/a#b", b"/#", b"/ ", b" /", b"/a\t", b"/\0",
            b"/a\r\nx: y", b"/\n", b"/\x7f", b"/\x80\xff", b"/%2e%2e/", b"/%00", b"/../..", b"http://one.test/",
            b"one.test:443", b"/a HTTP/1.1", b"\\", b"/\\", b'/"<>^`{|}', b"/" + b"a" * 126, b"/" + b"a" * 127,
            b"/" + b"%2f" * 300, b"/" + b"b" * 3_000, b":path",
        ]
    ),
    st.binary(max_size=12),
    st.binary(max_size=12).map(lambda rest: b"/" + rest),
    st.text("/.?&=%abcXYZ059-_~", max_size=80).map(lambda rest: b"/" + rest.encode()),
)  # fmt: skip
FORMS = st.tuples(st.sampled_from([WITHOUT, WITHOUT, NEVER, INDEXED]), st.booleans())
LEFT_ALONE = st.tuples(st.sampled_from([WITHOUT, WITHOUT, WITHOUT, NEVER]), st.booleans())  # the table is


def said(name: bytes, value: bytes, forms: st.SearchStrategy[tuple[int, bool]] = FORMS) -> st.SearchStrategy[Said]:
    return forms.map(lambda form: Said(name, value, *form))


def field(*values: tuple[bytes, bytes]) -> st.SearchStrategy[Said]:
    return st.sampled_from(values).flatmap(lambda each: said(*each))


USUAL = field(
    (b"user-agent", b"test"), (b"cookie", b"a=b"), (b"cookie", b"c" * 200), (b"x-forwarded-for", b"10.0.0.1"),
    (b"x-a", b" blank "), (b"te", b"trailers"), (b"host", b"one.test"), (b"content-length", b"0"), (b"x-a", b"b"),
    (b"max-forwards", b"3"), (b"expect", b"100-continue"), (b"http2-settings", b"a"), (b"authorization", b"Basic YTpi"),
)  # fmt: skip
ODD = field(
    (b"te", b"gzip"), (b"host", b"two.test"), (b"content-length", b"7"), (b"content-length", b"x"), (b"x-a", b"\0"),
    (b"max-forwards", b"0"), (b"connection", b"close"), (b"X-Upper", b"1"), (b"content-type", b"application/grpc"),
    (b":path", b"/again"), (b":scheme", b"https"), (b":protocol", b"websocket"),
)  # fmt: skip
SITE = st.permutations([(b":scheme", b"https"), (b":authority", b"one.test")])
ODD_SITE = st.permutations(
    [
        (b":scheme", b"http"), (b":scheme", b"HTTPS"), (b":scheme", b"ftp"), (b":authority", b"ONE.test:443"),
        (b":authority", b"a@b"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"one.test"),
    ]
).map(lambda each: each[:3])  # fmt: skip
METHODS = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"TRACE", b"OPTIONS"])
ODD_METHODS = st.sampled_from([b"CONNECT", b"G T", b""])


@st.composite
def heads(draw: st.DrawFn) -> tuple[list[Said], int]:
    """The fields of a request, and the place of :path among them: mostly a request that is right."""
    odd = draw(st.sampled_from(["", "", "", "", "method", "site", "regular", "place", "path"]))
    method = draw(ODD_METHODS if odd == "method" else METHODS)
    pairs = [(b":method", method), *draw(ODD_SITE if odd == "site" else SITE)]
    pseudo = [draw(said(*each)) for each in draw(st.permutations(pairs))]
    regular = draw(st.lists(USUAL, max_size=4, unique_by=lambda each: each.name))
    if odd == "regular":
        regular.append(draw(ODD))
    fields = [*pseudo, *regular]
    place = draw(st.integers(0, len(fields) if odd == "place" else len(pseudo)))
    fields.insert(place, draw(said(b":path", b"/template", FORMS if odd == "path" else LEFT_ALONE)))
    return fields, place


BEFORE = st.sampled_from([b"", b"", b"", b"", b"", b"\x20", b"\x3f\xe1\x1f", b"\x3f\x45", b"\x3f\xff\xff\x7f"])
CUT = st.sampled_from([0, 0, 0, 0, 1, 3])  # bytes that lack at the end


@given(heads(), st.lists(PATHS, min_size=1, max_size=4), st.booleans(), st.booleans(), BEFORE, CUT)
def test_a_template_changes_only_what_it_costs(
    head: tuple[list[Said], int], paths: list[bytes], settled: bool, anew: bool, before: bytes, cut: int
) -> None:
    """`settled`: the sender's table has all of the other fields, so that each is one byte, and no table moves.

    `anew`: each block comes on a connection of its own, behind the same table.
    """
    fields, place = head
    cache, warm = RequestBlocks(), HeaderLink()
    if settled:
        warm.read(block_of([each._replace(first=INDEXED) for each in fields if each.name != b":path"]), cache, Turn())
        known = warm.table.entries
        fields = [each._replace(entry=62 + known.index(each[:2])) if each[:2] in known else each for each in fields]
    start = warm.table
    for number, path in enumerate([b"/template", *paths]):
        if anew:
            warm.table = start
        mine = [*fields[:place], fields[place]._replace(value=path), *fields[place + 1 :]]
        block = block_of(mine, before)
        block = block[: len(block) - (cut if number else 0)]
        cold = HeaderLink()
        cold.table = warm.table
        expected = outcome(cold, block, BlockCache(check_request, passed_request))
        assert outcome(warm, block, cache) == expected
        assert warm.table.entries == cold.table.entries
        if isinstance(expected, tuple) and len(expected) == 2:
            break  # the connection ends


def settled_link(cache: RequestBlocks, *more: Said) -> tuple[HeaderLink, list[Said]]:
    """A link whose sender has the other fields in its table, as browsers and nghttp2 have."""
    fields = [
        Said(b":method", b"GET", entry=2), Said(b":scheme", b"https", entry=7), Said(b":path", b"/first"),
        Said(b":authority", b"one.test", INDEXED), Said(b"user-agent", b"test", INDEXED), *more,
    ]  # fmt: skip
    link = HeaderLink()
    link.read(block_of(fields), cache, Turn(1_000))
    return link, [*fields[:3], Said(b"", b"", entry=63), Said(b"", b"", entry=62), *more]


def asked(link: HeaderLink, fields: list[Said], path: bytes, cache: RequestBlocks, huffman: bool = True) -> int:
    """Read the request for a path. Returns what it cost."""
    turn = Turn(1_000)
    mine = [each._replace(value=path, huffman=huffman) if each.name == b":path" else each for each in fields]
    section = link.read(block_of(mine), cache, turn)
    assert section.value is not None
    assert section.value.path == path
    return 1_000 - turn.left


def test_a_new_path_costs_less_than_a_new_block_and_its_code_as_much() -> None:
    cache = RequestBlocks()
    link, fields = settled_link(cache)
    assert asked(link, fields, b"/one", cache, huffman=False) > 5 * FIELD_COST, "the first with this table"
    assert asked(link, fields, b"/two", cache, huffman=False) == PATH_COST
    long = b"/" + b"a" * 320
    assert asked(link, fields, long, cache) == PATH_COST + len(_huffman(long)) // BYTES_DECODED
    assert asked(link, fields, b"/one", cache, huffman=False) == 0, "the whole block"


def test_a_path_that_comes_often_becomes_a_known_block() -> None:
    cache = RequestBlocks()
    link, fields = settled_link(cache)
    asked(link, fields, b"/first", cache)
    before = len(cache.young)
    for number in range(8 * KEPT_OF_MADE):
        asked(link, fields, b"/%d" % number, cache)
        asked(link, fields, b"/often", cache)
    assert asked(link, fields, b"/often", cache) == 0
    assert len(cache.young) - before <= 2 * 8


def test_templates_are_bounded_and_those_in_use_stay() -> None:
    cache = RequestBlocks(capacity=4)
    link, fields = settled_link(cache)
    for number in range(40):
        other = [*fields, Said(b"x-n", b"%d" % number)]
        asked(link, other, b"/first", cache)
        asked(link, fields, b"/%d" % number, cache)
    assert len(cache.templates.young) + len(cache.templates.old) <= 8
    assert len(cache.young) + len(cache.old) <= 8
    assert asked(link, fields, b"/last", cache, huffman=False) == PATH_COST


def test_what_a_few_bytes_stand_for_is_no_template() -> None:
    """Sixteen bytes that each stand for 4 KB, as in test_header_link.py."""
    cache = RequestBlocks()
    link, fields = settled_link(cache, Said(b"cookie", b"c" * 3_800, INDEXED))
    kept = {}
    for cookies in (1, 16):
        cache.templates.young.clear()
        more = [Said(b":authority", b"one.test"), *[Said(b"cookie", b"", entry=62)] * cookies]
        link.read(block_of([*fields[:3], *more]), cache, Turn(10_000))
        kept[cookies] = len(cache.templates.young)
    assert kept == {1: 1, 16: 0}, "one is what a browser sends"


ONE = [Said(b":scheme", b"https"), Said(b":authority", b"one.test")]
A = Said(b":path", b"/a")


@pytest.mark.parametrize(
    ("method", "more", "kept"),
    [
        (b"GET", [A], 1),
        (b"OPTIONS", [A], 0),
        (b"CONNECT", [A, Said(b":protocol", b"websocket")], 0),
        (b"TRACE", [A, Said(b"max-forwards", b"0")], 0),
        (b"TRACE", [A, Said(b"max-forwards", b"1")], 1),
        (b"GET", [A._replace(first=INDEXED)], 0),
        (b"GET", [A._replace(value=b"a")], 0),
        (b"GET", [A, *[Said(b"x-a", b"a" * 1_000)] * (1 + CACHE_BLOCK_BYTES // 1_000)], 0),
    ],
)
def test_what_is_special_has_no_template(method: bytes, more: list[Said], kept: int) -> None:
    cache = RequestBlocks()
    HeaderLink().read(block_of([Said(b":method", method), *ONE, *more]), cache, Turn(10_000))
    assert len(cache.templates.young) == kept


def test_a_template_is_used_only_where_the_table_is_allowed() -> None:
    cache = RequestBlocks()
    link, fields = settled_link(cache)
    asked(link, fields, b"/one", cache)
    link.allowed = 0
    with pytest.raises(ConnectionFault):
        asked(link, fields, b"/two", cache)
