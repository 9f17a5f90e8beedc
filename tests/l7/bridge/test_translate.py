"""Heads from HTTP/1.1 to the neutral form, of either direction."""

import pytest

from mcproxy.l7.bridge.heads import AnswerHead, RequestHead, Upgrade
from mcproxy.l7.bridge.translate import accept_key, read_answer, translate
from mcproxy.wire.fields import NO_LENGTH
from mcproxy.wire.http1 import parse_head
from mcproxy.wire.http1_framing import BadMessage


def translated(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"one.test") -> RequestHead:
    head = b"\r\n".join((line, b"Host: " + host, *lines, b"", b""))
    return translate(parse_head(head), "one.test")


def names(of: RequestHead) -> list[bytes]:
    return [name for name, _ in of.fields]


def test_hop_by_hop_fields_end_here() -> None:
    got = translated(
        b"Connection: close, X-Secret , x-Other;a=b",
        b"Connection: X-Third",
        b"Keep-Alive: 5", b"Proxy-Connection: a", b"TE: gzip", b"Upgrade: h2c", b"HTTP2-Settings: a",
        b"Proxy-Authorization: a", b"X-Secret: a", b"X-Other: b", b"X-Third: c", b"X-Kept: d", b"Cookie: a",
        b"Cookie: b",
    )  # fmt: skip
    assert names(got) == [b"x-kept", b"cookie", b"cookie"]


def test_what_the_client_claims_to_be_is_dropped() -> None:
    claims = [
        b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Host: two.test", b"X-Forwarded-Proto: http", b"X-Real-IP: 10.0.0.1",
        b"Forwarded: for=10.0.0.1", b"X_Forwarded_For: 10.0.0.1", b"X-Forwarded-Port: 1",
    ]  # fmt: skip
    got = translated(*claims, b"X-Other: a")
    assert got.fields == ((b"x-other", b"a"),)


def test_connection_can_t_take_away_what_makes_the_request() -> None:
    """A body whose length is hidden is still framed: it goes in chunks."""
    got = translated(b"Connection: Host, Content-Length, :path", b"Content-Length: 3")
    assert got.request.authority == b"one.test"
    assert (got.request.content_length, got.chunked) == (NO_LENGTH, True)


def test_the_framing_of_a_request() -> None:
    got = translated(b"Content-Length: 3")
    assert (got.request.content_length, got.chunked, got.fields) == (3, False, ((b"content-length", b"3"),))
    got = translated(b"Transfer-Encoding: chunked")
    assert (got.request.content_length, got.chunked, got.fields) == (NO_LENGTH, True, ())


def test_te_trailers_is_told_on() -> None:
    assert (b"te", b"trailers") in translated(b"Connection: TE", b"TE: deflate;q=0.5, trailers").fields


