"""Frames of the backend. Answers pass as they are; they are read for the log, and so that nothing malformed goes on.

The backend's faults are not the client's: a stream's fault becomes 502, or RST_STREAM where the answer has begun, and a
connection's fault ends the backend connection, which is the same as losing it (Relay).
"""

from mcproxy.l7.bounds import MAX_INTERIM
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import EXPRESS_FRAMES, IDLE_TALK, TALK_FOR_WORK, Meter
from mcproxy.l7.http2.frames import END_HEADERS, END_STREAM, PADDED, Frames, Verdict
from mcproxy.l7.http2.header_link import ANSWER_TRAILERS, ANSWERS, Section
from mcproxy.l7.http2.stream import Closed, Held, Stream, StreamState
from mcproxy.l7.relay.flow import hold
from mcproxy.l7.relay.pair import Pair
from mcproxy.l7.relay.settings import Settings
from mcproxy.wire.fields import BODILESS, FINAL_STATUS, Answer
from mcproxy.wire.http2 import (
    HEADER,
    HEADER_SIZE,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    Frame,
    StreamFault,
    headers,
    parse_settings,
    ping,
    rst_stream,
    window_update,
)

CLIENT_ENDED = StreamState.CLIENT_ENDED
BACKEND_ENDED = StreamState.BACKEND_ENDED
HEADERS = int(Frame.HEADERS)
DATA = int(Frame.DATA)
ODD_METHODS = (b"HEAD", b"CONNECT")  # their answers' content-length doesn't say how much follows


