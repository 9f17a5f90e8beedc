"""What requests and answers of HTTP/1.1 have in common: where a head ends, its fields, which bytes are the body's.

The one grammar of both readers, http1.py and http1_answers.py, which say what it is for. Everything that RFC 9112 lets
a lenient reader repair is refused. Tested by tests/wire/test_http1.py, and by that of the answers.
"""

import re
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final

from mcproxy.wire.fields import (
    BLANKS,
    CACHED_VALUE,
    MAX_FIELDS,
    MAX_HEADER_LIST,
    is_forbidden,
    is_length,
    is_token,
    shown,
)
from mcproxy.wire.hpack_block import Field

MAX_HEAD: Final = MAX_HEADER_LIST  # bytes
MAX_CHUNK_LINE: Final = 1_024  # bytes of a chunk's size with its extensions, which nobody uses
MAX_TRAILERS: Final = 16_384  # bytes; a checksum or two
# Members of a list such as Connection's, each of which is looked up in every field; real ones hold three.
MAX_MEMBERS: Final = 64
CACHED_LINES: Final = 4_096  # field lines of at most CACHED_VALUE bytes: most lines of a head that is new are not
CACHED_LISTS: Final = 256  # values such as Connection's, of at most CACHED_VALUE bytes

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
END: Final = b"\r\n\r\n"  # of a head
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?").fullmatch
_has_control: Final = re.compile(rb"[^\t -~\x80-\xff]").search


class BadMessage(Exception):
    """A message can't be read. `status` answers it if it is a request; a bad answer is 502, whatever this says."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


# Heads


def head_size(data: bytes, begin: int, searched: int) -> int:
    """Where the head ends that starts at `begin`; 0: not all of it is there. Raises BadMessage.

    `searched` bytes were looked at before, and no head ended in them.
    """
    start = max(begin, searched - len(END))
    end = data.find(END, start)
    size = end + len(END) if end >= 0 else len(data)
    if data.count(b"\n", start, size) != data.count(b"\r\n", max(0, start - 1), size):
        raise BadMessage(400, "a bare LF")
    if size - begin > MAX_HEAD or (end < 0 and size - begin >= MAX_HEAD):
        raise BadMessage(431, f"a head of more than {MAX_HEAD} bytes")
    return size if end >= 0 else 0


def parse_fields(lines: list[bytes]) -> tuple[Field, ...]:
    """Read the field lines of a head; names in lower case. Raises BadMessage."""
    if len(lines) > MAX_FIELDS:
        raise BadMessage(431, f"{len(lines)} fields")
    return tuple([_known_field(line) if len(line) <= CACHED_VALUE else parse_field(line) for line in lines])


def parse_field(line: bytes) -> Field:
    """Read a field line (RFC 9112, section 5). Raises BadMessage.

    Also for a folded line (5.2), a blank before the colon (5.1), a bare CR (2.2), other controls.
    """
    name, colon, value = line.partition(b":")
    if not colon or not is_token(name) or is_forbidden(value):
        raise BadMessage(400, f"a malformed field line: {shown(name)}")
    return name.lower(), value.strip(BLANKS)


_known_field: Final = lru_cache(CACHED_LINES)(parse_field)


def only(fields: Iterable[Field], names: frozenset[bytes]) -> dict[bytes, bytes]:
    """Return the fields of these names, none of which may come twice. Raises BadMessage."""
    seen: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in names:
            if name in seen:
                raise BadMessage(400, f"{name.decode()} twice")
            seen[name] = value
    return seen


def check_coding(coding: bytes | None, length: bytes | None, is_1_1: bool) -> None:
    """Judge Transfer-Encoding and Content-Length (RFC 9112, sections 6.1 to 6.3). Raises BadMessage."""
    if coding is not None:
        if length is not None or not is_1_1:
            raise BadMessage(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        if coding.lower() != b"chunked":  # a control in it: another reader may see "chunked"
            raise BadMessage(400 if _has_control(coding) else 501, "a transfer coding other than chunked")
    if length is not None and not is_length(length):
        raise BadMessage(400, "Content-Length is not a number")


def members(fields: Iterable[Field], wanted: bytes) -> frozenset[bytes]:
    """Return a field's comma-separated members, in lower case, without parameters. Raises BadMessage."""
    values = [value for name, value in fields if name == wanted]
    if not values:
        return frozenset()
    if len(values) == 1 and len(values[0]) <= CACHED_VALUE:
        found = _known_members(values[0])
    else:
        found = _members(b",".join(values))
    if found is None:
        raise BadMessage(431, f"more than {MAX_MEMBERS} members in {shown(wanted)}")
    return found


