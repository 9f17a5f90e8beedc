"""A request on its way to a backend: its head, what waits of its body, and what is kept for a second attempt."""

from collections import deque
from enum import Enum

from mcproxy.l7.bridge.bounds import MAX_REPLAY
from mcproxy.wire.hpack_block import Field


class Going(Enum):
    """How far the request has gone."""

    UNSENT = "unsent"  # no stream carries it
    OPEN = "open"  # its head has gone, and more may follow
    OVER = "over"  # its end has gone
    LET_GO = "let go"  # nothing more is to go, and nothing to come


class Outgoing:
    """A request, as a backend's end of an exchange needs it."""

    __slots__ = (
        "_kept", "_kept_bytes", "attempts", "complete", "dials", "dropped", "fields", "is_safe", "is_websocket",
        "received", "replayable", "state", "stream", "trailers", "waiting", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, fields: tuple[Field, ...] = (), *, is_safe: bool = False, is_websocket: bool = False) -> None:
        self.fields = fields
        self.is_safe = is_safe  # its method is (RFC 9110, section 9.2.1)
        self.is_websocket = is_websocket
        self.state = Going.UNSENT
        self.stream = 0  # on the backend's connection; 0: none yet
        self.attempts = 0
        self.dials = 0  # connections made for it, whether it was ever sent or not
        self.complete = False  # all that is ever to go is here, or has gone
        self.trailers: list[Field] = []
        self.waiting: deque[bytes] = deque()  # of the body, and not sent
        self.waiting_bytes = 0
        self.received = 0  # bytes of the body, ever
        self.dropped = 0  # of these, for nobody
        self.replayable = True
        self._kept: list[bytes] = []  # of the body: sent, and kept for a second attempt
        self._kept_bytes = 0

    def __repr__(self) -> str:
        return f"<Outgoing {self.state.value} stream={self.stream} waiting={self.waiting_bytes}>"

    def add(self, data: bytes) -> None:
        """A piece of the body has come."""
        self.waiting.append(data)
        self.waiting_bytes += len(data)
        self.received += len(data)

    def drop(self) -> None:
        """Forget what has come of the body and not gone."""
        self.dropped += self.waiting_bytes
        self.waiting.clear()
        self.waiting_bytes = 0

    def next_piece(self, room: int) -> bytes:
        """Take a piece of what waits, of at most `room` bytes, and keep a copy as long as that is allowed."""
        piece = self.waiting.popleft()
        if len(piece) > room:
            self.waiting.appendleft(piece[room:])
            piece = piece[:room]
        self.waiting_bytes -= len(piece)
        self._kept_bytes += len(piece)
        if self.replayable and self._kept_bytes <= MAX_REPLAY:
            self._kept.append(piece)
        else:
            self.keep_no_more()
        return piece

    def keep_no_more(self) -> None:
        """There will be no second attempt."""
        self.replayable = False
        self._kept.clear()

    def rewind(self) -> None:
        """Go back to where nothing has been sent."""
        self.waiting.extendleft(reversed(self._kept))
        self.waiting_bytes += self._kept_bytes
        self._kept.clear()
        self._kept_bytes = 0
        self.stream = 0
        self.state = Going.UNSENT
