"""Heads between HTTP/1.1 and the neutral form of heads.py: which fields pass, and which end at this hop.

Hop-by-hop fields are removed in either direction, and every field that Connection names (RFC 9110, section 7.6.1).
Which requests are served, and which of their fields pass, wire/requests.py decides for both protocols: here is only
what HTTP/1.1 says in another form. Whole heads are cached: a client's by request_heads.py, a backend's here.
"""

import base64
import hashlib
import re
from typing import Final, NamedTuple

from mcproxy.l7.bridge.head_cache import HeadCache
from mcproxy.l7.bridge.heads import AnswerHead, RequestHead, Upgrade
from mcproxy.wire.fields import HOP_BY_HOP, NO_LENGTH, BadRequest, Malformed, passed_answer
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head
from mcproxy.wire.http1_answers import RawAnswer, parse_answer
from mcproxy.wire.http1_framing import TOKEN, BadMessage
from mcproxy.wire.requests import WEBSOCKET, check_request, is_authority, passed_request

_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_PROTOCOL: Final = re.compile(TOKEN + rb"(?:/" + TOKEN + rb")?").fullmatch  # RFC 9110, section 7.8
# Protocols that we don't change to, or not so: h2c is no longer in use (RFC 9113, section 3.1). To ignore them is a
# full answer, and no backend may see them: it might change, and take our next bytes for another protocol's.
_IGNORED: Final[tuple[bytes, ...]] = (b"h2c", b"tls/", b"http/")
# Of a WebSocket's handshake, what belongs to the form that it has in one version only (RFC 8441, section 5.1).
_OF_THE_HANDSHAKE: Final = frozenset((b"content-length", b"sec-websocket-key", b"sec-websocket-accept"))
# What frames an answer stays, whatever Connection names: the reader went by it.
_NOT_NAMED: Final = frozenset((b"content-length",))


def translate(head: Head, hostname: str) -> RequestHead:
    """Return a request's head in neutral form. `hostname` takes the place of a missing Host. Raises BadMessage."""
    connection = head.tokens(b"connection")
    asked = _asked(head, connection)
    upgrade = _upgrade(head, asked)
    pseudo = _pseudo(head, hostname.encode())
    dropped = HOP_BY_HOP | connection | {b"host", b"te"}
    if head.minor == 0:
        dropped |= {b"expect"}  # RFC 9110, section 10.1.1
    if upgrade is Upgrade.WEBSOCKET:
        dropped |= _OF_THE_HANDSHAKE
    regular = [field for field in head.fields if field[0] not in dropped]
    if b"trailers" in head.tokens(b"te"):
        regular.append((b"te", b"trailers"))  # gRPC insists on it
    fields = pseudo + regular
    try:
        request = check_request(fields)
    except (Malformed, BadRequest) as error:
        raise BadMessage(400, str(error)) from None
    if request.refusal:
        raise BadMessage(request.refusal, request.why)
    if request.rewrite:
        regular = passed_request(fields)[len(pseudo) :]
    is_1_1 = head.minor == 1
    return RequestHead(
        request,
        b"https",  # that is what the client speaks
        tuple(regular),
        upgrade,
        b", ".join(asked) if upgrade is not Upgrade.NONE else b"",
        chunked=head.has_body and request.content_length == NO_LENGTH,
        expects_continue=is_1_1 and head.has_body and b"100-continue" in head.tokens(b"expect"),
        takes_interim=is_1_1,
        key=_key(head) if upgrade is Upgrade.WEBSOCKET else b"",
    )


def _pseudo(head: Head, hostname: bytes) -> list[Field]:
    """The pseudo-fields of a request; its Host is no field then (RFC 9112, section 3.2). Raises BadMessage."""
    if head.method == b"CONNECT":
        return [(b":method", b"CONNECT"), (b":authority", head.target)]
    scheme, authority, path = _target(head, hostname)
    return [(b":method", head.method), (b":scheme", scheme), (b":authority", authority), (b":path", path)]


