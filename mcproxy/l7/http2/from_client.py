"""Frames of the client: RFC 9113 in full, because a backend may check nothing.

The frequent path is a request: HEADERS whose block the cache knows. For an outlet that repeats the client's bytes it
costs a look-up, a `Stream`, and one frame built from the client's own block with the outlet's fields behind it.
Everything that can go wrong is beside that path, not on it.

What the client is allowed is in the leg; what becomes of a frame that passed is the outlet's to say.
"""

from enum import Enum
from typing import Final

from mcproxy.l7.core import ExchangeEnd, Turn
from mcproxy.l7.http2.admission import TOO_LARGE_STATUS, Refusal
from mcproxy.l7.http2.budgets import (
    EARLY_END_COST,
    FRAME_COST,
    GRACE_SECONDS,
    LARGE_BLOCK,
    MAX_SETTINGS,
)
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.flow import release, release_all
from mcproxy.l7.http2.frames import (
    DEPENDS_ON_ITSELF,
    END_STREAM,
    PADDED,
    USUAL,
    Frames,
    Handler,
    Verdict,
    increment_of,
    increment_passed,
    unpadded,
)
from mcproxy.l7.http2.header_link import REQUEST_TRAILERS, Section, trailers_fault
from mcproxy.l7.http2.request_blocks import REQUESTS
from mcproxy.l7.http2.stream import Closed, Stream, StreamState, asked_by
from mcproxy.l7.meters import SMALL, Loop, Meter
from mcproxy.wire.fields import Request
from mcproxy.wire.http2 import (
    HEADER,
    HEADER_SIZE,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    Frame,
    StreamFault,
    code_name,
    parse_settings,
    ping,
    rst_stream,
    unpack_header,
)

OPEN: Final = StreamState.OPEN
CLIENT_ENDED: Final = StreamState.CLIENT_ENDED
DATA: Final = int(Frame.DATA)
HEADERS: Final = int(Frame.HEADERS)
TYPE_AT: Final = 3  # where a frame's header has its type (section 4.1)
pack: Final = HEADER.pack
DRAIN_PING: Final = b"draining"  # the payload of the PING that goes with the first GOAWAY of a drain


class Drain(Enum):
    """The steps of asking a client to open no more streams (section 6.8)."""

    NOT_ASKED = "not asked"
    ASKED = "asked"  # a GOAWAY that refuses nothing has been sent, and a PING with it
    HEARD = "heard"  # the PING has come back, or the grace is over: the GOAWAY that names the last stream may follow


# Named once: CONTRIBUTING says why.
_NOT_ASKED: Final = Drain.NOT_ASKED
_ASKED: Final = Drain.ASKED
_HEARD: Final = Drain.HEARD


