"""Cutting a byte stream into frames, and deciding about each: pass it, replace it, or drop it.

One pass over what was read. Contiguous frames that pass unchanged stay one slice; where all of a read passes, the very
object that was read is handed on. A subclass has one handler for each type of frame, which returns

* True: the frame passes as it is;
* bytes: these go to the other side instead of it;
* None: nothing goes.

A handler raises StreamFault or ConnectionFault where a rule is broken. Header blocks are collected here, from HEADERS
and CONTINUATION, and given whole to `_block`. A large block is unpacked first, a turn at a time (see header_link.py);
the frame that completes it is taken when that is done.

A frame is taken whole, or not at all. The beginning of one is kept until its end comes; where the turn is over, what
is left stays with the drive, which offers it again.

Nearly all frames under load are of one or two forms, for which a handler's call costs as much as its work. So a
subclass may also have an *express lane*: one loop that takes frames of just those forms as long as they come, and stops
in front of the first about which there is anything to say. It raises nothing and decides nothing that a handler would
decide otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

from mcproxy.l7.bounds import TURN
from mcproxy.l7.core import Turn
from mcproxy.l7.http2.budgets import (
    BLOCK_SECONDS,
    EARLY_END_COST,
    EXPRESS_FRAMES,
    FRAME_COST,
    LARGE_BLOCK,
    MAX_BLOCK,
    MAX_FRAGMENTS,
)
from mcproxy.l7.http2.header_link import unpacked
from mcproxy.l7.meters import BARREN, PERIOD, SMALL, Loop, Meter, Pace
from mcproxy.wire.http2 import (
    HEADER,
    HEADER_SIZE,
    KNOWN_FRAMES,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    ConnectionFault,
    ErrorCode,
    Flag,
    Frame,
    Piece,
    StreamFault,
    frame_header,
    headers,
    unpack_header,
    window_update,
)

Verdict = bool | bytes | None
# A method: flags, stream identifier, buffer, payload's start and end.
Handler = Callable[[Any, int, int, bytes, int, int], Verdict]

# Plain integers: an attribute of an enum costs three times as much to read.
END_STREAM: Final = int(Flag.END_STREAM)
END_HEADERS: Final = int(Flag.END_HEADERS)
PADDED: Final = int(Flag.PADDED)
PRIORITY: Final = int(Flag.PRIORITY)
WHOLE: Final = END_STREAM | END_HEADERS
HEADERS: Final = int(Frame.HEADERS)
USUAL: Final[tuple[int, ...]] = (END_HEADERS, WHOLE)

DEPENDS_ON_ITSELF: Final = "a stream that depends on itself"  # RFC 7540, section 5.3.1


class Shape(NamedTuple):
    """The rules that all frames of a type obey, whatever they mean (section 6)."""

    on_stream: bool | None  # or on the connection; None: on either
    least: int = 0  # bytes of the payload
    most: int = MAX_FRAME_SIZE
    is_of_stream: bool = False  # a wrong size is the stream's fault; else the connection's


SHAPES: Final[tuple[Shape, ...]] = (
    Shape(on_stream=True),  # DATA
    Shape(on_stream=True),  # HEADERS
    Shape(True, 5, 5, is_of_stream=True),  # PRIORITY
    Shape(True, 4, 4),  # RST_STREAM
    Shape(on_stream=False),  # SETTINGS
    Shape(on_stream=None),  # PUSH_PROMISE
    Shape(False, 8, 8),  # PING
    Shape(False, 8),  # GOAWAY
    Shape(None, 4, 4),  # WINDOW_UPDATE
    Shape(on_stream=None),  # CONTINUATION
)


class Block:
    """A header block that is being collected from HEADERS and CONTINUATION."""

    __slots__ = ("fault", "flags", "fragments", "since", "stream_id")

    def __init__(self, stream_id: int, flags: int, fault: str, fragment: bytes, now: float) -> None:
        self.stream_id = stream_id
        self.flags = flags  # of HEADERS
        self.fault = fault  # what is wrong with HEADERS; it counts once the block has been read
        self.fragments = [fragment]
        self.since = now

    def __repr__(self) -> str:
        return f"<Block of stream {self.stream_id}, {len(self.fragments)} frames>"

    def add(self, fragment: bytes) -> None:
        """One more frame of it. Raises ConnectionFault."""
        self.fragments.append(fragment)
        if len(self.fragments) > MAX_FRAGMENTS or sum(map(len, self.fragments)) > MAX_BLOCK:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block of too many frames or bytes")


def unpadded(buf: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where the payload without its padding starts and ends (sections 6.1, 6.2). Raises ConnectionFault."""
    if start == end:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without a pad length")
    pad = buf[start]
    if start + 1 + pad > end:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return start + 1, end - pad


