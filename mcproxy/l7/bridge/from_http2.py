"""Judges the frames of an HTTP/2 backend, and passes answers to the exchange in the words of ends.py.

A connection carries one request at a time, so that any fault, of a stream or of the connection, ends the connection,
and the next request gets another one. Frames for a request that is over are late: they are read for the HPACK table and
the windows, counted, and dropped.

Heads repeat: the section of a block that was seen before, and the head in neutral form that was made of it, cost one
look-up (../http2/header_link.py).
"""

from dataclasses import replace
from typing import Final

from mcproxy.l7.bounds import TURN
from mcproxy.l7.bridge.bounds import KNOWN_HEAD_COST, SHORT_PIECE, STEP_COST, WINDOW_STEP
from mcproxy.l7.bridge.ends import Answered, BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.heads import AnswerHead
from mcproxy.l7.bridge.http2_leg import Http2Leg, Http2Stream
from mcproxy.l7.core import Turn
from mcproxy.l7.http2.backend_frames import BackendFrames, body_length, data_fault
from mcproxy.l7.http2.budgets import FRAME_COST
from mcproxy.l7.http2.frames import END_STREAM, PADDED, Frames, Handler, Verdict, increment_of, unpadded
from mcproxy.l7.http2.header_link import ANSWER_TRAILERS, ANSWERS, HeaderLink, Section, trailers_fault
from mcproxy.l7.meters import SMALL, TALK_FOR_WORK
from mcproxy.wire.fields import BODILESS, FINAL_STATUS, NO_LENGTH, Answer, passed_answer, passed_answer_trailers
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import (
    MAX_STREAM_ID,
    MAX_WINDOW,
    SETTINGS_ACK,
    WINDOW_UPDATE_SIZE,
    WINDOW_UPDATE_START,
    ConnectionFault,
    ErrorCode,
    Setting,
    StreamFault,
    code_name,
    unpack_window_updates,
)

MAX_WINDOWS: Final = TURN // FRAME_COST  # WINDOW_UPDATEs that are taken at once: more of them have turns
_FIRST_BYTES: Final[tuple[bytes, ...]] = (
    b"",
    b"\0",
)  # of what a server of HTTP/2 sends: of the length of SETTINGS, which is short


def neutral(section: Section[Answer]) -> AnswerHead:
    """Return an answer's head in neutral form; made once for each section."""
    head = section.neutral
    if not isinstance(head, AnswerHead):
        section.neutral = head = _neutral(section)
    return head


def _neutral(section: Section[Answer]) -> AnswerHead:
    answer = section.value
    assert answer is not None
    fields = tuple(field for field in passed_answer(section.fields) if field[0][:1] != b":")
    return AnswerHead(answer.status, fields, answer.content_length, answer.grpc_status)


def _of_tunnel(head: AnswerHead) -> AnswerHead:
    """Return the head that opens a tunnel, which has no length (RFC 9110, section 9.3.6)."""
    fields = tuple(field for field in head.fields if field[0] != b"content-length")
    return replace(head, fields=fields, content_length=NO_LENGTH)