def _target(head: Head, hostname: bytes) -> tuple[bytes, bytes, bytes]:
    """Scheme, authority and path (RFC 9112, section 3.2). Raises BadMessage."""
    target, host = head.target, hostname if head.host is None else head.host
    if target.startswith(b"/") or target == b"*":
        return b"https", host, target
    if host and not is_authority(host):
        raise BadMessage(400, "Host is not a host with an optional port")
    scheme, found, rest = target.partition(b"://")
    if not found:
        raise BadMessage(400, "a target in no known form")
    authority = rest
    for mark in (b"/", b"?"):
        authority = authority.partition(mark)[0]
    path = rest[len(authority) :]
    if not path and head.method == b"OPTIONS":
        return scheme, authority, b"*"  # section 3.2.4
    return scheme, authority, path if path.startswith(b"/") else b"/" + path  # Host is ignored: section 3.2.2


def _asked(head: Head, connection: frozenset[bytes]) -> list[bytes]:
    """The protocols that a request asks to change to, but for those that we ignore. Raises BadMessage."""
    if not head.tokens(b"upgrade") or head.minor == 0 or b"upgrade" not in connection:
        return []
    asked = [each.strip(b" \t") for name, value in head.fields if name == b"upgrade" for each in value.split(b",")]
    return [each for each in asked if _PROTOCOL(each) and not each.lower().startswith(_IGNORED)]


def _upgrade(head: Head, asked: list[bytes]) -> Upgrade:
    """What a request asks for. Raises BadMessage for an invalid handshake."""
    if not asked:
        return Upgrade.NONE
    if {each.lower() for each in asked} == {WEBSOCKET}:
        if head.method != b"GET" or head.has_body:
            raise BadMessage(400, "a WebSocket handshake is a GET without a body")  # RFC 6455, section 4.1
        if not _key(head):
            raise BadMessage(400, "a WebSocket handshake without a key")
        return Upgrade.WEBSOCKET
    # Behind a body, the tunnel would begin somewhere in what the client sends. A server may ignore it (section 7.8).
    return Upgrade.NONE if head.has_body else Upgrade.OTHER


def _key(head: Head) -> bytes:
    return next((value for name, value in head.fields if name == b"sec-websocket-key"), b"")


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


class ReadAnswer(NamedTuple):
    """An answer's head: what its connection needs, and what passes to the client."""

    raw: RawAnswer
    head: AnswerHead
    plain_length: int = NO_LENGTH  # of the body behind it, where the connection goes on and nothing else is special


def read_answer(raw: bytes) -> ReadAnswer:
    """Read a backend's head of HTTP/1.1. Raises BadMessage."""
    answer = parse_answer(raw)
    is_plain = answer.may_have_body and answer.persists and answer.length > 0
    return ReadAnswer(answer, answer_head(answer), answer.length if is_plain else NO_LENGTH)


def answer_head(answer: RawAnswer) -> AnswerHead:
    """Return an answer's head in neutral form."""
    dropped = HOP_BY_HOP | (answer.connection - _NOT_NAMED) if answer.connection else HOP_BY_HOP
    length = answer.length
    if answer.is_interim or answer.status == 204:
        dropped |= _NOT_NAMED  # RFC 9110, section 8.6
        length = NO_LENGTH
    fields = [field for field in answer.fields if field[0] not in dropped]
    if [name for name, _ in fields if name == b"alt-svc"]:  # that is all it looks for in fields of HTTP/1.1
        fields = passed_answer(fields)
    upgrade_to = (
        b", ".join(value for name, value in answer.fields if name == b"upgrade") if answer.status == 101 else b""
    )
    return AnswerHead(answer.status, tuple(fields), length, upgrade_to=upgrade_to)


ANSWERS: HeadCache[ReadAnswer] = HeadCache(read_answer)
