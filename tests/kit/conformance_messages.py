"""Conformance cases on messages (RFC 9113, section 8), HPACK (RFC 7541), and what must just work."""

from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame, Setting
from tests.kit.conformance_frames import CASES, END_HEADERS, END_STREAM, PADDED, PRIORITY, PROTOCOL, case, fails, passes
from tests.kit.http2_peer import GET, HOST, POST, MemoryClient, frame

__all__ = ["CASES"]

COMPRESSION = ErrorCode.COMPRESSION_ERROR
Fields = list[tuple[str, str]]


def malformed(name: str, fields: Fields, end: bool = True, data: bytes = b"") -> None:
    """A request that is a stream error."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.request(1, fields, end)
        if data:
            c.send(data)
        c.expect_stream_error(PROTOCOL)
        c.expect_ping()


def served(name: str, *fields: tuple[str, str], request: Fields = GET) -> None:
    """A request that is answered."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.handshake()
        c.request(1, [*request, *fields])
        c.expect_answer()


def without(name: str) -> Fields:
    return [field for field in GET if field[0] != name]


@case("8.1/1 a second HEADERS without END_STREAM")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, POST, end=False)
    c.send(http2.data(1, b"test"))
    c.request(1, [("x-test", "ok")], end=False)
    c.expect_stream_error(PROTOCOL)


malformed("8.1.2/1 an upper-case name", [*GET, ("X-TEST", "ok")])
malformed("8.1.2.1/1 an unknown pseudo-field", [*GET, (":test", "ok")])
malformed("8.1.2.1/2 a pseudo-field of answers", [*GET, (":status", "200")])


@case("8.1.2.1/3 a pseudo-field in trailers")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, POST, end=False)
    c.send(http2.data(1, b"test"))
    c.request(1, [(":method", "POST")])
    c.expect_stream_error(PROTOCOL)


malformed("8.1.2.1/4 a pseudo-field after a regular one", [("x-test", "ok"), *GET])
malformed("8.1.2.2/1 connection", [*GET, ("connection", "keep-alive")])
malformed("8.1.2.2/2 te other than trailers", [*GET, ("trailers", "test"), ("te", "trailers, deflate")])
malformed("8.1.2.2/3 transfer-encoding", [*GET, ("transfer-encoding", "chunked")])
malformed("8.1.2.2/4 upgrade", [*GET, ("upgrade", "websocket")])
malformed("8.1.2.2/5 keep-alive", [*GET, ("keep-alive", "5")])
malformed("8.1.2.2/6 proxy-connection", [*GET, ("proxy-connection", "keep-alive")])
served("8.1.2.2/7 te: trailers", ("te", "trailers"))
malformed("8.1.2.3/1 an empty :path", [*without(":path"), (":path", "")])
malformed("8.1.2.3/2 no :method", without(":method"))
malformed("8.1.2.3/3 no :scheme", without(":scheme"))
malformed("8.1.2.3/4 no :path", without(":path"))
malformed("8.1.2.3/5 :method twice", [GET[0], *GET])
malformed("8.1.2.3/6 :scheme twice", [GET[1], *GET])
malformed("8.1.2.3/7 :path twice", [GET[2], *GET])
malformed("8.1.2.3/8 a relative :path", [*without(":path"), (":path", "index.html")])
malformed("8.1.2.3/9 :path of * without OPTIONS", [*without(":path"), (":path", "*")])
malformed(
    "8.1.2.6/1 content-length differs from one DATA",
    [*POST, ("content-length", "1")],
    False,
    http2.data(1, b"test", end_stream=True),
)
malformed(
    "8.1.2.6/2 content-length differs from two DATA",
    [*POST, ("content-length", "5")],
    False,
    http2.data(1, b"te") + http2.data(1, b"st", end_stream=True),
)
malformed("8.1.2.6/3 content-length without a body", [*POST, ("content-length", "4")])
malformed("8.1.2.6/4 content-length twice", [*POST, ("content-length", "0"), ("content-length", "0")])
malformed("8.1.2.6/5 content-length of no number", [*POST, ("content-length", "+0")])
malformed("8.2.1/1 a line feed in a value", [*GET, ("x-test", "a\nb")])
malformed("8.2.1/2 a NUL in a value", [*GET, ("x-test", "a\0b")])
malformed("8.2.1/3 a space in a name", [*GET, ("x test", "a")])
malformed("8.2.1/4 a colon in a name", [*GET, ("x:test", "a")])
malformed("8.2.1/5 an empty name", [*GET, ("", "a")])
served("8.2.1/6 a value that ends in a space", ("x-test", "a "))  # it passes without the space
fails("8.2/1 PUSH_PROMISE of a client", PROTOCOL, data=frame(Frame.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), opened=True)


@case("8.5/1 CONNECT with a path")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, [(":method", "CONNECT"), (":authority", f"{HOST}:443"), (":path", "/")], end=False)
    c.expect_stream_error(PROTOCOL)


