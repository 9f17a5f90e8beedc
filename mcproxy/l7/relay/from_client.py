"""Frames of the client: RFC 9113 in full, because the backend may check nothing.

The frequent path is a request: HEADERS whose block the cache knows. It costs a look-up, a `Stream`, and one frame built
from the client's own block with our fields behind it. Everything that can go wrong is beside that path, not on it.
"""

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import EARLY_END_COST, IDLE_TALK, MAX_SETTINGS, SETTINGS, TALK_FOR_WORK, TOO_LARGE, Meter
from mcproxy.l7.http2.frames import END_HEADERS, END_STREAM, PADDED, SELF_DEPENDENT, USUAL, WHOLE, Frames, Verdict
from mcproxy.l7.http2.header_link import REQUEST_TRAILERS, REQUESTS, Section, TooLarge
from mcproxy.l7.http2.stream import Closed, Stream, StreamState
from mcproxy.l7.relay.flow import release, release_all
from mcproxy.l7.relay.pair import BackendState, Pair
from mcproxy.l7.relay.settings import Settings
from mcproxy.wire.fields import Malformed, Request
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
    goaway,
    headers,
    parse_settings,
    ping,
    rst_stream,
)

OPEN = StreamState.OPEN
CLIENT_ENDED = StreamState.CLIENT_ENDED
GONE = BackendState.GONE
HEADERS = int(Frame.HEADERS)
pack = HEADER.pack
TOO_LARGE_STATUS = 431  # RFC 6585, section 5
DRAIN_PING = b"draining"  # the payload of the PING that goes with the first GOAWAY of a drain


