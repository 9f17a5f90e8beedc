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
from dataclasses import dataclass
from enum import Enum

from mcproxy.wire.fields import BLANKS, MAX_FIELDS, MAX_HEADER_LIST, NO_LENGTH, is_forbidden, is_length, is_token, shown
from mcproxy.wire.hpack_block import Field

MAX_TARGET = 16_384  # bytes; RFC 9112, section 3 asks for 8,000 at least
MAX_HEAD = MAX_HEADER_LIST  # bytes
MAX_CHUNK_LINE = 1_024  # bytes of a chunk's size with its extensions, which nobody uses
MAX_TRAILERS = 16_384  # bytes; a checksum or two
MAX_EMPTY_LINES = 16  # before a request; old clients send one or two behind a body (RFC 9112, section 2.2)
MAX_MEMBERS = 64  # of a list such as Connection's, each of which is looked up in every field; real ones hold three

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!\"$-~\x80-\xff]+) HTTP/([0-9])\.([0-9])").fullmatch
_empty_lines = re.compile(rb"(?:\r\n)*").match
_has_control = re.compile(rb"[^\t -~\x80-\xff]").search
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?").fullmatch
_BARE_LF = re.compile(rb"(?:[^\r]|\A)\n").search
_END = b"\r\n\r\n"
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding"))


class BadMessage(Exception):
    """The client's request can't be served."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head."""

    method: bytes
    target: bytes
    minor: int  # of HTTP/1.0 or HTTP/1.1
    fields: tuple[Field, ...]  # names in lower case
    host: bytes | None  # None: HTTP/1.0 without one
    length: int = NO_LENGTH  # of the body
    chunked: bool = False

    @property
    def has_body(self) -> bool:
        """True if bytes of this message follow the head."""
        return self.chunked or self.length > 0

    def tokens(self, wanted: bytes) -> frozenset[bytes]:
        """Return a field's comma-separated members, in lower case, without parameters. Raises BadMessage."""
        values = [value for name, value in self.fields if name == wanted]
        if sum(value.count(b",") + 1 for value in values) > MAX_MEMBERS:
            raise BadMessage(431, f"more than {MAX_MEMBERS} members in {shown(wanted)}")
        return frozenset(
            token.partition(b";")[0].strip(b" \t").lower() for value in values for token in value.split(b",")
        )

    def __repr__(self) -> str:
        return f"<Head {self.method!r} {self.target!r} HTTP/1.{self.minor}>"


def parse_head(raw: bytes) -> Head:
    """Read a head that ends in an empty line, without any line before the request line. Raises BadMessage."""
    request_line, *lines = raw[: -len(_END)].split(b"\r\n")
    match = _REQUEST_LINE(request_line)
    if match is None:
        raise BadMessage(400, _line_fault(request_line))
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise BadMessage(505, "neither HTTP/1.0 nor HTTP/1.1")
    if len(target) > MAX_TARGET:
        raise BadMessage(414, f"a target of {len(target)} bytes")
    if len(lines) > MAX_FIELDS:
        raise BadMessage(431, f"{len(lines)} fields")
    fields = tuple(map(_field, lines))
    framing = _framing(fields, minor == b"1")
    return Head(method, target, int(minor), fields, *framing)


def _line_fault(line: bytes) -> str:
    """Return what is wrong with a request line (section 3)."""
    parts = line.split(b" ")
    if len(parts) == 3 and parts[2].startswith(b"HTTP/") and b"#" in parts[1]:
        return "a target with a fragment"
    return "a malformed request line"


def _field(line: bytes) -> Field:
    """Section 5: also refuses a folded line (5.2), a blank before the colon (5.1), a bare CR (2.2), other controls."""
    name, colon, value = line.partition(b":")
    if not colon or not is_token(name) or is_forbidden(value):
        raise BadMessage(400, f"a malformed field line: {shown(name)}")
    return name.lower(), value.strip(BLANKS)


