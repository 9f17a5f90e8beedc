"""HTTP of both versions: heads beside h11, header blocks beside hpack, and whole connections whose backend is h2.

h2 checks every frame and every field that it gets, so a connection's invariant is: whatever a client sends, a backend
never gets what h2 refuses, and the core never raises.
"""

from collections.abc import Hashable
from contextlib import suppress

import h11
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from mcproxy.l7.relay.relay import Relay
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import (
    EMPTY_TABLE,
    CompressionFault,
    DynamicTable,
    HeaderBomb,
    decode,
    without_huffman,
)
from mcproxy.wire.http1 import Requests
from mcproxy.wire.http1_framing import BadMessage
from mcproxy.wire.http2 import PREFACE, Frame
from tests.fuzz.engine import Target
from tests.kit.bridge_playbook import Book
from tests.kit.http2_peer import GET, HOST, POST, CarelessBackend, Cutter, MemoryClient, Seen, frame
from tests.kit.inbox import Inbox

MAX_LIST, MAX_COUNT = 65_536, 256
Message = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bool]  # method, target, fields, body, whether whole


# Heads and bodies of HTTP/1.1


def ours(data: bytes, step: int = 0) -> Message | str | None:
    """The first message in our reading; the reason of a refusal; None: no head yet. `step`: so many bytes at a time."""
    requests, at, head = Requests(), 0, None
    body: list[bytes] = []
    ends = range(step, len(data) + step, step) if step else [len(data)]
    try:
        for end in ends:
            seen = data[at:end]
            if head is None:
                found = requests.next_head(seen)
                if found is None:
                    continue
                head, size = found
                at += size
                seen = data[at:end]
            while requests.in_message and seen:
                taken, _ = requests.next_body(seen, 1_000, body)
                if not taken:
                    break
                at += taken
                seen = data[at:end]
    except BadMessage as bad:
        return bad.why
    if head is None:
        return None
    whole = not requests.in_message
    fields = [*head.fields, *requests.trailers] if whole else list(head.fields)
    return head.method, head.target, fields, b"".join(body), whole


