"""Every fault that a client or a backend can commit, with an input that provokes it.

Tested by tests/e2e/test_fault_lines.py

A row has a file and the text of a fault that is made there, as `fault_sites.py` finds it; "*" is what differs.
Its `play` runs a core in memory up to the fault. `status` and `end` are those of the exchange that has the fault as its
reason; an `end` of None means that no request was open.
"""

from typing import NamedTuple

from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import PREFACE, Frame, Setting
from tests.kit import bridge_playbook as bridge
from tests.kit.fault_plays import (
    CONNECT,
    H1,
    OK,
    SIZED,
    Play,
    ahead,
    answered,
    asked,
    before_http1,
    block,
    bridged,
    drained,
    early_answer,
    first,
    full_window,
    head1,
    head_with_body,
    http1_answer,
    http1_backend,
    interims,
    late,
    many,
    pile_up,
    raw_answer,
    raw_bytes,
    replied,
    sent,
    shown,
    slow,
    trailed,
    unfinished,
    waited,
    wrote,
    ws,
)
from tests.kit.http2_peer import GET, POST, frame

CLIENT, BACKEND, ANSWERED, REFUSED = (
    ExchangeEnd.CLIENT_FAULT, ExchangeEnd.BACKEND_FAULT, ExchangeEnd.ANSWERED, ExchangeEnd.REFUSED,
)  # fmt: skip
TWO_BYTES = [(b":status", b"200"), (b"content-length", b"2")]
GONE, LEFT = ExchangeEnd.BACKEND_GONE, ExchangeEnd.CLIENT_GONE


class Row(NamedTuple):
    """A fault, an input, and what its line says."""

    file: str
    text: str
    play: Play
    status: int
    end: ExchangeEnd | None

    def __repr__(self) -> str:
        return f"{self.file} {self.text}"


def of(file: str, *rows: tuple[str, Play, int, ExchangeEnd | None]) -> list[Row]:
    return [Row(file, *row) for row in rows]


