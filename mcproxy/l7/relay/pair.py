"""What both directions of the relay share: the streams, the windows, the settings, and what waits to be sent.

A pair is one client connection and the one backend connection behind it. `FromClient` and `FromBackend` read frames and
change the pair; the socket side takes what waits in `to_client` and `to_backend`. Both lists hold whole frames only, so
that either direction may add to either.
"""

from collections.abc import Callable
from enum import Enum

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.answers import answer
from mcproxy.l7.http2.budgets import EARLY_STREAMS, HELD_OVERHEAD, RESETS, Meter
from mcproxy.l7.http2.header_link import HeaderLink
from mcproxy.l7.http2.stream import ClosedStreams, Stream, StreamState
from mcproxy.wire.fields import NO_REQUEST, Request
from mcproxy.wire.http2 import (
    DEFAULT_WINDOW,
    MAX_STREAM_ID,
    ErrorCode,
    goaway,
    rst_stream,
    window_update,
)

DONE = ExchangeEnd.DONE


class BackendState(Enum):
    """Whether requests can be passed."""

    WANTED = "wanted"  # nobody has begun to dial it; what is for it waits
    DIALLING = "dialling"  # nothing was heard of it yet
    UP = "up"  # its SETTINGS have come
    GONE = "gone"  # never reached, or lost


