"""The client's end of one exchange over HTTP/2: a `ClientEnd` (ends.py) that is one stream.

A piece of a body waits for what comes next in the same event, so that the last one carries END_STREAM. An answer that
the client's window has no room for waits in the leg (../http2/flow.py). The window of the request's body opens again as
the backend takes it.
"""

from typing import Final, Protocol

from mcproxy.l7.bridge.ends import ClientEnd
from mcproxy.l7.bridge.heads import AnswerHead
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import CREDIT, MAX_HELD
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.flow import hold, send
from mcproxy.l7.http2.stream import Held, Stream, StreamState
from mcproxy.wire.hpack_block import Field, encode
from mcproxy.wire.http2 import ErrorCode, Piece, headers, window_update

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
BACKEND_ENDED: Final = StreamState.BACKEND_ENDED
CLOSED: Final = StreamState.CLOSED

OPEN: Final = StreamState.OPEN
CONTINUE: Final = encode([(b":status", b"100")])


class Streams(Protocol):
    """The streams of one client, for the ends of their exchanges."""

    __slots__ = ()

    unsent: list["StreamEnd"]  # ends with a piece that waits for the end of the event

    @property
    def leg(self) -> ClientLeg:
        """The leg that they are streams of."""

    def forget(self, stream: Stream, credit: int) -> None:
        """The stream's exchange is over; the connection's window still lacks `credit` bytes of its body."""


class StreamEnd(ClientEnd):
    """The client's end of one exchange (ends.py): one stream.

    A piece of a body waits for what comes next in the same event, so that the last one carries END_STREAM.
    """

    __slots__ = ("_broken", "_credit", "_last", "_stream", "_streams")

    must_read_on = False  # RST_STREAM says that the rest is not needed (RFC 9113, section 8.1)

    def __init__(self, streams: Streams, stream: Stream) -> None:
        self._streams = streams
        self._stream = stream
        self._last: Piece = b""  # the piece that waits
        self._credit = 0  # bytes of the request's body that went, and that the client's window lacks
        self._broken = False

    def __repr__(self) -> str:
        return f"<StreamEnd {self._stream!r}>"

    @property
    def has_room(self) -> bool:
        """Whether nothing of the answer waits for the client's window."""
        return not self._stream.held and self._streams.leg.windows.held_bytes <= MAX_HELD

    # The answer

    def interim(self, head: AnswerHead) -> None:
        """Write a 1xx head."""
        self._head(head.block)

    def invite(self) -> None:
        """Write our own 100 (Continue)."""
        self._head(CONTINUE)

    def _head(self, block: bytes, ended: bool = False) -> None:
        leg = self._streams.leg
        leg.out.append(headers(self._stream.id, leg.down.prefix() + block, ended))

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:  # noqa: ARG002 - the ClientEnd's
        """Write a final head."""
        stream = self._stream
        stream.status = head.status
        stream.head_at = self._streams.leg.now
        stream.grpc_status = head.grpc_status if empty else None
        self._head(head.block, empty)
        if empty:
            self._streams.leg.answer_ended(stream)

    def whole(self, head: AnswerHead, body: Piece) -> None:
        """Write a whole answer."""
        stream, leg = self._stream, self._streams.leg
        stream.status = head.status
        stream.head_at = leg.now
        stream.sent = len(body)
        leg.budget.work += 1
        self._head(head.block)
        send(leg, stream, body, last=True)

    def tunnel(self, head: AnswerHead) -> int:
        """Write that the tunnel is open (RFC 8441, section 5)."""
        fields = [field for field in head.fields if field[0] not in (b"sec-websocket-accept", b"content-length")]
        self._stream.status = 200
        self._head(encode([(b":status", b"200"), *fields]))
        return 200

    def body(self, data: Piece) -> None:
        """Write a piece, once it is known what follows."""
        if self._last:
            self._send(self._last, last=False)
        else:
            self._streams.unsent.append(self)
        self._last = data
        self._stream.sent += len(data)
        self._streams.leg.budget.work += 1

    def flush(self) -> None:
        """Nothing followed the piece that waits."""
        data, self._last = self._last, b""
        if data and self._stream.state is not CLOSED:
            self._send(data, last=False)

    def _send(self, data: Piece, last: bool) -> None:
        send(self._streams.leg, self._stream, data, last)

    def end(self, trailers: list[Field]) -> None:
        """Write the end."""
        stream = self._stream
        data, self._last = self._last, b""
        if stream.state in (CLOSED, BACKEND_ENDED):
            return  # with its head
        if not trailers:
            self._send(data, last=True)
            return
        if data:
            self._send(data, last=False)
        hold(self._streams.leg, stream, Held(encode(trailers), last=True, trailers=True))

    def own(self, status: int, last: bool, why: str) -> int:  # noqa: ARG002 - the ClientEnd's
        """Write a whole answer of our own, which has no body."""
        stream = self._stream
        self._streams.leg.answer(stream, status, stream.state is not OPEN, why)
        return 0

    def reset(self) -> None:
        """The answer broke off: `over` says so."""
        self._broken = True
        self._last = b""

    # The request

    def taken(self, size: int) -> None:
        """The backend has taken some of the body: open the windows again, in large steps."""
        self._credit += size
        stream, leg = self._stream, self._streams.leg
        if self._credit < CREDIT:
            return
        credit, self._credit = self._credit, 0
        leg.credit(credit)
        if stream.state is OPEN:
            stream.up_window += credit
            leg.out.append(window_update(stream.id, credit))

    def over(self, end: ExchangeEnd, why: str) -> None:
        """The exchange is over, and so is the stream, once its answer has gone."""
        streams, stream = self._streams, self._stream
        streams.forget(stream, self._credit)
        if stream.state is CLOSED:
            return
        if self._broken:
            streams.leg.reset(stream, ErrorCode.INTERNAL_ERROR, end, why)
        elif stream.held or stream.state is BACKEND_ENDED:
            # The answer goes on, or has gone. RST_STREAM says later that the rest of the request is not needed (RFC
            # 9113, section 8.1): right behind the answer, curl takes it for a failure of both.
            stream.unwanted = True
        else:
            streams.leg.finish(stream, end, why)
