"""The state of an HTTP/2 connection to a backend that carries one request at a time: its windows, and that request.

`Http2Connection` sends by it, `FromHttp2` judges what comes by it. Windows are ours here, not the client's: what has
been taken is given back, in large steps. Back-pressure is that nobody reads a backend whose client doesn't keep up, and
therefore a backend that sends more than its window allows gains nothing, and is not looked for.
"""

from typing import Final

from mcproxy.l7.bridge.bounds import WINDOW
from mcproxy.l7.bridge.ends import Takes
from mcproxy.l7.http2.backend_frames import ANY_LENGTH
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import DEFAULT_WINDOW, MAX_STREAM_ID, PREFACE, Piece, Setting, settings, window_update

_SETTINGS: list[tuple[int, int]] = [
    (Setting.ENABLE_PUSH, 0),
    (Setting.INITIAL_WINDOW_SIZE, WINDOW),
    (Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST),
]
OPENING: Final = PREFACE + settings(_SETTINGS) + window_update(0, WINDOW)  # RFC 9113, section 3.4


class Http2Stream:
    """A request and its answer (RFC 9113, section 5.1)."""

    __slots__ = (
        "answer_ended",
        "asks_tunnel",
        "id",
        "lacks",
        "method",
        "owed",
        "request_ended",
        "status",
        "window",
    )  # fmt: skip

    def __init__(self, stream_id: int, method: bytes, asks_tunnel: bool, window: int, ended: bool) -> None:
        self.id = stream_id
        self.method = method
        self.asks_tunnel = asks_tunnel  # an extended CONNECT (RFC 8441)
        self.window = window  # bytes that we may send; below 0 where SETTINGS took some back (section 6.9.2)
        self.owed = 0  # bytes that came, and that the backend's window lacks
        self.status = 0  # of the final head; 0 before it
        self.lacks = ANY_LENGTH  # bytes of the answer's body that are still to come
        self.request_ended = ended
        self.answer_ended = False

    def __repr__(self) -> str:
        return f"<Http2Stream {self.id} {self.method!r} {self.status}>"


class Http2Leg:
    """The state of the connection. Lengths are bytes."""

    __slots__ = (
        "initial", "last_id", "leaves", "max_streams", "next_id", "out", "owed", "stream", "tunnels",
        "window", "work",
    )  # fmt: skip

    def __init__(self) -> None:
        self.out: list[Piece] = [OPENING]  # for the backend
        self.stream: Http2Stream | None = None  # of the request that is under way
        self.next_id = 1  # of the next request
        self.last_id = MAX_STREAM_ID  # requests above it were not processed, says a GOAWAY
        self.leaves = False  # it takes no further request
        self.max_streams = 1  # at once: at least this one, until its SETTINGS say 0
        self.tunnels = Takes.LATER  # whether it takes an extended CONNECT; LATER: its SETTINGS have not come
        self.initial = DEFAULT_WINDOW  # of a new stream, for what we send
        self.window = DEFAULT_WINDOW  # of the connection, for what we send
        self.owed = 0  # that came, and that the backend's window for the connection lacks
        self.work = 0  # requests, and DATA frames either way, in this period; see TALK_FOR_WORK

    def __repr__(self) -> str:
        return f"<Http2Leg {self.stream!r}{' leaves' if self.leaves else ''}>"

    @property
    def greeted(self) -> bool:
        """Whether the backend's SETTINGS have come, which are the first that it sends (RFC 9113, section 3.4)."""
        return self.tunnels is not Takes.LATER

    def credit(self) -> None:
        """Open the connection's window again."""
        self.out.append(window_update(0, self.owed))
        self.owed = 0

    def credit_stream(self, stream: Http2Stream) -> None:
        """Open the window of a stream again."""
        self.out.append(window_update(stream.id, stream.owed))
        stream.owed = 0

    def forget(self) -> bool:
        """Forget the request. Returns whether it lacks an answer: one that waits for SETTINGS does, too."""
        stream, self.stream = self.stream, None
        if stream is None:
            return not self.greeted or not self.max_streams
        return not stream.answer_ended

    def covers(self, stream: Http2Stream) -> bool:
        """Whether no GOAWAY says that the stream was not processed."""
        return stream.id <= self.last_id
