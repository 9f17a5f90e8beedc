"""The same requests in HTTP/1.1 and in HTTP/2, and what must become of both: the table of wire/requests.py as cases.

A `Rule` has the request in both forms; either may be missing, where a protocol has no form for it. What must become of
it is `Passed`, what the backend gets, or the status of a refusal. RESET stands for HTTP/2's form of 400, a stream error
PROTOCOL_ERROR: `ONE_REFUSAL` says which statuses mean the same.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hpack import Decoder

from mcproxy.wire import http2
from mcproxy.wire.hpack_block import Field, encode
from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame, Setting
from tests.kit.http2_peer import Cutter, Seen

Fields = tuple[Field, ...]
HOST = b"one.test"
RESET = -1
ONE_REFUSAL = {400, RESET}  # a message that is malformed
CRLF = b"\r\n"


@dataclass(frozen=True)
class Passed:
    """What the backend gets of a request, but for our own fields."""

    method: bytes = b"GET"
    authority: bytes = HOST
    path: bytes = b"/"
    fields: Fields = ()
    body: bytes = b""
    trailers: Fields = ()
    protocol: bytes = b""


@dataclass(frozen=True)
class Rule:
    """A request in both forms, and what becomes of it."""

    name: str
    expected: Passed | int
    http1: bytes = b""  # the whole message
    head: Fields = ()  # of HTTP/2
    body: bytes = b""
    trailers: Fields = ()
    differs: str = ""  # why the protocols may differ here; then `expected_http2` is HTTP/2's outcome
    expected_http2: Passed | int = 0

    @property
    def of_http2(self) -> Passed | int:
        """What HTTP/2 makes of it."""
        return self.expected_http2 if self.differs else self.expected


class Recorder:
    """A backend in HTTP/2 that checks nothing, keeps what it gets, and answers 200 to whatever has ended."""

    def __init__(self, head: Fields = ((b":status", b"200"),), body: tuple[bytes, ...] = ()) -> None:
        """`head` and the pieces of `body` are its answers."""
        self.seen: dict[int, Passed] = {}
        self.reset: list[int] = []  # streams
        self._answer = head, body
        self._cutter = Cutter()
        self._decoder = Decoder()
        self._greeted = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the proxy's; returns the answer."""
        if self._greeted or not data:
            return b"".join(map(self._take, self._cutter.feed(data)))
        self._greeted = True
        assert data.startswith(PREFACE)
        settings = http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)])
        return settings + self.receive(data[len(PREFACE) :])

    def _take(self, frame: Seen) -> bytes:
        stream = frame.stream_id
        if frame.kind == Frame.SETTINGS and not frame.flags & 1:
            return http2.SETTINGS_ACK
        if frame.kind == Frame.HEADERS:
            fields = tuple((bytes(n), bytes(v)) for n, v in self._decoder.decode(frame.payload, raw=True))
            self.seen[stream] = self._with(self.seen.get(stream), fields)
        elif frame.kind == Frame.DATA:
            self.seen[stream] = replace(self.seen[stream], body=self.seen[stream].body + frame.payload)
        elif frame.kind == Frame.RST_STREAM:
            self.reset.append(stream)
        if frame.ends or (frame.kind == Frame.HEADERS and self.seen[stream].protocol):
            head, body = self._answer
            pieces = [http2.data(stream, piece, end_stream=False) for piece in body]
            end = http2.data(stream, b"", end_stream=True) if body else b""
            ended = frame.ends and not body
            return http2.headers(stream, encode(list(head)), end_stream=ended) + b"".join(pieces) + end
        return b""

    @staticmethod
    def _with(before: Passed | None, fields: Fields) -> Passed:
        if before is not None:
            return replace(before, trailers=fields)
        found = dict(field for field in fields if field[0][:1] == b":")
        assert found.pop(b":scheme") == b"https"
        rest = tuple(field for field in fields if field[0][:1] != b":")
        assert dict(rest[-3:]).keys() == OURS
        method, authority, path = (found[name] for name in (b":method", b":authority", b":path"))
        return Passed(method, authority, path, rest[:-3], protocol=found.get(b":protocol", b""))


