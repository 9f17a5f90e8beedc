"""A block that is passed and a block that is encoded again decode to the same fields, whatever came before."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.core import Turn
from mcproxy.l7.http2.header_link import (
    REQUEST_TRAILERS,
    BlockCache,
    HeaderLink,
    Section,
    TooLarge,
    trailers_fault,
)
from mcproxy.l7.http2.request_blocks import REQUESTS
from mcproxy.wire.fields import Malformed, Trailers
from mcproxy.wire.hpack_block import EMPTY_TABLE, Field, encode
from mcproxy.wire.http2 import ConnectionFault, ErrorCode, Flag
from mcproxy.wire.requests import check_request, passed_request

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.test")]
EXTRA = st.sampled_from(
    [
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"cookie", b"c" * 300),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"forwarded", b"for=10.0.0.1"),
        (b"X-Malformed", b"1"),
        (b"user-agent", b"test"),
    ]
)
STEP = st.tuples(st.lists(EXTRA, max_size=4), st.booleans(), st.sampled_from([None, None, 0, 100, 4096]), st.booleans())


@given(st.lists(STEP, min_size=1, max_size=12))
def test_the_backend_reads_what_the_client_said(steps: list[tuple[list[Field], bool, int | None, bool]]) -> None:
    """Blocks that move the table or don't, size updates, fields to be dropped, blocks refused: in any order."""
    encoder, backend, link = Encoder(), Decoder(), HeaderLink()
    for extra, indexed, size, refused in steps:
        if size is not None:
            encoder.header_table_size = size
        fields = [*GET, *extra]
        block = bytes(encoder.encode([(n, v, not indexed) for n, v in fields]))
        section = link.read(block, REQUESTS, Turn())
        assert section.fields == fields
        if refused or section.fault:
            link.withheld(section)
            continue
        passed = link.passed(block, section)
        assert passed == block or not (link.in_step and section.may_pass)
        got = [(bytes(n), bytes(v)) for n, v in backend.decode(passed, raw=True)]
        assert got == passed_request(fields)
        if link.in_step:
            assert tuple(backend.header_table.dynamic_entries) == link.table.entries
        else:
            assert not backend.header_table.dynamic_entries


def block_of(fields: list[Field], indexed: bool) -> bytes:
    return bytes(Encoder().encode([(n, v, not indexed) for n, v in fields]))


def test_a_refused_block_that_moves_nothing_keeps_the_step() -> None:
    link = HeaderLink()
    link.withheld(link.read(block_of(GET, indexed=False), REQUESTS, Turn()))
    assert repr(link).startswith("<HeaderLink in step")
    link.withheld(link.read(block_of(GET, indexed=True), REQUESTS, Turn()))
    assert repr(link).startswith("<HeaderLink encoding again")


def test_a_dropped_field_that_moves_nothing_keeps_the_step() -> None:
    link = HeaderLink()
    block = block_of([*GET, (b"forwarded", b"for=x")], indexed=False)
    section = link.read(block, REQUESTS, Turn())
    passed = link.passed(block, section)
    assert link.in_step
    assert [(bytes(n), bytes(v)) for n, v in Decoder().decode(passed, raw=True)] == GET


def test_the_cache_serves_every_connection() -> None:
    cache = BlockCache(check_request, passed_request)
    block = block_of(GET, indexed=True)
    first, second = HeaderLink(), HeaderLink()
    section = first.read(block, cache, Turn())
    assert second.read(block, cache, Turn()) is section
    assert second.table is first.table
    assert first.read(block, cache, Turn()) is not section, "another table, another section"


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = BlockCache(check_request, passed_request, capacity=4)
    often = block_of([*GET, (b"x-often", b"1")], indexed=False)
    kept = HeaderLink().read(often, cache, Turn())
    for number in range(40):
        HeaderLink().read(block_of([*GET, (b"x-n", b"%d" % number)], indexed=False), cache, Turn())
        assert HeaderLink().read(often, cache, Turn()) is kept
    assert len(cache.young) + len(cache.old) <= 8


def test_what_a_few_bytes_stand_for_is_not_kept() -> None:
    """Sixteen bytes that each stand for 4 KB: a thousand such heads, each a little different, took 128 MiB for good."""
    cache = BlockCache(check_request, passed_request)
    link, encoder = HeaderLink(), Encoder()
    crumb = (b"cookie", b"c" * 3_900)
    link.read(bytes(encoder.encode([*GET, crumb])), cache, Turn())
    cache.young.clear()
    kept = {}
    for crumbs in (1, 16):
        block = bytes(encoder.encode([*GET, *[crumb] * crumbs, (b"x-n", b"%d" % crumbs, True)]))
        assert len(block) < 64
        link.read(block, cache, Turn())
        kept[crumbs] = block in [key[1] for key in cache.young]
    assert kept == {1: True, 16: False}, "one is what a browser sends"


def test_a_size_update_is_judged_by_each_connections_settings() -> None:
    cache = BlockCache(check_request, passed_request)
    block = b"\x3f\xe1\x1f" + block_of(GET, indexed=False)  # 4096
    assert HeaderLink().read(block, cache, Turn()).table is EMPTY_TABLE
    narrow = HeaderLink()
    narrow.allowed = 0
    with pytest.raises(ConnectionFault) as fault:
        narrow.read(block, cache, Turn())
    assert fault.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_table_above_what_is_allowed_is_not_served_from_the_cache() -> None:
    cache = BlockCache(check_request, passed_request)
    block = block_of(GET, indexed=False)
    HeaderLink().read(block, cache, Turn())
    narrow = HeaderLink()
    narrow.allowed = 0
    with pytest.raises(ConnectionFault):
        narrow.read(block, cache, Turn())


def test_faults_are_outcomes() -> None:
    malformed = HeaderLink().read(block_of([*GET, (b"X-A", b"1")], indexed=False), REQUESTS, Turn())
    assert isinstance(malformed.fault, Malformed)
    large = HeaderLink().read(block_of([*GET, (b"x-a", b"1" * 70_000)], indexed=False), REQUESTS, Turn())
    assert isinstance(large.fault, TooLarge)
    many = HeaderLink().read(block_of([*GET, *[(b"x-a", b"1")] * 300], indexed=False), REQUESTS, Turn())
    assert isinstance(many.fault, TooLarge)


def test_a_block_of_ours_says_a_size_update_that_is_due() -> None:
    link = HeaderLink()
    assert link.prefix() == b""
    link.allowed = 100
    assert link.prefix() == b"\x3f\x45"
    link.lose_step()
    assert link.prefix() == b"\x20"
    assert link.prefix() == b"", "once"


def test_trailers_are_faulty_for_a_reason() -> None:
    def trailers(*fields: Field) -> Section[Trailers]:
        return HeaderLink().read(encode(list(fields)), REQUEST_TRAILERS, Turn())

    good, ends = trailers((b"x-sum", b"1")), int(Flag.END_STREAM)
    assert trailers_fault(good, ends, "", 0) == ""
    assert trailers_fault(good, ends, "", -1) == ""
    assert trailers_fault(good, 0, "", 0) == "a second head, or trailers without END_STREAM"
    assert trailers_fault(good, ends, "", 3) == "trailers before the end of the body"
    assert trailers_fault(good, ends, "padding", 0) == "invalid trailers: padding"
    bad = trailers((b"X-A", b"1"))
    assert trailers_fault(bad, ends, "", 0) == "invalid trailers: a field name in upper case: X-A"
