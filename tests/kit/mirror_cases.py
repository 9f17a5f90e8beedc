"""Requests and answers of every form that HTTP has, as cases of mirror.py."""

import itertools
from collections.abc import Iterator

from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import ErrorCode
from tests.kit.http2_peer import HOST
from tests.kit.mirror import Case, Fields, Message

OURS = ((b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-proto", b"https"), (b"x-real-ip", b"127.0.0.1"))
CLAIMS = {name for name, _ in OURS} | {b"x-forwarded-host", b"forwarded"}  # of a client: never passed
LARGE = 3_000_000  # bytes, of a body beyond every window
SIZES = (0, 1, 16_384, 100_000, LARGE)
ODD = (1, 2, 16_383, 0, 16_384, 3, 16_385, 0, 65_535, 65_536, 7)


def ask(method: bytes = b"GET", path: bytes = b"/", fields: Fields = (), **more: object) -> Message:
    pseudo = ((b":method", method), (b":scheme", b"https"), (b":authority", HOST.encode()), (b":path", path))
    return Message((*pseudo, *fields), **more)  # type: ignore[arg-type]


def say(status: int = 200, fields: Fields = (), **more: object) -> Message:
    return Message(((b":status", b"%d" % status), *fields), **more)  # type: ignore[arg-type]


def length(size: int) -> Field:
    return (b"content-length", b"%d" % size)


def statuses() -> Iterator[Case]:
    for status in (200, 201, 301, 404, 500):
        fields = ((b"location", b"/elsewhere?a=b"), length(4))
        yield Case(f"{status} with a length", ask(), say(status, fields, body=(4,)))
        yield Case(f"{status} without", ask(), say(status, body=(2, 2)))
    yield Case("204", ask(b"DELETE"), say(204, ((b"etag", b'"a"'),)))
    yield Case("206", ask(), say(206, ((b"content-range", b"bytes 0-3/9"), length(4)), body=(4,)))
    yield Case("304 with a length", ask(), say(304, ((b"etag", b'W/"a"'), length(100))))
    yield Case("304 that ends in DATA", ask(), say(304, body=(0,)))
    for size in (0, 100_000):
        yield Case(f"HEAD of {size}", ask(b"HEAD"), say(fields=(length(size),)))
    yield Case("HEAD without a length", ask(b"HEAD"), say(404))
    yield Case("HEAD that ends in DATA", ask(b"HEAD"), say(fields=(length(9),), body=(0,)))
    for count in (1, 3):
        hints = tuple((b"link", b"</%d.css>; rel=preload" % i) for i in range(count))
        interim = (((b":status", b"103"), *hints),) * count
        yield Case(f"{count} early hints", ask(), say(fields=hints, interim=interim, body=(4,)))
    yield Case("102 before 204", ask(), say(204, interim=(((b":status", b"102"),),)))


def bodies() -> Iterator[Case]:
    methods = itertools.cycle((b"POST", b"PUT", b"PATCH", b"DELETE"))
    for size in SIZES:
        method = next(methods)
        answer = say(fields=(length(size),), body=(size,))
        yield Case(f"{size} both ways with lengths", ask(method, fields=(length(size),), body=(size,)), answer)
        yield Case(f"{size} both ways without", ask(method, body=(size,)), say(body=(size, 0)))
    yield Case("odd pieces", ask(b"POST", body=ODD), say(body=ODD))
    yield Case("odd pieces of a length", ask(b"PUT", fields=(length(sum(ODD)),), body=ODD), say(body=ODD))
    yield Case("padding", ask(b"POST", body=ODD[:5], padding=200), say(body=ODD, padding=255))
    yield Case("GET with a body", ask(body=(4,)), say(body=(0,)))
    yield Case("nothing at all", ask(b"POST"), say())


def trailers() -> Iterator[Case]:
    trail: Fields = ((b"grpc-status", b"0"), (b"grpc-message", b"\xc3\xa9"), (b"x-sum", b"a"), (b"x-sum", b"b"))
    grpc = (b"content-type", b"application/grpc")
    asked = ask(b"POST", fields=((b"te", b"trailers"), grpc), body=(4,), trailers=trail)
    yield Case("trailers both ways", asked, say(fields=(grpc,), body=(2, 2), trailers=trail))
    yield Case("trailers without a body", ask(b"PUT", trailers=trail), say(trailers=trail))
    yield Case("trailers after an empty one", ask(b"PUT", body=(0,), trailers=trail), say(body=(0,), trailers=trail))
    with_length = ask(b"POST", fields=(length(4),), body=(4,), trailers=trail)
    yield Case("trailers of a length", with_length, say(fields=(length(4),), body=(4,), trailers=trail))
    yield Case("trailers of 100,000", ask(b"POST", body=ODD, trailers=trail), say(body=ODD, trailers=trail))
    yield Case("trailers after HEAD", ask(b"HEAD"), say(trailers=trail))


def fields_of_all_kinds() -> Iterator[Case]:
    cookies: Fields = tuple((b"set-cookie", b"%d=%d; Path=/" % (i, i * 7)) for i in (3, 1, 2))
    crumbs: Fields = ((b"cookie", b"a=1"), (b"x-between", b""), (b"cookie", b"b=2; c=3"), (b"cookie", b"a=1"))
    answer = say(fields=(cookies[0], (b"vary", b"a"), *crumbs, *cookies, (b"vary", b"b")))
    yield Case("repeated", ask(fields=crumbs), answer)
    long = ((b"x-long", b"0123456789" * 2_000), (b"authorization", b"Bearer " + b"t" * 5_000))
    yield Case("long", ask(fields=long), say(fields=long))
    odd: Fields = (
        (b"x-obs", bytes(range(0x80, 0x100))),
        (b"x-utf-8", "caf\u00e9 \u2713".encode()),
        (b"x-print", bytes(range(0x21, 0x7F))),
        (b"x-tab", b"a\tb  c"),
        (b"x-empty", b""),
        (b"!#$%&'*+-.^_`|~0", b'"\\",;='),
    )
    yield Case("binary", ask(fields=odd), say(fields=odd, interim=(((b":status", b"103"), *odd),), trailers=odd))
    yield Case("many", ask(fields=((b"x-n", b"1"),) * 200), say(fields=tuple((b"x-%d" % i, b"") for i in range(200))))


def targets() -> Iterator[Case]:
    paths = (
        *(b"//", b"//a//b/", b"/?", b"/a?b=c&d=%26&&?", b"/%2e%2E/%00%ff%zz%", b"/../.././x"),
        *(b"/a;b,c:d@e!f$g'(h)*i+j=k", b'/"<>[]\\^`{|}~', b"/" + b"0123456789abcdef" * 500),
    )
    for number, path in enumerate(paths):
        yield Case(f"path {number}", ask(path=path), say(fields=((b"location", path),)))
    yield Case("asterisk", ask(b"OPTIONS", b"*"), say(204, ((b"allow", b"GET, OPTIONS"),)))
    yield Case("own method", ask(b"X-Odd.method~", b"/"), say(405))


def claims() -> Iterator[Case]:
    """After these, requests can't be passed as they were encoded."""
    mixed = [(name, b"10.0.0.1") for name in sorted(CLAIMS)]
    mixed[2:2] = [(b"x-kept", b"a"), (b"via", b"2 other")]
    all_claims = tuple(mixed)
    asked = ask(b"POST", fields=all_claims, body=(4,), trailers=all_claims)
    yield Case("claims", asked, say(fields=all_claims, body=(4,), trailers=((b"x-a", b"b"),)))


def only_http2() -> Iterator[Case]:
    """What HTTP/1.1 can't say, or says otherwise."""
    yield Case("obs-text in a path", ask(path=b"/caf\xc3\xa9\xff"), say())
    no_authority = (*ask().head[:2], ask().head[3], (b"host", HOST.encode()))
    yield Case("no :authority", Message(no_authority), say())
    yield Case("both", ask(fields=((b"host", HOST.encode()),)), say())
    yield Case("100", ask(fields=((b"expect", b"100-continue"),)), say(interim=(((b":status", b"100"),),)))
    upload = ask(b"POST", fields=(length(100_000),), body=(100_000,))
    yield Case("early", upload, say(413, ((b"x-a", b"b"),), body=(9,)), early=0)
    yield Case("early within", ask(b"POST", body=ODD, trailers=((b"x-a", b"b"),)), say(body=ODD), early=70_000)


def endings() -> Iterator[Case]:
    """Streams that either side ends in the middle."""
    open_upload = ask(b"POST", body=(30_000,), end=False)
    for code in (ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.REFUSED_STREAM, ErrorCode.CANCEL, 0x1234):
        yield Case(f"reset {code} at once", ask(), Message(reset=code))
        yield Case(f"reset {code} in an upload", open_upload, Message(reset=code), early=30_000)
    yield Case("reset after an interim head", ask(), Message(interim=(((b":status", b"103"),),), reset=2))
    yield Case("reset after the head", ask(), say(end=False, reset=11))
    yield Case("reset within", ask(), say(fields=(length(200_000),), body=ODD, end=False, reset=8))
    for code in (ErrorCode.CANCEL, ErrorCode.NO_ERROR, 0x1234):
        yield Case(f"cancelled {code} after the head", ask(), say(end=False), cancel=(0, code))
    yield Case("cancelled within", ask(), say(body=(LARGE,), end=False), cancel=(50_000, 8))
    yield Case("cancelled upload", open_upload, say(end=False, body=(1,)), early=30_000, cancel=(1, 8))


def late() -> Iterator[Case]:
    """The client learns of this reset by the next tick."""
    upload = ask(b"POST", body=(30_000,), end=False)
    yield Case("answered, then not wanted", upload, say(413, body=(6,), reset=0), early=30_000)


BOTH = [*statuses(), *bodies(), *trailers(), *fields_of_all_kinds(), *targets()]
HTTP2 = [*BOTH, *only_http2(), *endings()]


def is_small(case: Case) -> bool:
    return sum(case.request.body + case.answer.body) < LARGE
