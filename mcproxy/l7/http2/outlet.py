"""Where the frames of a client go once they have passed.

Each method is called once for each frame that passed, in the order of the frames, when the leg has changed already. It
returns what goes on in place of the frame, where the other side speaks HTTP/2 too:

* True: the frame as it is;
* bytes: these;
* None: nothing. An outlet that speaks something else always returns None.

Raises StreamFault or ConnectionFault where the frame can't be used after all, and it is the client's fault.
"""

from typing import Protocol

from mcproxy.l7.http2.frames import Verdict
from mcproxy.l7.http2.header_link import Section
from mcproxy.l7.http2.stream import Stream
from mcproxy.wire.fields import Request, Trailers


class Outlet(Protocol):
    """Takes what a client sent. Where a stream is `unwanted`, its DATA, trailers and reset never come here."""

    __slots__ = ()

    @property
    def suffix(self) -> bytes | None:
        """Literals behind each head that repeats the client's own bytes; None: heads are never repeated.

        The express lane writes such heads itself, without a call of `request`.
        """

    def request(self, stream: Stream, block: bytes, section: Section[Request]) -> bytes | None:
        """A request's head: `block` as the client encoded it, and what it says. Without a body unless it is OPEN."""

    def data(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """A piece of its body: buf[start:end], within its padding where `flags` say PADDED; END_STREAM ends the body.

        The client's windows are the outlet's to open again, by the whole payload: padding counts. Raises nothing.
        """

    def holds(self, stream: Stream, size: int) -> bool:
        """Whether a payload of that size, or trailers, will wait here for the backend's windows.

        If so, the outlet ends the request (`ClientLeg.request_ended`) once its end has gone.
        """

    def trailers(self, stream: Stream, block: bytes, section: Section[Trailers]) -> bytes | None:
        """The end of the body, with trailers."""

    def reset(self, stream: Stream, code: int) -> Verdict:
        """The client has cancelled the stream."""

    def abort(self, stream: Stream) -> bytes | None:
        """We have ended the stream for a fault of the client's."""

    def window(self, stream: Stream | None) -> Verdict:
        """The client's window has grown by a WINDOW_UPDATE: of the stream, or of the connection."""

    def settings(self, pairs: list[tuple[int, int]]) -> bytes | None:
        """Settings of the client that the writer of answers must heed; they are in force."""

    def acknowledged(self) -> bytes | None:
        """The client has acknowledged settings that were announced for the other side."""

    def goaway(self, code: int) -> bytes | None:
        """The client opens no more streams."""

    def dropped(self, size: int) -> None:
        """Bytes of an answer that waited for a window have been dropped with their stream."""