ADMISSION = of(
    "l7/http2/admission.py",
    ("a stream above the last one that GOAWAY named", shown(drained), 0, REFUSED),
    ("more than * streams at once", shown(many), 0, REFUSED),
    (":protocol, which was not offered", asked(CONNECT, end=False), 0, CLIENT),
    ("content-length without a body", asked([*POST, ("content-length", "3")]), 0, CLIENT),
    (
        "a host that this connection's route doesn't serve",
        asked([*GET[:3], (":authority", "other.test")]),
        421,
        ANSWERED,
    ),
)
FIELDS = of(
    "wire/fields.py",
    ("a field name in upper case: *", asked([*GET, ("X-A", "1")]), 0, CLIENT),
    ("a field name in upper case: *", answered(([*OK, ("X-A", "1")], False)), 502, BACKEND),
    ("a field name in upper case: *", raw_answer([*OK, ("X-A", "1")]), 502, BACKEND),
    ("a field name that is not a token: *", asked([*GET, ("a b", "1")]), 0, CLIENT),
    ("a field without a name", asked([*GET, ("", "1")]), 0, CLIENT),
    ("a pseudo-field after a regular one: *", asked([("x", "1"), *GET]), 0, CLIENT),
    ("*, which HTTP/2 does not know (RFC 9113, 8.2.2)", asked([*GET, ("connection", "keep-alive")]), 0, CLIENT),
    ("*, which HTTP/2 does not know (RFC 9113, 8.2.2)", answered(([*OK, ("connection", "x")], False)), 502, BACKEND),
    ("*, which HTTP/2 does not know (RFC 9113, 8.2.2)", raw_answer([*OK, ("connection", "x")]), 502, BACKEND),
    ("te with another value than trailers (RFC 9113, 8.2.2)", asked([*GET, ("te", "x")]), 0, CLIENT),
    ("* twice", asked([*GET, ("content-length", "0"), ("content-length", "0")]), 0, CLIENT),
    ("* twice", asked([*GET, (":path", "/")]), 0, CLIENT),
    ("content-length is not a number of at most 18 digits", asked([*GET, ("content-length", "x")]), 0, CLIENT),
    ("a pseudo-field that does not belong here: *", asked([*GET, (":x", "1")]), 0, CLIENT),
    ("a blank or a control character in *", asked([*GET[:2], (":path", "/ "), GET[3]]), 0, CLIENT),
    ("a forbidden control character in the value of *", asked([*GET, ("x", "a\0")]), 0, CLIENT),
    ("a forbidden control character in the value of *", answered(([*OK, ("x", "a\n")], False)), 502, BACKEND),
    ("no :status, or not one of HTTP/2", answered(([(":status", "x")], False)), 502, BACKEND),
    ("no :status, or not one of HTTP/2", raw_answer([(":status", "x")]), 502, BACKEND),
)
REQUESTS = of(
    "wire/requests.py",
    ("no :method, or not a token", asked(GET[1:]), 0, CLIENT),
    ("an extended CONNECT with a body of a declared length", asked([*CONNECT, ("content-length", "1")]), 400, CLIENT),
    ("the authority *", asked([*GET[:3], (":authority", "u@a.test")]), 400, CLIENT),
    ("the authority *", head1(b"GET / HTTP/1.1", b"Host: u@one.test"), 400, CLIENT),
    ("no scheme, or another than http and https", asked([GET[0], *GET[2:]]), 0, CLIENT),
    ("no path", asked([*GET[:2], GET[3]]), 0, CLIENT),
    ("a path with a fragment", asked([*GET[:2], (":path", "/#"), GET[3]]), 0, CLIENT),
    ("a path of * without OPTIONS", asked([*GET[:2], (":path", "*"), GET[3]]), 0, CLIENT),
    ("a path of * without OPTIONS", head1(b"GET * HTTP/1.1", H1[:-2]), 400, CLIENT),
    ("a path with a blank or a control character", asked([*GET[:2], (":path", "/a b"), GET[3]]), 0, CLIENT),
    ("a path that is not absolute", asked([*GET[:2], (":path", "a"), GET[3]]), 0, CLIENT),
    ("Host names another authority than the target", asked([*GET, ("host", "b.test")]), 400, CLIENT),
    ("CONNECT to an authority without a port", asked([(":method", "CONNECT"), (":authority", "a.test")]), 400, CLIENT),
    (":protocol without CONNECT, or not a token", asked([*GET, (":protocol", "x")]), 0, CLIENT),
    ("no authority, and no Host", asked(GET[:3]), 400, CLIENT),
    ("CONNECT with :scheme or :path, or without :authority", asked([(":method", "CONNECT"), *GET[1:]]), 0, CLIENT),
)
HTTP1 = [
    *of(
        "wire/http1.py",
        ("a malformed request line", head1(b"GET", H1[:-2]), 400, CLIENT),
        ("a target with a fragment", head1(b"GET /# HTTP/1.1", H1[:-2]), 400, CLIENT),
        ("neither HTTP/1.0 nor HTTP/1.1", head1(b"GET / HTTP/2.0", H1[:-2]), 505, CLIENT),
        ("a target of * bytes", head1(b"GET /" + b"a" * 17_000 + b" HTTP/1.1", H1[:-2]), 414, CLIENT),
        ("no Host", head1(b"GET / HTTP/1.1"), 400, CLIENT),
        ("more than * empty lines before a request", wrote(b"\r\n" * 40), 400, CLIENT),
    ),
    *of(
        "wire/http1_framing.py",
        ("* fields", head1(b"GET / HTTP/1.1", H1[:-2], *[b"a: b"] * 300), 431, CLIENT),
        ("a malformed field line: *", head1(b"GET / HTTP/1.1", H1[:-2], b"a b: c"), 400, CLIENT),
        ("Content-Length is not a number", head1(b"GET / HTTP/1.1", H1[:-2], b"Content-Length: x"), 400, CLIENT),
        (
            "more than * members in *",
            head1(b"GET / HTTP/1.1", H1[:-2], b"Connection: " + b",".join([b"a"] * 99)), 431, CLIENT,
        ),
        (
            "Transfer-Encoding beside Content-Length, or in HTTP/1.0",
            head1(b"GET / HTTP/1.1", H1[:-2], b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, CLIENT,
        ),
        (
            "a transfer coding other than chunked",
            head1(b"GET / HTTP/1.1", H1[:-2], b"Transfer-Encoding: gzip"), 501, ANSWERED,
        ),
        ("a bare LF", wrote(b"GET / HTTP/1.1\n\n"), 400, CLIENT),
        ("a head of more than * bytes", wrote(b"GET / HTTP/1.1\r\n" + H1 + b"a: " + b"b" * 70_000), 431, CLIENT),
        (
            "a malformed chunk size",
            wrote(b"POST / HTTP/1.1\r\n" + H1 + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"), 400, CLIENT,
        ),
        ("* twice", head1(b"GET / HTTP/1.1", H1[:-2], H1[:-2]), 400, CLIENT),
        (
            "a line that doesn't end",
            wrote(b"POST / HTTP/1.1\r\n" + H1 + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2_000), 400, CLIENT,
        ),
        (
            "a chunk is longer than its size",
            wrote(b"POST / HTTP/1.1\r\n" + H1 + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"), 400, CLIENT,
        ),
    ),
]  # fmt: skip
ANSWERS_1 = of(
    "wire/http1_answers.py",
    ("a malformed status line", http1_answer(b"220 ready\r\n"), 502, BACKEND),
    ("an answer in neither HTTP/1.0 nor HTTP/1.1", http1_answer(b"HTTP/1.2 200 OK\r\n\r\n"), 502, BACKEND),
    ("a folded line", http1_answer(b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n"), 502, BACKEND),
    ("a folded line behind *", http1_answer(b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n"), 502, BACKEND),
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"
HTTP1_CONNECTION = of(
    "l7/bridge/http1_connection.py",
    ("101 for a request without Upgrade", http1_answer(SWITCH + b"\r\n"), 502, BACKEND),
    (
        "101 with an Upgrade to another protocol than the request asked for",
        http1_answer(SWITCH + b"Upgrade: x\r\n\r\n", CONNECT, end=False), 502, BACKEND,
    ),
    (
        "101 with another Sec-WebSocket-Accept than the key's",
        http1_answer(SWITCH + b"Upgrade: websocket\r\n\r\n", CONNECT, end=False), 502, BACKEND,
    ),
)  # fmt: skip
CLIENT_HTTP2 = of(
    "l7/bridge/client_http2.py",
    (
        "a body that doesn't come",
        before_http1(lambda client: client.wait_for(62), [*POST, ("content-length", "2")], end=False), 408, CLIENT,
    ),
    ("the backend doesn't answer", before_http1(lambda client: client.wait_for(302)), 504, ANSWERED),
    ("the client closed its connection", before_http1(lambda client: client.bridge.client_closed(1.0)), 0, LEFT),
)  # fmt: skip
TRANSLATE = of(
    "l7/bridge/translate.py",
    ("Host is not a host with an optional port", head1(b"GET http://one.test/ HTTP/1.1", b"Host: a b"), 400, CLIENT),
    ("a target in no known form", head1(b"GET x HTTP/1.1", H1[:-2]), 400, CLIENT),
    (
        "a WebSocket handshake is a GET without a body",
        head1(b"POST / HTTP/1.1", H1[:-2], b"Connection: upgrade", b"Upgrade: websocket"), 400, CLIENT,
    ),
    (
        "a WebSocket handshake without a key",
        head1(b"GET / HTTP/1.1", H1[:-2], b"Connection: upgrade", b"Upgrade: websocket"), 400, CLIENT,
    ),
)  # fmt: skip
FRAMES = of(
    "l7/http2/frames.py",
    ("an increment of 0", sent(http2.window_update(0, 0)), 0, CLIENT),
    ("an increment of 0", sent(http2.window_update(1, 0)), 0, CLIENT),
    ("an increment of 0", replied(http2.window_update(0, 0)), 502, BACKEND),
    ("an increment of 0", replied(http2.window_update(1, 0)), 502, BACKEND),
    ("a padded frame without a pad length", sent(frame(Frame.DATA, 8, 1)), 0, CLIENT),
    ("padding is longer than its frame", sent(frame(Frame.DATA, 8, 1, b"\x09a")), 0, CLIENT),
    ("* *", sent(frame(Frame.SETTINGS, 0, 1)), 0, CLIENT),
    ("* *", replied(frame(Frame.PING, 0, 1, bytes(8))), 502, BACKEND),
    ("* of * bytes", sent(frame(Frame.PING, 0, 0, b"1")), 0, CLIENT),
    ("* of * bytes", replied(frame(Frame.PING, 0, 0, b"1")), 502, BACKEND),
    (
        "a header block was begun and something else came",
        sent(frame(1, 1, 3, b"") + frame(6, 0, 0, bytes(8))), 0, CLIENT,
    ),
    ("the first frame is not SETTINGS", lambda: first(PREFACE + http2.ping(bytes(8))), 0, None),
    ("CONTINUATION without a header block begun", sent(frame(Frame.CONTINUATION, 4, 1)), 0, CLIENT),
    ("PUSH_PROMISE", sent(frame(Frame.PUSH_PROMISE, 4, 1, bytes(4))), 0, CLIENT),
    ("PUSH_PROMISE", replied(frame(Frame.PUSH_PROMISE, 4, 1, bytes(4))), 502, BACKEND),
    (
        "a header block of too many frames or bytes",
        sent(frame(1, 1, 3, b"\x82"), *[frame(9, 0, 3, b"\x82")] * 70), 0, CLIENT,
    ),
    ("HEADERS on stream 0", sent(frame(Frame.HEADERS, 5, 0)), 0, CLIENT),
    ("HEADERS too short for its priority", sent(frame(Frame.HEADERS, 0x25, 3, b"1")), 0, CLIENT),
    ("a frame larger than SETTINGS_MAX_FRAME_SIZE", sent(frame(Frame.DATA, 0, 1, bytes(16_385))), 0, CLIENT),
    ("a frame larger than SETTINGS_MAX_FRAME_SIZE", replied(frame(Frame.DATA, 0, 1, bytes(16_385))), 502, BACKEND),
    ("a stream that depends on itself", sent(frame(Frame.HEADERS, 0x25, 3, b"\0\0\0\x03\0" + b"\x82")), 0, CLIENT),
    ("a stream that depends on itself", sent(frame(Frame.PRIORITY, 0, 1, b"\0\0\0\x01\0")), 0, CLIENT),
)  # fmt: skip


FROM_CLIENT = of(
    "l7/http2/from_client.py",
    ("* on a stream that is *", sent(http2.data(3, b"x")), 0, CLIENT),
    ("no HTTP/2 preface", lambda: first(b"x" * 24), 0, None),
    ("a header block that doesn't end", waited(11, lambda book: book.client(frame(1, 1, 1, b""))), 0, None),
    ("HEADERS on a stream of the server's", sent(frame(Frame.HEADERS, 5, 2)), 0, CLIENT),
    ("HEADERS after END_STREAM", sent(http2.data(1, b"", True), http2.headers(1, b"", True)), 0, CLIENT),
    ("DATA beyond the connection's window", lambda: ahead(16, 16, 16, 16, 1), 0, None),
    ("DATA on stream 0", sent(http2.data(0, b"x")), 0, CLIENT),
    ("DATA after END_STREAM", sent(http2.data(1, b"", True), http2.data(1, b"x")), 0, CLIENT),
    ("too many settings in one frame", sent(http2.settings([(0xFF, 0)] * 65)), 0, CLIENT),
    ("the stream's window overflows", sent(http2.window_update(1, 2**31 - 1)), 0, CLIENT),
    ("the connection's window overflows", sent(http2.window_update(0, 2**31 - 1)), 0, CLIENT),
    (
        "the body is not of content-length",
        sent(http2.data(1, b"abc"), fields=[*POST, ("content-length", "2")]), 0, CLIENT,
    ),
    ("RST_STREAM on an idle stream", sent(http2.rst_stream(3, 0)), 0, CLIENT),
    ("WINDOW_UPDATE on an idle stream", sent(http2.window_update(3, 1)), 0, CLIENT),
    ("SETTINGS with ACK is not empty", sent(frame(Frame.SETTINGS, 1, 0, bytes(6))), 0, CLIENT),
    ("the client reset the stream: *", sent(http2.rst_stream(1, 8)), 0, ExchangeEnd.CLIENT_RESET),
)  # fmt: skip
HEADER_LINK = of(
    "l7/http2/header_link.py",
    ("invalid trailers: *", trailed([("X-A", "1")]), 0, CLIENT),
    ("invalid trailers: *", answered((OK, False), ([("X-A", "1")], True)), 200, BACKEND),
    ("a second head, or trailers without END_STREAM", trailed([("x", "1")], end=False), 0, CLIENT),
    ("a second head, or trailers without END_STREAM", answered((OK, False), ([("x", "1")], False)), 200, BACKEND),
    ("trailers before the end of the body", trailed([("x", "1")], head=[*POST, ("content-length", "2")]), 0, CLIENT),
    ("trailers before the end of the body", answered((SIZED, False), ([("x", "1")], True)), 200, BACKEND),
    ("a header list without end", block(b"\x82" * 600), 0, CLIENT),
    ("a header list of more than * bytes or * fields", asked([*GET, ("x", "x" * 70_000)]), 431, CLIENT),
    (
        "a header list of more than * bytes or * fields",
        answered(([*OK, *[("x", "y")] * 300], False)), 502, BACKEND,
    ),
)  # fmt: skip
HPACK = of(
    "wire/hpack_block.py",
    ("an integer of too many bytes", block(b"\xff" * 12), 0, CLIENT),
    ("index * is in neither table", block(b"\xff\x20"), 0, CLIENT),
    ("index * is in neither table", replied(frame(Frame.HEADERS, 4, 1, b"\xff\x20")), 502, BACKEND),
    ("a string ends beyond the block", block(b"\x00\x05a"), 0, CLIENT),
    ("the block ends inside a field", block(b"\x40"), 0, CLIENT),
    ("Huffman code: *", block(b"\x00\x81\xff\x00"), 0, CLIENT),
    ("a table of * bytes, where * are allowed", block(b"\x3f\xff\xff\x03"), 0, CLIENT),
    ("a size update after the first field", block(b"\x82\x20"), 0, CLIENT),
)
WIRE = of(
    "wire/http2.py",
    ("the length of SETTINGS is not a multiple of 6", sent(frame(Frame.SETTINGS, 0, 0, b"1")), 0, CLIENT),
    ("the length of SETTINGS is not a multiple of 6", replied(frame(Frame.SETTINGS, 0, 0, b"1")), 502, BACKEND),
    ("* is neither 0 nor 1", sent(http2.settings([(Setting.ENABLE_PUSH, 2)])), 0, CLIENT),
    ("INITIAL_WINDOW_SIZE exceeds 2**31-1", sent(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31)])), 0, CLIENT),
    ("MAX_FRAME_SIZE is not in 2**14..2**24-1", sent(http2.settings([(Setting.MAX_FRAME_SIZE, 1)])), 0, CLIENT),
)
RELAY = [
    *of(
        "l7/relay/from_backend.py",
        ("a malformed answer: *", answered(([(":status", "103")], True)), 502, BACKEND),
        ("* on a stream that is *", replied(http2.data(3, b"x")), 502, BACKEND),
        ("too many interim answers", answered(*[([(":status", "103")], False)] * 17), 502, BACKEND),
        ("content-length without a body", answered((SIZED, True)), 502, BACKEND),
        ("the backend reset the stream: *", replied(http2.rst_stream(1, 2)), 0, ExchangeEnd.BACKEND_RESET),
        ("the backend went away (GOAWAY) and did not process it", replied(http2.goaway(0, 0)), 0, REFUSED),
    ),
    *of(
        "l7/relay/uploads.py",
        ("the stream's window overflows", replied(http2.window_update(1, 2**31 - 1)), 502, BACKEND),
        ("the connection's window overflows", replied(http2.window_update(0, 2**31 - 1)), 502, BACKEND),
        (
            "INITIAL_WINDOW_SIZE overflows a window",
            replied(http2.window_update(1, 2**31 - 70_000), http2.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)])),
            502, BACKEND,
        ),
    ),
    *of(
        "l7/relay/relay.py",
        ("the backend speaks HTTP/1: an l7 route needs HTTP/2", http1_backend, 502, BACKEND),
        ("a body that doesn't come", waited(61, lambda book: book.request(1, [*POST, ("content-length", "2")], False)),
         0, CLIENT),
    ),
    *of(
        "l7/http2/windows.py",
        (
            "INITIAL_WINDOW_SIZE overflows a window",
            sent(http2.window_update(1, 2**31 - 70_000), http2.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)])),
            0, CLIENT,
        ),
    ),
    *of(
        "l7/http2/client_settings.py",
        ("SETTINGS were not acknowledged", waited(11, lambda book: book.backend(http2.settings([(3, 7)]))), 0, None),
    ),
]  # fmt: skip