def h11_says(data: bytes) -> Message | str | None:
    """The same, as h11 reads it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 18)
    connection.receive_data(data.lstrip(b"\r\n"))  # RFC 9112, 2.2: empty lines before it; h11 knows none
    request: h11.Request | None = None
    fields: list[tuple[bytes, bytes]] = []
    body, whole = b"", False
    try:
        while not whole:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
            if isinstance(event, h11.Request):
                request, fields = event, list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                whole, fields = True, [*fields, *event.headers]
    except h11.RemoteProtocolError as error:
        return str(error)
    return (request.method, request.target, fields, body, whole) if request else None


_FRAMING = (b"transfer-encoding", b"content-length")
_ASCII = bytes(each if each < 0x80 else ord("x") for each in range(256))


def head(data: bytes) -> Hashable:
    """What we accept, h11 reads the same way; no cut of the bytes changes it."""
    found = ours(data)
    for step in (1, 7) if len(data) < 300 else (61,):
        pieces = ours(data, step)
        same = pieces == found or (isinstance(pieces, str) and isinstance(found, str))
        assert same, f"at once {found!a:.300}, {step} bytes at a time {pieces!a:.300}"
    if not isinstance(found, tuple):
        return found
    # We pass UTF-8 in a target, which h11 refuses.
    target = found[1]
    expected = h11_says(data.replace(target, target.translate(_ASCII), 1))
    if isinstance(expected, str) and not found[4]:
        return "h11 refuses before the end of a line"
    if isinstance(expected, str) and sum(name in _FRAMING for name, _ in found[2]) > 1:
        return "h11 judges such fields in trailers, which go no further here"
    assert isinstance(expected, tuple), f"h11 says {expected}; we read {found!a:.300}"
    method, target, fields, body, whole = found
    lowered = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields]  # h11 does that
    assert (method, target.translate(_ASCII), lowered, body, whole) == expected
    return len(method), len(fields), bool(body), whole


_HOST = b"Host: one.test\r\n"
HEAD = Target(
    "head",
    "HTTP/1.1 messages beside h11",
    head,
    [
        b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n",
        b"\r\nGET /a?b=c HTTP/1.1\r\n" + _HOST + b"X-A:  b \r\nX-B:\r\n\r\nGET",
        b"POST / HTTP/1.1\r\n" + _HOST + b"Content-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\n"
        + _HOST
        + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nGET",
        b"GET https://one.test:443/ HTTP/1.1\r\n" + _HOST + b"Connection: close, te\r\nTE: trailers\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"Expect: 100-continue\r\nUpgrade: websocket\r\n\r\n",
    ],
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"\0",
        b"\xff",
        b"+",
        b"-",
        b"0x",
        b";",
        b"1\r\na\r\n",
        b"5\r\n",
        b", ",
        b"chunked",
        b"GET ",
        b"http://",
    ],
)


# Header blocks


def block(data: bytes) -> Hashable:
    """Two blocks of a connection: read as hpack reads them, with the same table after each."""
    reference = Decoder(max_header_list_size=1 << 30)
    table, outcome = EMPTY_TABLE, ""
    first = data[0] if data else 0
    for each in (data[1 : 1 + first], data[1 + first :]):
        expected = _hpack_says(reference, each)
        try:
            decoded = decode(each, table, 4_096, 1 << 30, 1 << 30)
        except (CompressionFault, HeaderBomb) as fault:
            assert expected is None, f"we refuse ({fault}) what hpack reads as {expected!a:.300}"
            return outcome + str(fault)[:24]
        assert expected is not None, f"hpack refuses what we read as {decoded.fields!a:.300}"
        assert decoded.fields == expected
        _same_table(decoded.table, reference)
        _without_huffman(each, table, decoded.fields)
        with suppress(HeaderBomb):
            bounded = decode(each, table, 4_096, 200, 5)
            assert bounded.table.entries == decoded.table.entries, "what is kept of a list moves the table"
            assert len(bounded.fields) <= 5
        table = decoded.table
        outcome += f"{min(len(decoded.fields), 9)} fields, {min(len(table.entries), 9)} entries; "
    return outcome


def _hpack_says(reference: Decoder, data: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in reference.decode(data, raw=True)]
    except (HPACKError, IndexError):
        return None


def _same_table(table: DynamicTable, reference: Decoder) -> None:
    assert table.entries == tuple((bytes(n), bytes(v)) for n, v in reference.header_table.dynamic_entries)
    assert table.size == sum(len(n) + len(v) + 32 for n, v in table.entries)
    assert table.max_size == reference.header_table_size


def _without_huffman(data: bytes, table: DynamicTable, fields: list[tuple[bytes, bytes]]) -> None:
    work = without_huffman(data, 64, 1 << 30)
    try:
        while True:
            next(work)
    except StopIteration as done:
        assert decode(done.value, table, 4_096, 1 << 30, 1 << 30).fields == fields, (
            "it is another without Huffman codes"
        )


def _two(*lists: list[tuple[str, str]], huffman: bool = True) -> bytes:
    encoder = Encoder()
    blocks = [bytes(encoder.encode(each, huffman=huffman)) for each in lists]
    return bytes([min(255, len(blocks[0]))]) + b"".join(blocks)


BLOCK = Target(
    "block",
    "HPACK beside hpack",
    block,
    [
        _two(GET, GET),
        _two(POST, [*GET, ("x-a", "b" * 40), ("cookie", "a=b")]),
        _two(GET, GET, huffman=False),
        b"\1\x82\x84",
        b"\0\x20\x82",
        b"\3\x3f\xe1\x1f\x20\x3f\x21\x82",
        b"\5\x40\1a\1b\xbe\xbe",
    ],
    [
        b"\x82",
        b"\xbe",
        b"\xbf",
        b"\x40\1a\1b",
        b"\0\1a\1b",
        b"\x10\1a\1b",
        b"\x20",
        b"\x3f\xe1\x1f",
        b"\x41\x01c",
        b"\xff\x00",
        b"\x7f\x01",
        b"\x82\x1c\x64",
        b"\x80",
        b"\x3f\xff\xff",
    ],
)


# Whole connections


class Strict(CarelessBackend):
    """A backend that answers everything, beside which h2 reads all that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self.h2.initiate_connection()
        self.requests = 0
        self.gone = False

    def react(self, seen: Seen) -> bytes:
        if self.gone:
            return super().react(seen)
        if not self.seen:
            self.h2.receive_data(PREFACE)
        self.gone = seen.kind == Frame.GOAWAY  # h2 takes that for the end, RFC 9113, 6.8 doesn't
        for event in self.h2.receive_data(frame(seen.kind, seen.flags, seen.stream_id, seen.payload)):
            self.requests += isinstance(event, RequestReceived)
            if isinstance(event, StreamEnded):
                with suppress(StreamClosedError, ProtocolError):
                    self.h2.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
            elif isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        return super().react(seen)


