from collections.abc import Callable

import pytest

from mcproxy.wire.fields import (
    NO_LENGTH,
    BadRequest,
    Malformed,
    _is_known_value,
    _kind,
    check_answer,
    check_answer_trailers,
    check_request,
    check_request_trailers,
    without_not_passed,
)
from mcproxy.wire.hpack_block import Field

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
        [*GET, (b"x-a", b" 1")],
        [*GET, (b"x-a", b"1\t")],
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
    assert without_not_passed(fields) == [*GET, (b"x-forward", b"stays")]


def test_answers() -> None:
    answer = check_answer([(b":status", b"200"), (b"content-length", b"3")])
    assert (answer.status, answer.content_length) == (200, 3)
    assert check_answer([(b":status", b"103")]).status == 103


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b":status", b"2000")],
        [(b":status", b"099")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"X-Upper", b"1")],
        [(b"server", b"x"), (b":status", b"200")],
    ],
)
def test_malformed_answers(fields: list[Field]) -> None:
    with pytest.raises(Malformed):
        check_answer(fields)


@pytest.mark.parametrize("check", [check_request_trailers, check_answer_trailers])
def test_trailers(check: Callable[[list[Field]], object]) -> None:
    check([(b"grpc-status", b"0")])
    check([])
    with pytest.raises(Malformed):
        check([(b":method", b"GET")])
    with pytest.raises(Malformed):
        check([(b"x-a", b"1"), (b":status", b"200")])


def test_the_clients_word_on_where_it_is_goes_no_further_in_trailers() -> None:
    assert check_request_trailers([(b"x-a", b"1"), (b"x-forwarded-for", b"1.2.3.4")]).rewrite
    assert not check_request_trailers([(b"x-a", b"1")]).rewrite


def test_long_names_and_values_are_judged_and_not_kept() -> None:
    before = _kind.cache_info().currsize, _is_known_value.cache_info().currsize
    check_request([*GET, (b"n" * 60_000, b"v" * 60_000)])
    with pytest.raises(Malformed):
        check_request([*GET, (b"N" * 60_000, b"v")])
    assert _kind.cache_info().currsize == before[0]
    assert _is_known_value.cache_info().currsize <= before[1] + 5  # those of GET, and "v"
