"""HTTP/2 on one connection to a backend, one request at a time: what is sent. What comes, from_http2.py judges.

Requests need no dynamic table: a head's literals are made once (`RequestHead.block`), and the first block says that our
table is empty, so that no later setting of the backend's asks for more (RFC 7541, section 4.2).
"""

from typing import Final

from mcproxy.l7.bridge.bounds import MAX_UNSENT, SHORT_PIECE
from mcproxy.l7.bridge.ends import Answered, BackendConnection, BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.from_http2 import FromHttp2
from mcproxy.l7.bridge.heads import Forwarded, RequestHead, Upgrade
from mcproxy.l7.bridge.http2_leg import Http2Leg, Http2Stream
from mcproxy.l7.core import Turn
from mcproxy.l7.meters import Pace
from mcproxy.wire.hpack_block import CLEAR_TABLE, Field, encode
from mcproxy.wire.http2 import (
    HEADER,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    ErrorCode,
    Flag,
    Frame,
    Piece,
    frame_header,
    headers,
    rst_stream,
)

END_STREAM: Final = int(Flag.END_STREAM)
DATA: Final = int(Frame.DATA)
pack: Final = HEADER.pack


class Http2Connection(BackendConnection):
    """A `BackendConnection` (ends.py)."""

    __slots__ = ("_frames", "_other", "_reused", "leg", "out", "requests", "version")

    def __init__(self, now: float, reused: bool) -> None:
        self.leg = Http2Leg()
        self._frames = FromHttp2(self.leg, now)
        self._other = False  # the backend has refused the preface: it speaks another version
        self._reused = reused
        self.out = self.leg.out
        self.requests = 0
        self.version = "h2"

    def __repr__(self) -> str:
        return f"<Http2Connection requests={self.requests} {self.leg!r}>"

    @property
    def pace(self) -> Pace:
        """What small pieces of answers are counted by."""
        return self._frames.pace

    @property
    def reusable(self) -> bool:
        """Whether another request may begin."""
        leg = self.leg
        return leg.stream is None and not leg.leaves and leg.next_id <= MAX_STREAM_ID

    @property
    def processed(self) -> Processed:
        """Whether the request that is under way may have been processed."""
        stream = self.leg.stream
        if stream is None or self._other or not self.leg.covers(stream):
            return Processed.NO
        if not self.leg.greeted:
            return Processed.UNHEARD
        return Processed.UNKNOWN if self._reused or self.requests > 1 else Processed.POSSIBLY

    @property
    def half_closed(self) -> bool:
        """Never: a stream ends, not the connection."""
        return False

    # The request

    def takes(self, head: RequestHead) -> Takes:
        """Whether the request may begin. Only SETTINGS say whether a WebSocket may (RFC 8441, section 3)."""
        if not self.leg.max_streams:
            return Takes.LATER
        if head.upgrade is Upgrade.NONE:
            return Takes.NOW
        return self.leg.tunnels if head.upgrade is Upgrade.WEBSOCKET else Takes.NEVER

    def begin(self, head: RequestHead, forwarded: Forwarded, ended: bool) -> None:
        """Send a head. Raises BackendFault where another request is under way, or the connection takes none."""
        if not self.reusable:
            raise BackendFault("it takes no request")
        leg = self.leg
        stream_id = leg.next_id
        leg.next_id += 2
        leg.work += 1
        leg.stream = Http2Stream(stream_id, head.request.method, head.is_websocket, leg.initial, ended)
        block = head.block + forwarded.block
        self.out.append(headers(stream_id, block if self.requests else CLEAR_TABLE + block, ended))
        self.requests += 1

    def room(self, unsent: int) -> int:
        """Bytes of the body that the windows allow, and what waits for the socket."""
        stream = self.leg.stream
        if stream is None or stream.request_ended:
            return 0
        return max(0, min(stream.window, self.leg.window, MAX_UNSENT - unsent))

    def body(self, data: Piece) -> None:
        """Send a piece of the body, of at most `room` bytes. Raises BackendFault."""
        leg, out, size, start = self.leg, self.out, len(data), 0
        stream = leg.stream
        if stream is None or stream.request_ended:
            raise _takes_no_more()
        stream.window -= size
        leg.window -= size
        leg.work += -(-size // MAX_FRAME_SIZE)
        if size < SHORT_PIECE:
            out.append(pack(size >> 8, size & 0xFF, DATA, 0, stream.id) + data)
            return
        if size > MAX_FRAME_SIZE:
            data, full = memoryview(data), pack(MAX_FRAME_SIZE >> 8, 0, DATA, 0, stream.id)
            for start in range(MAX_FRAME_SIZE, size, MAX_FRAME_SIZE):
                out += (full, data[start - MAX_FRAME_SIZE : start])
            data = data[start:]
            size -= start
        out += (pack(size >> 8, size & 0xFF, DATA, 0, stream.id), data)

    def end(self, trailers: list[Field]) -> None:
        """Send the end. Raises BackendFault."""
        stream = self.leg.stream
        if stream is None or stream.request_ended:
            raise _takes_no_more()
        if trailers:
            self.out.append(headers(stream.id, encode(trailers), True))
        else:
            self.out.append(frame_header(0, DATA, END_STREAM, stream.id))
        stream.request_ended = True
        if stream.answer_ended:
            self.leg.stream = None

    def cancel(self) -> None:
        """Reset the stream, if it is not over."""
        stream, self.leg.stream = self.leg.stream, None
        if stream is not None:
            self.out.append(rst_stream(stream.id, ErrorCode.CANCEL))

    # The answer

    def express(self, data: bytes, now: float) -> bool:
        """Take WINDOW_UPDATEs, if that is all."""
        return self._frames.opens_windows(data, now)

    def receive(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Judge what came, as far as the turn goes. Returns the bytes taken. Raises BackendFault.

        OtherVersion is one. HTTP/2's preface is made so that no server of HTTP/1.1 reads on (RFC 9113, section 3.4).
        """
        try:
            return self._frames.judge(data, turn, exchange, now)
        except OtherVersion:
            self._other = True
            raise

    def closed(self, exchange: Answered | None, clean: bool) -> None:  # noqa: ARG002 - every answer has an end of its own
        """The connection is over, and with it a request that is under way, or waits for SETTINGS."""
        processed = self.processed
        self.leg.leaves = True
        if self.leg.forget() and exchange is not None and not exchange.over:
            exchange.on_lost("the backend closed its connection", processed)


def _takes_no_more() -> BackendFault:
    return BackendFault("it takes no more of the request")
