"""The translation of heads from HTTP/1.1 to HTTP/2, and back."""

import pytest

from mcproxy.l7.bridge.ends import RequestHead, Upgrade
from mcproxy.l7.bridge.translate import (
    accept_key,
    answer_head,
    translate,
)
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
    assert names(got) == [
        b":method", b":scheme", b":authority", b":path", b"x-kept", b"cookie", b"cookie",
    ]  # fmt: skip


def test_what_the_client_claims_to_be_is_dropped() -> None:
    claims = [
        b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Host: two.test", b"X-Forwarded-Proto: http", b"X-Real-IP: 10.0.0.1",
        b"Forwarded: for=10.0.0.1", b"X_Forwarded_For: 10.0.0.1", b"X-Forwarded-Port: 1",
    ]  # fmt: skip
    got = translated(*claims, b"X-Other: a")
    assert got.fields[4:] == ((b"x-other", b"a"),)


def test_connection_can_t_take_away_what_makes_the_request() -> None:
    got = translated(b"Connection: Host, Content-Length, :path", b"Content-Length: 3")
    assert got.request.authority == b"one.test"


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
    assert dict(got.fields)[b":scheme"] == b"https"


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


def test_upgrades() -> None:
    upgrade = b"Connection: Upgrade"
    assert translated(upgrade, b"Upgrade: WebSocket", KEY).upgrade is Upgrade.WEBSOCKET
    assert translated(b"Upgrade: websocket", KEY).upgrade is Upgrade.NONE, "Connection does not name it"
    assert translated(upgrade, b"Upgrade: h2c").upgrade is Upgrade.NONE
    assert translated(upgrade, b"Upgrade: websocket, x", KEY).upgrade is Upgrade.UNKNOWN
    assert translated(upgrade, b"Upgrade: websocket", KEY, line=b"GET / HTTP/1.0").upgrade is Upgrade.NONE
    for lines, line in (
        ((upgrade, b"Upgrade: websocket"), b"GET / HTTP/1.1"),
        ((upgrade, b"Upgrade: websocket", KEY), b"POST / HTTP/1.1"),
        ((upgrade, b"Upgrade: websocket", KEY, b"Content-Length: 1"), b"GET / HTTP/1.1"),
    ):
        with pytest.raises(BadMessage):
            translated(*lines, line=line)


def test_expectations() -> None:
    body = b"Content-Length: 1"
    assert translated(b"Expect: 100-Continue", body).expects_continue
    assert not translated(b"Expect: 100-continue").expects_continue, "there is nothing to wait for"
    assert not translated(b"Expect: 100-continue", body, line=b"POST / HTTP/1.0").expects_continue


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3


def test_answers_lose_what_is_the_hops() -> None:
    given = [(b":status", b"204"), (b"connection", b"close"), (b"keep-alive", b"a"), (b"x-a", b"b")]
    assert answer_head(given) == (204, [(b"x-a", b"b")])