BRIDGE = [
    *of(
        "l7/bridge/from_http2.py",
        ("* on a stream that is idle", raw_bytes(http2.data(3, b"x")), 502, BACKEND),
        ("a malformed answer: *", raw_answer([*OK, ("X-A", "1")]), 502, BACKEND),
        ("an interim head with END_STREAM", raw_bytes(http2.headers(1, encode([(b":status", b"103")]), True)), 502,
         BACKEND),
        ("content-length without a body", raw_bytes(http2.headers(1, encode(TWO_BYTES), True)), 502, BACKEND),
        ("the connection's window overflows", raw_bytes(http2.window_update(0, 2**31 - 1)), 502, BACKEND),
        ("the stream's window overflows", raw_bytes(http2.window_update(1, 2**31 - 1)), 502, BACKEND),
        (
            "INITIAL_WINDOW_SIZE overflows a window",
            raw_bytes(http2.window_update(1, 2**31 - 70_000) + http2.settings([(4, 2**31 - 1)])), 502, BACKEND,
        ),
    ),
    *of(
        "l7/http2/backend_frames.py",
        ("DATA before the answer's head", raw_bytes(http2.data(1, b"x")), 502, BACKEND),
        ("DATA after END_STREAM", shown(early_answer), 200, BACKEND),
        ("the body is not of content-length", raw_bytes(http2.headers(1, encode(TWO_BYTES)) + http2.data(1, b"abc")),
         200, BACKEND),
        ("too many settings in one frame", raw_bytes(http2.settings([(0xFF, 0)] * 65)), 502, BACKEND),
    ),
    *of(
        "l7/bridge/exchange.py",
        (
            "an Upgrade to another protocol than WebSocket",
            head1(b"GET / HTTP/1.1", H1[:-2], b"Connection: upgrade", b"Upgrade: x"), 501, ANSWERED,
        ),
        ("the host leads to another route, or to none", head1(b"GET / HTTP/1.1", b"Host: two.test"), 421, ANSWERED),
        ("the backend reset the stream: *", raw_bytes(http2.rst_stream(1, 2)), 502, ExchangeEnd.BACKEND_RESET),
    ),
]  # fmt: skip