class FromClient(Frames):
    """The client's side of a pair."""

    def __init__(self, pair: Pair, settings: Settings, now: float) -> None:
        super().__init__(now)
        self.pair = pair
        self.settings = settings
        self._settings_meter = Meter(SETTINGS, "SETTINGS", now)
        self._talk = Meter(IDLE_TALK, "frames without work", now)
        self._too_large = Meter(TOO_LARGE, "header lists too large", now)
        self.meters += [self._settings_meter, self._talk, self._too_large]
        self.leaving = False  # it has sent GOAWAY: once its streams are over, so is the connection
        self.drained = False  # our PING after the first GOAWAY of a drain has come back

    def _talks(self) -> None:
        """One more frame that asks for nothing."""
        if self._talk.spend(self.now, TALK_FOR_WORK * self.pair.work):
            self.pair.work = 0

    # Requests (section 8.3.1)

    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        """Requests for the connection's own host, whose blocks the cache knows and whose turn it is."""
        pair, up, closed = self.pair, self.pair.up, self.pair.closed
        table, next_id, began = up.table, closed.last_id + 2, pos
        if not up.in_step or table.max_size > up.allowed or not closed.last_id:
            return pos
        host, suffix, streams, now = pair.host, pair.suffix, pair.streams, self.now
        more, up_window, down_window = len(suffix) - HEADER_SIZE, pair.up_initial, pair.down_initial
        section_of, unpack, room = REQUESTS.young.get, HEADER.unpack_from, pair.unchecked - len(streams)
        while size - pos >= HEADER_SIZE and room > 0:
            high, low, kind, flags, stream_id = unpack(buf, pos)
            end = pos + HEADER_SIZE + (high << 8 | low)
            if kind != HEADERS or stream_id != next_id or next_id > MAX_STREAM_ID or flags not in USUAL or end > size:
                break
            block = buf[pos + HEADER_SIZE : end]
            section = section_of((table, block))
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
            pair.work += (next_id - 2 - closed.last_id) // 2
            closed.last_id = next_id - 2
        return pos

    def _block(self, stream_id: int, flags: int, block: bytes) -> Verdict:
        pair = self.pair
        closed = pair.closed
        if stream_id <= closed.last_id or not stream_id & 1:
            return self._later_block(stream_id, flags, block)
        up = pair.up
        section = up.read(block, REQUESTS, self.turn)
        if stream_id == closed.last_id + 2:
            closed.last_id = stream_id
        else:
            closed.use(stream_id)
        request = section.value
        if request is None or not (
            section.fits_all and len(pair.streams) < pair.unchecked and request.host == pair.host and flags <= WHOLE
        ):
            refusal = self._refusal(stream_id, flags, section)
            if request is None or refusal is not None:
                up.withheld(section)
                return self._refuse(stream_id, flags, request, refusal)
        ended = flags & END_STREAM
        pair.work += 1
        pair.streams[stream_id] = Stream(
            stream_id, CLIENT_ENDED if ended else OPEN, request, self.now, pair.up_initial, pair.down_initial
        )
        passed = up.passed(block, section) + pair.suffix
        if len(passed) > MAX_FRAME_SIZE:
            return headers(stream_id, passed, bool(ended))
        return pack(len(passed) >> 8, len(passed) & 0xFF, HEADERS, ended | END_HEADERS, stream_id) + passed

    def _refusal(self, stream_id: int, flags: int, section: Section[Request]) -> ErrorCode | int | None:
        """What is wrong with a request, as an error code or a status; None where it may pass after all."""
        pair = self.pair
        request = section.value
        if stream_id > pair.last_offered or len(pair.streams) >= pair.max_streams:
            return ErrorCode.REFUSED_STREAM
        if flags & SELF_DEPENDENT or isinstance(section.fault, Malformed):
            return ErrorCode.PROTOCOL_ERROR  # section 8.1.1
        if request is None:
            return TOO_LARGE_STATUS if isinstance(section.fault, TooLarge) else 400
        if request.refusal:
            return request.refusal
        if (request.protocol and not pair.extended_connect) or (request.content_length > 0 and flags & END_STREAM):
            return ErrorCode.PROTOCOL_ERROR
        if request.host != pair.host and not pair.leads_here(request.host):
            return 421
        return pair.backend_status if pair.backend is GONE else None

    def _refuse(
        self, stream_id: int, flags: int, request: Request | None, refusal: ErrorCode | int | None
    ) -> bytes | None:
        pair = self.pair
        if isinstance(refusal, ErrorCode):
            raise StreamFault(stream_id, refusal, "a request that can't be processed")
        pair.answer(stream_id, bool(flags & END_STREAM), refusal or 400, request)
        if request is None:  # 431 or 400: it cost more than a reset does
            pair.spend_reset()
        if refusal == TOO_LARGE_STATUS:
            self._too_large.spend(self.now)
        if pair.backend is GONE:
            pair.goaway(pair.closed.last_id, ErrorCode.NO_ERROR)  # the next connection dials again
        return None

    # Trailers, and what is no request at all

    def _later_block(self, stream_id: int, flags: int, block: bytes) -> Verdict:
        pair = self.pair
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream of the server's")  # section 5.1.1
        section = pair.up.read(block, REQUEST_TRAILERS, self.turn)
        stream = pair.streams.get(stream_id)
        if stream is None:
            pair.up.withheld(section)
            return self._stray(stream_id, "HEADERS")
        code = None
        if stream.state is CLIENT_ENDED:
            code = ErrorCode.STREAM_CLOSED
        elif section.fault or flags & SELF_DEPENDENT or not flags & END_STREAM or stream.up_left > 0:
            code = ErrorCode.PROTOCOL_ERROR
        if code:
            pair.up.withheld(section)
            raise StreamFault(stream_id, code, "invalid trailers, or a body that is too short")
        pair.client_ended(stream)
        if stream.unwanted:
            pair.up.withheld(section)
            return None
        return headers(stream_id, pair.up.passed(block, section), end_stream=True)

    def _stray(self, stream_id: int, what: str) -> Verdict:
        """DATA or HEADERS for a stream that doesn't exist any more, or yet (section 5.1)."""
        why = self.pair.closed.why(stream_id)
        if why is Closed.RESET_BY_US:
            return None
        if why is Closed.RESET_BY_CLIENT:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, f"{what} after RST_STREAM")
        code = ErrorCode.STREAM_CLOSED if why is Closed.ENDED else ErrorCode.PROTOCOL_ERROR
        raise ConnectionFault(code, f"{what} on a stream that is {why.value}")

    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        pair = self.pair
        stream_id = fault.stream_id
        if pair.closed.why(stream_id) is Closed.IDLE:  # a stream that doesn't exist can't be reset (section 6.4)
            raise ConnectionFault(fault.code, fault.why)
        if stream_id <= pair.last_offered:
            pair.spend_reset()
        stream = pair.streams.get(stream_id)
        if stream is None:
            pair.to_client.append(rst_stream(stream_id, fault.code))
            pair.closed.reset_by_us(stream_id)
            return None
        pair.reset(stream, fault.code, ExchangeEnd.CLIENT_FAULT)
        return None if stream.unwanted else rst_stream(stream_id, ErrorCode.CANCEL)

    # Bodies (section 6.1)

    def _data(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        pair = self.pair
        size = end - start
        pair.up_window -= size
        if pair.up_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        stream = pair.streams.get(stream_id)
        if stream is None or stream.state is CLIENT_ENDED:
            return self._stray_data(stream, stream_id, size)
        stream.up_window -= size
        if stream.up_window < 0:
            return self._bad_data(stream_id, ErrorCode.FLOW_CONTROL_ERROR, size, "DATA beyond the stream's window")
        body = size
        if flags & PADDED:
            start, end = self.unpadded(buf, start, end)
            body = end - start
        if body:
            pair.work += 1
            stream.received += body
            stream.progress = self.now
        elif not flags & END_STREAM:
            self._empty.spend(self.now)
        if stream.up_left >= 0:
            stream.up_left -= body
            if stream.up_left < 0 or (stream.up_left and flags & END_STREAM):
                return self._bad_data(stream_id, ErrorCode.PROTOCOL_ERROR, size, "the body is not of content-length")
        if flags & END_STREAM:
            pair.client_ended(stream)
        return self._dropped(size) if stream.unwanted else True

    def _dropped(self, size: int) -> Verdict:
        """The backend wants no more of this body."""
        self.pair.credit_client(size)
        return None

    def _bad_data(self, stream_id: int, code: ErrorCode, size: int, why: str) -> Verdict:
        self.pair.credit_client(size)
        raise StreamFault(stream_id, code, why)

    def _stray_data(self, stream: Stream | None, stream_id: int, size: int) -> Verdict:
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        if stream is not None:
            return self._bad_data(stream_id, ErrorCode.STREAM_CLOSED, size, "DATA after END_STREAM")
        self.pair.credit_client(size)
        return self._stray(stream_id, "DATA")

    # The rest of section 6

    def _priority(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        if int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
        return None  # deprecated (section 5.3.2)

    def _rst_stream(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        pair = self.pair
        stream = pair.streams.get(stream_id)
        if stream is None:
            if pair.closed.why(stream_id) is Closed.IDLE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._talks()
            return None
        if stream.state is not StreamState.BACKEND_ENDED:
            pair.spend_reset()
        self.turn.left -= EARLY_END_COST
        pair.closed.reset_by_client(stream_id)
        pair.finish(stream, ExchangeEnd.CLIENT_RESET)
        return None if stream.unwanted else True

    def _settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._settings_meter.spend(self.now)
        if flags:
            if start != end:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS with ACK is not empty")
            self.settings.client_acknowledged()
            return None
        if end - start > MAX_SETTINGS * 6:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings in one frame")
        passed = self.settings.from_client(parse_settings(buf[start:end]))
        release_all(self.pair)
        return passed

    def _ping(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        if not flags:
            self.pair.to_client.append(ping(buf[start:end], ack=True))
        elif buf[start:end] == DRAIN_PING:
            self.drained = True
        return None

    def _goaway(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        self.leaving = True
        return goaway(0, int.from_bytes(buf[start + 4 : start + 8], "big"))  # nobody pushes: there is no last stream

    def _window_update(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        increment = self.increment(stream_id, buf, start, end)
        pair = self.pair
        if not stream_id:
            pair.down_window += increment
            if pair.down_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
            release_all(pair)
            return True
        stream = pair.streams.get(stream_id)
        if stream is None:
            if pair.closed.why(stream_id) is Closed.IDLE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return None
        stream.down_window += increment
        if stream.down_window > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        if stream.held:
            release(pair, stream)
        return True

    def _unknown(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        return None

    handlers = (
        _data, Frames._headers, _priority, _rst_stream, _settings, Frames._no_push, _ping, _goaway, _window_update,
        Frames._no_continuation,
    )  # fmt: skip
