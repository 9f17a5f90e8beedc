"""HTTP/2 frames: the constants of RFC 9113, our own frames as bytes, and SETTINGS as values.

Frames of others are never built into objects: the relay cuts them by their 9-byte header (`HEADER`) and passes slices.
This file has the frames that the relay itself sends, and the two kinds of fault of RFC 9113, section 5.4.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum, IntFlag
from typing import Final

Piece = bytes | memoryview  # of what is sent; a view is of a large piece that is sent in frames, uncopied
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4
HEADER_SIZE: Final = 9
# Section 4.1: length (24 bits, as 16 and 8), type, flags, reserved bit and stream identifier.
HEADER: Final = struct.Struct(">HBBBL")
# With its types, which struct doesn't know: where this is compiled, what is done with the numbers takes no objects.
unpack_header: Final[Callable[[bytes, int], tuple[int, int, int, int, int]]] = HEADER.unpack_from

MAX_FRAME_SIZE: Final = 16_384  # section 4.2: every peer must accept this size; we accept no more
MAX_WINDOW: Final = 2**31 - 1  # section 6.9.1
MAX_STREAM_ID: Final = 2**31 - 1  # section 5.1.1
DEFAULT_WINDOW: Final = 65_535  # section 6.9.2
DEFAULT_TABLE_SIZE: Final = 4_096  # section 6.5.2


class Frame(IntEnum):
    """Frame types (section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


KNOWN_FRAMES: Final = len(Frame)


class Flag(IntFlag):
    """Frame flags (section 6)."""

    END_STREAM = 0x01  # DATA, HEADERS
    ACK = 0x01  # SETTINGS, PING
    END_HEADERS = 0x04
    PADDED = 0x08
    PRIORITY = 0x20


class ErrorCode(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


_CODE_NAMES: Final = {int(code): code.name for code in ErrorCode}


def code_name(code: int) -> str:
    """An error code as people know it; one that RFC 9113 doesn't define as its number."""
    return _CODE_NAMES.get(code) or f"0x{code:x}"


class Setting(IntEnum):
    """Settings (section 6.5.2; RFC 8441, section 3)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8


class ConnectionFault(Exception):
    """The peer broke a rule of the whole connection: GOAWAY with `code`, then close (section 5.4.1)."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why  # for the debug data of GOAWAY and for the log; holds nothing of the other peer

    def __str__(self) -> str:
        return f"{self.code.name}: {self.why}"


class StreamFault(Exception):
    """The peer broke a rule of one stream: RST_STREAM with `code` (section 5.4.2)."""

    def __init__(self, stream_id: int, code: ErrorCode, why: str) -> None:
        super().__init__(stream_id, code, why)
        self.stream_id = stream_id
        self.code = code
        self.why = why

    @property
    def reason(self) -> str:
        """The fault without its stream, for the stream's own line of the log."""
        return f"{self.code.name}: {self.why}"

    def __str__(self) -> str:
        return f"stream {self.stream_id}: {self.reason}"


# Plain numbers, named once (CONTRIBUTING says why): each `|` of two flags would make a new member.
_DATA: Final = int(Frame.DATA)
_HEADERS: Final = int(Frame.HEADERS)
_RST_STREAM: Final = int(Frame.RST_STREAM)
_SETTINGS: Final = int(Frame.SETTINGS)
_PING: Final = int(Frame.PING)
_GOAWAY: Final = int(Frame.GOAWAY)
_WINDOW_UPDATE: Final = int(Frame.WINDOW_UPDATE)
_CONTINUATION: Final = int(Frame.CONTINUATION)
_END_STREAM: Final = int(Flag.END_STREAM)
_END_HEADERS: Final = int(Flag.END_HEADERS)
_ACK: Final = int(Flag.ACK)


def frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The 9 bytes before a payload of `size` bytes."""
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def rst_stream(stream_id: int, code: int) -> bytes:
    """RST_STREAM (section 6.4)."""
    return frame_header(4, _RST_STREAM, 0, stream_id) + code.to_bytes(4, "big")


def goaway(last_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY (section 6.8); streams above `last_id` were not and will not be processed."""
    payload = struct.pack(">LL", last_id, code) + debug
    return frame_header(len(payload), _GOAWAY, 0, 0) + payload


# How every WINDOW_UPDATE begins, its length, and its beginning, stream and increment: an upload brings very many.
WINDOW_UPDATE_START: Final = frame_header(4, _WINDOW_UPDATE, 0, 0)[:5]
WINDOW_UPDATE_SIZE: Final = HEADER_SIZE + 4
_WINDOW_UPDATES: Final = struct.Struct(">5sLL")
unpack_window_update: Final[Callable[[bytes, int], tuple[bytes, int, int]]] = _WINDOW_UPDATES.unpack_from
unpack_window_updates: Final[Callable[[bytes], Iterator[tuple[bytes, int, int]]]] = _WINDOW_UPDATES.iter_unpack


def window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE (section 6.9); `increment` in bytes, 1 to 2**31-1."""
    return frame_header(4, _WINDOW_UPDATE, 0, stream_id) + increment.to_bytes(4, "big")


def ping(payload: bytes, ack: bool = False) -> bytes:
    """PING (section 6.7) with its 8 bytes."""
    return frame_header(8, _PING, _ACK if ack else 0, 0) + payload


def settings(pairs: list[tuple[int, int]]) -> bytes:
    """SETTINGS (section 6.5)."""
    payload = b"".join(struct.pack(">HL", key, value) for key, value in pairs)
    return frame_header(len(payload), _SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = frame_header(0, _SETTINGS, _ACK, 0)


def data(stream_id: int, payload: bytes, end_stream: bool = False) -> bytes:
    """One DATA frame (section 6.1); the payload fits into one frame."""
    return frame_header(len(payload), _DATA, _END_STREAM if end_stream else 0, stream_id) + payload


def headers(stream_id: int, block: bytes, end_stream: bool = False) -> bytes:
    """HEADERS with its header block, in CONTINUATION frames (section 6.10) what doesn't fit into one frame."""
    flags = _END_STREAM if end_stream else 0
    if len(block) <= MAX_FRAME_SIZE:
        return frame_header(len(block), _HEADERS, flags | _END_HEADERS, stream_id) + block
    out = [frame_header(MAX_FRAME_SIZE, _HEADERS, flags, stream_id), block[:MAX_FRAME_SIZE]]
    for start in range(MAX_FRAME_SIZE, len(block), MAX_FRAME_SIZE):
        piece = block[start : start + MAX_FRAME_SIZE]
        last = start + MAX_FRAME_SIZE >= len(block)
        out.append(frame_header(len(piece), _CONTINUATION, _END_HEADERS if last else 0, stream_id))
        out.append(piece)
    return b"".join(out)


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of one frame in their order, unknown ones included, values checked.

    Raises ConnectionFault (sections 6.5 and 6.5.2; RFC 8441, section 3).
    """
    if len(payload) % 6:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "the length of SETTINGS is not a multiple of 6")
    pairs = list(struct.iter_unpack(">HL", payload))
    for key, value in pairs:
        if key in (Setting.ENABLE_PUSH, Setting.ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{Setting(key).name} is neither 0 nor 1")
        if key == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE exceeds 2**31-1")
        if key == Setting.MAX_FRAME_SIZE and not 2**14 <= value < 2**24:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is not in 2**14..2**24-1")
    return pairs
