"""The client's end of an exchange in HTTP/1.1: a `ClientEnd` (ends.py).

The backend's readers have checked names, values and lengths, so that a head is written as it is (`AnswerHead.lines`).
What is decided here is how the body is framed for this client, and whether its connection goes on (RFC 9112, sections
6 and 9.3). An answer must be as long as it says: a client would take the next one for the rest of it, or a part for
the whole.

Bodies are not copied: a chunk's size, its data and its end are three pieces, which `take` joins only
where they are small.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from mcproxy.l7.bounds import RETRY_AFTER
from mcproxy.l7.bridge.ends import BackendFault, ClientEnd
from mcproxy.l7.bridge.heads import AnswerHead, field_lines
from mcproxy.l7.bridge.translate import accept_key
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.pieces import taken
from mcproxy.wire.fields import BODILESS
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head
from mcproxy.wire.http2 import Piece
from mcproxy.wire.phrases import phrase

_CRLF: Final = b"\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Of a handshake's answer in HTTP/2: a tunnel has no length, and each version has a handshake of its own.
_NOT_IN_101: Final = frozenset((b"content-length", b"sec-websocket-accept"))


class _Writing(Enum):
    """What of the answer is to be written next."""

    HEAD = "head"
    NOTHING = "nothing"  # but its end: it has no body
    COUNTED = "counted"  # a body whose length is declared
    CHUNKED = "chunked"  # a body in chunks
    ENDLESS = "endless"  # a body that ends with the connection, for HTTP/1.0; or a tunnel
    DONE = "done"


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
CHUNKED: Final = _Writing.CHUNKED
COUNTED: Final = _Writing.COUNTED
DONE: Final = _Writing.DONE
ENDLESS: Final = _Writing.ENDLESS
HEAD: Final = _Writing.HEAD
NOTHING: Final = _Writing.NOTHING


class Http1Answers(ClientEnd):
    """Writes the answer to one request at a time, made ready by `begin` and `next_message`."""

    __slots__ = ("_head", "_key", "_left", "_out", "_persists", "_writing", "broken", "last")
    has_room = True  # the drive bounds the bytes that are unsent
    must_read_on = True

    def __init__(self) -> None:
        self._head: Head | None = None  # the request's; None: it could not be read
        self._key = b""  # its Sec-WebSocket-Key
        self._out: list[Piece] = []
        self._writing = HEAD
        self._left = 0  # bytes of a counted body
        self._persists = False  # the client can send another request
        self.last = False  # the connection takes no further request
        self.broken = False  # an answer broke off: the connection must end with a RST

    def __repr__(self) -> str:
        return f"<Http1Answers {self._writing.value}{' broken' if self.broken else ''}>"

    def take(self) -> Sequence[Piece]:
        """Bytes for the client, each once."""
        return taken(self._out)

    @property
    def wait(self) -> bool:
        """Whether there are any."""
        return bool(self._out)

    def begin(self, head: Head, key: bytes = b"") -> None:
        """Get ready to answer a request; `key` is its Sec-WebSocket-Key, if it asks for a WebSocket."""
        self._head = head
        self._key = key
        self._persists = head.persists

    def next_message(self) -> bool:
        """Get ready for another request. False: there can't be one."""
        if self._writing is not DONE or not self._persists or self.broken:
            return False
        self._writing = HEAD
        self._head = None
        return True

    # Writing: ClientEnd

    def interim(self, head: AnswerHead) -> None:
        """Write a 1xx head that the backend sent."""
        self._out.append(head.lines + _CRLF)

    def invite(self) -> None:
        """Write our own 100 (Continue)."""
        self._out.append(_CONTINUE)

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:
        """Write a final head. `empty`: no body follows. `last`: the connection takes no further request."""
        request = self._head
        lines = head.lines
        if head.status in BODILESS or (request is not None and request.method == b"HEAD"):
            self._writing = NOTHING
        elif head.content_length >= 0:
            self._left = head.content_length
            self._writing = COUNTED
        elif empty:
            lines += b"content-length: 0\r\n"
            self._writing = NOTHING
        elif request is not None and request.minor == 1:
            lines += b"transfer-encoding: chunked\r\n"
            self._writing = CHUNKED
        else:
            last = True
            self._writing = ENDLESS
        self._out.append(lines + self._ending(last))

    def whole(self, head: AnswerHead, body: Piece) -> None:
        """Write a whole answer, whose body is as long as the head says."""
        self._out += (head.lines + self._ending(False), body)
        self._writing = DONE

    def _ending(self, last: bool) -> bytes:
        """The end of a head: it says whether the connection goes on, where the version doesn't (section 9.3)."""
        if last or self.last or not self._persists:
            self._persists = False
            return b"connection: close\r\n\r\n"
        if self._head is not None and self._head.minor == 0:
            return b"connection: keep-alive\r\n\r\n"
        return _CRLF

    def tunnel(self, head: AnswerHead) -> int:
        """Write 101 (Switching Protocols): the backend's own, or one for its answer in HTTP/2. Returns the status."""
        if head.status == 101:
            lines = b"%bupgrade: %b\r\n" % (head.lines, head.upgrade_to)
        else:
            kept = [field for field in head.fields if field[0] not in _NOT_IN_101]
            lines = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nsec-websocket-accept: %b\r\n%b" % (
                accept_key(self._key),
                field_lines(kept),
            )
        self._out.append(lines + b"connection: upgrade\r\n\r\n")
        self._writing = ENDLESS
        self._persists = False
        return 101

    def body(self, data: Piece) -> None:
        """Write a piece of the body, or of the tunnel. Raises BackendFault where it is more than was declared."""
        writing = self._writing
        if not data:
            return  # a chunk of no bytes would be the last
        if writing is COUNTED:
            self._left -= len(data)
            if self._left < 0:
                raise BackendFault("a body longer than its content-length")
            self._out.append(data)
        elif writing is CHUNKED:
            self._out += (b"%x\r\n" % len(data), data, _CRLF)
        elif writing is ENDLESS:
            self._out.append(data)
        else:
            raise BackendFault("a body with an answer that has none")

    def end(self, trailers: list[Field]) -> None:
        """Write the end; trailers go only behind chunks. Raises BackendFault where the body is too short."""
        if self._writing is COUNTED and self._left:
            raise BackendFault("a body shorter than its content-length")
        if self._writing is CHUNKED:
            self._out.append(b"0\r\n%b\r\n" % field_lines(trailers))
        self._writing = DONE

    def own(self, status: int, last: bool, why: str) -> int:  # noqa: ARG002 - gRPC is answered in HTTP/2
        """Write a whole answer of our own. Returns the size of its body in bytes."""
        words = phrase(status)
        body = b"%d %b\n" % (status, words)
        later = b"retry-after: %d\r\n" % RETRY_AFTER if status == 503 else b""
        self._out.append(
            b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n%b%b"
            % (status, words, len(body), later, self._ending(last))
        )
        self._writing = DONE
        if self._head is not None and self._head.method == b"HEAD":
            return 0
        self._out.append(body)
        return len(body)

    def reset(self) -> None:
        """The answer broke off. Only a RST says that in HTTP/1.1: the connection reads `broken`, and ends so.

        One that lacks nothing but the backend's word that it ends is complete for the client, which may ask again.
        """
        if self._writing is NOTHING or (self._writing is COUNTED and not self._left):
            self._writing = DONE
        else:
            self.broken = True

    def taken(self, size: int) -> None:
        """Some of the request's body has gone: TCP's window says that here."""

    def over(self, end: ExchangeEnd, why: str) -> None:
        """The exchange is over: client_http1.py decides what follows."""
