"""One exchange: a stream in RFC 9113's sense (section 5.1), and its line in the access log once it has ended."""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import REMEMBERED_RESETS
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import MAX_FRAME_SIZE, Piece

DONE: Final = ExchangeEnd.DONE  # named once: CONTRIBUTING says why
MAX_KEPT: Final = 5  # times the length of a piece that waits, of what was read with it: full frames of usual reads
REMEMBERED_GAPS: Final = 16  # ranges of skipped identifiers; beyond, an old gap is reported as a closed stream


class StreamState(Enum):
    """Section 5.1, seen from the relay. An idle stream, and a closed one, have no `Stream`."""

    OPEN = "open"  # both may send
    CLIENT_ENDED = "client ended"  # the request is complete: half-closed (remote)
    BACKEND_ENDED = "backend ended"  # the answer is complete, the request is not: half-closed (local)
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Held:
    """A piece of an answer that waits for the client's window: DATA, or trailers."""

    payload: Piece  # of DATA, else the encoded trailers
    last: bool  # END_STREAM
    trailers: bool = False


class Upload:
    """A request's body on its way to a backend that has windows of its own. Lengths are bytes."""

    __slots__ = ("ended", "grown", "held", "owed", "trailers", "waiting")

    def __init__(self) -> None:
        self.grown = 0  # by how much the backend's window for the stream has grown, less what was sent
        self.owed = 0  # that went, and that the client's window for the stream lacks
        self.waiting: deque[Piece] = deque()
        self.held = 0  # in that
        self.ended = False  # the end of the request waits, too
        self.trailers = b""  # encoded, before that

    def __repr__(self) -> str:
        return f"<Upload held={self.held}{' ended' if self.ended else ''}>"

    @property
    def waits(self) -> bool:
        """Whether anything is still to be sent."""
        return self.ended or self.held > 0

    def hold(self, buf: bytes, start: int, end: int, last: bool) -> None:
        """Keep a piece of what was read. Small ones are joined, so that many take no more room than their bytes."""
        waiting, size = self.waiting, end - start
        self.ended = last
        self.held += size
        if waiting and len(waiting[-1]) + size <= MAX_FRAME_SIZE:
            waiting[-1] = b"".join((waiting[-1], memoryview(buf)[start:end]))
        elif size:
            waiting.append(memoryview(buf)[start:end] if MAX_KEPT * size >= len(buf) else buf[start:end])

    def next_piece(self, most: int) -> Piece:
        """Take a piece of at most so many bytes; b"" is the end."""
        waiting = self.waiting
        if not waiting:
            return b""
        piece = waiting.popleft()
        if len(piece) > most:
            view = memoryview(piece)
            waiting.appendleft(_light(view[most:]))
            piece = view[:most]
        self.held -= len(piece)
        return piece

    def drop(self) -> int:
        """Forget what waits, but for the end. Returns how many bytes that was."""
        dropped, self.held = self.held, 0
        self.waiting.clear()
        return dropped


def _light(view: memoryview) -> Piece:
    """Return a piece as it is, or copied where it would keep a multiple of itself: all that it is a view of."""
    return view if MAX_KEPT * len(view) >= memoryview(view.obj).nbytes else bytes(view)