ELSEWHERE = [
    *of(
        "l7/bridge/answer_half.py",
        ("too many interim answers", bridged(interims), 502, BACKEND),
    ),
    *of(
        "l7/bridge/backend_line.py",
        ("the backend broke HTTP: *", raw_answer([*OK, ("X-A", "1")]), 502, BACKEND),
    ),
    *of(
        "l7/bridge/http2_connection.py",
        ("the backend closed its connection", bridged(lambda b: b.backend_closed()), 502, GONE),
    ),
    *of(
        "l7/bridge/bridge.py",
        ("the client's connection broke", bridged(lambda b: b.bridge.client_lost(b.now)), 0, LEFT),
    ),
    *of(
        "l7/bridge/client_http1.py",
        ("a body that doesn't come", slow(bridge.POST, 125), 408, CLIENT),
        ("a head that doesn't end", slow(b"GET / HTTP/1.1\r\n", 12), 408, CLIENT),
        ("the backend doesn't answer", bridged(lambda b: b.bridge.give_up(b.now)), 504, ANSWERED),
        ("the client closed its connection", bridged(lambda b: b.bridge.client_closed(b.now)), 0, LEFT),
    ),
    *of(
        "l7/bridge/exchange.py",
        ("the backend sent a body with an answer that has none", head_with_body, 200, ExchangeEnd.DONE),
        ("the backend sent no SETTINGS", ws(settles=False), 504, ANSWERED),
        ("the backend takes no WebSocket (RFC 8441)", ws(settles=True), 501, ANSWERED),
    ),
    *of("l7/http2/client_settings.py", ("SETTINGS pile up", late(pile_up), 502, BACKEND)),
    *of("l7/http2/flow.py", ("more after END_STREAM", full_window, 200, BACKEND)),
    *of("l7/http2/from_client.py", ("DATA beyond the stream's window", lambda: ahead(17), 0, CLIENT)),
    *of(
        "l7/relay/from_backend.py",
        (
            "the backend sent a body with an answer that has none",
            answered(([(":status", "304")], False), data=http2.data(1, b"x", True)), 304, ExchangeEnd.DONE,
        ),
    ),
    *of(
        "l7/relay/relay.py",
        ("a header block of the backend's that doesn't end", waited(11, unfinished), 502, BACKEND),
        ("the backend closed its connection", late(lambda b: b.relay.backend_closed(b.now)), 502, GONE),
        ("the backend doesn't answer", late(lambda b: b.relay.give_up(b.now)), 504, ANSWERED),
        ("the client closed its connection", late(lambda b: b.relay.client_closed(b.now)), 0, LEFT),
        ("the client's connection broke", late(lambda b: b.relay.client_lost(b.now)), 0, LEFT),
    ),
    *of(
        "wire/hpack_block.py",
        (
            "the table was not reduced to what is allowed",
            replied(frame(Frame.HEADERS, 5, 1, b"\x88"), settings=((Setting.HEADER_TABLE_SIZE, 0),)), 502, BACKEND,
        ),
    ),
    *of("wire/huffman.py", ("the string ends inside a code, or holds EOS", block(b"\x00\x81\xff\x00"), 0, CLIENT)),
    *of(
        "wire/requests.py",
        ("has userinfo", asked([*GET[:3], (":authority", "u@a.test")]), 400, CLIENT),
        ("is not a host with an optional port", asked([*GET[:3], (":authority", "a/b")]), 400, CLIENT),
    ),
    # Budgets; all of their loops are provoked in tests/l7/test_meters.py.
    *of(
        "l7/meters.py",
        ("too many: *", sent(http2.ping(bytes(8)) * 2_100), 0, CLIENT),
        ("too many: *", replied(http2.ping(bytes(8)) * 2_100), 502, BACKEND),
        ("too many: *", raw_bytes(http2.ping(bytes(8)) * 2_100), 502, BACKEND),
    ),
]  # fmt: skip

ROWS = [
    *ADMISSION, *FIELDS, *REQUESTS, *HTTP1, *ANSWERS_1, *HTTP1_CONNECTION, *CLIENT_HTTP2, *TRANSLATE, *FRAMES,
    *FROM_CLIENT, *HEADER_LINK, *HPACK, *WIRE, *RELAY, *BRIDGE, *ELSEWHERE,
]  # fmt: skip