def frames(data: bytes) -> Hashable:
    """What a client sends behind the preface; the backend is h2."""
    client = MemoryClient(backend := Strict())
    client.send(PREFACE + http2.settings([]) + data)
    client.now += 1.0
    client.relay.tick(client.now, 300.0)
    client.send(b"")
    client.relay.client_closed(client.now)
    client.send(b"")
    ended = client.records
    kinds = frozenset(seen.kind for seen in client.inbox)
    return (
        backend.requests,
        kinds,
        tuple(sorted({str(stream.end) for stream in ended if hasattr(stream, "end")})),
        client.closed,
    )


def answers(data: bytes) -> Hashable:
    """What a backend sends to a relay with three requests under way; the client can read every frame of it."""
    relay = Relay(HOST, "192.0.2.1", lambda host: False, 0.0)
    inbox, down = Inbox(relay.receive_from_client), Cutter()
    encoder = Encoder()
    asked = b"".join(http2.headers(stream, bytes(encoder.encode(GET)), True) for stream in (1, 3))
    upload = http2.headers(5, bytes(encoder.encode(POST)), False) + http2.data(5, b"hello")
    inbox.in_turns(PREFACE + http2.settings([]) + asked + upload, 0.0)
    relay.take_for_backend()
    down.feed(b"".join(relay.take_for_client()))
    Inbox(relay.receive_from_backend).in_turns(http2.settings([]) + data, 0.1)
    relay.tick(1.0, 300.0)
    relay.take_for_backend()
    seen = down.feed(b"".join(relay.take_for_client()))
    assert not down.tail, "half a frame"
    decoder = Decoder(max_header_list_size=1 << 30)
    ended: set[int] = set()
    heads: dict[int, list[bytes]] = {}
    for each in seen:
        assert each.stream_id in (0, 1, 3, 5), f"a frame on stream {each.stream_id}, which nobody opened"
        if each.kind == Frame.HEADERS and each.flags & 4:
            heads.setdefault(each.stream_id, []).append(
                bytes(dict(decoder.decode(each.payload, raw=True)).get(b":status", b""))
            )
        if each.kind in (Frame.HEADERS, Frame.DATA):
            assert each.stream_id not in ended, "something behind END_STREAM"
            assert each.kind == Frame.HEADERS or heads.get(each.stream_id), "DATA before a head"
        if each.ends or each.kind == Frame.RST_STREAM:
            ended.add(each.stream_id)
    return (
        tuple(sorted((stream, tuple(codes)) for stream, codes in heads.items())),
        frozenset(ended),
        frozenset(s.kind for s in seen),
    )


def bridge(data: bytes) -> Hashable:
    """What a client of HTTP/1.1 sends; the backend is h2 and answers each request."""
    book = Book()
    book.send(data)
    answered = 0
    while book.backends and answered < len(book.backend.ended) and book.bridge.ending is None:
        stream = book.backend.ended[answered]
        answered += 1
        with suppress(StreamClosedError):
            book.backend.h2.send_headers(stream, [(":status", "200"), ("content-length", "2")])
            book.backend.h2.send_data(stream, b"ok", end_stream=True)
        book.pump()
    statuses = _statuses(book.got(), data)
    heads = [dict(fields).get(":method", "") for fields in (f for each in book.backends for _, f in each.heads)]
    return tuple(statuses[:6]), len(heads), book.closing()


