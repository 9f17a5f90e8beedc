"""ClientHello: what is read, what is refused and why, however the bytes are cut, whichever of them are wrong."""

import gc
import random
import ssl
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcproxy.model import Reason
from mcproxy.native import COMPILED
from mcproxy.wire import hello as under_test
from mcproxy.wire.hello import MAX_HELLO_BYTES, MAX_PROTOCOLS, MAX_VERSIONS, Hello, HelloRefused, Reader
from tests.kit import hello_reference as reference
from tests.kit import hellos
from tests.kit.hellos import (
    CHROME,
    TINY,
    alpn,
    extension,
    hello,
    record,
    server_name,
    supported_versions,
)

interpreted_only = pytest.mark.skipif(COMPILED, reason="it counts calls of interpreted functions")

A_TEST = server_name(b"a.test")
ECH = extension(0xFE0D, b"e" * 100)
REAL = {
    f"{version.name} {name} {protocols}": (name, hellos.from_openssl(name, version, protocols))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    for name in ("a.test", "Deep.Sub.Domain.Example.ORG")
    for protocols in ((), ("h2", "http/1.1"), ("imap", "x" * 255))
}


SAMPLES = {"the smallest": TINY, "a browser": CHROME} | {case: data for case, (_name, data) in REAL.items()}


def parse(data: bytes) -> Hello | int:
    """What a reader that has seen nothing before makes of this."""
    return Reader().parse(data)


def refusal(data: bytes) -> HelloRefused:
    with pytest.raises(HelloRefused) as caught:
        parse(data)
    return caught.value


def peeks(data: bytes) -> tuple[Hello, int]:
    """What comes of a client whose bytes arrive exactly as fast as they are asked for, and after how many looks."""
    have, looks, reader = 0, 0, Reader()
    while True:
        looks += 1
        answer = reader.parse(data[:have])
        if isinstance(answer, Hello):
            return answer, looks
        assert have < answer <= len(data), "asks for what may never come"
        have = answer


# --- what is read -----------------------------------------------------------------------------------------------------


def test_the_smallest() -> None:
    assert parse(TINY) == Hello("a.test", alpn=(), versions=(0x0303,), ech=False, size=len(TINY), random=b"R" * 32)


def test_a_browser() -> None:
    size, random = len(CHROME), CHROME[11:43]
    assert parse(CHROME) == Hello("www.example.org", (b"h2", b"http/1.1"), (0x0304, 0x0303), True, size, random)


@pytest.mark.parametrize(("name", "data"), REAL.values(), ids=REAL)
def test_openssl(name: str, data: bytes) -> None:
    read = parse(data)
    assert isinstance(read, Hello)
    assert read.server_name == name.lower()
    assert read.size == len(data)
    assert read == reference.read(data)
    assert hellos.openssl_is_told(data) == name


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0303, 0x0305])
def test_without_supported_versions_the_legacy_version_counts(version: int) -> None:
    data = record(hellos.message(A_TEST, version=version))
    read = parse(data)
    assert isinstance(read, Hello)
    assert read.versions == (version,)


def test_grease_and_unknown_extensions_are_skipped() -> None:
    data = hello(
        extension(0x0A0A), extension(0xFAFA, b"\0"), extension(65000, b"?" * 999), A_TEST,
        alpn(b"\x1a\x1a", b"h2", b"\x0a\x1a"), supported_versions(0x8A8A, 0x0304, 0x7F1C, 0x8A9A),
    )  # fmt: skip
    assert parse(data) == Hello("a.test", (b"h2", b"\x0a\x1a"), (0x0304, 0x7F1C, 0x8A9A), False, len(data), data[11:43])


def test_the_outer_name_of_an_encrypted_hello_routes() -> None:
    data = hello(ECH, server_name(b"public.example"))
    read = parse(data)
    assert isinstance(read, Hello)
    assert (read.server_name, read.ech) == ("public.example", True)


@pytest.mark.parametrize("data", [TINY, CHROME, hellos.split(TINY[5:], [20]), hellos.split(CHROME[5:], [20, 999])])
def test_what_follows_the_hello_is_not_looked_at(data: bytes) -> None:
    alone = parse(data)
    for early_data in (b"\x17", b"\x17\x03\x03\x00\x05early", TINY, b"\x16\x03\x03\x00\x00", b"\0" * MAX_HELLO_BYTES):
        assert parse(data + early_data) == alone


