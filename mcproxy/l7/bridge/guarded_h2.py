"""One HTTP/2 connection to a backend: h2 in the client's role, with what h2 lacks.

h2 closes its whole state machine when a GOAWAY comes, while RFC 9113, section 6.8 lets the requests that it covers
finish. So GOAWAY frames are taken out of the stream before h2 sees it, and kept as what they say: this connection takes
no further request, and requests above a number were not processed.

h2 also holds the body of every answer against its content-length, by rules of its own: a 304 must have a body as long
as that of another answer (RFC 9110, section 8.6), and a body in the answer to HEAD, which some backends send, ends the
connection. So h2 doesn't get to see the field, nor that the method was HEAD. The exchange drops a body that must not
be, and h11 checks the length of the others on their way to the client.

Any fault that h2 finds ends this connection, never more: the next request gets another one. Windows are given back as
soon as bytes are taken, because back-pressure is that nobody reads a backend whose client doesn't keep up.
"""

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, InformationalResponseReceived, ResponseReceived, TrailersReceived
from h2.exceptions import H2Error, StreamClosedError
from h2.settings import SettingCodes, Settings
from hpack import Decoder, Encoder, HeaderTuple
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError

from mcproxy.l7.bridge.bounds import H2_FRAME_COST, HEAD_FIELD_COST, MAX_GOAWAY, WINDOW
from mcproxy.l7.bridge.ends import BackendFault
from mcproxy.l7.core import Turn
from mcproxy.l7.meters import BARREN, SMALL, BackendMeters, Exceeded
from mcproxy.wire.fields import MAX_HEADER_LIST, Malformed, check_answer, check_answer_trailers
from mcproxy.wire.hpack_block import CLEAR_TABLE, Field, encode
from mcproxy.wire.http2 import HEADER, HEADER_SIZE, MAX_FRAME_SIZE, MAX_STREAM_ID, ErrorCode, Frame

_CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_inbound_headers=False,  # ours are the rules: it refuses blanks around a value (wire/fields.py)
    normalize_inbound_headers=False,  # it joins cookie fields, which mean nothing in an answer, and puts them last
    normalize_outbound_headers=False,
    validate_outbound_headers=False,  # check_request and the like have done so
)
_HIDDEN = b":content-length"
_HEADS = (ResponseReceived, InformationalResponseReceived, TrailersReceived)
_SETTINGS = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}


