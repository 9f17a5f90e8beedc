"""HTTP/1.1 answers: what is read and refused, that no cut of the bytes changes it, and h11 as a second reader."""

import contextlib
import itertools

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcproxy.wire.fields import MAX_FIELDS, NO_LENGTH
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1_answers import Answers, RawAnswer, is_frames, parse_answer
from mcproxy.wire.http1_framing import MAX_CHUNK_LINE, MAX_HEAD, MAX_MEMBERS, MAX_TRAILERS, BadMessage

OK = b"HTTP/1.1 200 OK\r\n"
CODED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"
BESIDE = "Transfer-Encoding beside Content-Length, or in HTTP/1.0"


class Read:
    """What was read of a connection: (status, fields, body, trailers) of each answer that is complete."""

    def __init__(self) -> None:
        self.heads: list[RawAnswer] = []
        self.bodies: list[bytes] = []
        self.trailers: list[list[Field]] = []
        self.complete = False  # the last final answer
        self.left = b""  # behind it

    @property
    def outcome(self) -> tuple[object, ...]:
        return self.heads, self.bodies, self.trailers, self.complete, self.left


def read(pieces: list[bytes], head_only: bool = False) -> Read:
    """Read one answer with its interim heads from a connection that sends these pieces, and then ends."""
    answers, found, data = Answers(), Read(), b""
    answers.expect(head_only)
    final = False
    for piece in pieces:
        data += piece
        while data and not found.complete:
            if not final:
                size = answers.head_size(data)
                if not size:
                    break
                found.heads.append(parse_answer(data[:size]))
                if not found.heads[-1].is_interim:
                    final = True
                    found.complete = not answers.begin_body(found.heads[-1])
            else:
                body: list[bytes] = []
                size, _ = answers.next_body(data, 0, 99, body)
                found.bodies += body
                found.complete = not answers.in_body
                if not size:
                    break
            data = data[size:]
    if final and not found.complete and answers.ends_with_connection:
        found.complete = True
    found.bodies = [b"".join(found.bodies)]
    found.trailers.append(answers.trailers)
    found.left = data
    return found


def refusal(raw: bytes) -> str:
    """Why an answer is refused."""
    with pytest.raises(BadMessage) as bad:
        read([raw])
    return bad.value.why


def test_a_head() -> None:
    answer = parse_answer(
        b"HTTP/1.1 200 Fine, \xff thanks\r\n"
        b"Server: a\r\n"
        b"X-Empty:\r\n"
        b"X-Blanks: \t a \t b\t \r\n"  # those around the value go (RFC 9112, 5.1)
        b"X-Control: a\x01\x7fb\xff\r\n"  # as in requests (RFC 9110, 5.5)
        b"Connection: Keep-Alive, X-Own;a=b\r\n"
        b"Content-Length: 007\r\n"
        b"\r\n"
    )
    assert (answer.status, answer.minor, answer.length, answer.chunked) == (200, 1, 7, False)
    assert answer.fields[:4] == (
        (b"server", b"a"), (b"x-empty", b""), (b"x-blanks", b"a \t b"), (b"x-control", b"a\x01\x7fb\xff"),
    )  # fmt: skip
    assert answer.connection == {b"keep-alive", b"x-own"}
    assert answer.persists
    assert answer.may_have_body


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 ", 200), (b"HTTP/1.1 200", 200), (b"HTTP/1.0 404 Not\tFound", 404), (b"HTTP/1.1 999 x", 999),
        (b"HTTP/1.1 100 Continue", 100),
    ],
)  # fmt: skip
def test_status_lines(line: bytes, status: int) -> None:
    assert parse_answer(line + b"\r\n\r\n").status == status


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 x", b"HTTP/1.1 2x0 OK", b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 -20 OK", b"http/1.1 200 OK", b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 OK\r", b"ICY 200 OK", b"HTTP/2 200", b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.10 200 OK", b"HTTP/1.1 200OK", b"HTTP/1.1", b"hello",
        b" HTTP/1.1 200 OK", b"\r\nHTTP/1.1 200 OK", b"\x00\x00\x00\x04", b"<html>",
    ],
)  # fmt: skip
def test_status_lines_that_are_none(line: bytes) -> None:
    assert refusal(line + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", "content-length twice"),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", "content-length twice"),
        (b"Content-Length: 5, 5\r\n", "Content-Length is not a number"),
        (b"Content-Length: 5, 6\r\n", "Content-Length is not a number"),
        (b"Content-Length: +5\r\n", "Content-Length is not a number"),
        (b"Content-Length: -5\r\n", "Content-Length is not a number"),
        (b"Content-Length: 0x5\r\n", "Content-Length is not a number"),
        (b"Content-Length: 5 5\r\n", "Content-Length is not a number"),
        (b"Content-Length:\r\n", "Content-Length is not a number"),
        (b"Content-Length: 18446744073709551621\r\n", "Content-Length is not a number"),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BESIDE),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BESIDE),
        (b"Transfer-Encoding: gzip\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding: chunked, chunked\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding: \x01chunked\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding: identity\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding:\r\n", "a transfer coding other than chunked"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "transfer-encoding twice"),
        (b"Transfer-Encoding : chunked\r\n", "a malformed field line: Transfer-Encoding?"),
        (b"X-A: a\r\n b\r\n", "a folded line behind X-A"),
        (b"X-A: a\r\n\tb\r\n", "a folded line behind X-A"),
        (b" X-A: a\r\n", "a folded line"),
        (b"X-A: a\nX-B: b\r\n", "a bare LF"),
        (b"X-A: a\rX-B: b\r\n", "a malformed field line: X-A"),
        (b"X-A: a\r\r\n", "a malformed field line: X-A"),
        (b"X-A: a\x00b\r\n", "a malformed field line: X-A"),
        (b"X-A: a\x0bb\r\n", "a malformed field line: X-A"),
        (b"X A: a\r\n", "a malformed field line: X?A"),
        (b"X\xff: a\r\n", "a malformed field line: X?"),
        (b"X-A\r\n", "a malformed field line: X-A"),
        (b": a\r\n", "a malformed field line: "),
        (b"Connection: " + b"a," * MAX_MEMBERS + b"\r\n", "more than 64 members in connection"),
        (b"X: a\r\n" * (MAX_FIELDS + 1), "257 fields"),
        (b"X: " + b"a" * MAX_HEAD + b"\r\n", "a head of more than 65536 bytes"),
    ],
)  # fmt: skip
def test_what_is_refused_and_that_it_names_the_field(fields: bytes, why: str) -> None:
    assert refusal(OK + fields + b"\r\nhello") == why


