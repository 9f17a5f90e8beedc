"""HTTP/1.1 answers, strictly: where a head ends, what it says, and how its body is framed (RFC 9112).

A backend that is misread answers one client with what belongs to another. So, as in requests (http1.py), whatever RFC
9112 lets a lenient reader repair is refused: a bare CR or LF, a folded line, a blank before the colon, Content-Length
beside Transfer-Encoding or twice, any coding but chunked. Unlike a request, an answer may end with its connection.

| of an answer | rule | source |
| --- | --- | --- |
| version | HTTP/1.0 and HTTP/1.1 | 9112, 2.3 |
| status | 100 to 999; the phrase is dropped, and may be missing with the blank before it | 9112, 4 |
| body | none for HEAD, 1xx, 204, 304, whatever the fields say; else as they say | 9112, 6.3 |
| - neither length nor coding | to the end of the connection | 9112, 6.3 |
| Content-Length | of 1xx and 204 it doesn't pass: it must not be there, and frames nothing | 9110, 8.6 |
| Transfer-Encoding | chunked, once, and only in HTTP/1.1 | 9112, 6.1 |
| Connection | names at most 64 fields, which end here; `close` is obeyed | 9112, 9.3 |
| size | 64 KiB and 256 fields | - |

`Answers` is given the bytes of a connection that were not taken yet. In order: `expect`; `head_size`; `begin_body`
behind the final head; `next_body` if there is one. Every fault is a BadMessage, whose `why` names the field.
"""

import re
from typing import Final, NamedTuple

from mcproxy.wire.fields import BODILESS, FINAL_STATUS, NO_LENGTH, shown
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1_framing import (
    END,
    BadMessage,
    Body,
    check_coding,
    head_size,
    members,
    only,
    parse_fields,
)

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?").fullmatch
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_VERSION: Final = b"HTTP/1."


class RawAnswer(NamedTuple):
    """An answer's head, as the backend sent it."""

    status: int
    minor: int  # of HTTP/1.0 or HTTP/1.1
    fields: tuple[Field, ...]  # names in lower case
    length: int = NO_LENGTH  # that is declared; the body's, if the answer has one
    chunked: bool = False
    connection: frozenset[bytes] = frozenset()  # members of Connection

    @property
    def is_interim(self) -> bool:
        """Whether another head follows."""
        return self.status < FINAL_STATUS

    @property
    def may_have_body(self) -> bool:
        """Whether its status allows a body."""
        return not self.is_interim and self.status not in BODILESS

    @property
    def persists(self) -> bool:
        """Whether the backend means to keep the connection (RFC 9112, section 9.3)."""
        return b"close" not in self.connection and (self.minor == 1 or b"keep-alive" in self.connection)


def parse_answer(raw: bytes) -> RawAnswer:
    """Read a head that ends in an empty line. Raises BadMessage."""
    status_line, *lines = raw[: -len(END)].split(b"\r\n")
    match = _STATUS_LINE(status_line)
    if match is None:
        raise BadMessage(502, _line_fault(status_line))
    is_1_1 = match[1] == b"1"
    try:
        fields = parse_fields(lines)
    except BadMessage as bad:
        raise _folded(lines) or bad from None
    seen = only(fields, _FRAMING)
    coding, length = seen.get(b"transfer-encoding"), seen.get(b"content-length")
    check_coding(coding, length, is_1_1)
    declared = NO_LENGTH if length is None else int(length)
    return RawAnswer(int(match[2]), int(is_1_1), fields, declared, coding is not None, members(fields, b"connection"))


def _line_fault(line: bytes) -> str:
    """Return what is wrong with a status line (section 4)."""
    if line.startswith(b"HTTP/") and not line.startswith((b"HTTP/1.0 ", b"HTTP/1.1 ")):
        return "an answer in neither HTTP/1.0 nor HTTP/1.1"
    return "a malformed status line"


def _folded(lines: list[bytes]) -> BadMessage | None:
    """Return the fault of a folded line, if there is one (section 5.2): it is the field before that has it."""
    for before, line in zip([b"", *lines], lines, strict=False):
        if line[:1] in (b" ", b"\t"):
            name = shown(before.partition(b":")[0])
            return BadMessage(502, f"a folded line behind {name}" if name else "a folded line")
    return None


def is_frames(data: bytes) -> bool:
    """Whether an answer begins as HTTP/2 does: with the frame header of SETTINGS or GOAWAY, whose first byte is 0."""
    return data[:1] == b"\0" and data[3:4] in (b"", b"\4", b"\7")


class Answers:
    """Where in the answers of one backend connection its bytes belong. Keeps none of them."""

    __slots__ = ("_body", "_head_only", "searched")

    def __init__(self) -> None:
        self._body = Body()
        self._head_only = False  # the request is a HEAD
        self.searched = 0  # bytes in which no head ends; to be 0 again once it was read otherwise, from a cache

    def __repr__(self) -> str:
        return f"<Answers {self._body!r}>"

    @property
    def in_body(self) -> bool:
        """Whether some of a body, or its framing, is still to come."""
        return not self._body.is_complete

    @property
    def ends_with_connection(self) -> bool:
        """Whether the body is as long as the connection lasts."""
        return self._body.ends_with_connection

    @property
    def trailers(self) -> list[Field]:
        """The trailers of this answer."""
        return self._body.trailers

    @property
    def is_special(self) -> bool:
        """Whether the next head is that of a HEAD's answer, or some of it was looked at."""
        return self._head_only or self.searched > 0

    def expect(self, head_only: bool) -> None:
        """A request was sent; `head_only`: a HEAD, whose answer has no body."""
        self._head_only = head_only

    def head_size(self, data: bytes) -> int:
        """How many bytes the head takes that `data` begins with; 0: not all of it is there. Raises BadMessage.

        Then it is to be called with the same bytes and more behind them. `parse_answer` reads it.
        """
        if not data.startswith(_VERSION[: len(data)]):
            raise BadMessage(502, _line_fault(data[:16]))
        size = head_size(data, 0, self.searched)
        self.searched = 0 if size else len(data)
        return size

    def begin_body(self, answer: RawAnswer) -> bool:
        """Get ready for what follows a final head (section 6.3). Returns whether that is anything."""
        if self._head_only or not answer.may_have_body:
            self._body.begin(NO_LENGTH, chunked=False)
        elif answer.chunked or answer.length >= 0:
            self._body.begin(answer.length, answer.chunked)
        else:
            self._body.begin_endless()
        return self.in_body

    def begin_tunnel(self) -> None:
        """HTTP is over behind a 101: from here on `next_body` takes whatever comes."""
        self._body.begin_endless()

    def next_body(self, data: bytes, at: int, max_steps: int, body: list[bytes]) -> tuple[int, int]:
        """Append what is there of the body from `at` on; a piece that is all of `data` is `data` itself.

        Takes at most `max_steps`, one for each line or piece. Returns the position that it came to, and the steps.
        Raises BadMessage.
        """
        return self._body.take(data, at, max_steps, body)
