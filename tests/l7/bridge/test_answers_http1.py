"""The answers that h11 writes for the bridge."""

import pytest

from mcproxy.l7.bridge.answers_http1 import Http1Answers
from mcproxy.l7.bridge.ends import BackendFault
from mcproxy.wire.http1 import Head, Requests

GET = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"


def head(raw: bytes) -> Head:
    found = Requests().next_head(raw)
    assert found
    return found[0]


def asked(raw: bytes = GET) -> Http1Answers:
    side = Http1Answers()
    side.begin(head(raw))
    return side


def test_own_answers() -> None:
    side = asked()
    assert side.own(404, last=False) == len(b"404 Not Found\n")
    assert (
        side.take()
        == b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\n404 Not Found\n"
    )
    assert side.next_message()
    side.begin(head(GET.replace(b"GET", b"HEAD")))
    assert side.own(502, last=True) == 0
    assert side.take().endswith(b"content-length: 16\r\nconnection: close\r\n\r\n")
    assert not side.next_message()
    fresh = Http1Answers()
    fresh.own(400, last=True)
    assert fresh.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "Http1Answers" in repr(fresh)


def test_an_answer_that_h11_refuses_becomes_one_of_our_own() -> None:
    side = asked()
    with pytest.raises(BackendFault):
        side.head([(b":status", b"200"), (b"x", b"a\r\nb")], empty=True, last=False)
    side.own(502, last=False)
    assert side.take().startswith(b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\n")
    assert side.next_message()


def test_an_answer_longer_or_shorter_than_it_says_is_no_answer() -> None:
    fields = [(b":status", b"200"), (b"content-length", b"2")]
    side = asked()
    side.head(fields, empty=False, last=False)
    with pytest.raises(BackendFault):
        side.body(b"abc")
    side = asked()
    side.head(fields, empty=False, last=False)
    side.body(b"a")
    with pytest.raises(BackendFault):
        side.end([])


def test_an_answer_that_breaks_off_is_written_no_further() -> None:
    side = asked()
    side.head([(b":status", b"200")], empty=False, last=False)
    side.take()
    side.reset()
    assert side.broken
    assert side.take() == b"", "no last chunk: HTTP/1.1 can only reset the connection"
    assert not side.next_message()
    assert repr(side).endswith(" broken>")


def test_a_tunnel_passes_bytes_as_they_are() -> None:
    side = asked(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\n\r\n")
    assert side.tunnel([(b":status", b"200"), (b"x", b"y")]) == 101
    head = side.take()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n")
    assert head.endswith(b"x: y\r\n\r\n")
    side.body(b"\x81\x02hi")
    assert side.take() == b"\x81\x02hi"
    assert not side.next_message()