class _PlainEncoder(Encoder):
    """HPACK without a dynamic table and Huffman codes.

    hpack searches its table for each field, 8 us each, and makes the codes in pure Python, 0.3 s for a field of 60,000
    bytes. The first block says that our table is empty, so that no later setting of the backend's asks for more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._prefix = CLEAR_TABLE  # of the next block

    def encode(self, headers: Any, huffman: bool = False) -> bytes:  # noqa: ARG002 - h2 leaves it out
        prefix, self._prefix = self._prefix, b""
        return prefix + encode(list(headers))


class _Decoder(Decoder):
    """HPACK that hides content-length from h2 under a name that no field has."""

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:
        fields = super().decode(data, raw)
        return [HeaderTuple(_HIDDEN, field[1]) if field[0] == b"content-length" else field for field in fields]


class GuardedH2:
    """One connection's state. No socket: bytes in, events out; what is to be sent waits in h2."""

    def __init__(self) -> None:
        self._h2 = H2Connection(_CONFIG)
        self._h2.encoder = _PlainEncoder()
        self._h2.decoder = _Decoder(MAX_HEADER_LIST)
        self._h2.local_settings = Settings(client=True, initial_values=_SETTINGS)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        self._held = b""  # a frame's header that is not whole, or a GOAWAY that is not
        self._passing = 0  # bytes of the current frame that are h2's
        self.processed = MAX_STREAM_ID  # streams above it were not processed, says its GOAWAY
        self.accepts = True  # further requests
        self.heard = False  # its SETTINGS have come
        self.meters = BackendMeters(0.0)  # the first period begins with the first frame
        self.requests = 0

    def __repr__(self) -> str:
        return f"<GuardedH2 requests={self.requests}{'' if self.accepts else ' going away'}>"

    @property
    def offers_websocket(self) -> bool:
        """Whether it takes an extended CONNECT (RFC 8441, section 3)."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    def request(self, fields: tuple[Field, ...], end: bool) -> int:
        """Begin a request; returns its stream. Raises BackendFault."""
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, fields, end_stream=end)
            self._h2.streams[stream].request_method = None
        except H2Error as error:
            raise self._fault(error) from error
        self.requests += 1
        self.meters.work += 1
        return stream

    def room(self, stream: int) -> int:
        """Bytes of a body that may go now. Raises BackendFault."""
        try:
            return int(self._h2.local_flow_control_window(stream))
        except H2Error as error:
            raise self._fault(error) from error

    def send(self, stream: int, data: bytes) -> None:
        """Send a piece of a body, of at most `room` bytes. Raises BackendFault."""
        size = self._h2.max_outbound_frame_size
        try:
            for start in range(0, len(data), size):
                self._h2.send_data(stream, data[start : start + size])
        except H2Error as error:
            raise self._fault(error) from error

    def end(self, stream: int, trailers: list[Field]) -> None:
        """End a request. Raises BackendFault."""
        try:
            if trailers:
                self._h2.send_headers(stream, trailers, end_stream=True)
            else:
                self._h2.end_stream(stream)
        except H2Error as error:
            raise self._fault(error) from error

    def cancel(self, stream: int) -> None:
        """Nobody waits for this answer, or nobody sends the rest of this request. Raises BackendFault."""
        try:
            self._h2.reset_stream(stream, ErrorCode.CANCEL)
        except StreamClosedError:
            return  # the backend was first
        except H2Error as error:
            raise self._fault(error) from error

    def take(self) -> bytes:
        """What is to be sent."""
        return bytes(self._h2.data_to_send())

    def receive(self, data: bytes, turn: Turn, now: float) -> tuple[list[Event], int]:
        """Judge what came, as far as the turn goes. Returns how many bytes were taken, too. Raises BackendFault."""
        if not self.heard and data.startswith(b"HTTP/1."):
            raise BackendFault("it speaks HTTP/1, not HTTP/2; switch on h2c there, or let TLS end there and take l4")
        try:
            passed, taken = self._for_h2(data, turn, now)
            events: list[Event] = self._h2.receive_data(passed) if passed else []
            for event in events:
                if isinstance(event, DataReceived) and event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if not event.data and event.stream_ended is None:
                        self.meters.nothing_but_padding(now)
                elif isinstance(event, _HEADS):
                    turn.spend(HEAD_FIELD_COST * len(event.headers))
        except (Exceeded, H2Error, HPACKError, HyperframeError, ValueError) as error:
            raise self._fault(error) from error
        return events, taken

    def _fault(self, error: Exception) -> BackendFault:
        self.accepts = False
        return BackendFault(f"{type(error).__name__}: {error}")

    def _for_h2(self, data: bytes, turn: Turn, now: float) -> tuple[bytes, int]:
        """Keep GOAWAY frames back, and act on them.

        Returns what h2 gets, and how many bytes were taken.
        """
        pace = self.meters.pace
        if not self._held and len(data) <= self._passing:
            self._passing -= len(data)
            if len(data) < SMALL and self._passing:
                pace.spend(now, BARREN)
            return data, len(data)
        held, self._held = self._held, b""
        data = held + data
        out, at = [data[: self._passing]], self._passing
        self._passing = 0
        while at < len(data) and not (turn.over or pace.over):
            if len(data) - at < HEADER_SIZE:
                self._held = data[at:]
                break
            high, low, kind, flags, _ = HEADER.unpack_from(data, at)
            size = HEADER_SIZE + (high << 8 | low)
            turn.spend(H2_FRAME_COST)
            self._check(kind, size)
            self.meters.count(kind, flags, size - HEADER_SIZE, now)
            if kind != Frame.GOAWAY:
                out.append(data[at : at + size])
                self._passing = max(0, at + size - len(data))
            elif size > HEADER_SIZE + MAX_GOAWAY or size < HEADER_SIZE + 8:
                raise ValueError(f"a GOAWAY of {size - HEADER_SIZE} bytes")
            elif len(data) - at < size:
                self._held = data[at:]
                break
            else:
                self._goaway(data[at + HEADER_SIZE : at + size])
            at += size
        taken = len(data) if self._held else min(at, len(data))
        return b"".join(out), taken - len(held)

    def _check(self, kind: int, size: int) -> None:
        if size > HEADER_SIZE + MAX_FRAME_SIZE:  # h2 would first wait for all of it
            raise ValueError(f"a frame of {size - HEADER_SIZE} bytes")
        if not self.heard and kind != Frame.SETTINGS:
            raise ValueError("no HTTP/2: it does not begin with SETTINGS")  # RFC 9113, section 3.4
        self.heard = True

    def _goaway(self, payload: bytes) -> None:
        self.accepts = False
        self.processed = min(self.processed, int.from_bytes(payload[:4], "big") & MAX_STREAM_ID)


def checked_head(headers: object) -> list[Field]:
    """An answer's head as `fields_of` gives it, which h2 does not judge. Raises BackendFault."""
    fields = fields_of(headers)
    try:
        check_answer(fields)
    except Malformed as fault:
        raise BackendFault(str(fault)) from fault
    return fields


def checked_trailers(headers: object) -> list[Field]:
    """An answer's trailers, likewise. Raises BackendFault."""
    fields = fields_of(headers)
    try:
        check_answer_trailers(fields)
    except Malformed as fault:
        raise BackendFault(str(fault)) from fault
    return fields


def fields_of(headers: object) -> list[Field]:
    """What h2 has decoded, as bytes."""
    return [
        (b"content-length" if name == _HIDDEN else bytes(name), bytes(value))
        for name, value in headers  # type: ignore[attr-defined]
    ]
