"""HTTP/1.1 requests: what is read, what is refused, and that no cut of the bytes changes either."""

import contextlib
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.wire.fields import MAX_FIELDS, NO_LENGTH
from mcproxy.wire.http1 import MAX_EMPTY_LINES, MAX_TARGET, Head, Requests, begins_head
from mcproxy.wire.http1_framing import MAX_CHUNK_LINE, MAX_HEAD, MAX_MEMBERS, MAX_TRAILERS, BadMessage

HOST = b"Host: one.test\r\n"


def head_of(raw: bytes) -> Head:
    found = Requests().next_head(raw)
    assert found is not None
    return found[0]


def refusal(raw: bytes) -> BadMessage:
    """What a whole stream of bytes is refused with."""
    with pytest.raises(BadMessage) as bad:
        read([raw])
    return bad.value


def test_a_head() -> None:
    raw = (
        b"GET /a?b=%20 HTTP/1.1\r\n"
        b"Host: one.test:8443\r\n"
        b"X-Empty:\r\n"
        b"X-Blanks: \t a \t b\t \r\n"  # those around the value go (RFC 9112, 5.1)
        b"X-Obs: \xff\r\n"
        b"X-Control: a\x01\x7fb\r\n"  # real cookies have them (RFC 9110, 5.5)
        b"\r\n"
    )
    head = head_of(raw)
    assert (head.method, head.target, head.minor, head.host) == (b"GET", b"/a?b=%20", 1, b"one.test:8443")
    assert head.fields[1:] == (
        (b"x-empty", b""),
        (b"x-blanks", b"a \t b"),
        (b"x-obs", b"\xff"),
        (b"x-control", b"a\x01\x7fb"),
    )
    assert not head.has_body
    assert repr(head) == "<Head b'GET' b'/a?b=%20' HTTP/1.1>"


def test_http_1_0_needs_no_host() -> None:
    head = head_of(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.host, head.fields) == (0, None, ())


def test_empty_lines_before_a_request_are_ignored_up_to_a_bound() -> None:
    """Some clients send one or two behind a body: the next request was refused (RFC 9112, 2.2)."""
    get = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    for count in (1, 2, MAX_EMPTY_LINES):
        requests = Requests()
        lines = b"\r\n" * count
        assert [requests.next_head(lines[:size]) for size in range(1, len(lines) + 1)] == [None] * len(lines)
        found = requests.next_head(lines + get)
        assert found is not None
        assert (found[0].method, found[1]) == (b"GET", len(lines + get))
    assert refusal(b"\r\n" * (MAX_EMPTY_LINES + 1) + get).status == 400


@pytest.mark.parametrize("data", [b"", b"\r", b"\r\n", b"\r\n\r", b"\r\n\r\n"])
def test_empty_lines_begin_no_head(data: bytes) -> None:
    assert not begins_head(data)
    assert begins_head(data + b"G")


