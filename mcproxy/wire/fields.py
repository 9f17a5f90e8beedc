"""Checks field sections of HTTP/2 (RFC 9113, section 8.2), and removes the fields that may not pass.

Three forms: a request's head, an answer's head, and trailers. Each check returns a frozen value with what the relay
needs to know, or raises `Malformed` (a stream error, section 8.1.1) or `BadRequest` (well-formed HTTP/2, yet no request
that can be routed: 400). Names and values are judged here, for both protocols and both directions, and so are answers
and trailers; what a request's head must be is in requests.py, on top of this.

**Values.** NUL, LF and CR make a message malformed (section 8.2.1). So do VT and FF: parsers that take them for blanks,
as isspace() does, find another value than those that don't. The other control characters pass (RFC 9110, section 5.5
lets a recipient keep them: Google Analytics had 0x01 in its cookies). Blanks around a value are no part of it (section
5.5), and real clients and backends send some: they are removed, because they may not be passed on (RFC 9113, 8.2.1).

**Trailers.** What a message is framed, routed, authorised or decoded by can't come after its body (RFC 9110, section
6.5.1): such fields are removed from trailers, whichever side sent them.

**Alt-Svc** of a backend passes but for HTTP/3 on the same host, which is this one: nobody listens for QUIC here (RFC
7838, section 3). The ALTSVC frame of HTTP/2, like every frame that is unknown here, ends at this hop anyway.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from mcproxy.wire.hpack_block import Field, NeverIndexed

# Bounds of a head, in HTTP/2 and in HTTP/1.1.
MAX_HEADER_LIST: Final = 65_536  # bytes, decoded, 32 for each field; large cookies and tokens fit, see RFC 9113, 6.5.2
MAX_FIELDS: Final = 256  # real requests have fewer than 60

NO_LENGTH: Final = -1
FINAL_STATUS: Final = 200  # the lowest that ends an exchange (RFC 9110, section 15)
BODILESS: Final[tuple[int, ...]] = (204, 304)  # statuses whose answer has no body (RFC 9110, section 6.4.1)

# RFC 9110, section 5.6.2 without upper case (RFC 9113, section 8.2.1).
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
is_token: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FORBIDDEN: Final = b"\0\n\x0b\x0c\r"  # in a value
BLANKS: Final = b" \t"
is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch  # of a body; 18 digits: an exabyte less one, within 64 bits
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}").fullmatch
_GRPC_STATUS: Final = re.compile(rb"[0-9]{1,3}").fullmatch
# The members of Alt-Svc, and one on the same host by HTTP/3 (RFC 7838, section 3; RFC 9114, section 3.1.1), or by what
# was there before it: "h3-29", "h3-Q050", "quic".
_alternatives: Final = re.compile(rb"(?:[^,\"]+|\"[^\"]*\")+").findall
_OWN_HTTP3: Final = re.compile(rb"[ \t]*(?:h3(?:-[0-9A-Za-z]+)?|quic)=\":[0-9]*\"").match

# Section 8.2.2: a message with one of these is malformed.
CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
# Meant for this hop alone, in either protocol (RFC 9110, section 7.6.1; http2-settings: RFC 7540, section 3.2.1).
HOP_BY_HOP: Final = CONNECTION_SPECIFIC | {b"http2-settings"}
# RFC 9110, section 6.5.1: what a trailer may not change after the fact.
NOT_IN_TRAILERS: Final = HOP_BY_HOP | {
    b"te", b"host", b"content-length", b"content-encoding", b"content-type", b"content-range", b"trailer",
    b"authorization", b"cookie", b"set-cookie", b"expect", b"max-forwards", b"cache-control", b"range", b"alt-svc",
}  # fmt: skip
# Claims of the client that only the edge can make, and fields meant for a proxy (RFC 9110, section 11.7): never passed.
# "_" counts as "-", because CGI and its heirs (RFC 3875, section 4.1.18) can't distinguish the two.
_CLAIM: Final = re.compile(rb"x[-_]forwarded[-_].*|x[-_]real[-_]ip|forwarded|proxy[-_]authorization").fullmatch
# What else a check of a head must look at.
_WATCHED: Final = HOP_BY_HOP | {b"te", b"host", b"content-length", b"content-type", b"alt-svc", b"max-forwards"}

MAX_ALT_SVC: Final = 1_024  # bytes of an Alt-Svc; a larger one goes as a whole: to read 60 KB of commas takes 5 ms
CACHED_VALUE: Final = 128  # bytes: longer names and values repeat less, and would make caches large
MAX_SHOWN_NAME: Final = 64  # bytes of a field name in a reason


class Malformed(Exception):
    """The message is malformed: the stream ends with PROTOCOL_ERROR (section 8.1.1)."""


class BadRequest(Exception):
    """A message, but no request that can be routed: 400."""


class Request(NamedTuple):
    """The head of a request. A tuple: one is made for each, and a frozen dataclass takes three times as long."""

    method: bytes
    authority: bytes  # as the client wrote it: of :authority, else of host
    host: bytes  # of the authority, without port, in lower case
    path: bytes = b""  # with query; empty for CONNECT
    protocol: bytes = b""  # of an extended CONNECT (RFC 8441)
    content_length: int = NO_LENGTH
    grpc: bool = False
    rewrite: bool = False  # it passes, but not as it is
    refusal: int = 0  # the status that answers it: it can be read, and is never served
    why: str = ""  # of `refusal`

    def with_path(self, path: bytes) -> "Request":
        """Return the same request for another path."""
        return Request(
            self.method, self.authority, self.host, path, self.protocol, self.content_length, self.grpc, self.rewrite,
            self.refusal, self.why,
        )  # fmt: skip


NO_REQUEST: Final = Request(b"", b"", b"")  # of a message that could not be read: the log shows it empty


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, final or interim."""

    status: int
    content_length: int = NO_LENGTH
    rewrite: bool = False  # it passes, but not as it is
    grpc_status: int | None = None  # None: it is not the whole answer of gRPC


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of a body."""

    rewrite: bool = False  # they pass, but not as they are
    grpc_status: int | None = None  # None: they are not gRPC's


def check_answer(fields: list[Field]) -> Answer:
    """Judge an answer's head. Raises Malformed."""
    pseudo, rest = split_pseudo(fields, frozenset((b":status",)))
    regular = check_regular(rest)
    status = pseudo.get(b":status", b"")
    if not _STATUS(status) or status == b"101":  # 101: section 8.6
        raise Malformed("no :status, or not one of HTTP/2")
    rewrite = regular.blanks or (b"alt-svc" in regular.seen and any(_offers_http3(*field) for field in rest))
    rewrite = rewrite or not _HOPS.isdisjoint(regular.seen)
    return Answer(int(status), content_length(regular.seen), rewrite, grpc_status_in(rest))


