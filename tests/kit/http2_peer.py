"""A raw HTTP/2 client for scripted cases, and a backend that checks nothing, both around a `Relay` in memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from hpack import Encoder

from mcproxy.l7.http2.stream import Stream
from mcproxy.l7.relay.relay import Relay
from mcproxy.wire import http2
from mcproxy.wire.http2 import HEADER, PREFACE, ErrorCode, Frame
from tests.kit.inbox import Inbox

HOST = "a.test"
GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", f"{HOST}:443")]
POST = [(":method", "POST"), *GET[1:]]


@dataclass(frozen=True)
class Seen:
    """A frame as it was received."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        start = 4 if self.kind == Frame.GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")

    @property
    def ends(self) -> bool:
        return self.kind in (Frame.DATA, Frame.HEADERS) and bool(self.flags & 1)


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    return http2.frame_header(len(payload), kind, flags, stream_id) + payload


class Cutter:
    """Bytes to frames, without any check."""

    def __init__(self) -> None:
        self.tail = b""

    def feed(self, data: bytes) -> list[Seen]:
        buf = self.tail + data
        out = []
        while len(buf) >= 9:
            high, low, kind, flags, stream_id = HEADER.unpack_from(buf)
            end = 9 + (high << 8 | low)
            if len(buf) < end:
                break
            out.append(Seen(kind, flags, stream_id, buf[9:end]))
            buf = buf[end:]
        self.tail = buf
        return out


class CarelessBackend:
    """Answers every header block at once, whatever it says; keeps to no window; checks nothing."""

    def __init__(self, body: bytes = b"hello world") -> None:
        self.body = body
        self.cutter = Cutter()
        self.encoder = Encoder()
        self.greeted = False
        self.answered: set[int] = set()
        self.seen: list[Seen] = []

    def receive(self, data: bytes) -> bytes:
        if not self.greeted and data:
            assert data.startswith(PREFACE)
            data = data[len(PREFACE) :]
            self.greeted = True
            return http2.settings([]) + self.receive(data)
        return b"".join(self.react(seen) for seen in self.cutter.feed(data))

    def react(self, seen: Seen) -> bytes:
        self.seen.append(seen)
        if seen.kind == Frame.SETTINGS and not seen.flags & 1:
            return http2.SETTINGS_ACK
        if seen.kind == Frame.PING and not seen.flags & 1:
            return http2.ping(seen.payload, ack=True)
        if seen.kind in (Frame.HEADERS, Frame.CONTINUATION) and seen.flags & 4 and seen.stream_id not in self.answered:
            self.answered.add(seen.stream_id)
            block = self.encoder.encode([(":status", "200"), ("content-length", str(len(self.body)))])
            return http2.headers(seen.stream_id, block) + http2.data(seen.stream_id, self.body, end_stream=True)
        return b""


class MemoryClient:
    """A raw client whose connection is a `Relay` in memory. `wait` never waits: all that will come has come."""

    def __init__(self, backend: CarelessBackend | None = None) -> None:
        self._records: list[Stream] = []
        self.relay = Relay(HOST, "192.0.2.1", lambda host: host == b"b.test", 0.0)
        self._from_client = Inbox(self.relay.receive_from_client)
        self._from_backend = Inbox(self.relay.receive_from_backend)
        self.backend = backend or CarelessBackend()
        self.cutter = Cutter()
        self.encoder = Encoder()
        self.inbox: list[Seen] = []
        self.now = 0.0

    @property
    def records(self) -> list[Stream]:
        """All exchanges that have ended."""
        self._records += self.relay.take_ended()
        return self._records

    # The transport

    def send(self, data: bytes) -> None:
        self._from_client.in_turns(data, self.now)
        while True:
            up = b"".join(self.relay.take_for_backend())
            self.inbox += self.cutter.feed(b"".join(self.relay.take_for_client()))
            if not up:
                return
            self._from_backend.in_turns(self.backend.receive(up), self.now)

    def wait(self) -> Seen | None:
        """The next frame; None: the connection was closed, or nothing more comes."""
        return self.inbox.pop(0) if self.inbox else None

    @property
    def closed(self) -> bool:
        return self.relay.ending is not None

    # What a client says

    def block(self, fields: Iterable[tuple[str, str]]) -> bytes:
        return bytes(self.encoder.encode(list(fields)))

    def settings(self, *pairs: tuple[int, int]) -> None:
        self.send(http2.settings(list(pairs)))

    def handshake(self) -> None:
        self.send(PREFACE + http2.settings([(4, 65_535)]))
        got = [self.find(Frame.SETTINGS), self.find(Frame.SETTINGS)]
        assert [seen.flags for seen in got if seen] == [0, 1]
        self.send(http2.SETTINGS_ACK)

    def request(self, stream_id: int = 1, fields: Iterable[tuple[str, str]] = GET, end: bool = True) -> None:
        self.send(http2.headers(stream_id, self.block(fields), end))

    # What it expects

    def find(self, kind: int, stream_id: int | None = None) -> Seen | None:
        """The next frame of that type; those before it are dropped."""
        while (seen := self.wait()) is not None:
            if seen.kind == kind and stream_id in (None, seen.stream_id):
                return seen
        return None

    def expect_connection_error(self, *codes: ErrorCode) -> None:
        goaway = self.find(Frame.GOAWAY)
        assert goaway is not None
        assert goaway.code in codes
        assert self.closed

    def expect_stream_error(self, *codes: ErrorCode) -> None:
        reset = self.find(Frame.RST_STREAM)
        assert reset is not None
        assert reset.code in codes
        assert not self.closed

    def expect_answer(self) -> Seen:
        """A whole answer; returns its head."""
        head = self.find(Frame.HEADERS)
        assert head is not None
        last: Seen | None = head
        while last is not None and not last.ends:
            last = self.wait()
        assert last is not None
        return head

    def expect_ping(self, payload: bytes = b"conform!") -> None:
        """The connection lives."""
        self.send(http2.ping(payload))
        got = self.find(Frame.PING)
        while got is not None and got.payload != payload:
            got = self.find(Frame.PING)
        assert got is not None
        assert got.flags == 1