def test_http_1_0_has_no_coding() -> None:
    assert "Transfer-Encoding" in refusal(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("size", [MAX_HEAD, MAX_HEAD + 70_000])
def test_a_head_without_end_is_refused_once_it_is_too_large(size: int) -> None:
    assert refusal(OK + b"X: " + b"a" * size) == "a head of more than 65536 bytes"


@pytest.mark.parametrize("data", [b"I", b"HTTQ", b"\x00", b"\r\n", b"HTTP/2"])
def test_what_begins_no_answer_is_refused_at_once(data: bytes) -> None:
    """Not when an empty line comes at last: a client would wait for it."""
    assert refusal(data)


def test_frames_are_recognised() -> None:
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
    goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"
    assert all(is_frames(frame[:size]) for frame in (settings, goaway) for size in range(1, len(frame)))
    assert not any(map(is_frames, (b"", b"HTTP/1.1 200 OK", b"\x00\x00\x00\x00\x00", b"\x16\x03\x01\x00\x04")))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\r\n", "size"), (b"x\r\n", "size"), (b"-1\r\n", "size"), (b"+1\r\n", "size"), (b"0x1\r\n", "size"),
        (b" 1\r\n", "size"), (b"1 \r\n", "size"), (b"1\n", "LF"), (b"1\r\nab\r\n", "longer than its size"),
        (b"1\r\na\n", "LF"), (b"1\r\na\r0\r\n", "longer than its size"), (b"1;\x00\r\n", "size"),
        (b"1;a\rb\r\n", "size"), (b"1000000000000000\r\n", "size"), (b"1" * MAX_CHUNK_LINE, "doesn't end"),
        (b"0\r\nX: a\n\r\n", "LF"), (b"0\r\n X: a\r\n\r\n", "field line"), (b"0\r\nX : a\r\n\r\n", "field line"),
        (b"0\r\nX: a\r\n b\r\n\r\n", "field line"), (b"0\r\n\n", "LF"),
        (b"0\r\n" + b"X: aaaaaaa\r\n" * (MAX_TRAILERS // 12 + 1), "doesn't end"),
    ],
)  # fmt: skip
def test_chunks_that_are_none(body: bytes, why: str) -> None:
    assert why in refusal(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body)


@pytest.mark.parametrize("status", [b"204", b"304", b"200"])
def test_an_answer_without_a_body_ends_with_its_head(status: bytes) -> None:
    """Whatever its fields say (RFC 9112, 6.3): a HEAD's has the length that a GET's would have."""
    for field in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
        found = read([b"HTTP/1.1 " + status + b" x\r\n" + field + b"\r\nrest"], head_only=status == b"200")
        assert (found.complete, found.bodies, found.left) == (True, [b""], b"rest")


@pytest.mark.parametrize(
    ("head", "persists"),
    [
        (b"HTTP/1.1 200 OK\r\n", True), (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: X-A\r\nConnection: a, CLOSE\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False), (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n", False),
    ],
)  # fmt: skip
def test_whether_the_connection_goes_on(head: bytes, persists: bool) -> None:
    assert parse_answer(head + b"\r\n").persists is persists


def test_a_body_that_is_the_whole_read_is_not_copied() -> None:
    answers = Answers()
    for head in (b"Content-Length: 100000", b"X: endless"):
        answer = parse_answer(OK + head + b"\r\n\r\n")
        assert answers.begin_body(answer)
        data = b"x" * 65_536
        body: list[bytes] = []
        assert answers.next_body(data, 0, 99, body) == (len(data), 1)
        assert body[0] is data


def test_no_more_is_taken_at_once_than_is_allowed() -> None:
    answers = Answers()
    answers.begin_body(parse_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n"))
    data = b"1\r\nx\r\n" * 100
    assert answers.next_body(data, 0, 48, []) == (16 * 6, 48)
    assert answers.next_body(data, 96, 999, []) == (600, 84 * 3)
    assert "chunk line" in repr(answers)


STREAMS = {
    "counted": OK + b"Content-Length: 5\r\nX-A: b\r\n\r\nhello",
    "empty": OK + b"Content-Length: 0\r\n\r\n",
    "chunked": CODED + b'3\r\nabc\r\n00A;x="y"\r\n0123456789\r\n1 ; q\r\nz\r\n0\r\nX-S: 1\r\n\r\n',
    "endless": b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello\r\n\r\nhello",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
    "none": b"HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 9\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_reads_the_same(name: str) -> None:
    stream = STREAMS[name]
    whole = read([stream])
    assert whole.complete
    assert whole.left == b""
    for at in range(1, len(stream)):
        assert read([stream[:at], stream[at:]]).outcome == whole.outcome
    assert read([stream[i : i + 1] for i in range(len(stream))]).outcome == whole.outcome


@pytest.mark.parametrize("name", ["counted", "chunked", "interim"])
def test_an_answer_that_breaks_off_is_never_complete(name: str) -> None:
    stream = STREAMS[name]
    assert not any(read([stream[:size]]).complete for size in range(len(stream)))


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 120), max_size=6))
def test_any_cuts_read_the_same(name: str, cuts: list[int]) -> None:
    stream = STREAMS[name]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read([stream[a:b] for a, b in itertools.pairwise(edges)]).outcome == read([stream]).outcome


class Reference:
    """An answer as h11's client reads it."""

    def __init__(self, raw: bytes, head_only: bool) -> None:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("Host", "one.test")]))
        client.send(h11.EndOfMessage())
        client.receive_data(raw)
        client.receive_data(b"")
        self.statuses: list[int] = []
        self.fields: list[Field] = []
        self.body = b""
        self.trailers: list[Field] = []
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                self.statuses.append(event.status_code)
                self.fields = list(event.headers)
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers = list(event.headers)
                return
            else:
                raise h11.RemoteProtocolError(f"no end: {event}")