def _statuses(raw: bytes, data: bytes) -> list[bytes]:
    """The status of each answer, all of them well-formed as far as they go."""
    found = []
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!a:.200}"
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        assert words[0] == b"HTTP/1.1" and words[1].isdigit(), f"not a status line: {first!a:.200}"
        found.append(words[1])
        fields = dict(line.lower().split(b": ", 1) for line in lines)
        size = int(fields.get(b"content-length", b"0"))
        if size and not raw.startswith(b"HTTP/1.1"):  # HEAD has no body
            assert len(raw) >= size or b"HEAD" in data, "a short body"
            raw = raw[size:]
    return found


_BLOCK = bytes(Encoder().encode(GET))
_POST = bytes(Encoder().encode(POST))
_OK = bytes(Encoder().encode([(":status", "200"), ("content-length", "2")]))
_FRAMES = [
    http2.headers(1, _BLOCK, True),
    http2.headers(1, _POST, False) + http2.data(1, b"hello", True),
    http2.headers(1, _BLOCK, True) + http2.headers(3, _BLOCK, True) + http2.ping(b"12345678"),
    http2.headers(1, _POST, False)
    + http2.data(1, b"he")
    + http2.headers(1, bytes(Encoder().encode([("x-sum", "1")])), True),
    http2.headers(1, _BLOCK, True) + http2.rst_stream(1, 8),
    http2.settings([(1, 0), (4, 10)]) + http2.headers(1, _BLOCK, True),
    frame(Frame.HEADERS, 1, 1, _BLOCK[:5]) + frame(Frame.CONTINUATION, 4, 1, _BLOCK[5:]),
    http2.goaway(0, 0),
    http2.headers(1, _BLOCK, True) + http2.window_update(0, 100) + http2.window_update(1, 100),
    frame(Frame.HEADERS, 0x2D, 1, b"\2\0\0\0\0\x10" + _BLOCK + b"\0\0"),
    frame(Frame.PRIORITY, 0, 3, bytes(5)),
    http2.headers(1, bytes(Encoder().encode([(":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]])), False)
    + http2.data(1, b"x"),
]
_WORDS = [
    *(
        bytes([0, 0, size, kind, flags, 0, 0, 0, stream])
        for size in (0, 4, 8)
        for kind in range(10)
        for flags in (0, 5)
        for stream in (0, 1, 3)
    ),
    b"\0\0\0\x08",
    b"\x7f\xff\xff\xff",
    b"\0\4\0\0\0\0",
    b"\x82\x87\x84",
]
_ANSWERS = [
    http2.headers(1, _OK, False) + http2.data(1, b"ok", True),
    http2.headers(3, _OK, False) + http2.data(3, b"o") + http2.data(3, b"k", True),
    http2.headers(1, bytes(Encoder().encode([(":status", "103")])), False)
    + http2.headers(1, _OK, False)
    + http2.data(1, b"ok")
    + http2.headers(1, bytes(Encoder().encode([("x-sum", "1")])), True),
    http2.headers(1, bytes(Encoder().encode([(":status", "204")])), True),
    http2.rst_stream(1, 2) + http2.rst_stream(5, 0),
    http2.goaway(3, 0) + http2.headers(3, _OK, False) + http2.data(3, b"ok", True),
    http2.settings([(4, 100), (1, 0), (5, 20_000)]),
    http2.ping(b"12345678"),
    http2.window_update(5, 100) + http2.window_update(0, 1),
    frame(Frame.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + _OK),
    frame(0xFA, 0, 1, b"x"),
    frame(Frame.HEADERS, 0, 1, _OK[:2]) + frame(Frame.CONTINUATION, 4, 1, _OK[2:]) + frame(Frame.DATA, 9, 1, b"\1ok\0"),
]
FRAMES = Target("frames", "HTTP/2 of clients through the relay, whose backend is h2", frames, _FRAMES, _WORDS)
ANSWERS = Target("answers", "HTTP/2 of backends through the relay", answers, _ANSWERS, _WORDS)
BRIDGE = Target(
    "bridge",
    "HTTP/1.1 of clients through the bridge, whose backend is h2",
    bridge,
    [
        *(each.replace(b"\r\nGET", b"GET", 1) if each.startswith(b"\r\n") else each for each in HEAD.examples),
        b"GET /ws HTTP/1.1\r\n" + _HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n",
    ],
    HEAD.words,
)