OURS = {b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip"}


def http2_message(rule: Rule, stream: int) -> bytes:
    """The request in frames, encoded without any table."""
    whole = not rule.body and not rule.trailers
    websocket = any(name == b":protocol" for name, _ in rule.head)
    out = http2.headers(stream, encode(list(rule.head)), end_stream=whole and not websocket)
    if rule.body:
        out += http2.data(stream, rule.body, end_stream=not rule.trailers)
    if rule.trailers:
        out += http2.headers(stream, encode(list(rule.trailers)), end_stream=True)
    return out


def status_of(frame: Seen, decoder: Decoder) -> int | None:
    """What a frame says to an HTTP/2 client about its request; None: nothing."""
    if frame.kind == Frame.HEADERS:
        return int(dict(decoder.decode(frame.payload, raw=True))[b":status"])
    if frame.kind == Frame.RST_STREAM and frame.code == ErrorCode.PROTOCOL_ERROR:
        return RESET
    return None


def status_of_http1(got: bytes) -> int | None:
    """What the bytes for an HTTP/1.1 client say about its first request; None: nothing yet."""
    found = re.match(rb"(?:HTTP/1\.1 100 .*?\r\n\r\n)?HTTP/1\.1 ([0-9]{3}) ", got, re.DOTALL)
    return int(found[1]) if found else None


def pseudo(method: bytes = b"GET", path: bytes = b"/", authority: bytes = HOST, scheme: bytes = b"https") -> Fields:
    return (b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)


def message(method: bytes, target: bytes, lines: Fields, host: bytes | None = HOST, version: bytes = b"1.1") -> bytes:
    """A head of HTTP/1.1."""
    hosts = () if host is None else ((b"Host", host),)
    fields = b"".join(name + b": " + value + CRLF for name, value in (*hosts, *lines))
    return method + b" " + target + b" HTTP/" + version + CRLF + fields + CRLF


def chunked(body: bytes, trailers: Fields) -> bytes:
    """A body of HTTP/1.1."""
    lines = b"".join(name + b": " + value + CRLF for name, value in trailers)
    return (b"%x" % len(body) + CRLF + body + CRLF if body else b"") + b"0" + CRLF + lines + CRLF


def with_fields(name: str, fields: Fields, passed: Fields | int) -> Rule:
    """A GET with these fields; the same bytes in both protocols."""
    expected = passed if isinstance(passed, int) else Passed(fields=passed)
    return Rule(name, expected, message(b"GET", b"/", fields), (*pseudo(), *fields))


def with_path(name: str, path: bytes, expected: bytes | int, method: bytes = b"GET") -> Rule:
    outcome = expected if isinstance(expected, int) else Passed(method, path=expected)
    return Rule(name, outcome, message(method, path, ()), pseudo(method, path))


def with_host(name: str, authority: bytes, status: int = 0) -> Rule:
    """The authority as Host, and as :authority."""
    expected = status or Passed(authority=authority)
    return Rule(name, expected, message(b"GET", b"/", (), authority), pseudo(authority=authority))


def with_both(name: str, target: bytes, host: bytes, status: int = 0, scheme: bytes = b"https", **more: object) -> Rule:
    """Absolute form and Host; :authority and host."""
    http1 = message(b"GET", scheme + b"://" + target + b"/", (), host)
    head = (*pseudo(authority=target, scheme=scheme), (b"host", host))
    return Rule(name, status or Passed(authority=target), http1, head, **more)  # type: ignore[arg-type]


def with_trailers(name: str, trailers: Iterable[Field], passed: Fields = (), body: bytes = b"abc") -> Rule:
    """A POST whose length is not declared."""
    trailers = tuple(trailers)
    lines = ((b"Transfer-Encoding", b"chunked"),)
    http1 = message(b"POST", b"/", lines) + chunked(body, trailers)
    return Rule(name, Passed(b"POST", body=body, trailers=passed), http1, pseudo(b"POST"), body, trailers)


LONG = b"v" * 8_000
CRUMBS: Fields = ((b"cookie", b"a=1"), (b"cookie", b"b=2; c=3"))
TWICE: Fields = ((b"x-a", b"1"), (b"x-b", b""), (b"x-a", b"1"))
CLAIMS: Fields = (
    (b"x-forwarded-for", b"192.0.2.1"), (b"forwarded", b"for=a"), (b"x-real-ip", b"1"), (b"x_forwarded_for", b"1"),
    (b"proxy-authorization", b"a"),
)  # fmt: skip
ONE: Fields = ((b"x-a", b"1"),)
GONE: Fields = tuple(
    (name, b"1")
    for name in (
        b"host", b"content-length", b"content-type", b"content-encoding", b"content-range", b"authorization",
        b"cookie", b"set-cookie", b"expect", b"max-forwards", b"cache-control", b"range", b"trailer", b"te",
    )
)  # fmt: skip

METHODS = [
    Rule("a method of one's own", Passed(b"X-Odd.m~"), message(b"X-Odd.m~", b"/", ()), pseudo(b"X-Odd.m~")),
    Rule("a method in lower case", Passed(b"get"), message(b"get", b"/", ()), pseudo(b"get")),
    Rule("a method that is no token", 400, message(b"G(T", b"/", ()), pseudo(b"G(T")),
    Rule("an empty method", 400, message(b"", b"/", ()), pseudo(b"")),
    Rule("HEAD", Passed(b"HEAD"), message(b"HEAD", b"/", ()), pseudo(b"HEAD")),
]

BELIEVED: Fields = (
    (b"x-client-ip", b"192.0.2.1"), (b"true-client-ip", b"192.0.2.1"), (b"cf-connecting-ip", b"192.0.2.1"),
    (b"x-original-url", b"/admin"), (b"x-http-method-override", b"DELETE"),
)  # fmt: skip

HOPS = [
    *(
        Rule(
            f"{method.decode()} with Max-Forwards: {written.decode()}",
            passed if isinstance(passed, int) else Passed(method, fields=((b"max-forwards", passed),)),
            message(method, b"/", ((b"Max-Forwards", written),)),
            (*pseudo(method), (b"max-forwards", written)),
        )
        for method, written, passed in (
            (b"OPTIONS", b"7", b"6"), (b"OPTIONS", b"012", b"11"), (b"OPTIONS", b"1", b"0"), (b"OPTIONS", b"0", 200),
            (b"OPTIONS", b"9" * 60, b"254"), (b"TRACE", b"7", b"6"), (b"TRACE", b"0", 501), (b"OPTIONS", b"-1", b"-1"),
            (b"OPTIONS", b"a", b"a"), (b"OPTIONS", b"1, 0", b"1, 0"), (b"GET", b"0", b"0"),
        )
    ),
    Rule(
        "the smaller of two Max-Forwards", 200,
        message(b"OPTIONS", b"*", ((b"Max-Forwards", b"5"), (b"Max-Forwards", b"0"))),
        (*pseudo(b"OPTIONS", b"*"), (b"max-forwards", b"5"), (b"max-forwards", b"0")),
    ),
    with_fields("Via", ((b"via", b"1.1 other"),), ((b"via", b"1.1 other"),)),
    with_fields("fields that some backends believe", BELIEVED, BELIEVED),
]  # fmt: skip

SCHEMES = [
    Rule("scheme http inside TLS", Passed(), message(b"GET", b"http://one.test/", ()), pseudo(scheme=b"http")),
    Rule("a scheme in upper case", Passed(), message(b"GET", b"HTTPS://one.test/", ()), pseudo(scheme=b"HTTPS")),
    Rule("another scheme", 400, message(b"GET", b"ftp://one.test/", ()), pseudo(scheme=b"ftp")),
    Rule("no scheme", 400, message(b"GET", b"://one.test/", ()), pseudo(scheme=b"")),
]

AUTHORITIES = [
    with_host("a host", HOST),
    with_host("a host in upper case", b"ONE.test"),
    with_host("a host with the default port", b"one.test:443"),
    with_host("a host with another port", b"one.test:8443"),
    with_host("a host with an empty port", b"one.test:"),
    with_host("a host with a final dot", b"one.test."),
    with_host("another route's host", b"two.test", 421),
    with_host("an address", b"[::1]:443", 421),
    with_host("no host", b"", 400),
    with_host("userinfo", b"user@one.test", 400),
    with_host("userinfo with a password", b"user:secret@one.test:443", 400),
    with_host("a port that is no number", b"one.test:https", 400),
    with_host("a port beyond all ports", b"one.test:123456", 400),
    with_host("a path in the authority", b"one.test/a", 400),
    with_host("two hosts in one", b"one.test, two.test", 400),
    with_host("a blank in the host", b"one test", 400),
    with_both("both, equal", HOST, HOST),
    with_both("both, in other case", b"One.test", b"one.TEST"),
    with_both("both, the target with the default port", b"one.test:443", HOST),
    with_both("both, Host with the default port", HOST, b"one.test:443"),
    with_both("both, Host with an empty port", HOST, b"one.test:"),
    with_both("both, with the default port of http", b"one.test:80", HOST, scheme=b"http"),
    with_both("both, the target of another route", b"two.test", b"two.test", 421),
    with_both("both, userinfo in the target", b"user@one.test", HOST, 400),
    with_both("both, Host invalid", HOST, b"user@one.test", 400),
    with_both(
        "both, and Host names another", HOST, b"two.test",
        differs="RFC 9112, 3.2.2: Host MUST be ignored; RFC 9113, 8.3.1: it SHOULD be malformed", expected_http2=400,
    ),
    with_both(
        "both, and Host has another port", HOST, b"one.test:80",
        differs="RFC 9112, 3.2.2: Host MUST be ignored; RFC 9113, 8.3.1: it SHOULD be malformed", expected_http2=400,
    ),
    Rule("Host alone", Passed(), message(b"GET", b"/", ()), (*pseudo()[:2], pseudo()[3], (b"host", HOST))),
    Rule("neither", 400, message(b"GET", b"/", (), None), (*pseudo()[:2], pseudo()[3])),
    Rule(
        "Host twice", 400, message(b"GET", b"/", ((b"Host", HOST),)), (*pseudo(), (b"host", HOST), (b"host", HOST)),
    ),
]  # fmt: skip

PATHS = [
    with_path("a query", b"/a/../b//c;d?e=%2F&f", b"/a/../b//c;d?e=%2F&f"),
    with_path("what URIs lack", b'/"<>[]\\^`{|}~', b'/"<>[]\\^`{|}~'),
    with_path("UTF-8 as it is", "/caf\u00e9?\u4e2d".encode(), "/caf\u00e9?\u4e2d".encode()),
    with_path("bytes that are no UTF-8", b"/\xff\xfe", b"/\xff\xfe"),
    with_path("a long path", b"/" + LONG, b"/" + LONG),
    with_path("* of OPTIONS", b"*", b"*", b"OPTIONS"),
    with_path("* of GET", b"*", 400),
    with_path("a fragment", b"/a#b", 400),
    with_path("a blank in the path", b"/a b", 400),
    with_path("a control in the path", b"/a\x01b", 400),
    with_path("DEL in the path", b"/a\x7fb", 400),
    with_path("NUL in the path", b"/a\0b", 400),
    with_path("a relative path", b"a/b", 400),
    Rule("a fragment in an absolute form", 400, message(b"GET", b"https://one.test/a#b", ()), pseudo(path=b"/a#b")),
    Rule(
        "a query without a path", Passed(path=b"/?q"), message(b"GET", b"https://one.test?q", ()), pseudo(path=b"/?q")
    ),
    Rule("no path", 400, b"", pseudo(path=b"")),
    Rule("no path in an absolute form", Passed(), message(b"GET", b"https://one.test", ())),
    Rule("no path of OPTIONS", Passed(b"OPTIONS", path=b"*"), message(b"OPTIONS", b"https://one.test", ())),
]

KEY: Fields = ((b"sec-websocket-key", b"AQIDBAUGBwgJCgsMDQ4PEA=="), (b"sec-websocket-version", b"13"))
UPGRADE: Fields = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), *KEY)
EXTENDED: Fields = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *pseudo()[1:])
TUNNEL = Passed(b"CONNECT", protocol=b"websocket", fields=KEY[1:])
LENGTH_0 = (b"content-length", b"0")