class FromClient(Frames):
    """Judges the frames of a client, and drains its connection."""

    def __init__(self, leg: ClientLeg, settings: ClientSettings, now: float) -> None:
        super().__init__(HANDLERS, Loop.EMPTY, Loop.PIECES, now)
        self.leg = leg
        self.settings = settings
        self.preface_left = len(PREFACE)  # bytes of the client's preface that have not come
        self.drain = _NOT_ASKED
        self.leaving = False  # the client has sent GOAWAY: once its streams are over, so is the connection
        self._drain_since = 0.0
        self._settings_meter = Meter(Loop.SETTINGS, now)
        self._too_large = Meter(Loop.TOO_LARGE, now)
        self._late = Meter(Loop.LATE_REQUESTS, now)
        self.meters += [self._settings_meter, self._too_large, self._late]

    def __repr__(self) -> str:
        return f"<FromClient {self.leg!r} drain {self.drain.value}>"

    # The connection

    def take_preface(self, data: bytes) -> int:
        """Take the client's preface (section 3.4); returns how many bytes of `data` belong to it.

        Raises ConnectionFault.
        """
        expected = PREFACE[-self.preface_left :]
        if not expected.startswith(data[: len(expected)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        size = min(len(expected), len(data))
        self.preface_left -= size
        return size

    def check(self, now: float) -> None:
        """Look at deadlines, and begin a new period when it is time; about once a second. Raises ConnectionFault."""
        self.settings.check()
        if self.block_stalls(now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that doesn't end")
        if self.renew(now):
            self.leg.budget.renew(now)
        if self.drain is _ASKED and now - self._drain_since >= GRACE_SECONDS:
            self.drain = _HEARD

    def client_lags(self, now: float) -> None:
        """The client still takes what it was sent before: it may not even know that it is its turn."""
        self.settings.unacknowledged_since = now
        self._drain_since = now
        leg = self.leg
        for stream in leg.streams.values():
            if leg.owes_body(stream):
                stream.progress = now

    def ask_to_leave(self, now: float) -> None:
        """Begin to drain: the client learns that the connection will end, and no stream is refused yet."""
        if self.drain is _NOT_ASKED:
            self.settings.announce_early()
            self.drain = _ASKED
            self._drain_since = now
            self.leg.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR)
            self.leg.out.append(ping(DRAIN_PING))

    def settle(self) -> bool:
        """Put into `out` what is due, after each event. Returns whether the connection has nothing left to do.

        Due are the server's preface, which comes first (section 3.4), and GOAWAY: the second one of a drain, and the
        one that answers the client's.
        """
        leg = self.leg
        if leg.out and not self.settings.announced:
            self.settings.announce_early()
        if self.drain is _HEARD and not leg.admission.closing:
            leg.goaway(leg.closed.last_id, ErrorCode.NO_ERROR)
        if leg.streams:
            return False
        if self.leaving:
            leg.goaway(leg.closed.last_id, ErrorCode.NO_ERROR)
        return leg.admission.closing

    # Requests (section 8.3.1)

    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        """Take requests for the connection's own host whose identifier is the next.

        The cache knows their blocks, or templates for them.
        """
        if size - pos < HEADER_SIZE:
            return pos
        kind = buf[pos + TYPE_AT]
        if kind != HEADERS:
            return _express_data(self.leg, buf, pos, size, out, self.turn) if kind == DATA else pos
        leg = self.leg
        up, closed, suffix = leg.up, leg.closed, leg.outlet.suffix
        table, next_id, began = up.table, closed.last_id + 2, pos
        if suffix is None or not up.in_step or table.max_size > up.allowed or not closed.last_id:
            return pos
        admission, windows, streams, now = leg.admission, leg.windows, leg.streams, self.now
        host, more, up_window, down_window = (
            admission.host, len(suffix) - HEADER_SIZE, windows.up_initial, windows.down_initial
        )  # fmt: skip
        section_of, unpack, room = REQUESTS.young.get, unpack_header, admission.unchecked - len(streams)
        turn = self.turn
        while size - pos >= HEADER_SIZE and room > 0 and turn.left > 0:
            high, low, kind, flags, stream_id = unpack(buf, pos)
            end = pos + HEADER_SIZE + (high << 8 | low)
            if kind != HEADERS or stream_id != next_id or next_id > MAX_STREAM_ID or flags not in USUAL or end > size:
                break
            block = buf[pos + HEADER_SIZE : end]
            section = section_of((table, block))
            if section is None and len(block) <= LARGE_BLOCK:
                section = REQUESTS.made(block, table, turn)
            if section is None or section.express is None or section.express.host != host:
                break
            state = CLIENT_ENDED if flags & END_STREAM else OPEN
            streams[next_id] = Stream(next_id, state, section.express, now, up_window, down_window)
            length = end - pos + more  # far below a frame's limit: large blocks aren't cached
            out += (pack(length >> 8, length & 0xFF, HEADERS, flags, next_id), block, suffix)
            table = section.table
            next_id += 2
            room -= 1
            pos = end
        if pos > began:
            up.table = table
            leg.budget.work += (next_id - 2 - closed.last_id) // 2
            closed.last_id = next_id - 2
        return pos

    def _block(self, stream_id: int, flags: int, block: bytes, frame_fault: str = "") -> Verdict:
        leg = self.leg
        closed, streams, admission = leg.closed, leg.streams, leg.admission
        if stream_id <= closed.last_id or not stream_id & 1:
            return self._later_block(stream_id, flags, block, frame_fault)
        section = leg.up.read(block, REQUESTS, self.turn)
        if stream_id == closed.last_id + 2:
            closed.last_id = stream_id
        else:
            closed.use(stream_id)
        request = section.value
        ended = flags & END_STREAM
        if request is None or not (
            section.fits_all
            and len(streams) < admission.unchecked
            and request.host == admission.host
            and not frame_fault
        ):
            refusal = admission.refusal(stream_id, ended > 0, section, len(streams), frame_fault)
            if refusal is not None:
                self._refuse(stream_id, ended > 0, section, refusal)
                return None
            assert request is not None  # a head with a fault is refused
        leg.budget.work += 1
        windows = leg.windows
        streams[stream_id] = stream = Stream(
            stream_id, CLIENT_ENDED if ended else OPEN, request, self.now, windows.up_initial, windows.down_initial
        )
        return leg.outlet.request(stream, block, section)

    def _refuse(self, stream_id: int, ended: bool, section: Section[Request], refusal: Refusal) -> None:
        """Turn a request away; it has its line, like every other. Raises ConnectionFault."""
        leg = self.leg
        leg.up.withheld(section)
        self.turn.left -= EARLY_END_COST
        leg.turn_away(stream_id, ended, section.value or asked_by(section.fields), refusal)
        self._count_refusal(stream_id, refusal)
        if leg.admission.status and not isinstance(refusal.outcome, ErrorCode):
            leg.goaway(leg.closed.last_id, ErrorCode.NO_ERROR)  # the next connection dials again

    def _count_refusal(self, stream_id: int, refusal: Refusal) -> None:
        """Raises Exceeded."""
        leg = self.leg
        if stream_id > leg.admission.last_offered:
            self._late.spend(self.now)
        elif refusal.end is ExchangeEnd.ANSWERED:
            leg.budget.spend_answer(self.now)
        else:
            leg.budget.spend_reset(self.now)
        if refusal.outcome == TOO_LARGE_STATUS:
            self._too_large.spend(self.now)

    # Trailers, and what is no request at all

    def _later_block(self, stream_id: int, flags: int, block: bytes, frame_fault: str) -> Verdict:
        leg = self.leg
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream of the server's")  # section 5.1.1
        section = leg.up.read(block, REQUEST_TRAILERS, self.turn)
        stream = leg.streams.get(stream_id)
        if stream is None:
            leg.up.withheld(section)
            leg.budget.spend_talk(self.now)
            return self._stray(stream_id, "HEADERS")
        if stream.client_ended:
            leg.up.withheld(section)
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        why = trailers_fault(section, flags, frame_fault, stream.up_left)
        if why:
            leg.up.withheld(section)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, why)
        if not leg.outlet.holds(stream, 0):
            leg.request_ended(stream)
        if stream.unwanted:
            leg.up.withheld(section)
            return None
        return leg.outlet.trailers(stream, block, section)

    def _stray(self, stream_id: int, what: str) -> Verdict:
        """DATA or HEADERS for a stream that no longer exists, or not yet (section 5.1)."""
        why = self.leg.closed.why(stream_id)
        if why is Closed.RESET_BY_US:
            return None
        if why is Closed.RESET_BY_CLIENT:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, f"{what} after RST_STREAM")
        code = ErrorCode.STREAM_CLOSED if why is Closed.ENDED else ErrorCode.PROTOCOL_ERROR
        raise ConnectionFault(code, f"{what} on a stream that is {why.value}")

    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        leg = self.leg
        stream_id = fault.stream_id
        if leg.closed.why(stream_id) is Closed.IDLE:  # a stream that doesn't exist can't be reset (section 6.4)
            raise ConnectionFault(fault.code, fault.why)
        if stream_id <= leg.admission.last_offered:
            leg.budget.spend_reset(self.now)
        stream = leg.streams.get(stream_id)
        if stream is None:
            leg.out.append(rst_stream(stream_id, fault.code))
            leg.closed.reset_by_us(stream_id)
            return None
        leg.reset(stream, fault.code, ExchangeEnd.CLIENT_FAULT, fault.reason)
        return None if stream.unwanted else leg.outlet.abort(stream)

    # Bodies (section 6.1)

    def _data(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        leg = self.leg
        size = end - start
        windows = leg.windows
        windows.up = room = windows.up - size
        if room < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        stream = leg.streams.get(stream_id)
        if stream is None or stream.client_ended:
            return self._stray_data(stream, flags, stream_id, size)
        stream.up_window = room = stream.up_window - size
        if room < 0:
            return self._bad_data(stream_id, ErrorCode.FLOW_CONTROL_ERROR, size, "DATA beyond the stream's window")
        body = size
        if flags & PADDED:
            body_start, body_end = unpadded(buf, start, end)
            body = body_end - body_start
        ended = flags & END_STREAM
        if body:
            leg.budget.work += 1
            stream.received += body
            stream.progress = self.now
        if body < SMALL and not ended:
            self._small_piece(body)
        if stream.up_left >= 0:
            stream.up_left -= body
            if stream.up_left < 0 or (stream.up_left and ended):
                return self._bad_data(stream_id, ErrorCode.PROTOCOL_ERROR, size, "the body is not of content-length")
        if ended and (stream.unwanted or not leg.outlet.holds(stream, size)):
            leg.request_ended(stream)
        return self._dropped(size) if stream.unwanted else leg.outlet.data(stream, flags, buf, start, end)

    def _dropped(self, size: int) -> Verdict:
        """The backend wants no more of this body."""
        self.leg.credit(size)
        return None

    def _bad_data(self, stream_id: int, code: ErrorCode, size: int, why: str) -> Verdict:
        self.leg.credit(size)
        raise StreamFault(stream_id, code, why)

    def _stray_data(self, stream: Stream | None, flags: int, stream_id: int, size: int) -> Verdict:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        if stream is not None:
            return self._bad_data(stream_id, ErrorCode.STREAM_CLOSED, size, "DATA after END_STREAM")
        self.leg.credit(size)
        if flags & END_STREAM:
            self.leg.budget.spend_talk(self.now)
        elif size < SMALL:
            self._small_piece(size)
        return self._stray(stream_id, "DATA")

    # The rest of section 6

    def _priority(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self.leg.budget.spend_talk(self.now)
        if int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, DEPENDS_ON_ITSELF)
        return None  # deprecated (section 5.3.2)

    def _rst_stream(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        leg = self.leg
        stream = leg.streams.get(stream_id)
        if stream is None:
            if leg.closed.why(stream_id) is Closed.IDLE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self.leg.budget.spend_talk(self.now)
            return None
        if not stream.status:  # once the answer has begun, the work was wanted: a watch ends like this
            leg.budget.spend_reset(self.now)
        self.turn.left -= EARLY_END_COST
        code = int.from_bytes(buf[start:end], "big")
        leg.closed.reset_by_client(stream_id)
        leg.finish(stream, ExchangeEnd.CLIENT_RESET, f"the client reset the stream: {code_name(code)}")
        return None if stream.unwanted else leg.outlet.reset(stream, code)

    def _settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._settings_meter.spend(self.now)
        leg = self.leg
        if flags:
            if start != end:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS with ACK is not empty")
            return leg.outlet.acknowledged() if self.settings.acknowledged() else None
        if end - start > MAX_SETTINGS * 6:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings in one frame")
        passed = self.settings.from_client(parse_settings(buf[start:end]))
        release_all(leg)
        return leg.outlet.settings(passed)

    def _ping(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self.leg.budget.spend_talk(self.now)
        if not flags:
            self.leg.out.append(ping(buf[start:end], ack=True))
        elif self.drain is _ASKED and buf[start:end] == DRAIN_PING:
            self.drain = _HEARD
        return None

    def _goaway(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self.leg.budget.spend_talk(self.now)
        self.leaving = True
        return self.leg.outlet.goaway(int.from_bytes(buf[start + 4 : start + 8], "big"))

    def _window_update(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self.leg.budget.spend_talk(self.now)
        increment = increment_of(stream_id, buf, start, end)
        leg = self.leg
        if not stream_id:
            windows = leg.windows
            windows.down = room = windows.down + increment
            if room > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
            if windows.held_bytes:
                release_all(leg)
            return increment_passed(leg.outlet.window(None), stream_id, increment, buf[start])
        stream = leg.streams.get(stream_id)
        if stream is None:
            if leg.closed.why(stream_id) is Closed.IDLE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return None
        stream.down_window = room = stream.down_window + increment
        if room > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        if stream.held:
            release(leg, stream)
        return increment_passed(leg.outlet.window(stream), stream_id, increment, buf[start])

    def _unknown(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self.leg.budget.spend_talk(self.now)
        return None


def _express_data(leg: ClientLeg, buf: bytes, pos: int, size: int, out: list[bytes], turn: Turn) -> int:
    """Take DATA that has windows, and is neither padded, nor short, nor the last of its body."""
    now, run, frames, most = leg.now, pos, 0, -(-turn.left // FRAME_COST)
    windows, pass_on, stream_of, unpack = leg.windows, leg.outlet.data, leg.streams.get, unpack_header
    while size - pos >= HEADER_SIZE and frames < most:
        high, low, kind, flags, stream_id = unpack(buf, pos)
        start, length = pos + HEADER_SIZE, high << 8 | low
        end = start + length
        if kind != DATA or flags or end > size or not SMALL <= length <= MAX_FRAME_SIZE:
            break
        stream = stream_of(stream_id)
        if stream is None or stream.unwanted or length > stream.up_window or length > windows.up:
            break
        missing, upload = stream.up_left, stream.upload
        if 0 <= missing < length or stream.state is CLIENT_ENDED or (upload is not None and upload.ended):
            break
        if missing > 0:
            stream.up_left = missing - length
        windows.up -= length
        stream.up_window -= length
        stream.received += length
        stream.progress = now
        frames += 1
        if pass_on(stream, 0, buf, start, end) is not True:
            out.append(buf[run:pos])  # what passed before
            run = end
        pos = end
    leg.budget.work += frames
    turn.left -= FRAME_COST * frames
    if out:
        out.append(buf[run:pos])
    return pos


# By type.
HANDLERS: Final[tuple[Handler, ...]] = (
    FromClient._data,
    Frames._headers,
    FromClient._priority,
    FromClient._rst_stream,
    FromClient._settings,
    Frames._no_push,
    FromClient._ping,
    FromClient._goaway,
    FromClient._window_update,
    Frames._no_continuation,
)
