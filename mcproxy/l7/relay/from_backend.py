"""Frames of the backend. Answers pass as they are; they are read for the log, and so that nothing malformed goes on.

The backend's faults are not the client's: a stream's fault becomes 502, or RST_STREAM where the answer has begun, and a
connection's fault ends the backend connection, which is the same as losing it (Relay).
"""

from typing import Final

from mcproxy.l7.bounds import MAX_INTERIM, TURN
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.backend_frames import BackendFrames, body_length, data_fault
from mcproxy.l7.http2.budgets import EXPRESS_FRAMES
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.flow import hold
from mcproxy.l7.http2.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    Frames,
    Handler,
    Verdict,
    increment_of,
    unpadded,
)
from mcproxy.l7.http2.header_link import ANSWER_TRAILERS, ANSWERS, Section, trailers_fault
from mcproxy.l7.http2.stream import Closed, Held, Stream, StreamState
from mcproxy.l7.meters import SMALL, TALK_FOR_WORK
from mcproxy.l7.relay.backend_leg import BackendLeg, BackendState
from mcproxy.l7.relay.settings import relayed, shrinks_table
from mcproxy.wire.fields import BODILESS, FINAL_STATUS, NO_LENGTH, Answer
from mcproxy.wire.http2 import (
    HEADER_SIZE,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    WINDOW_UPDATE_SIZE,
    WINDOW_UPDATE_START,
    ConnectionFault,
    ErrorCode,
    Frame,
    Setting,
    StreamFault,
    code_name,
    data,
    headers,
    rst_stream,
    unpack_header,
    window_update,
)

CLIENT_ENDED: Final = StreamState.CLIENT_ENDED
BACKEND_ENDED: Final = StreamState.BACKEND_ENDED
HEADERS: Final = int(Frame.HEADERS)
DATA: Final = int(Frame.DATA)
NO_BODY: Final = "the backend sent a body with an answer that has none"
ODD_METHODS: Final[tuple[bytes, ...]] = (
    b"HEAD",
    b"CONNECT",
)  # their answers' content-length doesn't say how much follows


