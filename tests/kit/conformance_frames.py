"""Conformance cases on frames, streams and windows, by the section of RFC 7540 and RFC 9113 that each is about.

The same scripts run against the relay in memory and over a real connection. The sections are those that the public
suites use (RFC 7540's numbers), so that a result can be laid beside theirs.
"""

from collections.abc import Callable

from mcproxy.wire import http2
from mcproxy.wire.http2 import MAX_WINDOW, PREFACE, ErrorCode, Frame, Setting
from tests.kit.http2_peer import GET, POST, MemoryClient, frame

Case = Callable[[MemoryClient], None]
CASES: dict[str, Case] = {}

PROTOCOL = ErrorCode.PROTOCOL_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
SIZE = ErrorCode.FRAME_SIZE_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
DEPENDS_ON_0 = b"\x00\x00\x00\x00\xff"
DEPENDS_ON_1 = b"\x00\x00\x00\x01\xff"


def case(name: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        assert name not in CASES
        CASES[name] = function
        return function

    return add


def fails(name: str, *codes: ErrorCode, data: bytes, opened: bool = False, end: bool = True) -> None:
    """A case where bytes after the handshake (and one request) are a connection error."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        if opened:
            c.request(1, GET if end else POST, end)
        c.send(data)
        c.expect_connection_error(*codes)


def resets(name: str, *codes: ErrorCode, data: bytes, end: bool = True) -> None:
    """A case where bytes after a request are a stream error."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.request(1, GET if end else POST, end)
        c.send(data)
        c.expect_stream_error(*codes)


def passes(name: str, data: bytes, opened: bool = False, end: bool = True) -> None:
    """A case where bytes are taken, and the connection lives."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        if opened:
            c.request(1, GET if end else POST, end)
        c.send(data)
        c.expect_ping()


@case("3.5/1 the server's preface is its first frame")
def _(c: MemoryClient) -> None:
    c.send(PREFACE + http2.settings([]))
    first = c.wait()
    assert first is not None
    assert (first.kind, first.flags) == (Frame.SETTINGS, 0)


@case("3.5/2 an invalid preface ends the connection")
def _(c: MemoryClient) -> None:
    c.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    while c.wait():
        pass
    assert c.closed


@case("3.5/3 the client's first frame is not SETTINGS")
def _(c: MemoryClient) -> None:
    c.send(PREFACE + http2.ping(b"12345678"))
    c.expect_connection_error(PROTOCOL)


passes("4.1/1 an unknown type is ignored", frame(0x16, 0, 0, b"12345678"))
passes("4.1/2 undefined flags are ignored", frame(Frame.PING, 0x16, 0, b"12345678"))
passes("4.1/3 the reserved bit is ignored", frame(Frame.PING, 0, 1 << 31, b"12345678"))


@case("4.2/1 DATA of 2^14 bytes is taken")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, POST, end=False)
    c.send(http2.data(1, b"x" * 16_384, end_stream=True))
    c.expect_answer()


fails("4.2/2 DATA over the maximum", SIZE, data=frame(Frame.DATA, 1, 1, b"x" * 16_385), opened=True, end=False)
fails("4.2/3 HEADERS over the maximum", SIZE, data=frame(Frame.HEADERS, 5, 1, b"x" * 16_385))
fails("4.3/1 a broken block", ErrorCode.COMPRESSION_ERROR, data=frame(Frame.HEADERS, 5, 1, b"\x40"))


@case("4.3/2 PRIORITY between HEADERS and CONTINUATION")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, 0, 1, c.block(GET)) + frame(Frame.PRIORITY, 0, 1, DEPENDS_ON_0))
    c.expect_connection_error(PROTOCOL)


@case("4.3/3 HEADERS of another stream between HEADERS and CONTINUATION")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, 0, 1, c.block(GET)) + frame(Frame.HEADERS, 5, 3, c.block(GET)))
    c.expect_connection_error(PROTOCOL)


fails("5.1/1 idle: DATA", PROTOCOL, data=http2.data(1, b"test", end_stream=True))
fails("5.1/2 idle: RST_STREAM", PROTOCOL, data=http2.rst_stream(1, ErrorCode.CANCEL))
fails("5.1/3 idle: WINDOW_UPDATE", PROTOCOL, data=http2.window_update(1, 100))
fails("5.1/4 idle: CONTINUATION", PROTOCOL, data=frame(Frame.CONTINUATION, 4, 1, b"\x82"))


def half_closed(name: str, data: Callable[[MemoryClient], bytes], *codes: ErrorCode, connection: bool = False) -> None:
    """After END_STREAM of the client, before that of the backend."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.settings((Setting.INITIAL_WINDOW_SIZE, 0))  # keeps the answer from being complete
        c.request()
        c.send(data(c))
        if connection:
            c.expect_connection_error(*codes)
        else:
            c.expect_stream_error(*codes)


half_closed("5.1/5 half-closed: DATA", lambda _: http2.data(1, b"test", end_stream=True), CLOSED)
half_closed("5.1/6 half-closed: HEADERS", lambda c: http2.headers(1, c.block(GET), True), CLOSED)
half_closed(
    "5.1/7 half-closed: CONTINUATION",
    lambda c: frame(Frame.CONTINUATION, 4, 1, c.block(GET)),
    CLOSED,
    PROTOCOL,
    connection=True,
)


def after_reset(name: str, data: Callable[[MemoryClient], bytes], *codes: ErrorCode, connection: bool = False) -> None:
    """After RST_STREAM of the client."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.request(1, POST, end=False)
        c.send(http2.rst_stream(1, ErrorCode.CANCEL) + data(c))
        if connection:
            c.expect_connection_error(*codes)
        else:
            c.expect_stream_error(*codes)


after_reset("5.1/8 reset: DATA", lambda _: http2.data(1, b"test", end_stream=True), CLOSED)
after_reset("5.1/9 reset: HEADERS", lambda c: http2.headers(1, c.block(GET), True), CLOSED)
after_reset(
    "5.1/10 reset: CONTINUATION",
    lambda c: frame(Frame.CONTINUATION, 4, 1, c.block([("x-dummy", "x")])),
    CLOSED,
    PROTOCOL,
    connection=True,
)


def after_end(name: str, data: Callable[[MemoryClient], bytes], *codes: ErrorCode) -> None:
    """After both sides have ended."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.request()
        c.expect_answer()
        c.send(data(c))
        c.expect_connection_error(*codes)


after_end("5.1/11 closed: DATA", lambda _: http2.data(1, b"test", end_stream=True), CLOSED)
after_end("5.1/12 closed: HEADERS", lambda c: http2.headers(1, c.block(GET), True), CLOSED)
after_end("5.1/13 closed: CONTINUATION", lambda c: frame(Frame.CONTINUATION, 4, 1, c.block(GET)), CLOSED, PROTOCOL)


@case("5.1.1/1 an even identifier")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(2)
    c.expect_connection_error(PROTOCOL)


@case("5.1.1/2 an identifier below the previous one")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(5)
    c.request(3)
    c.expect_connection_error(PROTOCOL)


@case("5.1.2/1 more streams than allowed")
def _(c: MemoryClient) -> None:
    c.send(PREFACE + http2.settings([(Setting.INITIAL_WINDOW_SIZE, 0)]))
    preface = c.find(Frame.SETTINGS)
    assert preface is not None
    limit = dict(http2.parse_settings(preface.payload))[Setting.MAX_CONCURRENT_STREAMS]
    c.send(http2.SETTINGS_ACK)
    for number in range(limit + 1):
        c.request(2 * number + 1)
    c.expect_stream_error(ErrorCode.REFUSED_STREAM, PROTOCOL)


@case("5.3.1/1 HEADERS that depends on itself")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM | END_HEADERS | PRIORITY, 1, DEPENDS_ON_1 + c.block(GET)))
    c.expect_stream_error(PROTOCOL)


