"""The HTTP/2 connection to a backend: its state, and the frames for it.

It is the outlet of the client's frames, and repeats their bytes. The windows of requests' bodies are in uploads.py;
those of answers are end to end: the backend may send what the client may receive.
"""

from enum import Enum
from typing import Final

from mcproxy.l7.http2.frames import WHOLE, Verdict
from mcproxy.l7.http2.header_link import HeaderLink, Section
from mcproxy.l7.http2.stream import Stream, StreamState
from mcproxy.l7.relay.uploads import Uploads
from mcproxy.wire.fields import Request, Trailers
from mcproxy.wire.http2 import (
    HEADER,
    MAX_FRAME_SIZE,
    PREFACE,
    SETTINGS_ACK,
    ErrorCode,
    Flag,
    Frame,
    Piece,
    Setting,
    goaway,
    headers,
    rst_stream,
    settings,
    window_update,
)

HEADERS: Final = int(Frame.HEADERS)
END_HEADERS: Final = int(Flag.END_HEADERS)
OPEN: Final = StreamState.OPEN
pack: Final = HEADER.pack


class BackendState(Enum):
    """The life of a backend connection."""

    WANTED = "wanted"  # its dial has not begun; frames for it wait
    DIALLING = "dialling"  # its SETTINGS have not come
    UP = "up"  # its SETTINGS have come
    GONE = "gone"  # never reached, or lost


class BackendLeg:
    """The state of a backend connection, and the outlet of its client's frames."""

    __slots__ = ("greeted", "out", "state", "suffix", "up", "uploads")

    def __init__(self, suffix: bytes) -> None:
        """`suffix` is our own fields, as literals: they go behind the fields of each request."""
        self.suffix = suffix
        self.up = HeaderLink()  # the client's header blocks, which the client's leg reads
        self.state = BackendState.WANTED  # at once: its SETTINGS decide what we announce to the client
        self.out: list[Piece] = []  # frames for the backend
        self.uploads = Uploads(self.out)
        self.greeted = False  # `out` begins with the preface, or has begun with it

    def __repr__(self) -> str:
        return f"<BackendLeg {self.state.value}>"

    # What the client sent

    def request(self, stream: Stream, block: bytes, section: Section[Request]) -> bytes | None:
        """The client's own block, with our fields behind it."""
        up = self.up
        passed = block if up.in_step and section.may_pass else up.passed(block, section)  # nearly always without a call
        passed += self.suffix
        flags = END_HEADERS if stream.state is OPEN else WHOLE
        if len(passed) > MAX_FRAME_SIZE:
            return headers(stream.id, passed, flags == WHOLE)
        return pack(len(passed) >> 8, len(passed) & 0xFF, HEADERS, flags, stream.id) + passed

    def data(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """The frame as it is, or later."""
        return self.uploads.take(stream, flags, buf, start, end)

    def holds(self, stream: Stream, size: int) -> bool:
        """Whether the backend's windows have no room for it."""
        return self.uploads.holds(stream, size)

    def trailers(self, stream: Stream, block: bytes, section: Section[Trailers]) -> bytes | None:
        """The client's own block, or later one of ours."""
        if self.uploads.holds(stream, 0):
            self.up.withheld(section)
            self.uploads.take_trailers(stream, section.encoded)
            return None
        return headers(stream.id, self.up.passed(block, section), end_stream=True)

    def reset(self, stream: Stream, code: int) -> Verdict:
        """The frame as it is."""
        return True

    def abort(self, stream: Stream) -> bytes | None:
        """RST_STREAM: the backend need not know whose fault it is."""
        return rst_stream(stream.id, ErrorCode.CANCEL)

    def window(self, stream: Stream | None) -> Verdict:
        """The frame as it is: the windows of answers are end to end."""
        return True

    def settings(self, pairs: list[tuple[int, int]]) -> bytes | None:
        """SETTINGS, if any are to be heeded; the first ones always, with the preface (section 3.4)."""
        if self.greeted:
            return settings(pairs) if pairs else None
        self.greeted = True
        # Before what may wait for the backend already, such as answers to its PING.
        self.out.insert(0, PREFACE + settings([(Setting.ENABLE_PUSH, 0), *pairs]))
        return None

    def acknowledged(self) -> bytes | None:
        """The acknowledgement of the backend's own SETTINGS."""
        return SETTINGS_ACK if self.state is BackendState.UP else None

    def goaway(self, code: int) -> bytes | None:
        """GOAWAY; a client has no last stream to name, for there is no push."""
        return goaway(0, code)

    def dropped(self, size: int) -> None:
        """WINDOW_UPDATE: what waited for the client's window goes no further."""
        self.credit(size)

    # The connection

    def credit(self, size: int) -> None:
        """DATA was dropped here: give its connection window back, for it never counted against the client's."""
        if size:
            self.out.append(window_update(0, size))

    def cancel(self, stream: Stream) -> None:
        """End a stream by our own decision."""
        self.out.append(rst_stream(stream.id, ErrorCode.CANCEL))

    def lose(self) -> None:
        """It was not reached, or has gone: nothing that waits for it is sent."""
        self.state = BackendState.GONE
        self.out.clear()