@pytest.mark.parametrize(
    ("line", "host", "authority", "path"),
    [
        (b"GET /a%2F?b=\"<>|{}'~ HTTP/1.1", b"One.Test:443", b"One.Test:443", b"/a%2F?b=\"<>|{}'~"),
        (b"GET https://one.test/a HTTP/1.1", b"ONE.test", b"one.test", b"/a"),
        (b"GET HTTP://one.test:80?q=/ HTTP/1.1", b"one.test:80", b"one.test:80", b"/?q=/"),
        (b"GET https://one.test HTTP/1.1", b"one.test", b"one.test", b"/"),
        (b"OPTIONS * HTTP/1.1", b"one.test", b"one.test", b"*"),
        (b"OPTIONS https://one.test HTTP/1.1", b"one.test", b"one.test", b"*"),
        (b"GET //a//b HTTP/1.1", b"one.test", b"one.test", b"//a//b"),
        (b"GET /http://two.test/ HTTP/1.1", b"one.test", b"one.test", b"/http://two.test/"),
        (b"GET / HTTP/1.1", b"[::1]:443", b"[::1]:443", b"/"),
        (b"GET https://two.test/ HTTP/1.1", b"one.test", b"two.test", b"/"),  # RFC 9112, 3.2.2
    ],
)
def test_targets(line: bytes, host: bytes, authority: bytes, path: bytes) -> None:
    got = translated(line=line, host=host)
    assert (got.request.authority, got.request.path) == (authority, path)
    assert got.scheme == b"https"


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        (b"GET * HTTP/1.1", b"one.test", 400), (b"GET one.test HTTP/1.1", b"one.test", 400),
        (b"GET ftp://one.test/ HTTP/1.1", b"one.test", 400), (b"GET https://one.test/ HTTP/1.1", b"a@one.test", 400),
        (b"GET https:// HTTP/1.1", b"", 400), (b"GET / HTTP/1.1", b"", 400), (b"GET / HTTP/1.1", b"a@one.test", 400),
        (b"GET https://a@one.test/ HTTP/1.1", b"a@one.test", 400), (b"GET / HTTP/1.1", b"one.test/", 400),
        (b"GET / HTTP/1.1", b"one.test:x", 400), (b"GET / HTTP/1.1", b"one.test, two.test", 400),
        (b"CONNECT one.test:443 HTTP/1.1", b"one.test:443", 501),
    ],
)  # fmt: skip
def test_targets_that_are_none(line: bytes, host: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as bad:
        translated(line=line, host=host)
    assert bad.value.status == status


KEY = b"Sec-WebSocket-Key: a"


def test_a_websocket_keeps_its_method_and_its_key() -> None:
    got = translated(
        b"Connection: Upgrade", b"Upgrade: WebSocket", KEY, b"Sec-WebSocket-Version: 13", b"Content-Length: 0"
    )
    assert (got.upgrade, got.upgrade_to, got.key) == (Upgrade.WEBSOCKET, b"WebSocket", b"a")
    assert (got.request.method, got.request.protocol) == (b"GET", b"")
    assert got.fields == ((b"sec-websocket-version", b"13"),)
    assert got.is_websocket


@pytest.mark.parametrize(
    ("upgrade", "kind", "to"),
    [
        (b"websocket", Upgrade.WEBSOCKET, b"websocket"),
        (b"h2c", Upgrade.NONE, b""),
        (b"H2C, TLS/1.2, HTTP/2.0", Upgrade.NONE, b""),
        (b"h2c-16", Upgrade.NONE, b""),
        (b"h2c, websocket", Upgrade.WEBSOCKET, b"websocket"),
        (b"websocket, Foo/2", Upgrade.OTHER, b"websocket, Foo/2"),
        (b"h2c , Foo/2", Upgrade.OTHER, b"Foo/2"),
        (b"Foo/2\r\nUpgrade: bar", Upgrade.OTHER, b"Foo/2, bar"),
        (b"", Upgrade.NONE, b""),
        (b"a b, /, foo/, ;h2c", Upgrade.NONE, b""),  # names of no protocol
    ],
)
def test_upgrades(upgrade: bytes, kind: Upgrade, to: bytes) -> None:
    """No backend may see h2c: it might change to it, and a client's next bytes would be another protocol's."""
    got = translated(b"Connection: Upgrade", b"Upgrade: " + upgrade, KEY)
    assert (got.upgrade, got.upgrade_to) == (kind, to)
    assert b"upgrade" not in names(got)
    assert got.key == (b"a" if kind is Upgrade.WEBSOCKET else b"")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([b"Upgrade: websocket", KEY], b"GET / HTTP/1.1"),  # Connection does not name it
        ([b"Connection: Upgrade", b"Upgrade: websocket", KEY], b"GET / HTTP/1.0"),
        ([b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 1"], b"POST / HTTP/1.1"),
        ([b"Connection: Upgrade", b"Upgrade: foo", b"Transfer-Encoding: chunked"], b"POST / HTTP/1.1"),
    ],
)
def test_upgrades_that_are_ignored(lines: list[bytes], line: bytes) -> None:
    got = translated(*lines, line=line)
    assert (got.upgrade, got.upgrade_to) == (Upgrade.NONE, b"")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], b"GET / HTTP/1.1"), ([KEY], b"POST / HTTP/1.1"), ([KEY, b"Content-Length: 1"], b"GET / HTTP/1.1"),
        ([b"Sec-WebSocket-Key:"], b"GET / HTTP/1.1"),
    ],
)  # fmt: skip
def test_handshakes_that_are_none(lines: list[bytes], line: bytes) -> None:
    with pytest.raises(BadMessage) as bad:
        translated(b"Connection: Upgrade", b"Upgrade: websocket", *lines, line=line)
    assert bad.value.status == 400


def test_expectations() -> None:
    body = b"Content-Length: 1"
    assert translated(b"Expect: 100-Continue", body).expects_continue
    assert not translated(b"Expect: 100-continue").expects_continue, "there is nothing to wait for"
    assert not translated(b"Expect: 100-continue", body, line=b"POST / HTTP/1.0").expects_continue


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3


def answer(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> AnswerHead:
    return read_answer(b"\r\n".join((line, *lines, b"", b""))).head


def test_answers_lose_what_is_the_hops() -> None:
    got = answer(
        b"Connection: close, X-Hop, Content-Length", b"Keep-Alive: a", b"X-Hop: a", b"X-A: b", b"Content-Length: 3",
        b"Upgrade: h2c", b"Proxy-Connection: a", b'Alt-Svc: h3=":443"',
    )  # fmt: skip
    assert got == AnswerHead(200, ((b"x-a", b"b"), (b"content-length", b"3")), 3)


@pytest.mark.parametrize(("status", "length"), [(b"103", NO_LENGTH), (b"204", NO_LENGTH), (b"304", 3), (b"200", 3)])
def test_the_length_of_an_answer_that_can_have_none_is_dropped(status: bytes, length: int) -> None:
    got = answer(b"Content-Length: 3", line=b"HTTP/1.1 " + status + b" x")
    assert got.content_length == length
    assert got.fields == (() if length == NO_LENGTH else ((b"content-length", b"3"),))


def test_the_protocol_of_a_101() -> None:
    got = answer(b"Connection: Upgrade", b"Upgrade: Foo/2", b"Upgrade: bar", line=b"HTTP/1.1 101 x")
    assert (got.upgrade_to, got.fields) == (b"Foo/2, bar", ())
