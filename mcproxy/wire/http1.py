"""HTTP/1.1 requests, strictly: where a head ends, what it says, and which bytes are its body's (RFC 9112).

Request smuggling needs two readers that find different ends of one message. So everything that RFC 9112 lets a lenient
reader repair is refused here: a bare CR or LF, a folded line, a blank before the colon, Content-Length beside
Transfer-Encoding or twice, any coding but chunked, a second Host. And this is the only reader of HTTP/1.1 requests: h11
is lenient where RFC 9112 allows that, so a check of ours would have to come before it, and be the second reader.

What is malformed for HTTP/2, too, is not judged here but behind the translation, by the rules of requests.py.

`Requests` is given the bytes of a connection that were not taken yet, and finds in them the next head, or more of a
body. It refuses with `BadMessage`, which has the status to answer; the connection can't go on then.
"""

import re
from typing import Final, NamedTuple

from mcproxy.wire.fields import NO_LENGTH
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1_framing import (
    END,
    TOKEN,
    BadMessage,
    Body,
    check_coding,
    head_size,
    members,
    only,
    parse_fields,
)

MAX_TARGET: Final = 16_384  # bytes; RFC 9112, section 3 asks for 8,000 at least
MAX_EMPTY_LINES: Final = 16  # before a request; old clients send one or two behind a body (RFC 9112, section 2.2)

_REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([!\"$-~\x80-\xff]+) HTTP/([0-9])\.([0-9])").fullmatch
_empty_lines: Final = re.compile(rb"(?:\r\n)*").match
_FRAMING: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))


class Head(NamedTuple):
    """A request's head."""

    method: bytes
    target: bytes
    minor: int  # of HTTP/1.0 or HTTP/1.1
    fields: tuple[Field, ...]  # names in lower case
    host: bytes | None  # None: HTTP/1.0 without one
    length: int = NO_LENGTH  # of the body
    chunked: bool = False
    persists: bool = False  # the client may send another request behind this one (RFC 9112, section 9.3)

    @property
    def has_body(self) -> bool:
        """True if bytes of this message follow the head."""
        return self.chunked or self.length > 0

    def with_target(self, target: bytes) -> "Head":
        """Return the same head for another target."""
        return Head(self.method, target, self.minor, self.fields, self.host, self.length, self.chunked, self.persists)

    def tokens(self, wanted: bytes) -> frozenset[bytes]:
        """Return a field's comma-separated members, in lower case, without parameters. Raises BadMessage."""
        return members(self.fields, wanted)

    def __repr__(self) -> str:
        return f"<Head {self.method!r} {self.target!r} HTTP/1.{self.minor}>"


def parse_head(raw: bytes) -> Head:
    """Read a head that ends in an empty line, without any line before the request line. Raises BadMessage."""
    request_line, *lines = raw[: -len(END)].split(b"\r\n")
    match = _REQUEST_LINE(request_line)
    if match is None:
        raise BadMessage(400, _line_fault(request_line))
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise BadMessage(505, "neither HTTP/1.0 nor HTTP/1.1")
    if len(target) > MAX_TARGET:
        raise BadMessage(414, f"a target of {len(target)} bytes")
    fields = parse_fields(lines)
    host, length, chunked = _framing(fields, minor == b"1")
    return Head(method, target, int(minor), fields, host, length, chunked, _persists(fields, minor == b"1"))


def _persists(fields: tuple[Field, ...], is_1_1: bool) -> bool:
    """Whether the client means to keep the connection: HTTP/1.0 has to say so."""
    try:
        connection = members(fields, b"connection")
    except BadMessage:
        return False  # `tokens` raises it, too, for a caller that knows the request by then
    return b"close" not in connection and (is_1_1 or b"keep-alive" in connection)


def _line_fault(line: bytes) -> str:
    """Return what is wrong with a request line (section 3)."""
    parts = line.split(b" ")
    if len(parts) == 3 and parts[2].startswith(b"HTTP/") and b"#" in parts[1]:
        return "a target with a fragment"
    return "a malformed request line"


def _framing(fields: tuple[Field, ...], is_1_1: bool) -> tuple[bytes | None, int, bool]:
    """Host, Content-Length and whether the body is chunked (sections 3.2 and 6)."""
    seen = only(fields, _FRAMING)
    if is_1_1 and b"host" not in seen:
        raise BadMessage(400, "no Host")
    coding, length = seen.get(b"transfer-encoding"), seen.get(b"content-length")
    check_coding(coding, length, is_1_1)
    return seen.get(b"host"), NO_LENGTH if length is None else int(length), coding is not None


def _after_empty_lines(data: bytes) -> int:
    """Where the empty lines end that may come before a request (section 2.2)."""
    match = _empty_lines(data)
    return match.end() if match else 0


def begins_head(data: bytes) -> bool:
    """True if a head has begun in what is left of a connection's bytes: empty lines, whole or not, begin none."""
    return data[_after_empty_lines(data) :] not in (b"", b"\r")


class Requests:
    """Where in the messages of one client connection its bytes belong. Keeps none of them."""

    __slots__ = ("_body", "_searched")

    def __init__(self) -> None:
        self._body = Body()
        self._searched = 0  # bytes in which no head ends

    def __repr__(self) -> str:
        return f"<Requests {self._body!r}>"

    @property
    def in_message(self) -> bool:
        """True if a message has begun that is not complete."""
        return not self._body.is_complete

    @property
    def trailers(self) -> list[Field]:
        """The trailers of this message."""
        return self._body.trailers

    @property
    def in_head(self) -> bool:
        """True if some of the next head was looked at."""
        return self._searched > 0

    def next_head(self, data: bytes) -> tuple[Head, int] | None:
        """The head that `data` begins with, and how many bytes it takes; None: not all of it is there.

        Then it is to be called with the same bytes and more behind them. Raises BadMessage.
        """
        extent = self.head_extent(data)
        if extent is None:
            return None
        begin, size = extent
        head = parse_head(data[begin:size])
        self.begin(head)
        return head, size

    def head_extent(self, data: bytes) -> tuple[int, int] | None:
        """Where the next head begins and ends in `data`: the first step of `next_head`, whose others may be cached."""
        begin = _after_empty_lines(data)
        if begin > 2 * MAX_EMPTY_LINES:
            raise BadMessage(400, f"more than {MAX_EMPTY_LINES} empty lines before a request")
        try:
            size = head_size(data, begin, self._searched)
        except BadMessage as bad:
            if bad.status == 431 and b"\r\n" not in data[begin : begin + MAX_TARGET + 64]:
                raise BadMessage(414, bad.why) from None
            raise
        self._searched = 0 if size else len(data)
        return (begin, size) if size else None

    def begin(self, head: Head) -> None:
        """Its body follows, if it has one."""
        self._body.begin(head.length, head.chunked)

    def next_body(self, data: bytes, max_steps: int, body: list[bytes]) -> tuple[int, int]:
        """Append what is there of the message's body; after it, `in_message` says whether more must come.

        Takes at most `max_steps`, one for each line or piece. Returns the bytes of `data` and the steps that it took.
        Raises BadMessage.
        """
        return self._body.take(data, 0, max_steps, body)

    def tunnel(self) -> None:
        """HTTP is over: from here on `next_body` takes whatever comes."""
        self._body.begin_endless()
