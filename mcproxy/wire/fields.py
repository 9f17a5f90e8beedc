"""What a field section must look like in HTTP/2 (RFC 9113, sections 8.2, 8.3 and 8.5; RFC 8441), and what it says.

Three forms: a request's head, an answer's head, and trailers. Each check yields a frozen value with what the relay
needs to know, or raises `Malformed` (a stream error, section 8.1.1) or `BadRequest` (well-formed HTTP/2, yet no request
that we could route: 400). The rules are stricter than the RFC's minimum wherever a laxer reading could make two parsers
disagree: names are tokens, content-length appears once, `:path` holds no control, space or "#".
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from mcproxy.wire.hpack_block import Field

# Bounds of a head, in HTTP/2 and in HTTP/1.1.
MAX_HEADER_LIST = 65_536  # bytes, decoded, 32 for each field; large cookies and tokens fit, see RFC 9113, 6.5.2
MAX_FIELDS = 256  # real requests have fewer than 60

NO_LENGTH = -1
FINAL_STATUS = 200  # the lowest that ends an exchange (RFC 9110, section 15)
BODILESS = (204, 304)  # statuses whose answer has no body (RFC 9110, section 6.4.1)

# RFC 9110, section 5.6.2 without upper case (RFC 9113, section 8.2.1).
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
# RFC 9113, section 8.2.1, and the other controls with it (RFC 9110, section 5.5); tab is the one that may stand inside.
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?").fullmatch
_PATH = re.compile(rb"/[!\"$-~\x80-\xff]*").fullmatch
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]+)(?::([0-9]{0,5}))?").fullmatch
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
is_length = re.compile(rb"[0-9]{1,18}").fullmatch  # of a body; 18 digits: an exabyte less one, within 64 bits
_STATUS = re.compile(rb"[1-9][0-9]{2}").fullmatch

REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
# Section 8.2.2: a message with one of these is malformed.
CONNECTION_SPECIFIC = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
# The client's word on what only the edge knows, and what is meant for a proxy (RFC 9110, section 11.7): never passed.
# "_" counts as "-", because CGI and its heirs (RFC 3875, section 4.1.18) can't tell the two apart.
_NOT_PASSED = re.compile(rb"x[-_]forwarded[-_].*|x[-_]real[-_]ip|forwarded|proxy[-_]authorization").fullmatch
# What else a check must look at.
_WATCHED = CONNECTION_SPECIFIC | {b"te", b"host", b"content-length", b"content-type"}

CACHED_VALUE = 128  # bytes: longer names and values repeat less, and would make the caches large


class Malformed(Exception):
    """No HTTP message: the stream ends with PROTOCOL_ERROR (section 8.1.1)."""


class BadRequest(Exception):
    """A message, but none that can be served: 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    method: bytes
    authority: bytes  # as the client wrote it: of :authority, else of host
    host: bytes  # of the authority, without port, in lower case
    path: bytes = b""  # with query; empty for CONNECT
    protocol: bytes = b""  # of an extended CONNECT (RFC 8441)
    content_length: int = NO_LENGTH
    grpc: bool = False
    rewrite: bool = False  # has a field that is not passed


NO_REQUEST = Request(b"", b"", b"")  # of a message that could not be read: the log shows it empty


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    """What ends a request's body."""

    rewrite: bool = False  # has a field that is not passed


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, final or interim."""

    status: int
    content_length: int = NO_LENGTH


def check_request(fields: list[Field]) -> Request:
    """A request's head. Raises Malformed, BadRequest."""
    pseudo, rest = _split(fields, REQUEST_PSEUDO)
    seen, all_pass = _check_regular(rest)
    method = pseudo.get(b":method", b"")
    if not _METHOD(method):
        raise Malformed("no :method, or not a token")
    _check_target(method, pseudo)
    authority = _authority(pseudo.get(b":authority"), seen.get(b"host"))
    match = _AUTHORITY(authority)
    if match is None or (method == b"CONNECT" and b":protocol" not in pseudo and not match[2]):
        raise BadRequest("the authority is not a host with an optional port")
    return Request(
        method,
        authority,
        match[1].lower(),
        pseudo.get(b":path", b""),
        pseudo.get(b":protocol", b""),
        _content_length(seen),
        seen.get(b"content-type", b"").startswith(b"application/grpc"),
        not all_pass,
    )


def check_answer(fields: list[Field]) -> Answer:
    """An answer's head. Raises Malformed."""
    pseudo, rest = _split(fields, frozenset((b":status",)))
    seen, _ = _check_regular(rest)
    status = pseudo.get(b":status", b"")
    if not _STATUS(status) or status == b"101":  # 101: section 8.6
        raise Malformed("no :status, or not one of HTTP/2")
    return Answer(int(status), _content_length(seen))