def increment_of(stream_id: int, buf: bytes, start: int, end: int) -> int:
    """Return the bytes that a WINDOW_UPDATE adds (section 6.9). Raises StreamFault, ConnectionFault."""
    increment = int.from_bytes(buf[start:end], "big") & MAX_STREAM_ID
    if increment:
        return increment
    if stream_id:
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "an increment of 0")
    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "an increment of 0")


def increment_passed(verdict: Verdict, stream_id: int, increment: int, first: int) -> Verdict:
    """Return the verdict on a WINDOW_UPDATE that begins with the byte `first`: its reserved bit is never passed."""
    return window_update(stream_id, increment) if verdict is True and first & 0x80 else verdict


def check_shape(kind: int, stream_id: int, size: int) -> None:
    """Raises ConnectionFault, StreamFault where a frame has not the shape of its type."""
    on_stream, least, most, is_of_stream = SHAPES[kind]
    if on_stream is not None and on_stream is not (stream_id > 0):
        where = "on a stream" if stream_id else "on stream 0"
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{Frame(kind).name} {where}")
    if least <= size <= most:
        return
    why = f"{Frame(kind).name} of {size} bytes"
    if is_of_stream:
        raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, why)
    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, why)


# By type: flags without meaning are ignored, and left unset in what is sent on (section 4.1).
UNDEFINED_FLAGS: Final[tuple[int, ...]] = (0xF6, 0xD2, 0xFF, 0xFF, 0xFE, 0xF3, 0xFE, 0xFF, 0xFF, 0xFB)