fails("5.3.1/2 PRIORITY that depends on itself, idle", PROTOCOL, data=frame(Frame.PRIORITY, 0, 1, DEPENDS_ON_1))
resets("5.3.1/3 PRIORITY that depends on itself", PROTOCOL, data=frame(Frame.PRIORITY, 0, 1, DEPENDS_ON_1))
fails("5.4.1/1 an invalid PING ends the connection", SIZE, data=frame(Frame.PING, 0, 0, b"1234567"))
fails("5.4.1/2 GOAWAY is sent on a connection error", SIZE, data=frame(Frame.PING, 0, 0, b"1" * 9))
passes("5.5/1 an unknown extension frame", frame(0xFF, 0, 1, b"unknown"), opened=True)


@case("5.5/2 an unknown extension frame in a header block")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM, 1, c.block(GET)) + frame(0xFF, 0, 0, b"unknown"))
    c.expect_connection_error(PROTOCOL)


fails("6.1/1 DATA on stream 0", PROTOCOL, data=http2.data(0, b"test"))
half_closed("6.1/2 DATA on a stream that is not open", lambda _: http2.data(1, b"test"), CLOSED)
fails("6.1/3 DATA with too much padding", PROTOCOL, data=frame(0, 9, 1, b"\x06test"), opened=True, end=False)