def test_the_largest() -> None:
    room = MAX_HELLO_BYTES - 4 * 5 - len(hellos.message(A_TEST, extension(35)))
    largest = hellos.message(A_TEST, extension(35, b"t" * room))
    data = hellos.split(largest, range(16384, len(largest), 16384))
    assert len(data) == MAX_HELLO_BYTES
    assert peeks(data)[0].server_name == "a.test"
    too_large = hellos.split(largest, [1, *range(16384, len(largest), 16384)])
    assert refusal(too_large).reason is Reason.HELLO_OVERSIZED


def test_long_lists_are_cut_and_all_of_them_is_checked() -> None:
    names = [b"%04d" % i for i in range(3000)]
    versions = supported_versions(0x0A0A, *range(0x0300, 0x0300 + 120))
    read = parse(hello(A_TEST, alpn(b"\x0a\x0a", *names), versions))
    assert isinstance(read, Hello)
    assert read.alpn == tuple(names[:MAX_PROTOCOLS])
    assert read.versions == tuple(range(0x0300, 0x0300 + MAX_VERSIONS))
    assert refusal(hello(A_TEST, alpn(*names, b""), versions)).reason is Reason.HELLO_MALFORMED


# --- every way to cut it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)
def test_every_prefix_asks_for_more_and_never_for_too_much(data: bytes) -> None:
    for have in range(len(data)):
        needed = parse(data[:have])
        assert isinstance(needed, int)
        assert have < needed <= len(data)


@pytest.mark.parametrize("data", [TINY, CHROME])
def test_two_records_cut_anywhere(data: bytes) -> None:
    whole, expected = data[5:], reference.read(data)
    for cut in range(1, len(whole)):
        cut_up = hellos.split(whole, [cut])
        assert peeks(cut_up)[0] == Hello(
            expected.server_name, expected.alpn, expected.versions, expected.ech, len(cut_up), expected.random
        )


def test_two_records_cut_anywhere_and_every_prefix() -> None:
    for cut in range(1, len(TINY) - 5):
        cut_up = hellos.split(TINY[5:], [cut])
        for have in range(len(cut_up)):
            needed = parse(cut_up[:have])
            assert isinstance(needed, int)
            assert have < needed <= len(cut_up)


