"""The rules for requests, one by one. tests/e2e/test_one_set_of_rules.py drives them through both protocols."""

import pytest

from mcproxy.wire.fields import NO_LENGTH, BadRequest, Malformed
from mcproxy.wire.hpack_block import Field, NeverIndexed
from mcproxy.wire.requests import check_request, entity, is_authority, passed_request

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/a?b"), (b":authority", b"A.test:8443")]
CONNECT: list[Field] = [(b":method", b"CONNECT"), (b":authority", b"a.test:443")]


def but(name: bytes, value: bytes | None) -> list[Field]:
    return [(n, v if n != name else value) for n, v in GET if n != name or value is not None]  # type: ignore[misc]


def test_a_request_says_what_the_relay_needs() -> None:
    request = check_request([*GET, (b"content-length", b"7"), (b"content-type", b"application/grpc+proto")])
    assert request.method == b"GET"
    assert request.authority == b"A.test:8443"
    assert request.host == b"a.test"
    assert request.path == b"/a?b"
    assert request.content_length == 7
    assert request.grpc
    assert not request.rewrite
    plain = check_request(GET)
    assert plain.content_length == NO_LENGTH
    assert not plain.grpc


@pytest.mark.parametrize(
    "fields",
    [
        but(b":path", b'/caf\xc3\xa9|<>"[]{}^`\\'),
        [*GET, (b"te", b"trailers")],
        [*GET, (b"host", b"a.TEST:8443")],
        [*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")],
        [*GET, (b"x-tab", b"a\tb"), (b"x-utf8", b"\xc3\xa9"), (b"x-empty", b"")],
        [*GET, (b"x-token!#$%&'*+.^_`|~", b"1")],
        but(b":authority", b"[::1]:443"),
        but(b":authority", b"a.test:"),
        [(b":method", b"OPTIONS"), (b":path", b"*"), (b":scheme", b"https"), (b":authority", b"a.test")],
        CONNECT,
        [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]],
        [*GET[:3], (b"host", b"a.test")],
    ],
)
def test_well_formed(fields: list[Field]) -> None:
    assert check_request(fields).host in (b"a.test", b"[::1]")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        but(b":method", None),
        but(b":method", b"G T"),
        but(b":scheme", None),
        but(b":scheme", b"ftp"),
        but(b":path", None),
        but(b":path", b""),
        but(b":path", b"a"),
        but(b":path", b"*"),
        but(b":path", b"/a b"),
        but(b":path", b"/a#b"),
        but(b":path", b"/a\x7f"),
        but(b":path", b"http://a.test/"),
        [*GET, GET[0]],
        [*GET, (b":status", b"200")],
        [*GET, (b":other", b"")],
        [(b"x-a", b"1"), *GET],
        [*GET, (b"X-Upper", b"1")],
        [*GET, (b"", b"1")],
        [*GET, (b"x a", b"1")],
        [*GET, (b"x:a", b"1")],
        [*GET, (b"x-\xc3\xa9", b"1")],
        [*GET, (b"x-a", b"1\r\n2")],
        [*GET, (b"x-a", b"1\x002")],
        [*GET, (b"x-a", b"1\x0b2")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"proxy-connection", b"close")],
        [*GET, (b"keep-alive", b"1")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"te", b"trailers, gzip")],
        [*GET, (b"content-length", b"")],
        [*GET, (b"content-length", b"-1")],
        [*GET, (b"content-length", b"1, 1")],
        [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
        [*GET, (b"content-length", b"1" * 19)],
        [*GET, (b"host", b"A.test:8443"), (b"host", b"A.test:8443")],
        [*CONNECT, (b":path", b"/")],
        [*CONNECT, (b":scheme", b"https")],
        [(b":method", b"CONNECT")],
        [*GET, (b":protocol", b"websocket")],
        [(b":method", b"CONNECT"), (b":protocol", b"web socket"), *GET[1:]],
        [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":authority", b"a.test")],
    ],
)
def test_malformed(fields: list[Field]) -> None:
    with pytest.raises(Malformed):
        check_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        GET[:3],
        [*GET[:3], (b"host", b"")],
        [*GET, (b"host", b"b.test")],
        but(b":authority", b""),
        but(b":authority", b"user@a.test"),
        but(b":authority", b"a.test:http"),
        but(b":authority", b"a.test/x"),
        but(b":authority", b"a.test:123456"),
        but(b":authority", b"[::1"),
        [(b":method", b"CONNECT"), (b":authority", b"a.test")],
    ],
)
def test_no_request_that_can_be_routed(fields: list[Field]) -> None:
    with pytest.raises(BadRequest):
        check_request(fields)


