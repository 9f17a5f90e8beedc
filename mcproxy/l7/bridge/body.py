"""A request's body on its way to the backend: the bytes that wait, and those that are kept for a second attempt."""

from collections import deque

from mcproxy.l7.bridge.bounds import MAX_REPLAY
from mcproxy.wire.http2 import Piece


class Body:
    """The buffer between a client that sends a body and a backend that takes it."""

    __slots__ = (
        "_kept",
        "_kept_bytes",
        "_waiting",
        "asked",
        "dropped",
        "moved",
        "progress",
        "received",
        "replayable",
        "waiting_bytes",
    )

    def __init__(self, now: float) -> None:
        self.moved = now  # when it last grew, or ended: seconds of the bridge's clock
        self.progress = now  # when it last grew, or could not
        self.asked = now  # since when the client knows that it may send it, as far as that is known
        self._waiting: deque[Piece] = deque()  # received and not sent
        self.waiting_bytes = 0
        self.received = 0  # bytes in all
        self.dropped = 0  # bytes of these that were not sent, because nobody needed them
        self.replayable = True  # a second attempt can send all of it
        self._kept: list[bytes] = []  # sent, and kept for a second attempt
        self._kept_bytes = 0

    def __repr__(self) -> str:
        return f"<Body received={self.received} waiting={self.waiting_bytes}>"

    def client_lags(self, now: float) -> None:
        """The client still takes what it was sent before, a 100 among that perhaps."""
        self.progress = self.asked = now

    def add(self, data: Piece) -> None:
        """Queue a piece that the client sent; of a view, `settle` follows."""
        self._waiting.append(data)
        self.waiting_bytes += len(data)
        self.received += len(data)

    def drop(self) -> None:
        """Forget the bytes that wait."""
        self.dropped += self.waiting_bytes
        self._waiting.clear()
        self.waiting_bytes = 0

    def next_piece(self, room: int) -> Piece:
        """Take what waits, at most `room` bytes, and keep a copy as long as MAX_REPLAY allows.

        What is cut is a view: a backend's window may be a small part of what was read at once. Frames of a client are
        joined: to frame each of them once more would cost more.
        """
        piece = self._next(room)
        if self._waiting and len(piece) < room:
            pieces, left = [piece], room - len(piece)
            while self._waiting and left > 0:
                pieces.append(self._next(left))
                left -= len(pieces[-1])
            piece = b"".join(pieces)
        self.waiting_bytes -= len(piece)
        if self.replayable:
            self._keep(piece)
        return piece

    def _next(self, room: int) -> Piece:
        piece = self._waiting.popleft()
        if len(piece) > room:
            view = memoryview(piece)
            self._waiting.appendleft(view[room:])
            piece = view[:room]
        return piece

    def settle(self) -> None:
        """Copy what still waits, if it has reads kept that are more than twice as large."""
        kept = {id(piece.obj): memoryview(piece.obj).nbytes for piece in self._waiting if isinstance(piece, memoryview)}
        if sum(kept.values()) > 2 * self.waiting_bytes:
            self._waiting = deque([b"".join(self._waiting)])

    def _keep(self, piece: Piece) -> None:
        """Keep a copy of a piece that is sent, as long as MAX_REPLAY allows."""
        self._kept_bytes += len(piece)
        if self._kept_bytes <= MAX_REPLAY:
            self._kept.append(bytes(piece))
        else:
            self.keep_no_more()

    def keep_no_more(self) -> None:
        """Rule out a second attempt."""
        self.replayable = False
        self._kept.clear()

    def rewind(self) -> None:
        """Queue again what was sent. Only while `replayable`."""
        self._waiting.extendleft(reversed(self._kept))
        self.waiting_bytes += self._kept_bytes
        self._kept.clear()
        self._kept_bytes = 0