@case("6.2/1 HEADERS without END_HEADERS, then PRIORITY")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM, 1, c.block(GET)) + frame(Frame.PRIORITY, 0, 1, DEPENDS_ON_0))
    c.expect_connection_error(PROTOCOL)


@case("6.2/2 HEADERS on another stream before END_HEADERS")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM, 1, c.block(GET)) + frame(Frame.HEADERS, 5, 3, c.block(GET)))
    c.expect_connection_error(PROTOCOL)


fails("6.2/3 HEADERS on stream 0", PROTOCOL, data=frame(Frame.HEADERS, 5, 0, b"\x82\x84\x87"))
fails("6.2/4 HEADERS with too much padding", PROTOCOL, data=frame(Frame.HEADERS, 0xD, 1, b"\x06\x82\x84\x87"))
fails("6.3/1 PRIORITY on stream 0", PROTOCOL, data=frame(Frame.PRIORITY, 0, 0, DEPENDS_ON_0))
resets("6.3/2 PRIORITY of 4 bytes", SIZE, data=frame(Frame.PRIORITY, 0, 1, b"\x80\x00\x00\x01"))
fails("6.4/1 RST_STREAM on stream 0", PROTOCOL, data=http2.rst_stream(0, ErrorCode.CANCEL))
fails("6.4/2 RST_STREAM on an idle stream", PROTOCOL, data=http2.rst_stream(1, ErrorCode.CANCEL))
fails("6.4/3 RST_STREAM of 3 bytes", SIZE, data=frame(Frame.RST_STREAM, 0, 1, b"\x00" * 3), opened=True)
fails("6.5/1 SETTINGS with ACK and a payload", SIZE, data=frame(Frame.SETTINGS, 1, 0, b"\x00"))
fails("6.5/2 SETTINGS on a stream", PROTOCOL, data=frame(Frame.SETTINGS, 0, 1, b"\x00\x03\x00\x00\x00\x64"))
fails("6.5/3 SETTINGS of no multiple of 6 bytes", SIZE, data=frame(Frame.SETTINGS, 0, 0, b"\x00\x03\x00"))
fails("6.5.2/1 ENABLE_PUSH of 2", PROTOCOL, data=http2.settings([(Setting.ENABLE_PUSH, 2)]))
fails("6.5.2/2 INITIAL_WINDOW_SIZE too large", FLOW, data=http2.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31)]))
fails("6.5.2/3 MAX_FRAME_SIZE too small", PROTOCOL, data=http2.settings([(Setting.MAX_FRAME_SIZE, 2**14 - 1)]))
fails("6.5.2/4 MAX_FRAME_SIZE too large", PROTOCOL, data=http2.settings([(Setting.MAX_FRAME_SIZE, 2**24)]))
passes("6.5.2/5 an unknown setting", http2.settings([(0xFF, 1)]))


def first_data(c: MemoryClient) -> int:
    got = c.find(Frame.DATA)
    assert got is not None
    return len(got.payload)


@case("6.5.3/1 settings are processed in their order")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.settings((Setting.INITIAL_WINDOW_SIZE, 100), (Setting.INITIAL_WINDOW_SIZE, 1))
    c.request()
    assert first_data(c) == 1