CONNECTS = [
    Rule("CONNECT", 501, message(b"CONNECT", b"one.test:443", (), b"one.test:443"),
         ((b":method", b"CONNECT"), (b":authority", b"one.test:443"))),
    Rule("CONNECT elsewhere", 501, message(b"CONNECT", b"two.test:22", (), b"two.test:22"),
         ((b":method", b"CONNECT"), (b":authority", b"two.test:22"))),
    Rule("CONNECT without a port", 400, message(b"CONNECT", HOST, ()),
         ((b":method", b"CONNECT"), (b":authority", HOST))),
    Rule("CONNECT with userinfo", 400, message(b"CONNECT", b"u@one.test:443", ()),
         ((b":method", b"CONNECT"), (b":authority", b"u@one.test:443"))),
    Rule("CONNECT with a path", 400, message(b"CONNECT", b"/", ()), pseudo(b"CONNECT")),
    Rule("a WebSocket", TUNNEL, message(b"GET", b"/", UPGRADE), (*EXTENDED, KEY[1])),
    Rule("a WebSocket with its key", TUNNEL, message(b"GET", b"/", UPGRADE), (*EXTENDED, *KEY)),
    Rule("a WebSocket with content-length: 0", TUNNEL, message(b"GET", b"/", (*UPGRADE, LENGTH_0)),
         (*EXTENDED, KEY[1], LENGTH_0)),
    Rule("a WebSocket with a length", 400, message(b"GET", b"/", (*UPGRADE, (b"content-length", b"3"))) + b"abc",
         (*EXTENDED, KEY[1], (b"content-length", b"3"))),
    Rule("a tunnel of another protocol", 501,
         message(b"GET", b"/", ((b"Connection", b"upgrade"), (b"Upgrade", b"connect-udp"))),
         ((b":method", b"CONNECT"), (b":protocol", b"connect-udp"), *pseudo()[1:])),
]  # fmt: skip