def test_one_byte_a_record_takes_few_looks() -> None:
    """Every look brings the missing bytes at least, of which a sixth is the message: 6/5 a look, down to the last."""
    for data, limit in ((TINY, 25), (CHROME, 45)):
        read, looks = peeks(hellos.split(data[5:], range(len(data))))
        assert (read.server_name, read.size) == (reference.read(data).server_name, 6 * (len(data) - 5))
        assert looks <= limit
    largest = hellos.message(A_TEST, extension(35, b"t" * (MAX_HELLO_BYTES // 6 - 100)))
    assert peeks(hellos.split(largest, range(len(largest))))[1] <= 60


@given(cuts=st.sets(st.integers(1, len(CHROME) - 6), max_size=40), stops=st.sets(st.integers(0, len(CHROME) * 2)))
def test_any_records_and_any_segments(cuts: set[int], stops: set[int]) -> None:
    data = hellos.split(CHROME[5:], cuts)
    for have in stops:
        answer = parse(data[:have])
        if have < len(data):
            assert isinstance(answer, int)
            assert have < answer <= len(data)
        else:
            assert isinstance(answer, Hello)
            assert answer == reference.read(data)
    assert peeks(data)[0].size == len(data)


@given(
    st.sampled_from([TINY, CHROME, *(data for data, _ in hellos.REFUSED.values() if len(data) < 2000)]),
    st.sets(st.integers(1, 300), max_size=20),
    st.lists(st.integers(0, 2500), min_size=1, max_size=20).map(sorted),
)
def test_looks_that_build_on_each_other_end_as_a_single_one(data: bytes, cuts: set[int], stops: list[int]) -> None:
    def ask(parser: Callable[[bytes], Hello | int], seen: bytes) -> object:
        try:
            return parser(seen)
        except HelloRefused as refused:
            return refused.args

    if data[5:6] == b"\1":
        data = hellos.split(data[5:], cuts)
    reader = Reader()
    for have in stops:
        answer = ask(reader.parse, data[:have])
        assert answer == ask(parse, data[:have])
        if not isinstance(answer, int):
            break


def test_bytes_that_change_between_two_looks_are_refused() -> None:
    """Urgent bytes can do that; a name must never be put together from two versions of a hello."""
    old, new = (hellos.split(hellos.message(server_name(name)), [20]) for name in (b"a.test", b"b.test"))
    for changed in (hellos.split(new[5:25] + new[30:], [9, 20]), new[:25] + b"\x17" + new[26:]):
        reader = Reader()
        assert isinstance(reader.parse(old[:-1]), int)
        with pytest.raises(HelloRefused, match=Reason.HELLO_MALFORMED):
            reader.parse(changed)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "reason"), hellos.REFUSED.values(), ids=hellos.REFUSED)
def test_refused(data: bytes, reason: Reason) -> None:
    refused = refusal(data)
    assert refused.reason is reason
    assert refused.detail.isascii()
    assert refused.detail.isprintable()
    assert refused.hello is None or refused.hello.server_name == ""
    with pytest.raises((reference.Wrong, reference.TooShort)):
        reference.read(data)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], Reason.SNI_MISSING),
        ([A_TEST, A_TEST], Reason.SNI_DUPLICATE),
        ([server_name(b"::1")], Reason.SNI_IP_LITERAL),
        ([server_name(b"a b")], Reason.SNI_INVALID),
        ([extension(0)], Reason.HELLO_MALFORMED),
    ],
)
def test_a_refused_name_leaves_the_rest_for_the_log(names: list[bytes], reason: Reason) -> None:
    data = hello(*names, alpn(b"h2"), supported_versions(0x0304), ECH)
    refused = refusal(data)
    assert refused.reason is reason
    assert refused.hello == Hello("", alpn=(b"h2",), versions=(0x0304,), ech=True, size=len(data), random=data[11:43])


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("HTTP", "the client speaks plain HTTP"),
        ("SSH", "the client speaks SSH"),
        ("an SSL 2.0 hello", "the client speaks SSL 2.0"),
        ("an alert", "the client begins with a TLS alert, not with a ClientHello"),
        ("the first byte", "the first byte is 0x17, not a handshake record's"),
        ("another message", "the handshake begins with message type 2, not a ClientHello"),
        ("an alert inside", "a record of type 21, major version 3, inside the hello"),
        ("a record of SSL 2 inside", "a record of type 22, major version 2, inside the hello"),
        ("an empty record inside", "a record of 0 bytes"),
        ("an announced 64 KiB", "at least 65544 bytes, more than 65536"),
        ("a byte behind it in its record", "1 bytes follow the hello in its record"),
        ("three bytes of an extension", "the extensions don't fill their block"),
        ("an extension too long", "extension 23 exceeds its block"),
        ("UTF-8", "byte 0xc3 in the name"),
        ("a NUL", r'"a.test\x00.evil.example" contains "\x00"'),
    ],
)
def test_the_detail_says_what_is_wrong(name: str, detail: str) -> None:
    assert refusal(hellos.REFUSED[name][0]).detail == detail


def test_not_tls_shows_at_the_first_wrong_byte() -> None:
    for at, reason in ((0, Reason.HELLO_NOT_TLS), (1, Reason.HELLO_NOT_TLS), (5, Reason.HELLO_NOT_TLS)):
        assert isinstance(parse(TINY[:at]), int)
        assert refusal(TINY[:at] + b"\x7f").reason is reason


@pytest.mark.parametrize(
    ("begin", "spoken"),
    [
        (b"POST /x HTTP/1.1\r\n", "the client speaks plain HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the client speaks plain HTTP/2"),
        (b"EHLO mail.example.org\r\n", "the client speaks SMTP"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "the client sends a PROXY header, but the listener doesn't have"),
        (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", "the client sends a PROXY header, but the listener doesn't have"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "the client sends PostgreSQL's request for TLS, not a ClientHello"),
        (b"\x03\0\0\x13\x0e\xe0", "the client speaks RDP"),
        (b"\x05\x01\0", "the client speaks SOCKS"),
        (b"\x17\x03\x03\0\x05", "the client begins with TLS data, not with a ClientHello"),
        (b"GETTING", "the first byte is 0x47, not a handshake record's"),
        (b"G", "the first byte is 0x47, not a handshake record's"),
    ],
)
def test_who_speaks_another_protocol_is_told_by_its_name(begin: bytes, spoken: str) -> None:
    assert refusal(begin).detail.startswith(spoken)


# --- wrong bytes ------------------------------------------------------------------------------------------------------


def agree(data: bytes) -> bool:
    """Whether both readers route these bytes; where one does, both must, and alike."""
    try:
        expected: Hello | type[Exception] = reference.read(data)
    except (reference.Wrong, reference.TooShort) as error:
        expected = type(error)
    try:
        answer = parse(data)
    except HelloRefused:
        assert not isinstance(expected, Hello), "the reference reads it"
        return False
    if isinstance(answer, int):
        assert len(data) < answer <= MAX_HELLO_BYTES
        assert expected is reference.TooShort
        return False
    assert answer == expected
    return True


def test_any_value_of_any_byte() -> None:
    routed = sum(agree(TINY[:at] + bytes([value]) + TINY[at + 1 :]) for at in range(len(TINY)) for value in range(256))
    assert routed > 32 * 256  # those of the random at least


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)
def test_any_byte_flipped_dropped_or_doubled(data: bytes) -> None:
    for at in range(len(data)):
        for value in {data[at] ^ 1, data[at] ^ 0x80, data[at] ^ 0xFF, 0}:
            agree(data[:at] + bytes([value]) + data[at + 1 :])
    body = data[9:]
    for at in range(len(body)):  # with the outer lengths made right again
        agree(record(hellos.handshake(body[:at] + body[at + 1 :])))
        agree(record(hellos.handshake(body[: at + 1] + body[at:])))
        agree(record(hellos.handshake(body[:at])))