class FromHttp2(BackendFrames):
    """Judges a backend's frames. Raises BackendFault, ConnectionFault."""

    def __init__(self, leg: Http2Leg, now: float) -> None:
        super().__init__(HANDLERS, now)
        self.leg = leg
        self._link = HeaderLink()
        self._exchange: Answered | None = None  # for which frames are judged now
        self._is_heard = False  # SETTINGS have come in this read
        self._has_grown = False  # a window has, for what we send

    def __repr__(self) -> str:
        return f"<FromHttp2 {self.leg!r}>"

    def judge(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Judge what came, as far as the turn goes. Returns the bytes taken. Raises BackendFault."""
        if not self.leg.greeted and (self._tail or data)[:1] not in _FIRST_BYTES:
            is_http1 = b"HTTP/1.".startswith(data[:7])
            raise OtherVersion("it speaks HTTP/1, not HTTP/2" if is_http1 else "it does not begin with HTTP/2 frames")
        self.now = now
        if self.renew(now):
            self.leg.work = 0
        self._exchange = exchange
        try:
            taken = self.receive(data, turn, [])
            if self._is_heard or self._has_grown:
                self._stir()
        except ConnectionFault as fault:
            raise BackendFault(str(fault)) from None
        finally:
            self._exchange = None
        return taken

    def opens_windows(self, data: bytes, now: float) -> bool:
        """Take WINDOW_UPDATEs of the request that is under way, if that is all, and they overflow nothing.

        Many servers send two of them for each 32 KiB of an upload. They are counted as `judge` counts them, which is to
        have all other reads: False.
        """
        leg, stream, talk = self.leg, self.leg.stream, self._talk
        count = len(data) // WINDOW_UPDATE_SIZE
        if stream is None or count * WINDOW_UPDATE_SIZE != len(data) or not self.is_between(now):
            return False
        if count > MAX_WINDOWS or talk.count + count > talk.limit + TALK_FOR_WORK * leg.work:
            return False
        stream_id, room, all_room = stream.id, stream.window, leg.window
        for begins, of, increment in unpack_window_updates(data):
            if begins != WINDOW_UPDATE_START or not 0 < increment <= MAX_WINDOW:
                return False
            if of == stream_id:
                room += increment
            elif not of:
                all_room += increment
            else:
                return False
        if room > MAX_WINDOW or all_room > MAX_WINDOW:
            return False
        stream.window, leg.window = room, all_room
        talk.count += count
        return True

    def _listener(self) -> Answered | None:
        exchange = self._exchange
        return None if exchange is None or exchange.over else exchange

    def _stir(self) -> None:
        """Have the exchange send what it can now; once a read, for much of it may be SETTINGS and WINDOW_UPDATE."""
        is_heard, self._is_heard, self._has_grown = self._is_heard, False, False
        if is_heard and (exchange := self._listener()):
            exchange.on_ready()
        stream = self.leg.stream
        if stream is not None and not stream.request_ended and (exchange := self._listener()):
            exchange.send_on()

    def _talks(self) -> None:
        """Count one more frame that carries nothing. Raises Exceeded."""
        self._talk.spend(self.now, TALK_FOR_WORK * self.leg.work)

    def _reply(self, frame: bytes) -> None:
        self.leg.out.append(frame)

    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        """Nothing: `opens_windows` takes whole reads of the usual form."""
        return pos

    def _stream_fault(self, fault: StreamFault) -> bytes | None:
        raise BackendFault(fault.reason)

    def _of(self, stream_id: int, what: str) -> Http2Stream | None:
        """Return the stream of a frame; None: the frame is late. Raises ConnectionFault."""
        stream = self.leg.stream
        if stream is not None and stream.id == stream_id:
            return stream
        if stream_id >= self.leg.next_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on a stream that is idle")
        return None

    # Heads and trailers (section 8.1)

    def _block(self, stream_id: int, flags: int, block: bytes, frame_fault: str = "") -> Verdict:
        stream = self._of(stream_id, "HEADERS")
        if stream is None:
            self._talks()
            self._link.read(block, ANSWERS, self.turn)  # which may move the table
            return None
        if stream.status:
            self._trailers(stream, flags, block)
            return None
        section = self._link.read(block, ANSWERS, self.turn)
        answer, ended = section.value, bool(flags & END_STREAM)
        self.turn.left -= KNOWN_HEAD_COST
        if answer is None:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, f"a malformed answer: {section.fault}")
        if answer.status >= FINAL_STATUS:
            self._begin(stream, answer, neutral(section), ended)
        elif ended:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "an interim head with END_STREAM")
        elif exchange := self._listener():
            exchange.on_interim(neutral(section))
        return None

    def _begin(self, stream: Http2Stream, answer: Answer, head: AnswerHead, ended: bool) -> None:
        """The final head."""
        stream.status = answer.status
        if stream.asks_tunnel and answer.status < 300:
            if not ended and answer.content_length != NO_LENGTH:
                head = _of_tunnel(head)
        elif ended:
            if body_length(stream.method, answer) > 0:
                raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length without a body")
        elif stream.method != b"HEAD" and answer.status not in BODILESS:  # theirs the exchange drops
            stream.lacks = answer.content_length
        if exchange := self._listener():
            exchange.on_head(head, ended)
        if ended:
            self._end(stream, [])

    def _trailers(self, stream: Http2Stream, flags: int, block: bytes) -> None:
        section = self._link.read(block, ANSWER_TRAILERS, self.turn)
        ended = "HEADERS after END_STREAM" if stream.answer_ended else ""
        if fault := ended or trailers_fault(section, flags, "", stream.lacks):
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, fault)
        self._end(stream, passed_answer_trailers(section.fields))

    def _end(self, stream: Http2Stream, trailers: list[Field]) -> None:
        """END_STREAM came."""
        leg = self.leg
        if leg.stream is not stream:
            return  # the exchange has let go of it
        stream.answer_ended = True
        if stream.request_ended:
            leg.stream = None
        if exchange := self._listener():
            exchange.on_end(trailers)

    # Bodies

    def _data(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        stream = self._of(stream_id, "DATA")
        self._count(stream, end - start)
        if stream is None:
            self._late_data(flags, end - start)
            return None
        if flags & PADDED:
            start, end = unpadded(buf, start, end)
        body, ended = end - start, flags & END_STREAM
        self._measure(stream, body, ended)
        if body < SHORT_PIECE:
            self.turn.left -= STEP_COST
            if body < SMALL and not ended:
                self._small_piece(body)
        if body and (exchange := self._listener()):
            # A long piece is copied once only, into what is sent.
            exchange.on_body(buf[start:end] if body < SHORT_PIECE else memoryview(buf)[start:end])
        if ended:
            self._end(stream, [])
        return None

    def _late_data(self, flags: int, size: int) -> None:
        if flags & END_STREAM:
            self._talks()
        elif size < SMALL:
            self._small_piece(size)

    def _measure(self, stream: Http2Stream, body: int, ended: int) -> None:
        """Hold a piece of a body against what its head said. Raises StreamFault."""
        wrong = not stream.status or stream.answer_ended
        self.leg.work += body > 0
        if stream.lacks >= 0:
            stream.lacks -= body
            wrong = wrong or stream.lacks < 0 or (ended > 0 and stream.lacks > 0)
        if wrong:
            fault = data_fault(stream.status > 0, stream.answer_ended)
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, fault)

    def _count(self, stream: Http2Stream | None, size: int) -> None:
        """Count DATA, padding included, and open our windows again (section 6.9)."""
        leg = self.leg
        leg.owed += size
        if leg.owed >= WINDOW_STEP:
            leg.credit()
        if stream is not None:
            stream.owed += size
            if stream.owed >= WINDOW_STEP:
                leg.credit_stream(stream)

    # The rest of section 6

    def _rst_stream(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        if self._of(stream_id, "RST_STREAM") is None:
            self._talks()
        elif self.leg.forget() and (exchange := self._listener()):
            code = int.from_bytes(buf[start:end], "big")
            exchange.on_reset(code, Processed.NO if code == ErrorCode.REFUSED_STREAM else Processed.POSSIBLY)
        return None

    def _heed(self, pairs: list[tuple[int, int]]) -> None:
        """Our table of HPACK is empty for ever, so that the size of the backend's doesn't matter (RFC 7541, 4.2)."""
        leg = self.leg
        for key, value in pairs:
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._resize(value)
            elif key == Setting.MAX_CONCURRENT_STREAMS:
                leg.max_streams = value
            elif key == Setting.ENABLE_CONNECT_PROTOCOL and value:  # RFC 8441, section 3: never taken back
                leg.tunnels = Takes.NOW
        if leg.tunnels is Takes.LATER:
            leg.tunnels = Takes.NEVER
        leg.out.append(SETTINGS_ACK)
        self._is_heard = True

    def _resize(self, initial: int) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE (section 6.9.2). Raises ConnectionFault."""
        leg = self.leg
        delta, leg.initial = initial - leg.initial, initial
        if leg.stream is not None:
            leg.stream.window += delta
            if leg.stream.window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")
        self._has_grown = self._has_grown or delta > 0

    def _goaway(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        """A request that it covers is still answered; another, and one that waits, was not processed (section 6.8)."""
        self._talks()
        leg = self.leg
        leg.leaves = True
        leg.last_id = min(leg.last_id, int.from_bytes(buf[start : start + 4], "big") & MAX_STREAM_ID)
        if leg.stream is not None and leg.covers(leg.stream):
            return None
        if leg.forget() and (exchange := self._listener()):
            code = int.from_bytes(buf[start + 4 : start + 8], "big")
            exchange.on_lost(f"the backend went away (GOAWAY, {code_name(code)})", Processed.NO)
        return None

    def _window_update(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        increment = increment_of(stream_id, buf, start, end)
        leg = self.leg
        if not stream_id:
            leg.window += increment
            if leg.window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
        elif stream := self._of(stream_id, "WINDOW_UPDATE"):
            stream.window += increment
            if stream.window > MAX_WINDOW:
                raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        self._has_grown = True
        return None


# By type.
HANDLERS: Final[tuple[Handler, ...]] = (
    FromHttp2._data,
    Frames._headers,
    BackendFrames._priority,
    FromHttp2._rst_stream,
    BackendFrames._settings,
    Frames._no_push,
    BackendFrames._ping,
    FromHttp2._goaway,
    FromHttp2._window_update,
    Frames._no_continuation,
)