def _framing(fields: tuple[Field, ...], is_1_1: bool) -> tuple[bytes | None, int, bool]:
    """Host, Content-Length and whether the body is chunked (sections 3.2 and 6)."""
    seen: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _FRAMING:
            if name in seen:
                raise BadMessage(400, f"{name.decode()} twice")
            seen[name] = value
    if is_1_1 and b"host" not in seen:
        raise BadMessage(400, "no Host")
    coding = seen.get(b"transfer-encoding")
    length = seen.get(b"content-length")
    if coding is not None:
        if length is not None or not is_1_1:
            raise BadMessage(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        if coding.lower() != b"chunked":  # a control in it: another reader may see "chunked"
            raise BadMessage(400 if _has_control(coding) else 501, "a transfer coding other than chunked")
    if length is not None and not is_length(length):
        raise BadMessage(400, "Content-Length is not a number")
    return seen.get(b"host"), NO_LENGTH if length is None else int(length), coding is not None


def _after_empty_lines(data: bytes) -> int:
    """Where the empty lines end that may come before a request (section 2.2)."""
    match = _empty_lines(data)
    return match.end() if match else 0


def begins_head(data: bytes) -> bool:
    """True if a head has begun in what is left of a connection's bytes: empty lines, whole or not, begin none."""
    return data[_after_empty_lines(data) :] not in (b"", b"\r")


class _Within(Enum):
    """Where in a connection's bytes the next one belongs."""

    HEAD = "head"
    COUNTED = "counted"  # a body of Content-Length
    CHUNK_LINE = "chunk line"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"  # the CRLF after a chunk's data
    TRAILERS = "trailers"
    TUNNEL = "tunnel"  # HTTP is over: everything else is the tunnel's


_BODY = frozenset((_Within.COUNTED, _Within.CHUNK, _Within.TUNNEL))


class Requests:
    """Where in the messages of one client connection its bytes belong. Keeps none of them."""

    __slots__ = ("_left", "_searched", "_trailers", "_within", "trailers")

    def __init__(self) -> None:
        self._within = _Within.HEAD
        self._left = 0  # bytes of the body or the chunk
        self._searched = 0  # bytes in which no head ends
        self._trailers = 0  # bytes of this message's trailers so far
        self.trailers: list[Field] = []  # of this message

    def __repr__(self) -> str:
        return f"<Requests {self._within.value}>"

    @property
    def in_message(self) -> bool:
        """True if a message has begun that is not complete."""
        return self._within is not _Within.HEAD

    def next_head(self, data: bytes) -> tuple[Head, int] | None:
        """The head that `data` begins with, and how many bytes it takes; None: not all of it is there.

        Then it is to be called with the same bytes and more behind them. Raises BadMessage.
        """
        begin = _after_empty_lines(data)
        if begin > 2 * MAX_EMPTY_LINES:
            raise BadMessage(400, f"more than {MAX_EMPTY_LINES} empty lines before a request")
        start = max(begin, self._searched - len(_END))
        end = data.find(_END, start)
        size = end + len(_END) if end >= 0 else len(data)
        if _BARE_LF(data, max(0, start - 1), size):
            raise BadMessage(400, "a bare LF")
        if size - begin > MAX_HEAD or (end < 0 and size - begin >= MAX_HEAD):
            long_line = b"\r\n" not in data[begin : begin + MAX_TARGET + 64]
            raise BadMessage(414 if long_line else 431, f"a head of more than {MAX_HEAD} bytes")
        if end < 0:
            self._searched = size
            return None
        self._searched = 0
        head = parse_head(data[begin:size])
        self._begin(head)
        return head, size

    def _begin(self, head: Head) -> None:
        self.trailers = []
        if head.chunked:
            self._within, self._trailers = _Within.CHUNK_LINE, 0
        elif head.length > 0:
            self._within, self._left = _Within.COUNTED, head.length

    def next_body(self, data: bytes, max_steps: int, body: list[bytes]) -> tuple[int, int]:
        """Append what is there of the message's body; after it, `in_message` says whether more must come.

        Takes at most `max_steps`, one for each line or piece. Returns the bytes of `data` and the steps that it took.
        Raises BadMessage.
        """
        size = steps = 0
        while size < len(data) and self._within is not _Within.HEAD and steps < max_steps:
            steps += 1
            within = self._within
            step = self._step(data, size)
            if not step:
                break
            if within in _BODY:
                body.append(data[size : size + step])
            size += step
        return size, steps

    def tunnel(self) -> None:
        """HTTP is over: from here on `next_body` takes whatever comes."""
        self._within = _Within.TUNNEL

    def _step(self, data: bytes, at: int) -> int:
        """How many bytes from `at` on belong together; 0: not enough is there to tell."""
        if self._within is _Within.TUNNEL:
            return len(data) - at
        if self._within in (_Within.COUNTED, _Within.CHUNK):
            size = min(self._left, len(data) - at)
            self._left -= size
            if not self._left:
                self._within = _Within.HEAD if self._within is _Within.COUNTED else _Within.CHUNK_END
            return size
        return self._line(data, at)

    def _line(self, data: bytes, at: int) -> int:
        """A line of the chunked coding (section 7.1), with its CRLF."""
        limit = MAX_TRAILERS - self._trailers if self._within is _Within.TRAILERS else MAX_CHUNK_LINE
        end = data.find(b"\n", at, at + limit)
        if end < 0:
            if len(data) - at >= limit:
                raise BadMessage(431 if self._within is _Within.TRAILERS else 400, "a line that doesn't end")
            return 0
        if end == at or data[end - 1] != 0x0D:
            raise BadMessage(400, "a bare LF")
        line = data[at : end - 1]
        if self._within is _Within.CHUNK_END:
            if line:
                raise BadMessage(400, "a chunk is longer than its size")
            self._within = _Within.CHUNK_LINE
        elif self._within is _Within.CHUNK_LINE:
            self._chunk_line(line)
        elif line:
            self.trailers.append(_field(line))
            self._trailers += end + 1 - at
        else:
            self._within = _Within.HEAD
        return end + 1 - at

    def _chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE(line)
        if match is None:
            raise BadMessage(400, "a malformed chunk size")
        self._left = int(match[1], 16)
        self._within = _Within.CHUNK if self._left else _Within.TRAILERS