FRAMING = [
    Rule("content-length", Passed(b"POST", fields=((b"content-length", b"3"),), body=b"abc"),
         message(b"POST", b"/", ((b"content-length", b"3"),)) + b"abc",
         (*pseudo(b"POST"), (b"content-length", b"3")), b"abc"),
    Rule("content-length: 0", Passed(b"POST", fields=(LENGTH_0,)), message(b"POST", b"/", (LENGTH_0,)),
         (*pseudo(b"POST"), LENGTH_0)),
    with_fields("content-length with a sign", ((b"content-length", b"+0"),), 400),
    with_fields("content-length below 0", ((b"content-length", b"-1"),), 400),
    with_fields("content-length in hex", ((b"content-length", b"0x0"),), 400),
    with_fields("content-length that is empty", ((b"content-length", b""),), 400),
    with_fields("content-length that is huge", ((b"content-length", b"1" + b"0" * 30),), 400),
    with_fields("content-length twice, equal", ((b"content-length", b"0"), (b"content-length", b"0")), 400),
    with_fields("content-length twice", ((b"content-length", b"0"), (b"content-length", b"1")), 400),
    with_fields("content-length as a list", ((b"content-length", b"0, 0"),), 400),
    Rule("no length", Passed(b"PUT", body=b"abc"),
         message(b"PUT", b"/", ((b"Transfer-Encoding", b"chunked"),)) + chunked(b"abc", ()), pseudo(b"PUT"), b"abc"),
]  # fmt: skip

