from typing import Any

import pytest

from mcproxy.l7.core import Turn
from mcproxy.l7.http2.admission import Admission
from mcproxy.l7.http2.budgets import EARLY_STREAMS
from mcproxy.l7.http2.header_link import BlockCache, Section
from mcproxy.wire.fields import MAX_FIELDS, Request
from mcproxy.wire.hpack_block import EMPTY_TABLE, encode
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode
from mcproxy.wire.requests import check_request, passed_request
from tests.kit.http2_peer import GET, POST

OTHER = [*GET[:3], (":authority", "other.test")]
SAME = [*GET[:3], (":authority", "b.test")]
PROTOCOL = ErrorCode.PROTOCOL_ERROR
REFUSED = ErrorCode.REFUSED_STREAM


def section(fields: list[tuple[str, str]]) -> Section[Request]:
    block = encode([(name.encode(), value.encode()) for name, value in fields])
    return BlockCache(check_request, passed_request).read(block, EMPTY_TABLE, 4_096, Turn())


def outcome(rules: Admission, *args: Any) -> ErrorCode | int | None:
    """How a request ends; None: it is admitted."""
    refusal = rules.refusal(*args)
    assert refusal is None or refusal.why
    return refusal and refusal.outcome


def admission() -> Admission:
    return Admission(b"a.test", lambda host: host == b"b.test")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (GET, None), (SAME, None), (OTHER, 421), (GET[:3], 400), ([*GET, ("te", "x")], PROTOCOL),
        ([*GET, *[("x", "y")] * MAX_FIELDS], 431), ([*POST, ("content-length", "1")], PROTOCOL),
        ([(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")], PROTOCOL),
    ],
)  # fmt: skip
def test_a_request_without_a_body(fields: list[tuple[str, str]], refusal: ErrorCode | int | None) -> None:
    assert outcome(admission(), 1, True, section(fields), 0, "") == refusal


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([*GET, ("X-A", "1")], "a field name in upper case: X-A"),
        ([*GET, ("connection", "keep-alive")], "connection, which HTTP/2 does not know (RFC 9113, 8.2.2)"),
        ([*POST, ("content-length", "1")], "content-length without a body"),
        ([(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")], ":protocol, which was not offered"),
        ([(":method", "CONNECT"), (":authority", "a.test:443")], "CONNECT"),
        (OTHER, "a host that this connection's route doesn't serve"),
        ([*GET, *[("x", "y")] * MAX_FIELDS], "a header list of more than 65536 bytes or 256 fields"),
    ],
)
def test_a_refusal_says_why(fields: list[tuple[str, str]], why: str) -> None:
    """The author of a client got RST_STREAM PROTOCOL_ERROR, and not a word."""
    refusal = admission().refusal(1, True, section(fields), 0, "")
    assert refusal is not None
    assert refusal.why == why


def test_what_was_announced_is_allowed() -> None:
    rules = admission()
    rules.extended_connect = True
    connect = section([(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")])
    assert outcome(rules, 1, False, connect, 0, "") is None
    assert outcome(rules, 1, False, section([*POST, ("content-length", "1")]), 0, "") is None
    assert outcome(rules, 1, False, section(GET), 0, "depends on itself") is PROTOCOL


def test_no_more_streams_than_allowed() -> None:
    rules = admission()
    rules.allow(2)
    assert rules.unchecked == 2
    assert outcome(rules, 1, True, section(GET), 1, "") is None
    assert outcome(rules, 1, True, section(GET), 2, "") is REFUSED


def test_none_above_the_last_one_that_goaway_named() -> None:
    rules = admission()
    assert rules.offer(MAX_STREAM_ID) == MAX_STREAM_ID
    assert (rules.closing, rules.unchecked) == (False, EARLY_STREAMS)
    assert rules.offer(5) == 5
    assert rules.offer(7) == 5
    rules.allow(100)
    assert (rules.closing, rules.unchecked) == (True, 0)
    assert outcome(rules, 7, True, section(GET), 0, "") is REFUSED
    assert outcome(rules, 5, True, section(GET), 0, "") is None
    assert repr(rules) == "<Admission b'a.test' 100 streams, up to 5>"


def test_without_a_backend_all_get_one_status() -> None:
    rules = admission()
    rules.answer_all(504, "no way")
    rules.allow(100)
    assert rules.unchecked == 0
    assert outcome(rules, 1, True, section(GET), 0, "") == 504
    assert outcome(rules, 1, True, section(OTHER), 0, "") == 421, "that is for another connection"
    assert repr(rules) == "<Admission b'a.test' 100 streams, all get 504>"
