"""One client connection of HTTP/2: its streams, what the client has been promised, and how both end.

The reader of frames changes the leg; the socket side takes what is in `out`. That list holds whole frames only, so that
the judge of either direction may append to it.
"""

from collections.abc import Callable
from typing import Final

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.admission import Admission, Refusal
from mcproxy.l7.http2.answers import answer, grpc_status
from mcproxy.l7.http2.budgets import HELD_OVERHEAD, Budget
from mcproxy.l7.http2.header_link import HeaderLink
from mcproxy.l7.http2.outlet import Outlet
from mcproxy.l7.http2.stream import ClosedStreams, Stream, StreamState
from mcproxy.l7.http2.windows import Windows
from mcproxy.wire.fields import Request
from mcproxy.wire.http2 import ErrorCode, Piece, goaway, rst_stream, window_update

ANSWERED: Final = ExchangeEnd.ANSWERED
DONE: Final = ExchangeEnd.DONE
OPEN: Final = StreamState.OPEN
CLOSED: Final = StreamState.CLOSED


class ClientLeg:
    """The state of a client connection. Times are seconds of the clock that the owner is given, lengths are bytes."""

    __slots__ = (
        "admission",
        "budget",
        "closed",
        "down",
        "ended",
        "now",
        "out",
        "outlet",
        "streams",
        "up",
        "windows",
    )  # fmt: skip

    def __init__(
        self, host: bytes, leads_here: Callable[[bytes], bool], up: HeaderLink, outlet: Outlet, now: float
    ) -> None:
        """`host` and `leads_here`: see Admission. `up` is the link that the outlet's heads come from."""
        self.now = now
        self.outlet = outlet
        self.out: list[Piece] = []  # frames for the client
        self.up = up  # the header blocks that the client sends
        self.down = HeaderLink()  # and those for it
        self.streams: dict[int, Stream] = {}
        self.ended: list[Stream] = []  # exchanges that are over and not recorded yet
        self.closed = ClosedStreams()
        self.windows = Windows()
        self.admission = Admission(host, leads_here)
        self.budget = Budget(now)

    def __repr__(self) -> str:
        return f"<ClientLeg {self.admission.host!r} {len(self.streams)} streams>"

    # Streams

    def finish(self, stream: Stream, end: ExchangeEnd = DONE, why: str = "") -> None:
        """The stream is over: forget it, and have it recorded. One that was reset is for the caller to remember.

        `why` is what went wrong, for the log. Nothing did if the answer was complete: only the rest of the request is
        cut short.
        """
        if stream.unwanted and not stream.held:
            end, why = DONE, ""
        del self.streams[stream.id]
        stream.state = CLOSED
        stream.ended = self.now
        stream.end = end
        if end is DONE:
            self.budget.done += 1
        else:
            stream.why = why
        if stream.held:
            self.windows.held_bytes -= sum(len(piece.payload) + HELD_OVERHEAD for piece in stream.held)
            self.outlet.dropped(sum(len(piece.payload) for piece in stream.held if not piece.trailers))
            stream.held = None
        if stream.upload is not None:
            self.credit(stream.upload.drop())
        self.ended.append(stream)

    def request_ended(self, stream: Stream) -> None:
        """END_STREAM came from the client."""
        stream.progress = self.now
        if stream.state is OPEN:
            stream.state = StreamState.CLIENT_ENDED
        else:
            self.finish(stream)

    def want_no_more(self, stream: Stream) -> None:
        """The backend has answered, and wants no more of the request: what still comes is judged, and ends here."""
        stream.unwanted = True
        upload, stream.upload = stream.upload, None
        if upload is not None:
            self.credit(upload.drop())
            if upload.ended:
                self.request_ended(stream)

    def answer_ended(self, stream: Stream) -> None:
        """END_STREAM goes to the client."""
        if stream.state is OPEN:
            stream.state = StreamState.BACKEND_ENDED
        else:
            self.finish(stream)

    def reset(self, stream: Stream, code: ErrorCode, end: ExchangeEnd, why: str) -> None:
        """End it with RST_STREAM."""
        self.out.append(rst_stream(stream.id, code))
        self.closed.reset_by_us(stream.id)
        self.finish(stream, end, why)

    def fail(self, stream: Stream, status: int, end: ExchangeEnd, why: str) -> None:
        """The backend can't complete it: an answer of ours where none has begun, else never a clean end."""
        if stream.unwanted and not stream.held:
            self.reset(stream, ErrorCode.NO_ERROR, DONE, "")  # its answer is complete
            return
        if stream.status:
            self.reset(stream, ErrorCode.INTERNAL_ERROR, end, why)
            return
        self.answer(stream, status, stream.client_ended, why)
        if end is ANSWERED:
            stream.backend_protocol = ""
        self.finish(stream, end, why)

    def fail_all(self, status: int, end: ExchangeEnd, why: str) -> None:
        """The backend is gone: every stream fails, and every new request gets this status."""
        self.admission.answer_all(status, why)
        for stream in list(self.streams.values()):
            self.fail(stream, status, end, why)

    def turn_away(self, stream_id: int, ended: bool, request: Request, refusal: Refusal) -> None:
        """Reset or answer a request that never becomes a stream, and have it recorded; `ended`: it has no body."""
        stream = Stream(stream_id, CLOSED, request, self.now, 0, 0)
        stream.ended = self.now
        stream.end, stream.why = refusal.end, refusal.reason
        stream.backend_protocol = ""
        if isinstance(refusal.outcome, ErrorCode):
            self.out.append(rst_stream(stream_id, refusal.outcome))
            self.closed.reset_by_us(stream_id)
        else:
            self.answer(stream, refusal.outcome, ended, refusal.reason)
        self.ended.append(stream)

    def answer(self, stream: Stream, status: int, ended: bool, why: str) -> None:
        """Send a whole answer of our own; `ended`: the request is complete. `why` is for clients of gRPC."""
        self.out.append(answer(stream.id, status, stream.request, self.down.prefix(), why))
        stream.status = status
        stream.grpc_status = grpc_status(status, stream.request)
        if not ended:
            self.out.append(rst_stream(stream.id, ErrorCode.NO_ERROR))  # section 8.1: the rest isn't needed
            self.closed.reset_by_us(stream.id)

    def owes_body(self, stream: Stream) -> bool:
        """Return whether it is the client's turn: the rest of a body of declared length may come."""
        if stream.upload is not None and stream.upload.waits:
            return False
        return stream.up_left > 0 and stream.state is OPEN and min(stream.up_window, self.windows.up) > 0

    def stalls(self, stream: Stream) -> bool:
        """A body of declared length doesn't come, though it may."""
        return self.is_stuck(stream) and self.owes_body(stream)

    def is_stuck(self, stream: Stream) -> bool:
        """Its request's body has not moved for long."""
        return self.now - stream.progress > BODY_STALL_SECONDS

    def unanswered(self, seconds: float) -> list[Stream]:
        """Return the streams that the backend has owed an answer's head for so long, the oldest first.

        A request's clock begins when it is complete, or when its body moved last.
        """
        found, now = [], self.now
        for stream in self.streams.values():  # in the order in which they began
            if now - stream.started < seconds:
                break
            if not stream.status and now - stream.progress >= seconds and not self.owes_body(stream):
                found.append(stream)
        return found

    # The connection

    def credit(self, size: int) -> None:
        """DATA of the client's was dropped here: give its connection window back (section 6.9)."""
        if size:
            self.windows.up += size
            self.out.append(window_update(0, size))

    def goaway(self, last_id: int, code: int, debug: bytes = b"") -> None:
        """Send GOAWAY; what was once refused stays refused (section 6.8)."""
        self.out.append(goaway(self.admission.offer(last_id), code, debug))

    def close(self, code: int, debug: bytes, end: ExchangeEnd, why: str) -> None:
        """The connection ends now, with GOAWAY, and its streams with it, for the reason `why`."""
        self.goaway(self.closed.last_id, code, debug)
        for stream in list(self.streams.values()):
            stream.upload = None  # or its window would be given back behind that
            self.finish(stream, end, why)
