"""One request of an HTTP/1.1 client and its answer, while they last.

What it shows of itself is what the HTTP/2 side's `Stream` shows, so that one access log serves both.
"""

from collections import deque

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.bounds import BODY_GRACE_SECONDS, MAX_REPLAY, MAX_UNREAD, MIN_BODY_RATE
from mcproxy.l7.bridge.translate import Translated, Upgrade
from mcproxy.l7.core import StreamEnd
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import Field


class Exchange:
    """A live request. Times are seconds of the clock that the bridge is given."""

    __slots__ = (
        "_translated", "answer_ended", "answer_trailers", "answered", "attempts", "bytes_down", "bytes_up", "dials",
        "dropped", "end", "ended", "expecting", "id", "interim", "method", "progress", "replay", "replay_bytes",
        "replayable", "request", "request_ended", "sent_end", "started", "status", "stream", "trailers", "waiting",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, number: int, method: bytes, request: Request, now: float) -> None:
        self.id = number  # of the connection's requests, from 1
        self.method = method  # the client's; request.method is the backend's
        self.request = request
        self._translated: Translated | None = None  # until it is known to be a request
        self.started = self.progress = now
        self.ended = 0.0
        self.status = 0  # of the final answer; 0: not begun
        self.end = StreamEnd.DONE
        self.bytes_up = 0  # of bodies
        self.bytes_down = 0
        self.stream = 0  # on the backend's connection; 0: none yet
        self.attempts = 0
        self.dials = 0  # connections made for it, be it ever sent or not
        self.waiting: deque[bytes] = deque()  # of the body: decoded, not sent
        self.waiting_bytes = 0
        self.dropped = 0  # of its bytes
        self.replay: list[bytes] = []  # of the body: sent, and kept for a second attempt
        self.replay_bytes = 0
        self.replayable = True
        self.request_ended = False  # all of it has come
        self.sent_end = False  # and gone
        self.trailers: list[Field] = []
        self.answered = False  # its final head has gone to the client
        self.answer_ended = False
        self.answer_trailers: list[Field] = []
        self.interim = 0  # heads so far
        self.expecting = False  # the client waits for 100

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.method!r} {self.request.path!r} {self.status}>"

    def accept(self, translated: Translated) -> None:
        """It is a request."""
        self._translated = translated
        self.request = translated.request
        self.expecting = translated.expects_continue

    @property
    def fields(self) -> tuple[Field, ...]:
        """For the backend."""
        return self._translated.fields if self._translated else ()

    @property
    def is_websocket(self) -> bool:
        """Whether it is to become a tunnel."""
        return self._translated is not None and self._translated.upgrade is Upgrade.WEBSOCKET

    @property
    def key(self) -> bytes:
        """Sec-WebSocket-Key."""
        return self._translated.key if self._translated else b""

    @property
    def takes_interim(self) -> bool:
        """Whether the client knows 1xx (RFC 9110, section 15.2: HTTP/1.0 does not)."""
        return self._translated is not None and self._translated.is_1_1

    @property
    def has_more(self) -> bool:
        """Whether something follows its head on the backend's stream."""
        return bool(self.waiting or self.trailers) or self.is_websocket

    @property
    def leaves_much_unread(self) -> bool:
        """Whether its client had better not send the rest of its body, where that is not wanted any more."""
        if self.request_ended:
            return False
        # Whoever still waits for 100 may now send the body, or not: nobody can tell.
        return self.expecting or max(self.request.content_length - self.bytes_up, self.dropped) > MAX_UNREAD

    def drop(self) -> None:
        """Forget what has come of the body."""
        self.dropped += self.waiting_bytes
        self.waiting.clear()
        self.waiting_bytes = 0

    def is_slow(self, now: float) -> bool:
        """Whether the client takes too long over its body."""
        if self.waiting_bytes:
            self.progress = now  # it is the backend that doesn't take it
            return False
        age = now - self.started - BODY_GRACE_SECONDS
        if self.request.content_length >= 0 and self.bytes_up < age * MIN_BODY_RATE:
            return True
        return now - self.progress > BODY_STALL_SECONDS

    def wait(self, data: bytes) -> None:
        """A piece of the body has come."""
        self.waiting.append(data)
        self.waiting_bytes += len(data)
        self.bytes_up += len(data)

    def next_piece(self, room: int) -> bytes:
        """Take a piece of what waits, of at most `room` bytes, and keep a copy as long as that is allowed."""
        piece = self.waiting.popleft()
        if len(piece) > room:
            self.waiting.appendleft(piece[room:])
            piece = piece[:room]
        self.waiting_bytes -= len(piece)
        self.replay_bytes += len(piece)
        if self.replayable and self.replay_bytes <= MAX_REPLAY:
            self.replay.append(piece)
        else:
            self.keep_no_more()
        return piece

    def keep_no_more(self) -> None:
        """There will be no second attempt."""
        self.replayable = False
        self.replay.clear()

    def again(self) -> None:
        """Back to where nothing has been sent."""
        self.waiting.extendleft(reversed(self.replay))
        self.waiting_bytes += self.replay_bytes
        self.replay.clear()
        self.replay_bytes = 0
        self.stream = 0
        self.sent_end = self.answer_ended = False
