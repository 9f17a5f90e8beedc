"""Heads in the form of either version of HTTP; and that no request smuggles another one to an HTTP/1.1 backend.

That is shown by h11's server in the backend's place: whatever a client sends, one request arrives there, which is the
one that we read, or none does.
"""

from dataclasses import dataclass

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.heads import AnswerHead, Forwarded, RequestHead, Upgrade, field_lines
from mcproxy.l7.bridge.http1_connection import Http1Connection
from mcproxy.l7.bridge.request_heads import RequestHeads
from mcproxy.l7.core import Turn
from mcproxy.wire.fields import NO_LENGTH, Request
from mcproxy.wire.hpack_block import EMPTY_TABLE, Field, NeverIndexed, decode
from mcproxy.wire.http1 import Requests
from mcproxy.wire.http1_framing import BadMessage

FORWARDED = Forwarded(((b"x-forwarded-for", b"192.0.2.7"),))


def decoded(block: bytes) -> list[Field]:
    return decode(block, EMPTY_TABLE, 4_096, 65_536, 256).fields


def test_fields_as_lines_and_as_a_block() -> None:
    fields = ((b"x-a", b"b"), NeverIndexed((b"x-c", b"")))
    forwarded = Forwarded(fields)
    assert forwarded.lines == field_lines(fields) == b"x-a: b\r\nx-c: \r\n"
    assert decoded(forwarded.block) == list(fields)


def test_an_answer_in_both_forms() -> None:
    head = AnswerHead(404, ((b"server", b"a"), (b"content-length", b"5")), 5)
    assert head.lines == b"HTTP/1.1 404 Not Found\r\nserver: a\r\ncontent-length: 5\r\n"
    assert decoded(head.block) == [(b":status", b"404"), (b"server", b"a"), (b"content-length", b"5")]
    assert head.lines is head.lines, "made once"
    assert AnswerHead(799, (), NO_LENGTH).lines == b"HTTP/1.1 799 \r\n"


@pytest.mark.parametrize("status", [103, 204])
def test_an_answer_that_can_t_have_a_body_has_no_length(status: int) -> None:
    """RFC 9110, section 8.6: a client might wait for that body, or take the next answer for it."""
    assert b"content-length" not in AnswerHead(status, ((b"content-length", b"5"),), 5).lines


def test_a_request_in_lines() -> None:
    fields = ((b"cookie", b"a"), (b"x", b"y"), (b"te", b"trailers"), (b"cookie", b"b"), (b"content-length", b"007"))
    head = RequestHead(Request(b"PUT", b"one.test:8443", b"one.test", b"/?a", content_length=7), b"https", fields)
    assert head.lines == b"PUT /?a HTTP/1.1\r\nhost: one.test:8443\r\nx: y\r\ncookie: a; b\r\ncontent-length: 7\r\n"
    assert head.lines is head.lines
    assert not head.is_websocket
    assert RequestHead(head.request, b"https", (), Upgrade.WEBSOCKET).is_websocket


# Smuggling


@dataclass
class Arrived:
    """A request as the backend's h11 reads it."""

    method: bytes
    target: bytes
    fields: list[Field]
    body: bytes
    trailers: list[Field]


def arrivals(sent: bytes) -> list[Arrived]:
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    found: list[Arrived] = []
    while True:
        event = server.next_event()
        if isinstance(event, h11.Request):
            found.append(Arrived(event.method, event.target, list(event.headers), b"", []))
        elif isinstance(event, h11.Data):
            found[-1].body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found[-1].trailers = list(event.headers)
            server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            server.send(h11.EndOfMessage())
            if server.our_state is h11.MUST_CLOSE:
                break
            server.start_next_cycle()
        else:
            break
    assert server.trailing_data[0] == b""
    return found


def relayed(raw: bytes) -> tuple[bytes, RequestHead, bytes] | None:
    """What goes to a backend for the first request of a client's bytes, its head and its body; None: it is refused."""
    heads = RequestHeads("one.test")
    try:
        found = heads.take(raw, Turn(10_000))
        if found is None or found[0].neutral is None:
            return None
        read, size = found
        body: list[bytes] = []
        if heads.requests.in_message:
            heads.requests.next_body(raw[size:], 999, body)
            if heads.requests.in_message:
                return None
    except BadMessage:
        return None
    assert read.neutral is not None
    connection = Http1Connection(0.0, reused=False)
    ended = not read.head.has_body
    connection.begin(read.neutral, FORWARDED, ended)
    if not ended:
        for piece in body:
            connection.body(piece)
        connection.end(heads.requests.trailers)
    return b"".join(connection.out), read.neutral, b"".join(body)


GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n"
HOST = b"Host: one.test\r\n"
CODED = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: one.test\r\n\r\n"
FORMS = {
    "plain": GET + HOST + b"\r\n" + NEXT,
    "body of a GET": GET + HOST + b"Content-Length: 42\r\n\r\n" + NEXT,
    "CL": POST + HOST + b"Content-Length: 5\r\n\r\nhello" + NEXT,
    "CL that Connection names": POST + HOST + b"Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
    "CL.TE": POST + HOST + b"Content-Length: 6\r\n" + CODED + b"\r\n0\r\n\r\nG",
    "TE.TE": POST + HOST + CODED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "TE that Connection names": POST + HOST + b"Connection: transfer-encoding\r\n" + CODED + b"\r\n1\r\na\r\n0\r\n\r\n",
    "TE with a blank": POST + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + CODED + b"\r\n0\r\n\r\n",
    "chunks": POST + HOST + CODED + b"\r\n5;x=y\r\nhello\r\n0\r\n\r\n" + NEXT,
    "chunks that hold a request": POST + HOST + CODED + b"\r\n2a\r\n" + NEXT + b"\r\n0\r\n\r\n",
    "trailers": POST + HOST + CODED + b"\r\n1\r\na\r\n0\r\nX-T: b\r\nX-U: c\r\n\r\n",
    "HEAD with a body": b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc" + NEXT,
    "TRACE": b"TRACE / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
    "bare LF": GET + HOST + b"X: a\nY: b\r\n\r\n",
    "bare CR": GET + HOST + b"X: a\rY: b\r\n\r\n",
    "folded": GET + HOST + b"X: a\r\n b\r\n\r\n",
    "h2c": GET + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n" + NEXT,
    "absolute form": b"GET https://one.test/a HTTP/1.1\r\nHost: two.test\r\n\r\n",
    "no host": b"GET / HTTP/1.0\r\n\r\n",
    "expect": POST + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "cookies": GET + HOST + b"Cookie: a=b\r\nCookie: c=d\r\n\r\n",
    "target with controls": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with a blank": b"GET /a HTTP/1.1\r\nX: b HTTP/1.1\r\n" + HOST + b"\r\n",
}  # fmt: skip
REFUSED = {
    "CL.TE", "TE.TE", "TE with a blank", "TE in HTTP/1.0", "bare LF", "bare CR", "folded", "target with controls",
}  # fmt: skip


def check_arrival(sent: bytes, head: RequestHead, body: bytes) -> Arrived:
    (arrived,) = arrivals(sent)
    assert (arrived.method, arrived.target) == (head.request.method, head.request.path)
    assert arrived.body == body
    expected = [(b"host", head.request.authority)]
    cookies = [value for name, value in head.fields if name == b"cookie"]
    expected += [each for each in head.fields if each[0] not in (b"te", b"cookie", b"content-length")]
    expected += [(b"cookie", b"; ".join(each for each in cookies if each))] if cookies else []
    expected += FORWARDED.fields
    if head.hides_its_body and (head.chunked or head.request.content_length > 0):
        expected += [(b"connection", b"close")]
    framing = {b"content-length", b"transfer-encoding"}
    assert [each for each in arrived.fields if each[0] not in framing] == expected
    assert sum(name in framing for name, _ in arrived.fields) <= 1
    return arrived


@pytest.mark.parametrize("form", FORMS)
def test_one_request_arrives_or_none(form: str) -> None:
    found = relayed(FORMS[form])
    assert (found is None) == (form in REFUSED)
    if found is not None:
        arrived = check_arrival(*found)
        if form == "trailers":
            assert arrived.trailers == [(b"x-t", b"b"), (b"x-u", b"c")]


@pytest.mark.parametrize(
    ("method", "more", "closes"),
    [
        *((method, b"", False) for method in (b"POST", b"PUT", b"BREW")),
        *((method, b"", True) for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE")),
        (b"POST", b"Expect: 100-continue\r\n", True),
        (b"POST", b"Expect: tea\r\n", True),
    ],
)
def test_a_body_that_may_be_overlooked_is_the_last_one(method: bytes, more: bytes, closes: bool) -> None:
    """A server that overlooks it takes it for the next request, and answers that to the next client."""
    for framing, body in ((b"Content-Length: 2\r\n", b"hi"), (CODED, b"2\r\nhi\r\n0\r\n\r\n"), (b"", b"")):
        found = relayed(method + b" / HTTP/1.1\r\n" + HOST + more + framing + b"\r\n" + body)
        assert found is not None
        assert (b"\r\nconnection: close\r\n" in found[0]) is (closes and body != b"")


_NAME = st.sampled_from([b"X-A", b"Cookie", b"Accept", b"Connection", b"TE", b"Upgrade", b"Expect", b"Range", b"x_b"])
_VALUE = st.text('abz01,;= "\téÿ/', max_size=12).map(lambda text: text.strip(" \t").encode("latin-1"))
_PATH = st.text("ab/?%2=&", max_size=8).map(lambda text: b"/" + text.encode("latin-1"))


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """A valid request of HTTP/1.1 with any fields, framing and body."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"X-OWN"]))
    lines = [b"%b: %b" % each for each in draw(st.lists(st.tuples(_NAME, _VALUE), max_size=5))]
    body = draw(st.binary(max_size=50))
    framing = draw(st.sampled_from(["none", "counted", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "counted":
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines.append(b"Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:cut], body[cut:]) if each)
        body = chunks + b"0\r\n" + draw(st.sampled_from([b"", b"X-T: a\r\n"])) + b"\r\n"
    return b"\r\n".join((method + b" " + draw(_PATH) + b" HTTP/1.1", b"Host: one.test", *lines, b"", body))


@given(_requests())
def test_any_request_arrives_as_it_is(raw: bytes) -> None:
    found = relayed(raw)
    if found is not None and found[1].upgrade is Upgrade.NONE:
        check_arrival(*found)


@given(_requests(), st.integers(0, 150), st.binary(max_size=3), st.integers(0, 3))
def test_a_mutated_request_arrives_as_we_read_it_or_not_at_all(raw: bytes, at: int, put: bytes, drop: int) -> None:
    found = relayed(raw[:at] + put + raw[at + drop :])
    if found is not None and found[1].upgrade is Upgrade.NONE and found[1].request.path.isascii():  # h11 takes no other
        check_arrival(*found)


def test_the_reference_reads_what_it_should() -> None:
    """Else the tests above would pass for a server that reads nothing."""
    two = arrivals(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + NEXT)
    assert [(each.target, each.body) for each in two] == [(b"/", b"hi"), (b"/smuggled", b"")]
    assert Requests().next_head(NEXT) is not None