@case("RFC 8441/1 :protocol that was not offered")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, [(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")], end=False)
    c.expect_stream_error(PROTOCOL)


# HPACK


def undecodable(name: str, block: bytes) -> None:
    fails(name, COMPRESSION, data=frame(Frame.HEADERS, END_STREAM | END_HEADERS, 1, b"\x82\x84\x87" + block))


undecodable("HPACK 2.3.3/1 an indexed field outside both tables", b"\xc6")
undecodable("HPACK 2.3.3/2 a literal with a name outside both tables", b"\x7f\x07\x01a")
undecodable("HPACK 4.2/1 a size update after a field", b"\x3f\xe1\x1f")
undecodable("HPACK 5.2/1 Huffman padding of more than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
undecodable("HPACK 5.2/2 Huffman padding of zeros", b"\x00\x85\xf2\xb2\x4a\x87\xff\x83\x49\x50\x90")
undecodable("HPACK 5.2/3 Huffman with EOS", b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")
undecodable("HPACK 6.1/1 index 0", b"\x80")
undecodable("HPACK 5.1/1 an integer of too many bytes", b"\xff\xff\xff\xff\xff\xff\xff\xff\x01")
undecodable("HPACK 5.2/4 a string beyond the block", b"\x00\x05ab")


@case("HPACK 6.3/1 a table larger than allowed")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM | END_HEADERS, 1, b"\x3f\xe1\xff\x03" + c.block(GET)))
    c.expect_connection_error(COMPRESSION)


# What must just work

HEAD = [(":method", "HEAD"), *GET[1:]]
passes("generic 2/1 PRIORITY on an idle stream", frame(Frame.PRIORITY, 0, 5, b"\0\0\0\0\xff"))
passes("generic 2/2 WINDOW_UPDATE, half-closed", http2.window_update(1, 1), opened=True)
passes("generic 2/3 PRIORITY, closed", frame(Frame.PRIORITY, 0, 1, b"\0\0\0\0\xff"), opened=True)
passes("generic 2/4 RST_STREAM, closed", http2.rst_stream(1, ErrorCode.CANCEL), opened=True)
passes("generic 3.1/1 DATA", http2.data(1, b"test", end_stream=True), opened=True, end=False)
passes("generic 3.1/2 two DATA", http2.data(1, b"t") + http2.data(1, b"e", end_stream=True), opened=True, end=False)
passes("generic 3.1/3 DATA with padding", frame(0, END_STREAM | PADDED, 1, b"\x02test\0\0"), opened=True, end=False)
passes("generic 3.3/1 PRIORITY, exclusive", frame(Frame.PRIORITY, 0, 3, b"\x80\0\0\x01\x00"), opened=True)
passes("generic 3.4/1 RST_STREAM", http2.rst_stream(1, ErrorCode.CANCEL), opened=True, end=False)
passes("generic 3.5/1 SETTINGS", http2.settings([(Setting.MAX_CONCURRENT_STREAMS, 10)]))
fails("generic 3.8/1 GOAWAY", ErrorCode.NO_ERROR, data=http2.goaway(0, ErrorCode.NO_ERROR))
passes("generic 3.9/1 WINDOW_UPDATE on the connection", http2.window_update(0, 1))
served("generic 4/1 GET")


@case("generic 4/2 HEAD")  # the careless backend sends a body; the head is what counts
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, HEAD)
    assert c.find(Frame.HEADERS)


served("generic 4/3 POST", request=POST)
served("generic 4/4 OPTIONS *", request=[(":method", "OPTIONS"), (":path", "*"), *GET[1:2], *GET[3:]])


@case("generic 3.2/1 HEADERS with padding")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\x03" + c.block(GET) + b"\0\0\0"))
    c.expect_answer()


@case("generic 3.2/2 HEADERS with priority")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.send(frame(Frame.HEADERS, END_STREAM | END_HEADERS | PRIORITY, 1, b"\x80\0\0\0\x10" + c.block(GET)))
    c.expect_answer()


@case("generic 4/5 POST with trailers")
def _(c: MemoryClient) -> None:
    c.handshake()
    c.request(1, POST, end=False)
    c.send(http2.data(1, b"test"))
    c.request(1, [("x-sum", "ok")])
    c.expect_answer()


def decodes(name: str, block: bytes) -> None:
    """A block in one of the representations of RFC 7541, section 6."""

    @case(name)
    def run(c: MemoryClient) -> None:
        c.send(PREFACE + http2.settings([]) + http2.SETTINGS_ACK)
        authority = b"\x01" + bytes((len(HOST),)) + HOST.encode()
        c.send(http2.headers(1, block + b"\x82\x84\x87" + authority, end_stream=True))
        c.expect_answer()


decodes("generic 5/1 indexed", b"")
decodes("generic 5/2 a size update", b"\x3f\xe1\x1f")
decodes("generic 5/3 two size updates", b"\x20\x3f\xe1\x1f")
tail = b"\x82\x84\x87\x01\x06a.test"


def literal_case(name: str, field: bytes) -> None:
    @case(name)
    def run(c: MemoryClient) -> None:
        c.send(PREFACE + http2.settings([]))
        c.send(http2.headers(1, tail + field, end_stream=True))
        c.expect_answer()


literal_case("generic 5/4 incremental indexing, indexed name", b"\x7a\x04test")
literal_case("generic 5/5 incremental indexing, new name", b"\x40\x06x-test\x04test")
literal_case("generic 5/6 without indexing, indexed name", b"\x0f\x2b\x04test")
literal_case("generic 5/7 without indexing, new name", b"\x00\x06x-test\x04test")
literal_case("generic 5/8 never indexed, indexed name", b"\x1f\x2b\x04test")
literal_case("generic 5/9 never indexed, new name", b"\x10\x06x-test\x04test")
literal_case("generic 5/10 Huffman", b"\x40\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f")
