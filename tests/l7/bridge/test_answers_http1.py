"""The answers that an HTTP/1.1 client gets, and that h11 reads each as it was meant."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.answers_http1 import Http1Answers
from mcproxy.l7.bridge.ends import BackendFault
from mcproxy.l7.bridge.heads import AnswerHead
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import NO_LENGTH
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head, Requests

GET = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nHost: one.test\r\n\r\n"
KEPT_1_0 = GET_1_0[:-2] + b"Connection: keep-alive\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")


def head(raw: bytes) -> Head:
    found = Requests().next_head(raw)
    assert found
    return found[0]


def asked(raw: bytes = GET, key: bytes = b"") -> Http1Answers:
    side = Http1Answers()
    side.begin(head(raw), key)
    return side


def ok(*fields: Field, status: int = 200, length: int = NO_LENGTH) -> AnswerHead:
    declared = ((b"content-length", b"%d" % length),) if length >= 0 else ()
    return AnswerHead(status, (*fields, *declared), length)


def test_own_answers() -> None:
    side = asked()
    assert side.own(404, False, "why") == len(b"404 Not Found\n")
    assert (
        b"".join(side.take())
        == b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\n404 Not Found\n"
    )
    assert side.next_message()
    side.begin(head(HEAD))
    assert side.own(502, True, "why") == 0
    assert b"".join(side.take()).endswith(b"content-length: 16\r\nconnection: close\r\n\r\n")
    assert not side.next_message()


def test_an_own_answer_to_what_could_not_be_read_closes() -> None:
    fresh = Http1Answers()
    fresh.own(400, True, "why")
    assert b"".join(fresh.take()) == (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 16\r\nconnection: close\r\n\r\n"
        b"400 Bad Request\n"
    )
    assert not fresh.next_message()
    assert "Http1Answers" in repr(fresh)


SERVER = (b"server", b"a")
START = b"HTTP/1.1 200 OK\r\nserver: a\r\n"


@pytest.mark.parametrize(
    ("request_head", "length", "empty", "last", "written", "goes_on"),
    [
        (GET, 2, False, False, START + b"content-length: 2\r\n\r\nhi", True),
        (GET, 2, False, True, START + b"content-length: 2\r\nconnection: close\r\n\r\nhi", False),
        (GET, -1, True, False, START + b"content-length: 0\r\n\r\n", True),
        (GET, 0, True, False, START + b"content-length: 0\r\n\r\n", True),
        (GET, -1, False, False, START + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: b\r\n\r\n", True),
        (HEAD, 2, True, False, START + b"content-length: 2\r\n\r\n", True),
        (HEAD, -1, True, False, START + b"\r\n", True),
        (GET_1_0, 2, False, False, START + b"content-length: 2\r\nconnection: close\r\n\r\nhi", False),
        (GET_1_0, -1, False, False, START + b"connection: close\r\n\r\nhi", False),
        (KEPT_1_0, 2, False, False, START + b"content-length: 2\r\nconnection: keep-alive\r\n\r\nhi", True),
        (KEPT_1_0, -1, False, False, START + b"connection: close\r\n\r\nhi", False),
        (GET[:-2] + b"Connection: x, close\r\n\r\n", 2, False, False,
         START + b"content-length: 2\r\nconnection: close\r\n\r\nhi", False),
    ],
)  # fmt: skip
def test_how_an_answer_is_framed(
    request_head: bytes, length: int, empty: bool, last: bool, written: bytes, goes_on: bool
) -> None:
    side = asked(request_head)
    side.head(ok(SERVER, length=length), empty, last)
    if not empty:
        side.body(b"hi")
    side.end([(b"x-t", b"b")])
    assert b"".join(side.take()) == written
    assert side.next_message() is goes_on


def test_a_connection_that_ends_says_so_in_each_answer() -> None:
    side = asked()
    side.last = True
    side.head(ok(length=0), empty=True, last=False)
    side.end([])
    assert b"connection: close\r\n" in b"".join(side.take())
    assert not side.next_message()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_framing_of_ours(status: int) -> None:
    side = asked()
    side.head(ok(SERVER, status=status), empty=True, last=False)
    with pytest.raises(BackendFault):
        side.body(b"x")
    side.end([])
    assert b"".join(side.take()).endswith(b"\r\nserver: a\r\n\r\n")
    assert side.next_message()


def test_interim_answers() -> None:
    side = asked()
    side.invite()
    side.interim(AnswerHead(103, ((b"link", b"a"),), NO_LENGTH))
    assert b"".join(side.take()) == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"


def test_an_answer_longer_or_shorter_than_it_says_is_no_answer() -> None:
    side = asked()
    side.head(ok(length=2), empty=False, last=False)
    with pytest.raises(BackendFault):
        side.body(b"abc")
    side = asked()
    side.head(ok(length=2), empty=False, last=False)
    side.body(b"a")
    with pytest.raises(BackendFault):
        side.end([])
    side = asked()
    side.head(ok(length=2), empty=True, last=False)
    with pytest.raises(BackendFault):
        side.end([])


def test_a_piece_of_no_bytes_is_not_the_last_chunk() -> None:
    side = asked()
    side.head(ok(), empty=False, last=False)
    side.take()
    side.body(b"")
    assert b"".join(side.take()) == b""


def test_a_lone_piece_is_not_copied() -> None:
    side = asked()
    side.head(ok(length=100_000), empty=False, last=False)
    side.take()
    side.body(data := b"x" * 100_000)
    (piece,) = side.take()
    assert piece is data


def test_an_answer_that_breaks_off_is_written_no_further() -> None:
    side = asked()
    side.head(ok(), empty=False, last=False)
    side.take()
    side.reset()
    assert side.broken
    assert b"".join(side.take()) == b"", "no last chunk: HTTP/1.1 can only reset the connection"
    assert not side.next_message()
    assert repr(side).endswith(" broken>")


WEBSOCKET = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"


def test_a_tunnel_of_http2_gets_an_answer_of_ours() -> None:
    side = asked(WEBSOCKET, b"dGhlIHNhbXBsZSBub25jZQ==")
    assert side.tunnel(ok((b"x", b"y"), (b"sec-websocket-accept", b"z"), length=0)) == 101
    assert b"".join(side.take()) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # RFC 6455, section 1.3
        b"x: y\r\nconnection: upgrade\r\n\r\n"
    )


def test_a_tunnel_of_http1_gets_the_backends_own_and_passes_bytes_as_they_are() -> None:
    side = asked(WEBSOCKET)
    fields = ((b"sec-websocket-accept", b"z"),)
    assert side.tunnel(AnswerHead(101, fields, NO_LENGTH, upgrade_to=b"Foo/2")) == 101
    assert b"".join(side.take()) == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: z\r\nupgrade: Foo/2\r\nconnection: upgrade\r\n\r\n"
    )
    side.body(b"\x81\x02hi")
    assert b"".join(side.take()) == b"\x81\x02hi"
    side.end([])
    assert b"".join(side.take()) == b""
    assert not side.next_message()


def test_what_http1_needs_no_word_for() -> None:
    side = asked()
    side.taken(5)
    side.over(ExchangeEnd.DONE, "")
    assert b"".join(side.take()) == b""
    assert side.has_room
    assert side.must_read_on


_PIECES = st.lists(st.binary(max_size=20), max_size=4)


@given(st.sampled_from([GET, GET_1_0, KEPT_1_0, HEAD]), st.sampled_from([200, 204, 304, 404]), st.booleans(), _PIECES)
def test_h11_reads_each_answer_as_it_was_meant(raw: bytes, status: int, declared: bool, pieces: list[bytes]) -> None:
    request = head(raw)
    has_body = request.method != b"HEAD" and status not in (204, 304)
    pieces = pieces if has_body else []
    body = b"".join(pieces)
    side = asked(raw)
    side.head(ok(SERVER, status=status, length=len(body) if declared else NO_LENGTH), not body, last=False)
    for piece in pieces:
        side.body(piece)
    side.end([])
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=request.method, target="/", headers=[("Host", "one.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(b"".join(side.take()))
    goes_on = side.next_message()
    if not goes_on:
        client.receive_data(b"")
    events: list[object] = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        events.append(client.next_event())
        assert events[-1] is not h11.NEED_DATA
    assert isinstance(events[0], h11.Response)
    assert events[0].status_code == status
    assert b"".join(bytes(each.data) for each in events if isinstance(each, h11.Data)) == body
    assert (client.their_state is h11.DONE) is goes_on
    assert client.trailing_data[0] == b""


def test_a_503_says_when_to_come_again() -> None:
    answers = asked()
    answers.own(503, False, "64 connections are busy")
    assert b"\r\nretry-after: 1\r\n" in b"".join(answers.take())