FIELDS = [
    with_fields("a blank at the end of a value", ((b"user-agent", b"app "),), ((b"user-agent", b"app"),)),
    with_fields("a blank before a value", ((b"user-agent", b" app"),), ((b"user-agent", b"app"),)),
    with_fields("tabs around a value", ((b"user-agent", b"\tapp\t"),), ((b"user-agent", b"app"),)),
    with_fields("a value of blanks", ((b"user-agent", b" \t "),), ((b"user-agent", b""),)),
    with_fields("blanks inside a value", ((b"user-agent", b"a \t b"),), ((b"user-agent", b"a \t b"),)),
    with_fields("an empty value", ((b"x-empty", b""),), ((b"x-empty", b""),)),
    with_fields("0x01 in a cookie", ((b"cookie", b"a=\x01b"),), ((b"cookie", b"a=\x01b"),)),
    with_fields("control characters", ((b"x-a", b"\x01\x02\x1b\x7f"),), ((b"x-a", b"\x01\x02\x1b\x7f"),)),
    with_fields("bytes above 0x7f", ((b"x-a", b"caf\xc3\xa9\xff"),), ((b"x-a", b"caf\xc3\xa9\xff"),)),
    with_fields("NUL in a value", ((b"x-a", b"a\0b"),), 400),
    with_fields("CR in a value", ((b"x-a", b"a\rb"),), 400),
    with_fields("LF in a value", ((b"x-a", b"a\nb"),), 400),
    with_fields("VT in a value", ((b"x-a", b"a\x0bb"),), 400),
    with_fields("FF in a value", ((b"x-a", b"\x0cb"),), 400),
    with_fields("a name that is no token", ((b"x a", b"1"),), 400),
    with_fields("a name with a byte above 0x7f", ((b"x-\xe9", b"1"),), 400),
    with_fields("no name", ((b"", b"1"),), 400),
    with_fields("crumbs of a cookie", CRUMBS, CRUMBS),
    with_fields("a field twice", TWICE, TWICE),
    with_fields("te: trailers", ((b"te", b"trailers"),), ((b"te", b"trailers"),)),
    with_fields("expect that is unknown", ((b"expect", b"tea"),), ((b"expect", b"tea"),)),
    with_fields("http2-settings", ((b"http2-settings", b"AAMAAABk"), (b"x-a", b"1")), ONE),
    with_fields("what only the edge may say",
                (*CLAIMS, *ONE), ONE),
    with_fields("256 fields", ONE * 300, 431),
    with_fields("a large field", ((b"x-a", b"1" * 70_000),), 431),
]  # fmt: skip

