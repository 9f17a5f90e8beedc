"""What holds for the frames of any backend, whatever becomes of its answers.

The relay passes them (../relay/from_backend.py), the bridge makes exchanges' answers of them
(../bridge/from_http2.py). Both count the same frames by the same meters, and hold a body against the same length.
"""

from abc import abstractmethod
from typing import Final

from mcproxy.l7.http2.budgets import MAX_SETTINGS
from mcproxy.l7.http2.frames import Frames, Handler, Verdict
from mcproxy.l7.meters import Loop, Meter
from mcproxy.wire.fields import BODILESS, Answer
from mcproxy.wire.http2 import ConnectionFault, ErrorCode, parse_settings, ping

ANY_LENGTH: Final = -1  # of a body that is not held against content-length


class BackendFrames(Frames):
    """Frames of a backend: those that concern no exchange are judged here."""

    def __init__(self, handlers: tuple[Handler, ...], now: float) -> None:
        super().__init__(handlers, Loop.BACKEND_EMPTY, Loop.BACKEND_PIECES, now)
        self._talk = Meter(Loop.BACKEND_TALK, now)
        self._settings_meter = Meter(Loop.BACKEND_SETTINGS, now)
        self.meters += [self._talk, self._settings_meter]

    @abstractmethod
    def _talks(self) -> None:
        """Count one more frame that carries nothing. Raises Exceeded."""

    @abstractmethod
    def _heed(self, pairs: list[tuple[int, int]]) -> None:
        """Put the backend's settings into force. Raises ConnectionFault."""

    @abstractmethod
    def _reply(self, frame: bytes) -> None:
        """Send a frame to the backend."""

    def _priority(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        return None

    def _settings(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        if flags:
            self._talks()
        else:
            self._settings_meter.spend(self.now)
            if end - start > MAX_SETTINGS * 6:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings in one frame")
            self._heed(parse_settings(buf[start:end]))
        return None

    def _ping(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        if not flags:
            self._reply(ping(buf[start:end], ack=True))
        return None

    def _unknown(self, flags: int, stream_id: int, buf: bytes, start: int, end: int) -> Verdict:
        self._talks()
        return None


def body_length(method: bytes, answer: Answer) -> int:
    """Return how many bytes of a body have to follow a final head, or ANY_LENGTH (RFC 9110, section 8.6)."""
    if method == b"HEAD" or answer.status in BODILESS:
        return 0
    return ANY_LENGTH if method == b"CONNECT" else answer.content_length


def data_fault(begun: bool, ended: bool) -> str:
    """Return what is wrong with DATA of an answer whose head has come (`begun`), and whose end has (`ended`)."""
    if not begun:
        return "DATA before the answer's head"
    return "DATA after END_STREAM" if ended else "the body is not of content-length"