_VALUE = st.text('ab1,;= \t"é', max_size=8).map(lambda text: text.strip(" \t").encode("latin-1"))
_FIELD = st.tuples(st.sampled_from([b"X-A", b"Set-Cookie", b"date", b"ETag", b"Connection"]), _VALUE)


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """An answer with any status, fields, framing and body; its framing fits its body or not."""
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 500]))
    body = draw(st.binary(max_size=40))
    lines = [b"%b: %b" % field for field in draw(st.lists(_FIELD, max_size=4))]
    framing = draw(st.sampled_from(["counted", "chunked", "endless", "wrong"]))
    if framing == "counted":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "wrong":
        lines.append(b"Content-Length: %d" % draw(st.integers(0, 60)))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        chunks = [each for each in (body[:cut], body[cut:]) if each]
        body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n"
        body += draw(st.sampled_from([b"\r\n", b"X-T: a\r\n\r\n"]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 x\r\nLink: a\r\n\r\n"]))
    line = b"HTTP/1.%d %d x" % (draw(st.integers(0, 1)) if framing != "chunked" else 1, status)
    return interim + b"\r\n".join((line, *lines, b"", body))


def check_against_h11(raw: bytes, head_only: bool) -> None:
    """What we take for complete, h11 reads the same; what it can't read, we don't take for complete."""
    try:
        ours = read([raw], head_only)
    except BadMessage:
        return
    if not ours.complete:
        with pytest.raises(h11.RemoteProtocolError):
            Reference(raw, head_only)
        return
    theirs = Reference(raw, head_only)
    assert [head.status for head in ours.heads] == theirs.statuses
    assert list(ours.heads[-1].fields) == theirs.fields
    assert ours.bodies == [theirs.body]
    assert ours.trailers == [theirs.trailers]


@given(_answers(), st.booleans())
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", False)
def test_answers_read_as_h11_reads_them(raw: bytes, head_only: bool) -> None:
    check_against_h11(raw, head_only)


@given(
    _answers(), st.integers(0, 200), st.sampled_from([b"\r", b"\n", b" ", b"\x00", b"0", b":", b""]), st.integers(0, 2)
)
def test_mutated_answers_are_read_or_refused_and_never_hang(raw: bytes, at: int, put: bytes, drop: int) -> None:
    with contextlib.suppress(BadMessage):
        for head in read([raw[:at] + put + raw[at + drop :]]).heads:
            for name, value in head.fields:
                assert not {0, 10, 13} & {*name, *value}
            assert head.length >= NO_LENGTH