def check_request_trailers(fields: list[Field]) -> RequestTrailers:
    """A request's trailers (section 8.1). Raises Malformed."""
    _, rest = _split(fields, frozenset())
    _, all_pass = _check_regular(rest)
    return RequestTrailers(not all_pass)


def check_answer_trailers(fields: list[Field]) -> None:
    """An answer's trailers (section 8.1). Raises Malformed."""
    _, rest = _split(fields, frozenset())
    _check_regular(rest)


def forwarded(address: str) -> tuple[Field, ...]:
    """What we say of the client, in place of what it may not say itself: its address, and that it used TLS."""
    raw = address.encode()
    return (b"x-forwarded-for", raw), (b"x-forwarded-proto", b"https"), (b"x-real-ip", raw)


def without_not_passed(fields: list[Field]) -> list[Field]:
    """The fields that may go on to the backend."""
    return [field for field in fields if _kind(field[0]) is not _Kind.NOT_PASSED]


def _split(fields: list[Field], known: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field]]:
    """Pseudo-fields, which come first, each once, only known ones (section 8.3), and the rest."""
    pseudo: dict[bytes, bytes] = {}
    for position, (name, value) in enumerate(fields):
        if name[:1] != b":":
            return pseudo, fields[position:]
        if name not in known or name in pseudo:
            raise Malformed("an unknown or repeated pseudo-field")
        if not _is_value(value):
            raise Malformed("a forbidden character in a pseudo-field")
        pseudo[name] = value
    return pseudo, []


class _Kind(Enum):
    """What the name of a regular field says of it."""

    ORDINARY = "ordinary"
    WATCHED = "watched"  # some rule is about it
    NOT_PASSED = "not passed"
    MALFORMED = "malformed"  # also a pseudo-field after a regular one


_ORDINARY, _MALFORMED = _Kind.ORDINARY, _Kind.MALFORMED


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> _Kind:
    if not _NAME(name):
        return _Kind.MALFORMED
    if name in _WATCHED:
        return _Kind.WATCHED
    return _Kind.NOT_PASSED if _NOT_PASSED(name) else _Kind.ORDINARY


@lru_cache(maxsize=4096)
def _is_known_value(value: bytes) -> bool:
    return _VALUE(value) is not None


def _is_value(value: bytes) -> bool:
    return _is_known_value(value) if len(value) <= CACHED_VALUE else _VALUE(value) is not None


def _check_regular(fields: list[Field]) -> tuple[dict[bytes, bytes], bool]:
    """Check all regular fields; return those that some rule is about, and whether all may pass."""
    seen: dict[bytes, bytes] = {}
    all_pass = True
    for name, value in fields:
        kind = _kind(name) if len(name) <= CACHED_VALUE else _kind.__wrapped__(name)
        if kind is _MALFORMED:
            raise Malformed("a field name that is not a lower-case token")
        if not _is_value(value):
            raise Malformed("a forbidden character in a field value")
        if kind is _ORDINARY:
            continue
        if kind is _Kind.NOT_PASSED:
            all_pass = False
            continue
        if name in CONNECTION_SPECIFIC:
            raise Malformed("a connection-specific field")
        if name == b"te" and value.lower() != b"trailers":
            raise Malformed("te is not trailers")
        if name in seen and name in (b"host", b"content-length"):
            raise Malformed("host or content-length twice")
        seen[name] = value
    return seen, all_pass


def _check_target(method: bytes, pseudo: dict[bytes, bytes]) -> None:
    """Which pseudo-fields a request has (sections 8.3.1 and 8.5; RFC 8441, section 4)."""
    path = pseudo.get(b":path")
    if b":protocol" in pseudo:
        if method != b"CONNECT" or not _METHOD(pseudo[b":protocol"]):
            raise Malformed(":protocol without CONNECT, or not a token")
    elif method == b"CONNECT":
        if path is not None or b":scheme" in pseudo or b":authority" not in pseudo:
            raise Malformed("CONNECT with :scheme or :path, or without :authority")
        return
    if pseudo.get(b":scheme") not in (b"https", b"http"):
        raise Malformed("no :scheme, or not one of HTTP")
    if path is None or not (_PATH(path) or (path == b"*" and method == b"OPTIONS")):
        raise Malformed("no :path, or not an absolute one")


def _authority(authority: bytes | None, host: bytes | None) -> bytes:
    """The one that both name (section 8.3.1)."""
    if authority is None:
        if not host:
            raise BadRequest("neither :authority nor host")
        return host
    if host is not None and host.lower() != authority.lower():
        raise BadRequest("host differs from :authority")
    return authority


def _content_length(seen: dict[bytes, bytes]) -> int:
    value = seen.get(b"content-length")
    if value is None:
        return NO_LENGTH
    if not is_length(value):
        raise Malformed("content-length is not a number")
    return int(value)