def _members(value: bytes) -> frozenset[bytes] | None:
    if value.count(b",") >= MAX_MEMBERS:
        return None
    return frozenset([each.partition(b";")[0].strip(b" \t").lower() for each in value.split(b",")])


_known_members: Final = lru_cache(CACHED_LISTS)(_members)


# Bodies


class _Within(Enum):
    """What the next byte of a message belongs to."""

    NOTHING = "nothing"  # the message is complete
    COUNTED = "counted"  # a body of Content-Length
    CHUNK_LINE = "chunk line"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"  # the CRLF after a chunk's data
    TRAILERS = "trailers"
    ENDLESS = "endless"  # what ends with the connection: a tunnel, or an answer without a length


# Named once: CONTRIBUTING says why.
_NOTHING: Final = _Within.NOTHING
_COUNTED: Final = _Within.COUNTED
_CHUNK_LINE: Final = _Within.CHUNK_LINE
_CHUNK: Final = _Within.CHUNK
_CHUNK_END: Final = _Within.CHUNK_END
_TRAILERS: Final = _Within.TRAILERS
_ENDLESS: Final = _Within.ENDLESS


_DATA: Final = frozenset((_COUNTED, _CHUNK, _ENDLESS))


class Body:
    """Where in the bodies of one direction of a connection its bytes belong (RFC 9112, sections 6 and 7)."""

    __slots__ = ("_left", "_trailers", "_within", "trailers")

    def __init__(self) -> None:
        self._within = _NOTHING
        self._left = 0  # bytes of the body or the chunk
        self._trailers = 0  # bytes of this message's trailers so far
        self.trailers: list[Field] = []  # of this message

    def __repr__(self) -> str:
        return f"<Body within {self._within.value}>"

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the message is to come."""
        return self._within is _NOTHING

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is that of the message."""
        return self._within is _ENDLESS

    def begin(self, length: int, chunked: bool) -> None:
        """A body follows, of `length` bytes unless it is `chunked`."""
        if self.trailers:
            self.trailers = []
        if chunked:
            self._within, self._trailers = _CHUNK_LINE, 0
        elif length > 0:
            self._within, self._left = _COUNTED, length
        else:
            self._within = _NOTHING

    def begin_endless(self) -> None:
        """From here on, whatever comes is of the body, or of the tunnel."""
        self._within = _ENDLESS

    def take(self, data: bytes, at: int, max_steps: int, body: list[bytes]) -> tuple[int, int]:
        """Append what is there of the body from `at` on; a piece that is all of `data` is `data` itself.

        Takes at most `max_steps`, one for each line or piece. Returns the position that it came to, and the steps.
        Raises BadMessage.
        """
        steps = 0
        while at < len(data) and self._within is not _NOTHING and steps < max_steps:
            steps += 1
            within = self._within
            step = self._step(data, at)
            if not step:
                break
            if within in _DATA:
                body.append(data[at : at + step] if step < len(data) else data)
            at += step
        return at, steps

    def _step(self, data: bytes, at: int) -> int:
        """How many bytes from `at` on belong together; 0: not enough is there to know."""
        if self._within is _ENDLESS:
            return len(data) - at
        if self._within in _DATA:
            size = min(self._left, len(data) - at)
            self._left -= size
            if not self._left:
                self._within = _NOTHING if self._within is _COUNTED else _CHUNK_END
            return size
        return self._line(data, at)

    def _line(self, data: bytes, at: int) -> int:
        """A line of the chunked coding (section 7.1), with its CRLF."""
        limit = MAX_TRAILERS - self._trailers if self._within is _TRAILERS else MAX_CHUNK_LINE
        end = data.find(b"\n", at, at + limit)
        if end < 0:
            if len(data) - at >= limit:
                raise BadMessage(431 if self._within is _TRAILERS else 400, "a line that doesn't end")
            return 0
        if end == at or data[end - 1] != 0x0D:
            raise BadMessage(400, "a bare LF")
        line = data[at : end - 1]
        if self._within is _CHUNK_END:
            if line:
                raise BadMessage(400, "a chunk is longer than its size")
            self._within = _CHUNK_LINE
        elif self._within is _CHUNK_LINE:
            self._chunk_line(line)
        elif line:
            self.trailers.append(parse_field(line))
            self._trailers += end + 1 - at
        else:
            self._within = _NOTHING
        return end + 1 - at

    def _chunk_line(self, line: bytes) -> None:
        match = _CHUNK_SIZE(line)
        if match is None:
            raise BadMessage(400, "a malformed chunk size")
        self._left = int(match[1], 16)
        self._within = _CHUNK if self._left else _TRAILERS
