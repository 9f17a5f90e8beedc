"""The heads of an HTTP/1.1 client: found, read, translated; and that the cache changes only the time it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bounds import DEAR_HEAD, KNOWN_HEAD_COST
from mcproxy.l7.bridge.request_heads import REQUESTS, ReadRequest, RequestHeads
from mcproxy.l7.core import Turn
from mcproxy.wire.http1_framing import BadMessage

GET = b"GET /a HTTP/1.1\r\nHost: one.test\r\n\r\n"


def taken(data: bytes, hostname: str = "one.test") -> tuple[ReadRequest, int]:
    found = RequestHeads(hostname).take(data, Turn(10_000))
    assert found is not None
    return found


def test_a_known_head_costs_a_look_up() -> None:
    raw = GET.replace(b"/a", b"/known")
    first, size = taken(raw + b"more")
    assert size == len(raw)
    turn = Turn(1_000)
    heads = RequestHeads("two.test")
    found = heads.take(raw, turn)
    assert found is not None
    assert found[0] is first
    assert turn.left == 1_000 - KNOWN_HEAD_COST
    assert first.neutral is not None
    assert first.neutral.request.path == b"/known"


def test_a_known_head_begins_its_body_as_a_new_one_does() -> None:
    raw = b"POST /body HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(2):
        heads = RequestHeads("one.test")
        assert heads.take(raw, Turn(10_000)) is not None
        body: list[bytes] = []
        assert heads.requests.next_body(b"1\r\nx\r\n0\r\n\r\nGET", 99, body) == (11, 5)
        assert body == [b"x"]
        assert not heads.requests.in_message


def test_a_known_head_behind_empty_lines_or_in_pieces() -> None:
    raw = GET.replace(b"/a", b"/pieces")
    known, _ = taken(raw)
    assert taken(b"\r\n\r\n" + raw) == (known, len(raw) + 4)
    for cut in range(1, len(raw)):
        heads = RequestHeads("one.test")
        assert heads.take(raw[:cut], Turn()) is None
        assert heads.take(raw, Turn()) == (known, len(raw))
        assert heads.take(raw, Turn()) == (known, len(raw)), "and the next one"


def test_the_name_of_the_route_is_that_of_a_head_without_host_on_that_route_only() -> None:
    raw = b"GET /nameless HTTP/1.0\r\n\r\n"
    for hostname in ("one.test", "two.test", "one.test"):
        read, _ = taken(raw, hostname)
        assert read.neutral is not None
        assert read.neutral.request.authority == hostname.encode()
    absolute, _ = taken(b"GET http://three.test/ HTTP/1.0\r\n\r\n")
    assert absolute.neutral is not None
    assert absolute.neutral.request.authority == b"three.test"


def test_a_head_that_can_t_be_served_is_known_with_its_fault() -> None:
    """Its line in the log shows method and target."""
    raw = b"GET * HTTP/1.1\r\nHost: one.test\r\n\r\n"
    for _ in range(2):
        read, size = taken(raw)
        assert size == len(raw)
        assert read.neutral is None
        assert read.fault is not None
        assert read.fault.status == 400
        assert (read.head.method, read.head.target) == (b"GET", b"*")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\nHost: one.test\r\n\r\n", b"GET / HTTP/1.1\r\nHost: one.test\n\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\nHost: one.test\r\n\r\n", b"\r\n" * 17 + GET,
        b"GET / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)  # fmt: skip
def test_what_can_t_be_read_is_refused_each_time(raw: bytes) -> None:
    taken(GET)
    for _ in range(2):
        with pytest.raises(BadMessage):
            taken(raw)


def test_a_dear_head_waits_for_a_turn_of_its_own() -> None:
    raw = GET[:-2] + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n"
    assert len(raw) < 2_048, "it is cached"
    heads = RequestHeads("one.test")
    turn = Turn()
    assert heads.take(raw, turn) is None
    assert turn.over
    turn = Turn(2 * DEAR_HEAD)
    found = heads.take(raw, turn)
    assert found is not None
    assert found[1] == len(raw)
    assert turn.left == DEAR_HEAD
    assert heads.take(raw, Turn()) is not None, "it is known by now"
    assert "RequestHeads" in repr(heads)


def outcome(data: bytes) -> object:
    try:
        found = RequestHeads("one.test").take(data, Turn(10_000))
    except BadMessage as bad:
        return bad.status, bad.why
    if found is None:
        return None
    read, size = found
    return size, read.head, read.neutral, read.fault and (read.fault.status, read.fault.why)


@given(st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3), st.sampled_from([b"", GET, b"\r\n", b"\n"]))
def test_the_cache_never_changes_the_outcome(at: int, put: bytes, drop: int, behind: bytes) -> None:
    raw = b"POST /a HTTP/1.1\r\nHost: one.test\r\nContent-Length: 3\r\n\r\n"
    taken(raw)
    data = raw[:at] + put + raw[at + drop :] + behind
    warm = outcome(data), outcome(data)
    REQUESTS.young.clear()
    REQUESTS.old.clear()
    assert warm == (outcome(data), outcome(data))