@case("6.5.3/2 SETTINGS are acknowledged at once")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.settings((Setting.ENABLE_PUSH, 0))
    got = c.find(Frame.SETTINGS)
    assert got is not None
    assert got.flags == 1


@case("6.7/1 PING is answered with its payload")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.expect_ping(b"h2spec\x00\x00")


@case("6.7/2 PING with ACK is not answered")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(http2.ping(b"invalid\x00", ack=True))
    c.expect_ping()


fails("6.7/3 PING on a stream", PROTOCOL, data=frame(Frame.PING, 0, 1, b"\x00" * 8))
fails("6.7/4 PING of 6 bytes", SIZE, data=frame(Frame.PING, 0, 0, b"\x00" * 6))
fails("6.8/1 GOAWAY on a stream", PROTOCOL, data=frame(Frame.GOAWAY, 0, 1, b"\x00" * 8))
fails("6.9/1 an increment of 0 on the connection", PROTOCOL, data=http2.window_update(0, 0))
half_closed("6.9/2 an increment of 0 on a stream", lambda _: http2.window_update(1, 0), PROTOCOL)
fails("6.9/3 WINDOW_UPDATE of 3 bytes", SIZE, data=frame(Frame.WINDOW_UPDATE, 0, 0, b"\x00\x00\x01"))


@case("6.9.1/1 no DATA beyond the window")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.settings((Setting.INITIAL_WINDOW_SIZE, 1))
    c.request()
    assert first_data(c) == 1


fails("6.9.1/2 the connection's window overflows", FLOW, data=http2.window_update(0, MAX_WINDOW) * 2)
resets("6.9.1/3 a stream's window overflows", FLOW, data=http2.window_update(1, MAX_WINDOW) * 2, end=False)


@case("6.9.2/1 windows follow INITIAL_WINDOW_SIZE")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.settings((Setting.INITIAL_WINDOW_SIZE, 0))
    c.request()
    c.settings((Setting.INITIAL_WINDOW_SIZE, 1))
    assert first_data(c) == 1


@case("6.9.2/2 a window may become negative")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.settings((Setting.INITIAL_WINDOW_SIZE, 3))
    c.request()
    assert first_data(c) == 3
    c.settings((Setting.INITIAL_WINDOW_SIZE, 2))
    assert c.find(Frame.SETTINGS)
    c.send(http2.window_update(1, 2))
    assert first_data(c) == 1


fails("6.9.2/3 an initial window beyond the maximum", FLOW, data=http2.settings([(4, 2**31)]))


@case("6.10/1 CONTINUATION frames complete a block")
def _(c: MemoryClient) -> None:
    c.handshake()
    block = c.block([*GET, ("x-one", "1"), ("x-two", "2")])
    c.send(frame(1, 1, 1, block[:3]) + frame(9, 0, 1, block[3:9]) + frame(9, 4, 1, block[9:]))
    c.expect_answer()


def in_block(name: str, data: bytes) -> None:
    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.send(frame(Frame.HEADERS, END_STREAM, 1, c.block(GET)) + data)
        c.expect_connection_error(PROTOCOL)


in_block("6.10/2 CONTINUATION, then DATA", frame(9, 0, 1, b"\x00\x01a\x01b") + http2.data(1, b"test"))
in_block("6.10/3 CONTINUATION on stream 0", frame(9, 4, 0, b"\x00\x01a\x01b"))
in_block("6.10/4 HEADERS, then DATA", http2.data(1, b"test"))
in_block("6.10/5 CONTINUATION of another stream", frame(9, 4, 3, b"\x00\x01a\x01b"))
fails("6.10/6 CONTINUATION after END_HEADERS", PROTOCOL, data=frame(9, 4, 1, b"\x82"), opened=True)
fails("6.10/7 CONTINUATION after DATA", PROTOCOL, data=http2.data(1, b"t") + frame(9, 4, 1), opened=True, end=False)


@case("7/1 GOAWAY with an unknown code")  # no stream is open: both connections end
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(http2.goaway(0, 0xFF))
    c.expect_connection_error(ErrorCode.NO_ERROR)


passes("7/2 RST_STREAM with an unknown code", http2.rst_stream(1, 0xFF), opened=True)