def passed_answer(fields: list[Field]) -> list[Field]:
    """Return an answer's head as the client gets it."""
    passed = [stripped(field) for field in fields if field[0] not in HOP_BY_HOP]
    return [_without_http3(field) for field in passed if not _offers_only_http3(*field)]


def check_request_trailers(fields: list[Field]) -> Trailers:
    """Judge a request's trailers (section 8.1). Raises Malformed."""
    regular = _check_trailers(fields)
    return Trailers(regular.blanks or regular.claims or _has_misplaced(fields))


def check_answer_trailers(fields: list[Field]) -> Trailers:
    """Judge an answer's trailers (section 8.1). Raises Malformed."""
    regular = _check_trailers(fields)
    return Trailers(regular.blanks or _has_misplaced(fields), grpc_status_in(fields))


def grpc_status_in(fields: list[Field], otherwise: int | None = None) -> int | None:
    """Return the gRPC status in an answer's fields, a number of up to three digits, for the log.

    gRPC over HTTP2, "Responses": it is in the trailers, or in the head of an answer that has nothing else.
    """
    found = (value for name, value in fields if name == b"grpc-status" and _GRPC_STATUS(value))
    return next(map(int, found), otherwise)


def passed_answer_trailers(fields: list[Field]) -> list[Field]:
    """Return trailers as the client gets them."""
    return [stripped(field) for field in fields if field[0] not in NOT_IN_TRAILERS and field[0][:1] != b":"]


def passed_request_trailers(fields: list[Field]) -> list[Field]:
    """Return trailers as the backend gets them: what a client can't claim in a head, it can't claim here."""
    return without_claims(passed_answer_trailers(fields))


def forwarded(address: str) -> tuple[Field, ...]:
    """The forwarding fields that we set instead of the client's own: its address, and that it used TLS."""
    raw = address.encode()
    return (b"x-forwarded-for", raw), (b"x-forwarded-proto", b"https"), (b"x-real-ip", raw)


def without_claims(fields: list[Field]) -> list[Field]:
    """Return the fields but those that only the edge may say."""
    return [field for field in fields if _kind(field[0]) is not _Kind.CLAIM]


def stripped(field: Field) -> Field:
    """Return a field without blanks around its value; one that must not be indexed stays so."""
    return _with_value(field, field[1].strip(BLANKS))


def _with_value(field: Field, value: bytes) -> Field:
    if isinstance(field, NeverIndexed):
        return NeverIndexed((field[0], value))
    return field[0], value


def split_pseudo(fields: list[Field], known: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field]]:
    """Split off the pseudo-fields, which come first, each once, only known ones (section 8.3). Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    for position, (name, value) in enumerate(fields):
        if name[:1] != b":":
            return pseudo, fields[position:]
        if name not in known:
            raise Malformed(f"a pseudo-field that does not belong here: {shown(name)}")
        if name in pseudo:
            raise Malformed(f"{shown(name)} twice")
        if not _is_clean(value):
            raise Malformed(f"a blank or a control character in {shown(name)}")
        pseudo[name] = value
    return pseudo, []


def shown(name: bytes) -> str:
    """Return a field's name as a reason may show it: printable, and cut."""
    return re.sub(rb"[^!-~]", b"?", name[:MAX_SHOWN_NAME]).decode() + ("..." if len(name) > MAX_SHOWN_NAME else "")