@pytest.mark.parametrize(
    "name",
    [
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x_forwarded_for",
        b"x-real-ip",
        b"x_real-ip",
        b"forwarded",
        b"proxy-authorization",
    ],
)
def test_the_clients_word_on_where_it_is_goes_no_further(name: bytes) -> None:
    fields = [*GET, (name, b"1.2.3.4"), (b"x-forward", b"stays")]
    assert check_request(fields).rewrite
    assert passed_request(fields) == [*GET, (b"x-forward", b"stays")]


def test_what_passes_names_its_authority_in_one_place_and_the_scheme_that_was_used() -> None:
    alone = [GET[0], (b":scheme", b"HTTP"), GET[2], (b"x-a", b"1"), (b"host", b"A.test ")]
    assert check_request(alone).authority == b"A.test"
    assert passed_request(alone) == [GET[0], GET[1], GET[2], (b":authority", b"A.test"), (b"x-a", b"1")]
    both = [*GET, (b"host", b"a.test:8443")]
    assert check_request(both).rewrite
    assert passed_request(both) == GET
    assert check_request(but(b":scheme", b"http")).rewrite
    secret = NeverIndexed((b":path", b"/secret"))
    assert passed_request([*GET[:2], secret, GET[3], (b"forwarded", b"x")])[2] is secret


def test_only_websocket_is_tunnelled_and_nothing_of_its_framing_passes() -> None:
    """content-length: 0, which Java's HttpClient sends with an upgrade, made the first DATA frame a fault."""
    head = [(b":method", b"CONNECT"), (b":protocol", b"WebSocket"), *GET[1:]]
    fields = [*head, (b"content-length", b"0"), (b"sec-websocket-key", b"a"), (b"sec-websocket-version", b"13")]
    request = check_request(fields)
    assert (request.content_length, request.refusal, request.rewrite) == (NO_LENGTH, 0, True)
    assert passed_request(fields) == [*head, (b"sec-websocket-version", b"13")]
    assert not check_request(head).rewrite
    for refused in (CONNECT, [head[0], (b":protocol", b"connect-udp"), *head[2:]]):
        assert check_request(refused).refusal == 501
        assert "CONNECT" in check_request(refused).why
    with pytest.raises(BadRequest, match="declared length"):
        check_request([*head, (b"content-length", b"1")])


@pytest.mark.parametrize(
    ("authority", "scheme", "expected"),
    [
        (b"A.test", b"https", (b"a.test", 443)),
        (b"a.test:", b"HTTP", (b"a.test", 80)),
        (b"a.test:0443", b"https", (b"a.test", 443)),
        (b"[::1]:80", b"https", (b"[::1]", 80)),
    ],
)
def test_authorities_are_normalised_to_be_compared(
    authority: bytes, scheme: bytes, expected: tuple[bytes, int]
) -> None:
    assert entity(authority, scheme) == expected
    assert is_authority(authority)


def test_reasons_say_what_is_wrong() -> None:
    for fields, reason in (
        (but(b":path", b"/a#b"), "a path with a fragment"),
        (but(b":path", b"/a b"), "a path with a blank or a control character"),
        (but(b":path", b"*"), "a path of . without OPTIONS"),
        (but(b":path", b"a"), "a path that is not absolute"),
        (but(b":path", None), "no path"),
        (but(b":scheme", b"ftp"), "no scheme, or another than http and https"),
        ([*GET, (b":status", b"200")], "a pseudo-field that does not belong here: :status"),
        ([*GET, GET[0]], ":method twice"),
        ([*GET, (b"host", b"a.test"), (b"host", b"a.test")], "host twice"),
        ([*GET, (b"content-length", b"-1")], "content-length is not a number of at most 18 digits"),
    ):
        with pytest.raises(Malformed, match=reason):
            check_request(fields)
    for fields, reason in (
        ([*GET, (b"host", b"b.test")], "Host names another authority than the target"),
        (but(b":authority", b"user@a.test"), "the authority has userinfo"),
        (but(b":authority", b"a.test:x"), "the authority is not a host with an optional port"),
        (but(b":authority", None), "no authority, and no Host"),
    ):
        with pytest.raises(BadRequest, match=reason):
            check_request(fields)