class FromBackend(Frames):
    """The backend's side of a pair."""

    def __init__(self, pair: Pair, settings: Settings, now: float) -> None:
        super().__init__(now)
        self.pair = pair
        self.settings = settings
        self._talk = Meter(IDLE_TALK, "frames without work", now)
        self.meters.append(self._talk)

    def _talks(self) -> None:
        """One more frame that carries nothing."""
        self._talk.spend(self.now, TALK_FOR_WORK * self.pair.work)

    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:  # noqa: C901 - calls are what it saves
        """A final head that the cache knows, with a body to follow; DATA that is declared and has a window."""
        pair = self.pair
        down, window = pair.down, pair.down_window
        table = down.table
        if not down.in_step or table.max_size > down.allowed:
            return pos
        stream_of, section_of, unpack = pair.streams.get, ANSWERS.young.get, HEADER.unpack_from
        budget = left = EXPRESS_FRAMES * self.turn.left
        while size - pos >= HEADER_SIZE and left > 0:
            high, low, kind, flags, stream_id = unpack(buf, pos)
            start = pos + HEADER_SIZE
            end = start + (high << 8 | low)
            stream = stream_of(stream_id)
            if end > size or stream is None:
                break
            if kind == DATA and flags <= END_STREAM:
                length, missing = end - start, stream.down_left
                if not 0 < length <= window or length > stream.down_window or length > MAX_FRAME_SIZE:
                    break
                if stream.held or not stream.status or stream.state is BACKEND_ENDED:
                    break
                if missing >= 0:
                    if length > missing or (flags and length < missing):
                        break
                    stream.down_left = missing - length
                window -= length
                stream.down_window -= length
                stream.sent += length
                pair.work += 1
                if flags:
                    pair.finish(stream) if stream.state is CLIENT_ENDED else pair.backend_ended(stream)
            elif kind == HEADERS and flags == END_HEADERS:
                section = section_of((table, buf[start:end]))
                if section is None or section.express is None or stream.status or stream.request.method in ODD_METHODS:
                    break
                stream.status = section.express.status
                stream.down_left = section.express.content_length
                down.table = table = section.table
            else:
                break
            left -= 1
            pos = end
        pair.down_window = window
        self.turn.left -= (budget - left) // EXPRESS_FRAMES
        return pos

    # Heads and trailers (section 8.1)

    def _block(self, stream_id: int, flags: int, block: bytes) -> Verdict:
        pair = self.pair
        stream = pair.streams.get(stream_id)
        if stream is None or stream.status:
            return self._later_block(stream, stream_id, flags, block)
        down = pair.down
        section = down.read(block, ANSWERS, self.turn)
        answer = section.value
        interim = answer is not None and answer.status < FINAL_STATUS
        if answer is None or (flags & END_STREAM and interim):
            down.withheld(section)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a malformed answer")
        if not interim:
            self._begin(stream, answer, flags, section)
        elif stream.interim >= MAX_INTERIM:
            down.withheld(section)
            raise StreamFault(stream_id, ErrorCode.ENHANCE_YOUR_CALM, "too many interim answers")
        else:
            stream.interim += 1
        passed = down.passed(block, section)
        return True if passed is block else self._reframed(stream_id, flags, passed)

    def _begin(self, stream: Stream, answer: Answer, flags: int, section: Section[Answer]) -> None:
        """The final head."""
        if stream.request.method == b"HEAD" or answer.status in BODILESS:
            stream.down_left = 0
        elif stream.request.method != b"CONNECT":
            stream.down_left = answer.content_length
        if flags & END_STREAM:
            if stream.down_left > 0:
                self.pair.down.withheld(section)
                raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length without a body")
            stream.status = answer.status
            self.pair.backend_ended(stream)
        else:
            stream.status = answer.status

    def _later_block(self, stream: Stream | None, stream_id: int, flags: int, block: bytes) -> Verdict:
        """Trailers, or the answer to a request that is no more."""
        pair = self.pair
        section = pair.down.read(block, ANSWER_TRAILERS, self.turn)
        if stream is None:
            why = self._stray(stream_id, "HEADERS")
            if why is Closed.RESET_BY_CLIENT and pair.down.in_step:  # it will ignore it, and its table stays so
                return self._reframed(stream_id, flags, pair.down.passed(block, section))
            pair.down.withheld(section)
            return None
        if section.fault or not flags & END_STREAM or stream.down_left > 0 or stream.state is BACKEND_ENDED:
            pair.down.withheld(section)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "invalid trailers, or an answer that is too short")
        if stream.held:
            pair.down.withheld(section)
            hold(pair, stream, Held(section.encoded, last=True, trailers=True))
            return None
        pair.backend_ended(stream)
        passed = pair.down.passed(block, section)
        return True if passed is block else self._reframed(stream_id, flags, passed)

    @staticmethod
    def _reframed(stream_id: int, flags: int, block: bytes) -> bytes:
        return headers(stream_id, block, bool(flags & END_STREAM))

    def _stray(self, stream_id: int, what: str) -> Closed:
        """A frame for no stream of ours: late, unless the client never opened it."""
        why = self.pair.closed.why(stream_id)
        if why in (Closed.IDLE, Closed.SKIPPED):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on a stream that is {why.value}")
        return why

    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        pair = self.pair
        stream = pair.streams.get(fault.stream_id)
        pair.to_backend.append(rst_stream(fault.stream_id, fault.code))
        if stream is not None:
            pair.fail(stream, 502, ExchangeEnd.BACKEND_FAULT)
        return None

    # Bodies

    def _data(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        pair = self.pair
        stream = pair.streams.get(stream_id)
        size = end - start
        if stream is None:
            self._stray(stream_id, "DATA")
            pair.credit_backend(size)
            return None
        if flags & PADDED:
            start, end = self.unpadded(buf, start, end)
        body = end - start
        wrong = not stream.status or stream.state is BACKEND_ENDED
        if body:
            pair.work += 1
            stream.sent += body
            if stream.down_left >= 0:
                stream.down_left -= body
                wrong = wrong or stream.down_left < 0
        elif not flags & END_STREAM:
            self._empty.spend(self.now)
        if wrong or (flags & END_STREAM and stream.down_left > 0):
            pair.credit_backend(size)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "DATA out of place, or not of content-length")
        if size > stream.down_window or size > pair.down_window or stream.held:
            self._give_back(stream_id, size - body)
            hold(pair, stream, Held(buf[start:end], bool(flags & END_STREAM)))
            return None
        stream.down_window -= size
        pair.down_window -= size
        if flags & END_STREAM:
            if stream.state is CLIENT_ENDED:
                pair.finish(stream)
            else:
                pair.backend_ended(stream)
        return True

    def _give_back(self, stream_id: int, padding: int) -> None:
        """What waits goes on without its padding, so the client will never give that back."""
        if padding:
            self.pair.credit_backend(padding)
            self.pair.to_backend.append(window_update(stream_id, padding))

    # The rest of section 6

    def _priority(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        return None

    def _rst_stream(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        pair = self.pair
        stream = pair.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id, "RST_STREAM")
            return None
        held = stream.held and stream.held[-1].last
        if held or (stream.state is BACKEND_ENDED and buf[start:end] == bytes(4)):
            # It only says that the rest of the request isn't needed (section 8.1): the client is told by the next tick,
            # for what it has sent before it could know is still to be judged. What is held completes the answer.
            stream.unwanted = True
            return None
        pair.closed.reset_by_us(stream_id)
        complete = stream.state is BACKEND_ENDED
        pair.finish(stream, ExchangeEnd.DONE if complete else ExchangeEnd.BACKEND_RESET)
        return True

    def _settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        if not flags:
            self.settings.from_backend(parse_settings(buf[start:end]))
        return None

    def _ping(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        if not flags:
            self.pair.to_backend.append(ping(buf[start:end], ack=True))
        return None

    def _goaway(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        """Streams above the last one were not processed: the client may repeat them elsewhere (section 6.8)."""
        self._talks()
        pair = self.pair
        last_id = int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID
        # Its debug data is for us, not for the client.
        pair.goaway(last_id, int.from_bytes(buf[start + 4 : start + 8], "big"))
        for stream in [stream for stream in pair.streams.values() if stream.id > last_id]:
            pair.refuse(stream.id)
            pair.finish(stream, ExchangeEnd.REFUSED)
        return None

    def _window_update(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        increment = self.increment(stream_id, buf, start, end)
        pair = self.pair
        if not stream_id:
            pair.up_window += increment
            if pair.up_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
            return True
        stream = pair.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id, "WINDOW_UPDATE")
            return None
        stream.up_window += increment
        if stream.up_window > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        return True

    def _unknown(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        return None

    handlers = (
        _data, Frames._headers, _priority, _rst_stream, _settings, Frames._no_push, _ping, _goaway, _window_update,
        Frames._no_continuation,
    )  # fmt: skip