class Frames(ABC):
    """The frames of one side."""

    def __init__(self, handlers: tuple[Handler, ...], empty: Loop, pieces: Loop, now: float) -> None:
        """`handlers` are by type, and functions of the class: bound methods would leave the object to the collector.

        `empty` and `pieces` are the loops of frames that say nothing, and next to nothing.
        """
        self.now = now
        self.handlers = handlers
        self.pace = Pace(pieces)
        self._tail = b""  # of the last read: a frame that is not whole
        self._span = HEADER_SIZE + MAX_FRAME_SIZE  # how long frames are when bulk flows
        self._collecting: Block | None = None
        self._unpacking: Generator[None, None, bytes] | None = None  # that block, which is whole, and large
        self._empty = Meter(empty, now)
        self.meters = [self._empty]
        self._period_since = now  # of the meters
        self._expected = _AT_FIRST
        self.turn = Turn()  # the one that is spent now

    @abstractmethod
    def _unknown(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        """A frame of a type that RFC 9113 doesn't define: extensions are for one hop (section 5.5)."""

    @abstractmethod
    def _block(self, stream_id: int, flags: int, block: bytes, frame_fault: str = "") -> Verdict:
        """A whole header block; `frame_fault` is what is wrong with its HEADERS frame."""

    @abstractmethod
    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        """End the stream; returns what goes to the other side."""

    @abstractmethod
    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        """Take usual frames from `pos` on, and return where they end.

        They pass as they are, unless `out` is appended to: then what is there goes to the other side instead of them.
        """

    def renew(self, now: float) -> bool:
        """Begin a new period of all meters, if it is time. Returns whether it was."""
        if now - self._period_since < PERIOD:
            return False
        self._period_since = now
        for meter in self.meters:
            meter.renew(now)
        return True

    def is_between(self, now: float) -> bool:
        """Return whether the next frame is a usual one, and of this period of the meters."""
        return not self._tail and self._expected is self.handlers and now - self._period_since < PERIOD

    def _small_piece(self, size: int) -> None:
        """Count DATA of a few bytes that ends nothing; what follows waits for the pace. Raises Exceeded."""
        if not size:
            self._empty.spend(self.now)
        elif self.pace.spend(self.now):
            self.turn.left = 0

    def bulk_read(self, most: int) -> int:
        """Return how many bytes to read next in bulk, so that the read ends where a frame does: then nothing is copied.

        They are `most` of them, give or take a frame. As far as one can know: all frames are taken to be as long as the
        one that the last read ended in.
        """
        missing = 0
        if len(self._tail) >= HEADER_SIZE:
            high, low, *_ = HEADER.unpack_from(self._tail)
            self._span = HEADER_SIZE + (high << 8 | low)
            missing = self._span - len(self._tail)
        size = min(most, EXPRESS_FRAMES * TURN * self._span)
        return missing + size // self._span * self._span

    def block_stalls(self, now: float) -> bool:
        """A header block was begun long ago, and its end has not come."""
        block = self._collecting
        return block is not None and self._unpacking is None and now - block.since > BLOCK_SECONDS

    def receive(self, data: bytes, turn: Turn, out: list[Piece]) -> int:  # noqa: C901 - calls are what it saves
        """Judge what was read, as far as the turn goes; what passes is appended to `out`. Returns the bytes taken.

        Raises ConnectionFault, `out` being right so far.
        """
        tail = self._tail
        pos = run = 0
        if tail and (begin := self._missing(data)):
            pos = run = self.receive(data[:begin], turn, out)
            if pos < begin or turn.left <= 0:
                return pos
            tail = b""
        buf = tail + data if tail else data
        self.turn = turn
        mark = len(out)  # where the run belongs: a handler may append to `out`, unless it lets the frame pass
        size = len(buf)
        unpack = unpack_header
        replaced: list[bytes] = []
        try:
            while True:
                if self._expected is self.handlers:
                    begin, pos = pos, self._express(buf, pos, size, replaced)
                    if replaced:
                        mark = _append_run(out, mark, buf[run:begin], replaced)
                        run = pos
                if size - pos < HEADER_SIZE or turn.left <= 0:
                    break
                high, low, kind, flags, stream_id = unpack(buf, pos)
                start = pos + HEADER_SIZE
                end = start + (high << 8 | low)
                if end - start > MAX_FRAME_SIZE:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
                if end > size:
                    break
                turn.left -= FRAME_COST
                verdict = self._judge(kind, flags, stream_id, buf, start, end)
                if self._unpacking is not None:
                    break
                if verdict is not True:
                    if verdict:
                        replaced.append(verdict)
                    mark = _append_run(out, mark, buf[run:pos], replaced)
                    run = end
                pos = end
        finally:
            _append_run(out, mark, buf[run:pos] if run or pos < size else buf, replaced)
        if turn.left > 0:
            self._tail = buf[pos:]
            if not pos and len(data) < SMALL:
                self.pace.spend(self.now, BARREN)
            return len(data)
        self._tail = tail[pos:]
        return max(0, pos - len(tail))

    def _missing(self, data: bytes) -> int:
        """Return how much of a bulk read belongs to the frame that has begun; 0: not worth a thought.

        It is judged by itself, so that the rest need not be copied behind its beginning.
        """
        tail = self._tail
        if len(data) < 2 * MAX_FRAME_SIZE:
            return 0
        high, low, *_ = unpack_header(tail if len(tail) >= HEADER_SIZE else tail + data[:HEADER_SIZE], 0)
        return HEADER_SIZE + (high << 8 | low) - len(tail) if high << 8 | low <= MAX_FRAME_SIZE else 0

    def _judge(self, kind: int, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        """One frame. Raises ConnectionFault."""
        if self._unpacking is not None:
            return self._unpack(self._unpacking)
        try:
            if kind < KNOWN_FRAMES and stream_id <= MAX_STREAM_ID and not flags & UNDEFINED_FLAGS[kind]:
                if (
                    kind > HEADERS and self._expected is self.handlers
                ):  # DATA and HEADERS, which are most, look themselves
                    check_shape(kind, stream_id, end - start)
                return self._expected[kind](self, flags, stream_id, buf, start, end)
            return self._unusual(kind, flags, stream_id, buf[start:end])
        except StreamFault as fault:
            return self._ended_early(fault)

    def _ended_early(self, fault: StreamFault) -> bytes | None:
        self.turn.left -= EARLY_END_COST
        return self._stream_fault(fault)

    def _unusual(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Verdict:
        """A frame of an unknown type, or with bits set that have no meaning: those end here (section 4.1)."""
        if kind >= KNOWN_FRAMES:
            if self._expected is not self.handlers:
                self._expected[Frame.PUSH_PROMISE](self, flags, stream_id, payload, 0, len(payload))
            return self._unknown(flags, stream_id, payload, 0, len(payload))
        flags &= ~UNDEFINED_FLAGS[kind]
        stream_id &= MAX_STREAM_ID
        if self._expected is self.handlers:
            check_shape(kind, stream_id, len(payload))
        verdict = self._expected[kind](self, flags, stream_id, payload, 0, len(payload))
        return frame_header(len(payload), kind, flags, stream_id) + payload if verdict is True else verdict

    # Header blocks (sections 4.3, 6.2 and 6.10)

    def _headers(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        if flags in USUAL and stream_id and end - start <= LARGE_BLOCK:
            return self._block(stream_id, flags, buf[start:end])  # most are like this
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & PADDED:
            start, end = unpadded(buf, start, end)
        fault = ""
        if flags & PRIORITY:
            if end - start < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID == stream_id:
                fault = DEPENDS_ON_ITSELF
            start += 5
        fragment = buf[start:end]
        if flags & END_HEADERS and len(fragment) <= LARGE_BLOCK:
            return self._block(stream_id, flags, fragment, fault)
        self._collecting = block = Block(stream_id, flags, fault, fragment, self.now)
        self._expected = _IN_A_BLOCK
        return self._whole_block(block) if flags & END_HEADERS else None

    def _continuation(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        block = self._collecting
        if block is None or stream_id != block.stream_id:
            return self._wants_continuation(flags, stream_id, buf, start, end)
        if start == end:
            self._empty.spend(self.now)
        block.add(buf[start:end])
        return self._whole_block(block) if flags & END_HEADERS else None

    def _whole_block(self, block: Block) -> Verdict:
        """The fragments are complete: judge them, or begin to unpack them."""
        encoded = b"".join(block.fragments)
        block.fragments.clear()
        if len(encoded) <= LARGE_BLOCK:
            return self._collected(block, encoded)
        self._unpacking = unpacked(encoded)
        self.turn.left = 0
        return None

    def _unpack(self, unpacking: Generator[None, None, bytes]) -> Verdict:
        """Unpack more of a large block; the verdict is meant only when that is done."""
        try:
            next(unpacking)
        except StopIteration as stop:
            self._unpacking = None
            assert self._collecting is not None
            try:
                return self._collected(self._collecting, stop.value)
            except StreamFault as fault:
                return self._ended_early(fault)
        self.turn.left = 0
        return None

    def _collected(self, block: Block, encoded: bytes) -> bytes | None:
        """Judge a block that didn't come in one frame, or doesn't pass in the bytes that it came in."""
        self._collecting = None
        self._expected = self.handlers
        verdict = self._block(block.stream_id, block.flags, encoded, block.fault)
        return headers(block.stream_id, encoded, bool(block.flags & END_STREAM)) if verdict is True else verdict or None

    def _wants_continuation(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was begun and something else came")

    def _wants_settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")  # section 3.4

    def _first_settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        if flags:
            return self._wants_settings(flags, stream_id, buf, start, end)
        self._expected = self.handlers
        check_shape(Frame.SETTINGS, stream_id, end - start)
        return self.handlers[Frame.SETTINGS](self, flags, stream_id, buf, start, end)

    def _no_continuation(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block begun")

    def _no_push(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        # A client never may (section 8.4); for a backend we have switched it off (section 6.5.2).
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE")


_AT_FIRST: tuple[Handler, ...] = tuple(
    Frames._first_settings if kind is Frame.SETTINGS else Frames._wants_settings for kind in Frame
)
_IN_A_BLOCK: tuple[Handler, ...] = tuple(
    Frames._continuation if kind is Frame.CONTINUATION else Frames._wants_continuation for kind in Frame
)


def _append_run(out: list[Piece], mark: int, run: bytes, replaced: list[bytes]) -> int:
    """Put a run of passed frames at `mark`, then what goes instead of those after it; the end is the next mark."""
    if run:
        out.insert(mark, run)
    if replaced:
        out += replaced
        replaced.clear()
    return len(out)