HOP_BY_HOP = [
    Rule(f"{name.decode()}", Passed(fields=ONE), message(b"GET", b"/", ((name, value), (b"x-a", b"1"))),
         (*pseudo(), (name, value), (b"x-a", b"1")),
         differs="RFC 9110, 7.6.1: it ends here; RFC 9113, 8.2.2: it is malformed", expected_http2=RESET)
    for name, value in (
        (b"connection", b"keep-alive"), (b"proxy-connection", b"keep-alive"), (b"keep-alive", b"timeout=5"),
        (b"upgrade", b"h2c"),
    )
] + [
    Rule("a name in upper case", Passed(fields=ONE), message(b"GET", b"/", ((b"X-A", b"1"),)),
         (*pseudo(), (b"X-A", b"1")), differs="RFC 9110, 5.1; RFC 9113, 8.2.1", expected_http2=RESET),
    Rule("te of another value", Passed(), message(b"GET", b"/", ((b"TE", b"gzip"),)), (*pseudo(), (b"te", b"gzip")),
         differs="RFC 9110, 10.1.4: it ends here; RFC 9113, 8.2.2: it is malformed", expected_http2=RESET),
    Rule("what Connection names", Passed(), message(b"GET", b"/", ((b"Connection", b"close, x-a"), (b"x-a", b"1")))),
    Rule("64 names in Connection", Passed(), message(b"GET", b"/", ((b"Connection", b"x-a" + b",x-a" * 63),))),
    Rule("more than 64 names in Connection", 431, message(b"GET", b"/", ((b"Connection", b"x-a" + b",x-a" * 64),))),
    Rule("more than 64 names in two", 431, message(b"GET", b"/", ((b"Connection", b"x-a" + b",x-a" * 32),) * 2)),
    Rule("20,000 names in Connection", 431, message(b"GET", b"/", ((b"Connection", b"a," * 20_000),))),
    Rule("20,000 names in Upgrade", 431, message(b"GET", b"/", ((b"Upgrade", b"a," * 20_000),))),
    Rule("expect of HTTP/1.0", Passed(fields=ONE),
         message(b"GET", b"/", ((b"Expect", b"100-continue"), (b"x-a", b"1")), version=b"1.0")),
    Rule("HTTP/1.0 without Host", Passed(), message(b"GET", b"/", (), None, b"1.0")),
]  # fmt: skip

TRAILERS = [
    with_trailers("trailers", ((b"x-sum", b"1"), (b"grpc-status", b"0")), ((b"x-sum", b"1"), (b"grpc-status", b"0"))),
    with_trailers("trailers with blanks", ((b"x-sum", b" 1 "),), ((b"x-sum", b"1"),)),
    with_trailers("trailers that change the message", (*GONE, (b"x-sum", b"1")), ((b"x-sum", b"1"),)),
    with_trailers("host twice in trailers", ((b"host", b"a"), (b"host", b"b"), (b"x-a", b"1")), ONE),
    with_trailers("trailers that only the edge may say", (*CLAIMS, *ONE), ONE),
    with_trailers("trailers of which none pass", ((b"cookie", b"a"),), ()),
]  # fmt: skip

EMPTY_LINES = [
    Rule(f"{count} empty lines before a request", expected, CRLF * count + message(b"GET", b"/", ()))
    for count, expected in ((1, Passed()), (2, Passed()), (16, Passed()), (17, 400))
]

RULES = {
    rule.name: rule
    for rules in (
        METHODS,
        HOPS,
        SCHEMES,
        AUTHORITIES,
        PATHS,
        CONNECTS,
        FRAMING,
        FIELDS,
        HOP_BY_HOP,
        TRAILERS,
        EMPTY_LINES,
    )
    for rule in rules
}