class _Kind(Enum):
    """The kind of a regular field, by its name."""

    ORDINARY = "ordinary"
    WATCHED = "watched"  # some rule is about it
    CLAIM = "claim"  # only the edge may say it
    MALFORMED = "malformed"  # also a pseudo-field after a regular one


_ORDINARY: Final = _Kind.ORDINARY
_HOPS: Final = HOP_BY_HOP - CONNECTION_SPECIFIC


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> _Kind:
    if not _NAME(name):
        return _Kind.MALFORMED
    if name in _WATCHED:
        return _Kind.WATCHED
    return _Kind.CLAIM if _CLAIM(name) else _Kind.ORDINARY


def is_forbidden(value: bytes) -> bool:
    """Return whether a value has a control character that it may not have.

    No regular expression here and in `_is_clean`: they take five times as long for a large value, and one that matches
    two runs of blanks tries all ways to divide them.
    """
    return len(value.translate(None, _FORBIDDEN)) != len(value)


def _is_clean(value: bytes) -> bool:
    return value.translate(None, _FORBIDDEN).strip(BLANKS) == value


@dataclass(slots=True)
class Regular:
    """The findings in the regular fields of a section."""

    seen: dict[bytes, bytes]  # those that some rule is about; of several with one name, the last
    blanks: bool = False  # some value has blanks around it
    claims: bool = False  # some field says what only the edge may say


def check_regular(fields: list[Field], trailers: bool = False) -> Regular:
    """Check all regular fields. Raises Malformed."""
    found = Regular({})
    for name, value in fields:
        kind = _kind(name) if len(name) <= CACHED_VALUE else _kind.__wrapped__(name)
        if not _is_clean(value):
            if kind is not _Kind.MALFORMED and is_forbidden(value):
                raise Malformed(f"a forbidden control character in the value of {shown(name)}")
            found.blanks = True
        if kind is _ORDINARY:
            continue
        if kind is _Kind.MALFORMED:
            raise Malformed(_name_fault(name))
        if kind is _Kind.CLAIM:
            found.claims = True
            continue
        _check_watched(name, value, found.seen, trailers)
        found.seen[name] = value.strip(BLANKS)
    return found


def _check_watched(name: bytes, value: bytes, seen: dict[bytes, bytes], trailers: bool) -> None:
    """Judge a field that some rule is about. Raises Malformed."""
    if name in CONNECTION_SPECIFIC:
        raise Malformed(f"{shown(name)}, which HTTP/2 does not know (RFC 9113, 8.2.2)")
    if trailers:
        return  # it is removed
    if name == b"te" and value.strip(BLANKS).lower() != b"trailers":
        raise Malformed("te with another value than trailers (RFC 9113, 8.2.2)")
    if name in seen and name in (b"host", b"content-length"):
        raise Malformed(f"{shown(name)} twice")


def _check_trailers(fields: list[Field]) -> Regular:
    _, rest = split_pseudo(fields, frozenset())
    return check_regular(rest, trailers=True)


def _has_misplaced(trailers: list[Field]) -> bool:
    return any(name in NOT_IN_TRAILERS for name, _ in trailers)


def _name_fault(name: bytes) -> str:
    """Return what is wrong with a field's name (section 8.2.1)."""
    if not name:
        return "a field without a name"
    if name[:1] == b":":
        return f"a pseudo-field after a regular one: {shown(name)}"
    if is_token(name):
        return f"a field name in upper case: {shown(name)}"
    return f"a field name that is not a token: {shown(name)}"


def content_length(seen: dict[bytes, bytes]) -> int:
    """Return the length that a head declares, in bytes, or NO_LENGTH. Raises Malformed (RFC 9110, section 8.6)."""
    value = seen.get(b"content-length")
    if value is None:
        return NO_LENGTH
    if not is_length(value):
        raise Malformed("content-length is not a number of at most 18 digits")
    return int(value)


def _offers_http3(name: bytes, value: bytes) -> bool:
    return name == b"alt-svc" and (len(value) > MAX_ALT_SVC or any(map(_OWN_HTTP3, _alternatives(value))))


def _offers_only_http3(name: bytes, value: bytes) -> bool:
    if not _offers_http3(name, value):
        return False
    return len(value) > MAX_ALT_SVC or all(map(_OWN_HTTP3, _alternatives(value)))


def _without_http3(field: Field) -> Field:
    """Return an Alt-Svc without its alternatives by HTTP/3 on the same host, and any other field as it is."""
    if not _offers_http3(*field):
        return field
    kept = [each.strip(BLANKS) for each in _alternatives(field[1]) if not _OWN_HTTP3(each)]
    return _with_value(field, b", ".join(kept))