def test_a_list_has_a_bounded_number_of_members() -> None:
    def head(names: bytes) -> Head:
        return head_of(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nConnection: " + names + b"\r\n\r\n")

    assert len(head(b",".join(b"x%d" % i for i in range(MAX_MEMBERS - 1))).tokens(b"connection")) == MAX_MEMBERS
    with pytest.raises(BadMessage) as bad:
        head(b"," * (MAX_MEMBERS - 1)).tokens(b"connection")
    assert (bad.value.status, bad.value.why) == (431, "more than 64 members in connection")


SMUGGLING = {
    "CL and TE": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "TE and CL": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "two CL": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "two CL that agree": b"Content-Length: 3\r\nContent-Length: 3\r\n",
    "CL list": b"Content-Length: 3, 3\r\n",
    "CL signed": b"Content-Length: +3\r\n",
    "CL negative": b"Content-Length: -3\r\n",
    "CL hex": b"Content-Length: 0x3\r\n",
    "CL empty": b"Content-Length:\r\n",
    "CL inner blank": b"Content-Length: 1 2\r\n",
    "CL beyond 64 bits": b"Content-Length: 18446744073709551617\r\n",
    "CL underscore": b"Content-Length: 1_0\r\n",
    "two TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n",
    "tab before colon": b"Transfer-Encoding\t: chunked\r\n",
    "leading space": b" Transfer-Encoding: chunked\r\n",
    "folded": b"X: a\r\n b\r\n",
    "folded tab": b"X: a\r\n\tb\r\n",
    "folded TE": b"Transfer-Encoding:\r\n chunked\r\n",
    "bare LF": b"X: a\nTransfer-Encoding: chunked\r\n",
    "bare CR": b"X: a\rTransfer-Encoding: chunked\r\n",
    "CR at the end": b"X: a\r\r\n",
    "NUL": b"X: a\x00b\r\n",
    "control before the colon": b"X\x01: ab\r\n",
    "vertical tab in a value": b"X: a\x0bb\r\n",
    "form feed in a value": b"X: a\x0cb\r\n",
    "control in a coding": b"Transfer-Encoding: \x01chunked\r\n",
    "vertical tab": b"Transfer-Encoding:\x0bchunked\r\n",
    "no colon": b"X\r\n",
    "no name": b": a\r\n",
    "name with a control": b"X\x00: a\r\n",
    "name with a high byte": b"X\xff: a\r\n",
    "name with a quote": b'"X": a\r\n',
    "two hosts": HOST,
    "two hosts in other case": b"hOST: one.test\r\n",
}


@pytest.mark.parametrize("form", SMUGGLING)
def test_what_smuggles_is_refused(form: str) -> None:
    assert refusal(b"POST / HTTP/1.1\r\n" + HOST + SMUGGLING[form] + b"\r\n0\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "coding", [b"gzip", b"chunked, gzip", b"gzip, chunked", b"xchunked", b"identity", b"chunked;q=1"]
)
def test_other_codings_are_not_implemented(coding: bytes) -> None:
    assert refusal(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + coding + b"\r\n\r\n").status == 501


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.2", 505), (b"GET / HTTP/2.0", 505), (b"PRI * HTTP/2.0", 505), (b"GET / HTTP/0.9", 505),
        (b"GET /", 400), (b"GET / http/1.1", 400), (b"GET / HTTP/1.1 ", 400), (b"GET  / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400), (b" GET / HTTP/1.1", 400), (b"GET / HTTP/1.1x", 400), (b"GET / HTTP/11", 400),
        (b"G(T / HTTP/1.1", 400), (b"G\x00T / HTTP/1.1", 400), (b"/ HTTP/1.1", 400), (b"GET /a#b HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400), (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400), (b"", 400), (b"\x16\x03\x01", 400),
    ],
)  # fmt: skip
def test_request_lines_that_are_none(line: bytes, status: int) -> None:
    assert refusal(line + b"\r\n" + HOST + b"\r\n").status == status


def test_http_1_1_needs_a_host_and_1_0_no_coding() -> None:
    assert refusal(b"GET / HTTP/1.1\r\n\r\n").status == 400
    assert refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status == 400


def test_heads_are_bounded() -> None:
    assert refusal(b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1\r\n" + HOST + b"\r\n").status == 414
    assert refusal(b"GET /" + b"a" * MAX_HEAD).status == 414
    assert refusal(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MAX_HEAD).status == 431
    assert refusal(b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * MAX_HEAD + b"\r\n\r\n").status == 431
    many = b"".join(b"X%d: a\r\n" % i for i in range(MAX_FIELDS))
    assert refusal(b"GET / HTTP/1.1\r\n" + HOST + many + b"\r\n").status == 431
    assert len(head_of(b"GET / HTTP/1.1\r\n" + HOST + many[7:] + b"\r\n").fields) <= MAX_FIELDS


@pytest.mark.parametrize("line", [b"X: %sa\0", b"X: %s\0", b"X: a%sa\0", b"X%s: a", b"X: a%s\0"])
def test_blanks_cost_no_more_than_their_bytes(line: bytes) -> None:
    """An expression with two runs of blanks tried all ways to divide them: one head took a minute, for everyone."""
    began = time.thread_time()
    assert refusal(b"GET / HTTP/1.1\r\n" + HOST + line % (b" " * 60_000) + b"\r\n\r\n").status == 400
    assert time.thread_time() - began < 1.0


def test_a_bare_lf_is_refused_as_soon_as_it_is_there() -> None:
    assert refusal(b"GET / HTTP/1.1\nHost: one.test").status == 400
    assert refusal(b"\n").status == 400


CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n"
GOOD_BODY = b'3\r\nabc\r\n00A;x="y"\r\n0123456789\r\n1 ; q\r\nz\r\n0\r\nX-Sum: 1\r\n\r\n'


def test_chunks_are_followed_to_their_end() -> None:
    requests = Requests()
    found = requests.next_head(CHUNKED + GOOD_BODY + b"GET")
    assert found is not None
    head, size = found
    assert size == len(CHUNKED)
    assert head.chunked
    assert head.length == NO_LENGTH
    assert "chunk line" in repr(requests)
    body: list[bytes] = []
    assert requests.next_body(GOOD_BODY + b"GET", 99, body)[0] == len(GOOD_BODY)
    assert body == [b"abc", b"0123456789", b"z"]
    assert requests.trailers == [(b"x-sum", b"1")]
    assert not requests.in_message


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\r\n", 400), (b"x\r\n", 400), (b"-1\r\n", 400), (b"+1\r\n", 400), (b"0x1\r\n", 400), (b" 1\r\n", 400),
        (b"1\n", 400), (b"1\r\nab\r\n", 400), (b"1\r\na\n", 400), (b"1\r\na\r0\r\n", 400), (b"1;\x00\r\n", 400),
        (b"1;a\rb\r\n", 400), (b"1;a\nb\r\n", 400), (b"0;a\n\r\n", 400), (b"1000000000000000\r\n", 400),
        (b"1" * MAX_CHUNK_LINE, 400), (b"1;" + b"a" * MAX_CHUNK_LINE + b"\r\n", 400),
        (b"0\r\nX: a\n\r\n", 400), (b"0\r\n X: a\r\n\r\n", 400), (b"0\r\nX : a\r\n\r\n", 400), (b"0\r\nX\r\n\r\n", 400),
        (b"0\r\nX: a\r\n b\r\n\r\n", 400), (b"0\r\nX: a\x00\r\n\r\n", 400), (b"0\r\n\n", 400),
        (b"0\r\nX: " + b"a" * MAX_TRAILERS, 431),
        (b"0\r\n" + b"X: aaaaaaa\r\n" * (MAX_TRAILERS // 12 + 1), 431),
    ],
)  # fmt: skip
def test_chunks_that_are_none(body: bytes, status: int) -> None:
    assert refusal(CHUNKED + body).status == status


STREAM = (
    b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n"
    b"POST /2 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nabcde\r\n"
    + CHUNKED + GOOD_BODY
    + b"POST /4 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
    b"GET /5 HTTP/1.0\r\n\r\n"
)  # fmt: skip


def read(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Targets and bodies, with their trailers."""
    requests, data = Requests(), b""
    found: list[tuple[bytes, bytes]] = []
    for piece in pieces:
        data += piece
        while data:
            if requests.in_message:
                body: list[bytes] = []
                size, _ = requests.next_body(data, 1, body)
                ending = b"" if requests.in_message else repr(requests.trailers).encode()
                found[-1] = (found[-1][0], found[-1][1] + b"".join(body) + ending)
            elif (head := requests.next_head(data)) is not None:
                found.append((head[0].target, b""))
                size = head[1]
            else:
                break
            if not size:
                break
            data = data[size:]
    return found


def test_no_more_is_taken_at_once_than_is_allowed() -> None:
    requests = Requests()
    assert requests.next_head(CHUNKED)
    body = b"1\r\nx\r\n" * 100
    assert requests.next_body(body, 48, []) == (16 * 6, 48), "a line, its chunk, and what ends it"
    assert requests.next_body(body[96:], 999, []) == (84 * 6, 84 * 3)
    assert requests.next_body(b"1", 999, []) == (0, 1), "that is not a whole line"


def test_every_cut_reads_the_same() -> None:
    whole = read([STREAM])
    assert [target for target, _ in whole] == [b"/1", b"/2", b"/", b"/4", b"/5"]
    assert whole[1][1] == b"abcde[]"
    assert whole[2][1] == b"abc0123456789z[(b'x-sum', b'1')]"
    for at in range(1, len(STREAM)):
        assert read([STREAM[:at], STREAM[at:]]) == whole
    assert read([STREAM[i : i + 1] for i in range(len(STREAM))]) == whole


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_any_cuts_read_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read([STREAM[a:b] for a, b in itertools.pairwise(edges)]) == read([STREAM])


@given(st.integers(0, len(STREAM) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_mutations_are_read_or_refused_and_never_hang(at: int, put: bytes, drop: int) -> None:
    mutant = STREAM[:at] + put + STREAM[at + drop :]
    with contextlib.suppress(BadMessage):
        for target, _body in read([mutant]):
            assert b"\r" not in target
            assert b"\n" not in target


def test_a_tunnel_takes_everything() -> None:
    requests = Requests()
    assert requests.next_head(b"GET / HTTP/1.1\r\n" + HOST + b"\r\nrest")
    requests.tunnel()
    found: list[bytes] = []
    assert requests.next_body(b"rest", 1, found) == (4, 1)
    assert requests.in_message
    assert requests.next_body(b"\r\n\x00", 1, found) == (3, 1)
    assert found == [b"rest", b"\r\n\x00"]