class FromBackend(BackendFrames):
    """Judges the frames of a backend; what passes goes to the client's leg."""

    def __init__(self, backend: BackendLeg, client: ClientLeg, settings: ClientSettings, now: float) -> None:
        super().__init__(HANDLERS, now)
        self.backend = backend
        self.client = client
        self.settings = settings
        self.note = ""  # what the backend did wrong without harm, for the log

    def __repr__(self) -> str:
        return f"<FromBackend {self.backend!r}>"

    def _talks(self) -> None:
        """Count one more frame that carries nothing. Raises Exceeded."""
        self._talk.spend(self.now, TALK_FOR_WORK * self.client.budget.work)

    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:  # noqa: C901 - calls are what it saves
        """A final head that the cache knows, with a body to follow; DATA that is declared and has a window."""
        client = self.client
        if buf[pos : pos + len(WINDOW_UPDATE_START)] == WINDOW_UPDATE_START:
            end = self._grow(buf, pos, size, self.turn.left)
            if end > pos:
                self.turn.left -= (end - pos) // WINDOW_UPDATE_SIZE
                out.append(b"")
            return end
        down, windows, now, work = client.down, client.windows, self.now, 0
        table, window = down.table, windows.down
        if not down.in_step or table.max_size > down.allowed:
            return pos
        stream_of, section_of, unpack = client.streams.get, ANSWERS.young.get, unpack_header
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
                if length < SMALL and not flags:
                    break
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
                work += 1
                if flags:
                    client.finish(stream) if stream.state is CLIENT_ENDED else client.answer_ended(stream)
            elif kind == HEADERS and flags == END_HEADERS:
                section = section_of((table, buf[start:end]))
                if section is None or section.express is None or stream.status or stream.request.method in ODD_METHODS:
                    break
                stream.status = section.express.status
                stream.head_at = now
                stream.down_left = section.express.content_length
                down.table = table = section.table
            else:
                break
            left -= 1
            pos = end
        windows.down = window
        client.budget.work += work
        self.turn.left -= (budget - left) // EXPRESS_FRAMES
        return pos

    def opens_windows(self, data: bytes, now: float) -> int:
        """Take WINDOW_UPDATEs at the beginning of a read, a turn's worth at most. Returns how many bytes."""
        return self._grow(data, 0, len(data), TURN) if self.is_between(now) else 0

    def _grow(self, buf: bytes, pos: int, size: int, most: int) -> int:
        """Take WINDOW_UPDATEs, of which an upload brings many: they go no further. Returns where they end."""
        talk, client = self._talk, self.client
        most = min(talk.limit + TALK_FOR_WORK * client.budget.work - talk.count, most)
        end = self.backend.uploads.grow_all(buf, pos, size, client.streams, most)
        talk.count += (end - pos) // WINDOW_UPDATE_SIZE
        return end

    # Heads and trailers (section 8.1)

    def _block(self, stream_id: int, flags: int, block: bytes, frame_fault: str = "") -> Verdict:
        client = self.client
        stream = client.streams.get(stream_id)
        if stream is None or stream.status:
            return self._later_block(stream, stream_id, flags, block)
        down = client.down
        section = down.read(block, ANSWERS, self.turn)
        answer = section.value
        interim = answer is not None and answer.status < FINAL_STATUS
        if answer is None or (flags & END_STREAM and interim):
            down.withheld(section)
            why = f"a malformed answer: {section.fault or 'an interim head with END_STREAM'}"
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, why)
        if not interim:
            self._begin(stream, answer, flags, section)
        elif stream.interim >= MAX_INTERIM:
            down.withheld(section)
            raise StreamFault(stream_id, ErrorCode.ENHANCE_YOUR_CALM, "too many interim answers")
        else:
            stream.interim += 1
        if stream.request.protocol and 200 <= answer.status < 300 and answer.content_length != NO_LENGTH:
            passed = down.passed_without(section, b"content-length")  # it opens a tunnel: RFC 9110, section 9.3.6
        else:
            passed = down.passed(block, section)
        return True if passed is block else self._reframed(stream_id, flags, passed)

    def _begin(self, stream: Stream, answer: Answer, flags: int, section: Section[Answer]) -> None:
        """The final head."""
        stream.down_left = body_length(stream.request.method, answer)
        if flags & END_STREAM:
            if stream.down_left > 0:
                self.client.down.withheld(section)
                raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length without a body")
            stream.status = answer.status
            stream.grpc_status = answer.grpc_status
            self.client.answer_ended(stream)
        else:
            stream.status = answer.status
        stream.head_at = self.now

    def _later_block(self, stream: Stream | None, stream_id: int, flags: int, block: bytes) -> Verdict:
        """Trailers, or the answer to a request that is no more."""
        client = self.client
        section = client.down.read(block, ANSWER_TRAILERS, self.turn)
        if stream is None:
            why = self._stray(stream_id, "HEADERS")
            self._talks()
            if why is Closed.RESET_BY_CLIENT and client.down.in_step:  # it will ignore it, and its table stays so
                return self._reframed(stream_id, flags, client.down.passed(block, section))
            client.down.withheld(section)
            return None
        ended = "HEADERS after END_STREAM" if stream.state is BACKEND_ENDED else ""
        fault = ended or trailers_fault(section, flags, "", stream.down_left)
        if fault:
            client.down.withheld(section)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        if section.value is not None:
            stream.grpc_status = section.value.grpc_status
        if stream.held:
            client.down.withheld(section)
            hold(client, stream, Held(section.encoded, last=True, trailers=True))
            return None
        client.answer_ended(stream)
        passed = client.down.passed(block, section)
        return True if passed is block else self._reframed(stream_id, flags, passed)

    @staticmethod
    def _reframed(stream_id: int, flags: int, block: bytes) -> bytes:
        return headers(stream_id, block, bool(flags & END_STREAM))

    def _stray(self, stream_id: int, what: str) -> Closed:
        """A frame for no stream of ours: late, unless the client never opened it."""
        why = self.client.closed.why(stream_id)
        if why in (Closed.IDLE, Closed.SKIPPED):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on a stream that is {why.value}")
        return why

    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        client = self.client
        stream = client.streams.get(fault.stream_id)
        self.backend.out.append(rst_stream(fault.stream_id, fault.code))
        if stream is not None:
            client.fail(stream, 502, ExchangeEnd.BACKEND_FAULT, fault.reason)
        return None

    # Bodies

    def _data(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        client = self.client
        stream = client.streams.get(stream_id)
        size = end - start
        if stream is None:
            return self._stray_data(flags, stream_id, size)
        if flags & PADDED:
            start, end = unpadded(buf, start, end)
        body = end - start
        wrong = not stream.status or stream.state is BACKEND_ENDED
        if body and not wrong and (stream.request.method == b"HEAD" or stream.status in BODILESS):
            return self._drop_body(stream, size)
        if body:
            client.budget.work += 1
            stream.sent += body
            if stream.down_left >= 0:
                stream.down_left -= body
                wrong = wrong or stream.down_left < 0
        if body < SMALL and not flags & END_STREAM:
            self._small_piece(body)
        if wrong or (flags & END_STREAM and stream.down_left > 0):
            self.backend.credit(size)
            fault = data_fault(stream.status > 0, stream.state is BACKEND_ENDED)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        if size > stream.down_window or size > client.windows.down or stream.held:
            self._give_back(stream_id, size - body)
            hold(client, stream, Held(buf[start:end], bool(flags & END_STREAM)))
            return None
        stream.down_window -= size
        client.windows.down -= size
        if flags & END_STREAM:
            client.answer_ended(stream)
        return True

    def _stray_data(self, flags: int, stream_id: int, size: int) -> Verdict:
        self._stray(stream_id, "DATA")
        self.backend.credit(size)
        if flags & END_STREAM:
            self._talks()
        elif size < SMALL:
            self._small_piece(size)
        return None

    def _drop_body(self, stream: Stream, size: int) -> bytes:
        """A body came that must not be (RFC 9110, section 6.4.1): the head stands, and the rest is not wanted."""
        self.note = NO_BODY
        self.backend.credit(size)
        self.backend.out.append(rst_stream(stream.id, ErrorCode.CANCEL))
        stream.why = NO_BODY
        self.client.answer_ended(stream)
        self.client.want_no_more(stream)
        return data(stream.id, b"", end_stream=True)

    def _give_back(self, stream_id: int, padding: int) -> None:
        """Credit the padding of DATA that waits: it goes on without, so the client will never give that back."""
        if padding:
            self.backend.credit(padding)
            self.backend.out.append(window_update(stream_id, padding))

    # The rest of section 6

    def _rst_stream(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        client = self.client
        stream = client.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id, "RST_STREAM")
            self._talks()
            return None
        held = stream.held and stream.held[-1].last
        if held or (stream.state is BACKEND_ENDED and buf[start:end] == bytes(4)):
            # It only says that the rest of the request isn't needed (section 8.1): the next tick resets it,
            # for what it has sent before it could know is still to be judged. What is held completes the answer.
            client.want_no_more(stream)
            return None
        client.closed.reset_by_us(stream_id)
        complete = stream.state is BACKEND_ENDED
        code = code_name(int.from_bytes(buf[start:end], "big"))
        end_word = ExchangeEnd.DONE if complete else ExchangeEnd.BACKEND_RESET
        client.finish(stream, end_word, f"the backend reset the stream: {code}")
        return True

    def _heed(self, pairs: list[tuple[int, int]]) -> None:
        self.backend.state = BackendState.UP
        if shrinks_table(pairs):
            self.client.up.lose_step()
        for key, value in pairs:
            if key == Setting.INITIAL_WINDOW_SIZE:
                self.backend.uploads.resize(value, self.client)
        self.settings.relay(relayed(pairs))

    def _reply(self, frame: bytes) -> None:
        self.backend.out.append(frame)

    def _goaway(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        """Streams above the last one were not processed: the client may repeat them elsewhere (section 6.8)."""
        self._talks()
        client = self.client
        last_id = int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID
        # Its debug data is for us, not for the client.
        client.goaway(last_id, int.from_bytes(buf[start + 4 : start + 8], "big"))
        for stream in [stream for stream in client.streams.values() if stream.id > last_id]:
            why = "the backend went away (GOAWAY) and did not process it"
            client.reset(stream, ErrorCode.REFUSED_STREAM, ExchangeEnd.REFUSED, why)
        return None

    def _window_update(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        increment = increment_of(stream_id, buf, start, end)
        stream = self.client.streams.get(stream_id)
        if stream_id and stream is None:
            self._stray(stream_id, "WINDOW_UPDATE")
        else:
            self.backend.uploads.grow(stream, increment)
        return None


# By type.
HANDLERS: Final[tuple[Handler, ...]] = (
    FromBackend._data,
    Frames._headers,
    BackendFrames._priority,
    FromBackend._rst_stream,
    BackendFrames._settings,
    Frames._no_push,
    BackendFrames._ping,
    FromBackend._goaway,
    FromBackend._window_update,
    Frames._no_continuation,
)
