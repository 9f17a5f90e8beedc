"""Names, values, answers and trailers: what is malformed, and what of it passes."""

import time
from collections.abc import Callable

import pytest

from mcproxy.wire.fields import (
    MAX_SHOWN_NAME,
    Malformed,
    _kind,
    check_answer,
    check_answer_trailers,
    check_regular,
    check_request_trailers,
    passed_answer,
    passed_answer_trailers,
    passed_request_trailers,
    shown,
    stripped,
)
from mcproxy.wire.hpack_block import Field, NeverIndexed


def test_values_lose_the_blanks_around_them_and_what_may_not_be_indexed_stays_so() -> None:
    assert stripped((b"a", b" \tb c\t ")) == (b"a", b"b c")
    never = stripped(NeverIndexed((b"a", b"b ")))
    assert never == (b"a", b"b")
    assert isinstance(never, NeverIndexed)
    assert check_regular([(b"a", b"b ")]).blanks


@pytest.mark.parametrize("control", range(0x20))
def test_control_characters(control: int) -> None:
    """Of all control characters only those pass that no parser takes for the end of a value, or for a blank in it."""
    field = (b"cookie", b"a=%cb" % control)
    if control in b"\0\n\x0b\x0c\r":
        with pytest.raises(Malformed, match="control character in the value of cookie"):
            check_regular([field])
    else:
        assert not check_regular([field]).blanks


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ((b"X-A", b"1"), "a field name in upper case: X-A"),
        ((b"x a", b"1"), "a field name that is not a token: x?a"),
        ((b"", b"1"), "a field without a name"),
        ((b":path", b"/"), "a pseudo-field after a regular one: :path"),
        ((b"connection", b"close"), "connection, which HTTP/2 does not know"),
        ((b"te", b"gzip"), "te with another value than trailers"),
    ],
)
def test_a_reason_names_the_field(field: Field, reason: str) -> None:
    with pytest.raises(Malformed, match=reason.replace("?", ".")):
        check_regular([field])


def test_a_reason_shows_no_more_of_a_name_than_a_line_can_hold() -> None:
    assert shown(b"\x1b[31m") == "?[31m"
    assert shown(b"N" * 60_000) == "N" * MAX_SHOWN_NAME + "..."


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
        [(b":status", b"200"), (b"x-a", b"1\r\nset-cookie: a=b")],
        [(b":status", b"200"), (b"x-a", b"1\nset-cookie: a=b")],
        [(b":status", b"200"), (b"x-a", b"1\0")],
        [(b":status", b"200"), (b"x-a: 1\r\nset-cookie", b"a=b")],
    ],
)
def test_malformed_answers(fields: list[Field]) -> None:
    with pytest.raises(Malformed):
        check_answer(fields)


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (b'h3=":443"; ma=86400', None),
        (b'h3=":443"; ma=86400, h3-29=":443"', None),
        (b'h2="alt.test:443", h3=":443"; ma=9', b'h2="alt.test:443"'),
        (b'h3-Q050=":443", quic=":443"; v="46,43"', None),
        (b'h2="alt.test:443"; a="1,2" , h3=":443"', b'h2="alt.test:443"; a="1,2"'),
        (b'h3="alt.test:443"', b'h3="alt.test:443"'),
        (b"", b""),
        (b'h2=":8443"', b'h2=":8443"'),
        (b"clear", b"clear"),
        (b"a," * 512, b"a," * 512),
        (b"a," * 513, None),
    ],
)
def test_http3_on_this_host_is_offered_to_nobody(value: bytes, passed: bytes | None) -> None:
    fields = [(b":status", b"200"), (b"alt-svc", value), (b"x-a", b"b")]
    expected = fields if passed is None else [*fields[:1], (b"alt-svc", passed), fields[2]]
    assert passed_answer(fields) == ([fields[0], fields[2]] if passed is None else expected)
    assert check_answer(fields).rewrite is (passed != value)


def test_an_answer_passes_without_the_blanks_around_its_values() -> None:
    fields = [(b":status", b"200"), (b"content-security-policy", b"default-src 'self'; ")]
    assert check_answer(fields).rewrite
    assert passed_answer(fields) == [(b":status", b"200"), (b"content-security-policy", b"default-src 'self';")]
    assert not check_answer([(b":status", b"200"), (b"server", b"x")]).rewrite


@pytest.mark.parametrize("check", [check_request_trailers, check_answer_trailers])
def test_trailers(check: Callable[[list[Field]], object]) -> None:
    check([(b"grpc-status", b"0")])
    check([])
    with pytest.raises(Malformed):
        check([(b":method", b"GET")])
    with pytest.raises(Malformed):
        check([(b"x-a", b"1"), (b":status", b"200")])


def test_trailers_can_t_change_the_message() -> None:
    given = [
        (b"x-sum", b"1 "), (b"content-length", b"1"), (b"host", b"a"), (b"host", b"b"), (b"te", b"gzip"),
        (b"authorization", b"a"), (b"set-cookie", b"a"), (b"x-forwarded-for", b"a"), (b"grpc-status", b"0"),
    ]  # fmt: skip
    assert check_request_trailers(given).rewrite
    assert check_answer_trailers(given).rewrite
    of_http1 = [*given, (b"transfer-encoding", b"")]  # malformed in HTTP/2
    assert passed_request_trailers(of_http1) == [(b"x-sum", b"1"), (b"grpc-status", b"0")]
    claimed = (b"x-forwarded-for", b"a")
    assert passed_answer_trailers(given) == [(b"x-sum", b"1"), claimed, (b"grpc-status", b"0")], "a backend may say so"
    assert not check_answer_trailers([claimed]).rewrite


def test_the_clients_word_on_where_it_is_goes_no_further_in_trailers() -> None:
    assert check_request_trailers([(b"x-a", b"1"), (b"x-forwarded-for", b"1.2.3.4")]).rewrite
    assert not check_request_trailers([(b"x-a", b"1")]).rewrite


def test_long_names_are_judged_and_not_kept() -> None:
    before = _kind.cache_info().currsize
    check_regular([(b"n" * 60_000, b"v" * 60_000)])
    with pytest.raises(Malformed):
        check_regular([(b"N" * 60_000, b"v")])
    assert _kind.cache_info().currsize == before


@pytest.mark.parametrize("value", [b" " * 60_000 + b"\0", b"a" + b" " * 60_000, b"a \t" * 20_000, b"a" * 60_000])
def test_a_large_value_costs_little(value: bytes) -> None:
    """A hundred of them in less than a second: one took 2 ms, in one turn of one session."""
    began = time.thread_time()
    for _ in range(100):
        if b"\0" in value:
            with pytest.raises(Malformed):
                check_regular([(b"x-a", value)])
        else:
            assert check_regular([(b"x-a", value)]).blanks is (value[-1:] != b"a")
    assert time.thread_time() - began < 1.0