def test_openssl_is_never_told_another_name() -> None:
    dice = random.Random(8446)
    both = 0
    for _ in range(1500):
        _name, data = dice.choice([*REAL.values(), ("", CHROME), ("", TINY)])
        mutated = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            mutated[dice.randrange(len(data))] = dice.choice([0, 1, 0x2E, 0x61, 0xFF, dice.randrange(256)])
        try:
            read = parse(bytes(mutated))
        except HelloRefused:
            continue
        if isinstance(read, Hello) and (told := hellos.openssl_is_told(bytes(mutated))):
            assert read.server_name == told.lower().removesuffix(".")
            both += 1
    assert both > 100


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 3, 5, 6, 9, 11, 43, 44, 48, 50, 52, 54]))
def test_any_bytes_behind_a_sound_beginning(tail: bytes, kept: int) -> None:
    agree(TINY[:kept] + tail)
    agree(record(hellos.handshake(TINY[9 : 9 + kept] + tail)))


EXTENSIONS = st.one_of(
    st.builds(lambda names: server_name(*names), st.lists(st.binary(max_size=20), max_size=2)),
    st.builds(lambda names: alpn(*names), st.lists(st.binary(max_size=20), max_size=4)),
    st.builds(lambda versions: supported_versions(*versions), st.lists(st.integers(0, 0xFFFF), max_size=9)),
    st.builds(extension, st.sampled_from([0, 16, 43, 0xFE0D]) | st.integers(0, 0xFFFF), st.binary(max_size=20)),
    st.just(A_TEST),
)


@settings(max_examples=300)
@given(st.lists(EXTENSIONS, max_size=8), st.binary(max_size=40), st.binary(max_size=9), st.binary(max_size=3))
def test_any_extensions(extensions: list[bytes], session_id: bytes, suites: bytes, methods: bytes) -> None:
    agree(record(hellos.message(*extensions, session_id=session_id, suites=suites, methods=methods)))


# --- what it costs ----------------------------------------------------------------------------------------------------


def calls(data: bytes, ask: Callable[[bytes], object] = parse) -> int:
    """Functions entered, Python's and C's, while `data` is parsed."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # whose callbacks would be counted
    sys.setprofile(seen)
    try:
        ask(data)
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_the_cost_does_not_grow_with_the_bytes() -> None:
    assert calls(hello(A_TEST, extension(35, b"t" * 16000))) == calls(hello(A_TEST, extension(35)))
    assert calls(CHROME) < 80


@interpreted_only
def test_the_cost_of_extensions_and_records_is_linear() -> None:
    extensions = [extension(kind) for kind in range(1000, 1300)]
    of_100, of_200, of_300 = (calls(hello(A_TEST, *extensions[:count])) for count in (100, 200, 300))
    assert of_300 - of_200 == of_200 - of_100 == 100
    whole = hellos.message(A_TEST, extension(35, b"t" * 3000))
    of_100, of_200, of_300 = (calls(hellos.split(whole, range(5, 5 + count))) for count in (100, 200, 300))
    assert of_300 - of_200 == of_200 - of_100 <= 300


@interpreted_only
def test_looking_often_costs_little_more_than_looking_once() -> None:
    largest = hellos.message(A_TEST, extension(35, b"t" * (MAX_HELLO_BYTES // 6 - 100)))
    data = hellos.split(largest, range(len(largest)))
    assert calls(data, peeks) < 1.2 * calls(data)


def test_a_hello_in_one_record_is_not_copied() -> None:
    message = under_test._in_one_record(CHROME)
    assert message
    assert message[0] is CHROME
