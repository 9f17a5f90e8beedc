"""The heads of an HTTP/1.1 client: found, read, translated; and that the cache changes only the time it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bounds import CACHE_HEAD_BYTES, DEAR_HEAD, KEPT_OF_MADE, KNOWN_HEAD_COST, NEW_TARGET_COST
from mcproxy.l7.bridge.request_heads import REQUESTS, TEMPLATES, ReadRequest, RequestHeads, Templates
from mcproxy.l7.core import Turn
from mcproxy.wire.http1_framing import BadMessage

GET = b"GET /a HTTP/1.1\r\nHost: one.test\r\n\r\n"


def taken(data: bytes, hostname: str = "one.test") -> tuple[ReadRequest, int]:
    found = RequestHeads(hostname).take(data, Turn(10_000))
    assert found is not None
    return found


def test_a_known_head_costs_a_look_up() -> None:
    forget()
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
    neutral = read.neutral
    forms = neutral and (neutral.lines, neutral.block, neutral.hides_its_body, neutral.key)
    return size, read.head, neutral, forms, read.fault and (read.fault.status, read.fault.why)


def forget() -> None:
    for each in (REQUESTS, TEMPLATES):
        each.young.clear()
        each.old.clear()


@given(st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3), st.sampled_from([b"", GET, b"\r\n", b"\n"]))
def test_the_cache_never_changes_the_outcome(at: int, put: bytes, drop: int, behind: bytes) -> None:
    raw = b"POST /a HTTP/1.1\r\nHost: one.test\r\nContent-Length: 3\r\n\r\n"
    taken(raw)
    data = raw[:at] + put + raw[at + drop :] + behind
    warm = outcome(data), outcome(data)
    forget()
    assert warm == (outcome(data), outcome(data))


TARGETS = st.one_of(
    st.sampled_from(
        [
            b"", b"/", b"*", b"//", b"/a?b=c", b"?a", b"/a#b", b"/#", b"/ ", b" /", b"/a b", b"/a\t", b"/\0", b"/\x0b",
            b"/a\r\nX: y", b"/a\r\n\r\n", b"/\n", b"/\r", b"/\x7f", b"/\x80\xff", b"/%2e%2e/", b"/%00", b"/../..",
            b"http://two.test/", b"https://two.test", b"one.test:443", b"/a HTTP/1.1", b"/a HTTP/1.0\r\nHost: one.test",
            b'/"<>^`{|}\\', b"/" + b"a" * 2_000, b"/" + b"b" * 17_000, b"/a HTTP/1.1\r\nX: /b",
        ]
    ),
    st.binary(max_size=12),
    st.binary(max_size=12).map(lambda rest: b"/" + rest),
    st.text("/.?&=%abcXYZ059-_~", max_size=80).map(lambda rest: b"/" + rest.encode()),
)  # fmt: skip
METHODS = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"G\tT", b""])
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "])
LINES = st.lists(
    st.sampled_from(
        [
            b"Host: one.test", b"Host: one.test", b"Host: two.test:443", b"host:", b"Cookie: a=b", b"X-Real-IP: 10.0.0",
            b"Content-Length: 0", b"Content-Length: 7", b"Transfer-Encoding: chunked", b"Connection: close",
            b"Connection: keep-alive, x-a", b"X-A: b", b"TE: trailers", b"Expect: 100-continue", b"Max-Forwards: 0",
            b"Max-Forwards: 3", b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: other/1", b" folded",
            b"Bad : 1", b"Sec-WebSocket-Key: a", b"Content-Type: application/grpc", b"X-A: a\nb",
        ]
    ),
    max_size=5,
).map(lambda lines: [b"Host: one.test", *lines] if len(lines) % 3 else lines)  # fmt: skip


@given(METHODS, st.lists(TARGETS, min_size=2, max_size=5), VERSIONS, LINES, st.sampled_from([b"", b"", GET, b"\r\n"]))
def test_a_template_changes_only_what_it_costs(
    method: bytes, targets: list[bytes], version: bytes, lines: list[bytes], around: bytes
) -> None:
    """`around` is before a message and behind it."""
    before = b"" if around == GET else around

    def message(target: bytes) -> bytes:
        return before + b"\r\n".join([method + b" " + target + b" " + version, *lines, b"", around])

    forget()
    outcome(message(b"/template")[len(before) :])
    messages = [message(target) for target in targets]
    warm = [outcome(each) for each in messages]
    cold = []
    for each in messages:
        forget()
        cold.append(outcome(each))
    assert warm == cold


def cost(raw: bytes) -> int:
    turn = Turn(1_000)
    assert RequestHeads("one.test").take(raw, turn) is not None
    return 1_000 - turn.left


def test_a_new_target_costs_less_than_a_new_head() -> None:
    forget()
    assert cost(GET) > NEW_TARGET_COST
    assert cost(GET.replace(b"/a", b"/b")) == NEW_TARGET_COST
    assert cost(GET) == KNOWN_HEAD_COST
    assert cost(GET.replace(b"GET", b"PUT")) > NEW_TARGET_COST


def test_a_target_that_comes_often_becomes_a_known_head() -> None:
    forget()
    often = GET.replace(b"/a", b"/often")
    cost(GET)
    for number in range(8 * KEPT_OF_MADE):
        cost(GET.replace(b"/a", b"/%d" % number))
        cost(often)
    assert cost(often) == KNOWN_HEAD_COST
    assert len(REQUESTS.young) <= 2 * 8 + 1


def test_a_template_begins_its_body_as_a_new_head_does() -> None:
    forget()
    raw = b"POST /body HTTP/1.1\r\nHost: one.test\r\nContent-Length: 1\r\n\r\n"
    cost(raw)
    heads = RequestHeads("one.test")
    other = raw.replace(b"/body", b"/other")
    assert heads.take(other + b"xGET", Turn()) is not None
    body: list[bytes] = []
    assert heads.requests.next_body(b"xGET", 99, body) == (1, 1)
    assert body == [b"x"]


def test_templates_are_bounded_and_those_in_use_stay() -> None:
    templates = Templates(4)
    first, size = taken(GET)
    templates.learn(GET, first)
    for number in range(40):
        raw = GET.replace(b"Host", b"X-%d: y\r\nHost" % number)
        templates.learn(raw, taken(raw)[0])
        assert templates.made(GET.replace(b"/a", b"/%d" % number)) is not None
    assert len(templates.young) + len(templates.old) <= 8
    assert size == len(GET)


def test_large_heads_and_special_ones_are_no_templates() -> None:
    forget()
    for raw in (
        GET.replace(b"Host", b"X: %b\r\nHost" % (b"y" * CACHE_HEAD_BYTES)),
        GET.replace(b"GET", b"OPTIONS"),
        GET.replace(b"/a", b"https://one.test/a"),
        GET.replace(b"HTTP/1.1\r\nHost: one.test", b"HTTP/1.0"),
        GET.replace(b"Host", b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nHost"),
        GET.replace(b"Host", b"Connection: upgrade\r\nUpgrade: other\r\nHost"),
    ):
        taken(raw)
    assert not TEMPLATES.young