class Pair:
    """The shared state. Times are seconds of the clock that the relay is given; windows and lengths are bytes."""

    def __init__(self, host: bytes, suffix: bytes, leads_here: Callable[[bytes], bool], now: float) -> None:
        self.host = host  # the connection's name
        self.suffix = suffix  # our own fields, as literals
        self.leads_here = leads_here  # does this host lead to the connection's route?
        self.now = now
        self.streams: dict[int, Stream] = {}
        self.ended: list[Stream] = []  # exchanges that are over and not recorded yet
        self.closed = ClosedStreams()
        self.to_client: list[bytes] = []
        self.to_backend: list[bytes] = []
        self.up = HeaderLink()
        self.down = HeaderLink()
        # Flow control (section 5.2): what the client may still send, and the backend.
        self.up_window = DEFAULT_WINDOW
        self.down_window = DEFAULT_WINDOW
        self.up_initial = DEFAULT_WINDOW
        self.down_initial = DEFAULT_WINDOW
        self.held_bytes = 0  # of all streams' `held`
        self.max_streams = EARLY_STREAMS  # the most that was ever announced and not taken back
        self.unchecked = EARLY_STREAMS  # the most that may be open without a closer look at each new one
        self.extended_connect = False  # the backend offers RFC 8441
        self.backend = BackendState.WANTED  # at once: its SETTINGS decide what we announce to the client
        self.backend_status = 502  # what requests get once it is GONE
        self.last_offered = MAX_STREAM_ID  # of our last GOAWAY: higher streams are not processed
        self.work = 0  # requests and DATA frames of this period; see TALK_FOR_WORK
        self.done = 0  # exchanges of this period that were completed
        self._resets = Meter(RESETS, "streams ended early", now)

    def __repr__(self) -> str:
        return f"<Pair {self.host!r} {len(self.streams)} streams, backend {self.backend.value}>"

    # The life of a stream

    def finish(self, stream: Stream, end: ExchangeEnd = DONE) -> None:
        """The stream is over: forget it, and have it recorded. One that was reset is for the caller to remember."""
        del self.streams[stream.id]
        stream.state = StreamState.CLOSED
        stream.ended = self.now
        stream.end = end
        if end is DONE:
            self.done += 1
        if stream.held:
            self.held_bytes -= sum(len(piece.payload) + HELD_OVERHEAD for piece in stream.held)
            self.credit_backend(sum(len(piece.payload) for piece in stream.held if not piece.trailers))
            stream.held = None
        self.ended.append(stream)

    def renew(self, now: float) -> None:
        """Begin a new period: work of long ago pays for nothing now."""
        self.work = self.done = 0
        self._resets.renew(now)

    def spend_reset(self) -> None:
        """One more stream that the client, or a fault of its, has ended early. Raises ConnectionFault."""
        if self._resets.spend(self.now, self.done):
            self.done = 0

    def reset(self, stream: Stream, code: ErrorCode, end: ExchangeEnd) -> None:
        """End it towards the client with RST_STREAM."""
        self.to_client.append(rst_stream(stream.id, code))
        self.closed.reset_by_us(stream.id)
        self.finish(stream, end)

    def fail(self, stream: Stream, status: int, end: ExchangeEnd) -> None:
        """The backend can't complete it: an answer of ours where none has begun, else never a clean end."""
        if stream.unwanted and not stream.held:
            self.reset(stream, ErrorCode.NO_ERROR, DONE)  # its answer is complete
            return
        if stream.status:
            self.reset(stream, ErrorCode.INTERNAL_ERROR, end)
            return
        self.to_client.append(answer(stream.id, status, stream.request, self.down.prefix()))
        if stream.state is StreamState.OPEN:
            self.to_client.append(rst_stream(stream.id, ErrorCode.NO_ERROR))  # section 8.1: the rest isn't needed
            self.closed.reset_by_us(stream.id)
        stream.status = status
        self.finish(stream, end)

    def answer(self, stream_id: int, ended: bool, status: int, request: Request | None) -> None:
        """Answer a request that never became a stream of the backend's."""
        self.to_client.append(answer(stream_id, status, request, self.down.prefix()))
        if not ended:
            self.to_client.append(rst_stream(stream_id, ErrorCode.NO_ERROR))
            self.closed.reset_by_us(stream_id)
        stream = Stream(stream_id, StreamState.CLOSED, request or NO_REQUEST, self.now, 0, 0)
        stream.status = status
        stream.ended = self.now
        stream.end = ExchangeEnd.ANSWERED
        self.ended.append(stream)

    def refuse(self, stream_id: int) -> None:
        """Tell the client that it was not processed and may be repeated (section 8.7)."""
        self.to_client.append(rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
        self.closed.reset_by_us(stream_id)

    def client_ended(self, stream: Stream) -> None:
        """END_STREAM came from the client."""
        if stream.state is StreamState.OPEN:
            stream.state = StreamState.CLIENT_ENDED
        else:
            self.finish(stream)

    def backend_ended(self, stream: Stream) -> None:
        """END_STREAM came from the backend."""
        if stream.state is StreamState.OPEN:
            stream.state = StreamState.BACKEND_ENDED
        else:
            self.finish(stream)

    # The life of the connection

    def allow_streams(self, count: int) -> None:
        """So many may be open at once."""
        self.max_streams = count
        self.unchecked = 0 if self.backend is BackendState.GONE or self.last_offered != MAX_STREAM_ID else count

    def credit_client(self, size: int) -> None:
        """DATA of the client's was dropped here: its connection window is ours to give back (section 6.9)."""
        if size:
            self.up_window += size
            self.to_client.append(window_update(0, size))

    def credit_backend(self, size: int) -> None:
        """The same for DATA of the backend's, which never counted against the client's window."""
        if size:
            self.to_backend.append(window_update(0, size))

    def goaway(self, last_id: int, code: int, debug: bytes = b"") -> None:
        """GOAWAY for the client; what was once refused stays refused (section 6.8)."""
        self.last_offered = min(last_id, self.last_offered)
        self.allow_streams(self.max_streams)
        self.to_client.append(goaway(self.last_offered, code, debug))

    def close(self, code: int, debug: bytes, end: ExchangeEnd) -> None:
        """The client's connection ends now, with GOAWAY, and its streams with it."""
        self.goaway(self.closed.last_id, code, debug)
        for stream in list(self.streams.values()):
            self.finish(stream, end)

    def lose_backend(self, status: int, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        """The backend was not reached, or has gone: every stream fails, and the client is asked to come again."""
        if self.backend is BackendState.GONE:
            return
        self.backend = BackendState.GONE
        self.unchecked = 0
        self.backend_status = status
        self.to_backend.clear()
        for stream in list(self.streams.values()):
            self.fail(stream, status, end)