class Stream:
    """A live exchange."""

    __slots__ = (
        "backend_protocol",
        "down_left",
        "down_window",
        "end",
        "ended",
        "grpc_status",
        "head_at",
        "held",
        "id",
        "interim",
        "method",
        "progress",
        "received",
        "request",
        "reused",
        "sent",
        "started",
        "state",
        "status",
        "unwanted",
        "up_left",
        "up_window",
        "upload",
        "why",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, state: StreamState, request: Request, now: float, up_window: int, down_window: int
    ) -> None:
        self.id = stream_id
        self.state = state
        self.request = request
        self.method = request.method
        self.started = now  # seconds, of the clock that the relay is given
        self.up_window = up_window  # bytes that the client may still send
        self.down_window = down_window  # bytes that the backend may still send
        self.up_left = request.content_length  # bytes that the body still lacks; below 0: no length was declared
        self.upload: Upload | None = None  # None: none of the body has come, or the backend knows no windows
        self.down_left = -1  # the same of the answer's
        self.progress = now  # when the request's body last grew, or ended
        self.status = 0  # of the final answer; 0 before it
        self.interim = 0  # heads before that
        self.received = 0  # of bodies, without padding
        self.sent = 0
        self.held: deque[Held] | None = None  # what came beyond the client's window
        self.unwanted = False  # the backend has answered and reset it: what still comes is judged, and ends here
        self.ended = 0.0
        self.end = DONE
        self.why = ""  # it ended so, if anything went wrong
        self.grpc_status: int | None = None  # of the answer; None: it is not gRPC's
        self.head_at = 0.0  # when the answer's final head came
        # Plain values, for each is read twice when the exchange is recorded. These are the relay's.
        self.backend_protocol = "h2"  # in which it went to the backend; "": it didn't, or we answered instead
        self.reused = stream_id > 1  # its connection to the backend had carried another request before

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.value} {self.method!r} {self.request.path!r} {self.status}>"

    @property
    def client_ended(self) -> bool:
        """Whether the request is complete, though its end may still wait here."""
        return self.state is StreamState.CLIENT_ENDED or (self.upload is not None and self.upload.ended)


def asked_by(fields: list[Field]) -> Request:
    """Return what the log shows of a request whose head has a fault: its target, as far as it has one."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found.setdefault(name, value)
    authority = found.get(b":authority", found.get(b"host", b""))
    return Request(found.get(b":method", b""), authority, b"", found.get(b":path", b""))


class Closed(Enum):
    """The reason why an identifier has no `Stream`; decides what a frame for it means (section 5.1)."""

    IDLE = "idle"  # not used yet
    SKIPPED = "skipped"  # closed because a higher one was used first (section 5.1.1)
    RESET_BY_CLIENT = "reset by the client"
    RESET_BY_US = "reset by us"  # or by the backend: late frames of the client are expected
    ENDED = "ended"  # both sides ended it


class ClosedStreams:
    """Remembers identifiers that were used. Bounded: the oldest is forgotten first, and counts as ENDED."""

    __slots__ = ("_by_client", "_by_us", "_gaps", "last_id")

    def __init__(self) -> None:
        self.last_id = 0  # the highest that the client has used
        self._by_client: dict[int, None] = {}
        self._by_us: dict[int, None] = {}
        self._gaps: deque[tuple[int, int]] = deque(maxlen=REMEMBERED_GAPS)

    def __repr__(self) -> str:
        resets = f"{len(self._by_client)} reset by the client, {len(self._by_us)} by us"
        return f"<ClosedStreams up to {self.last_id}, {resets}>"

    def use(self, stream_id: int) -> None:
        """A new stream begins."""
        if stream_id > self.last_id + 2:
            self._gaps.append((self.last_id, stream_id))
        self.last_id = stream_id

    def reset_by_client(self, stream_id: int) -> None:
        """The client cancelled it."""
        self._remember(self._by_client, stream_id)

    def reset_by_us(self, stream_id: int) -> None:
        """We or the backend ended it while the client may still be sending."""
        self._remember(self._by_us, stream_id)

    def why(self, stream_id: int) -> Closed:
        """Return the reason for an identifier without a stream."""
        if stream_id > self.last_id or not stream_id & 1:
            return Closed.IDLE
        if stream_id in self._by_us:
            return Closed.RESET_BY_US
        if stream_id in self._by_client:
            return Closed.RESET_BY_CLIENT
        if any(low < stream_id < high for low, high in self._gaps):
            return Closed.SKIPPED
        return Closed.ENDED

    @staticmethod
    def _remember(where: dict[int, None], stream_id: int) -> None:
        if len(where) >= REMEMBERED_RESETS:
            del where[next(iter(where))]
        where[stream_id] = None
