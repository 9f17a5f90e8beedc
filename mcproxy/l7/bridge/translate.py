"""Heads and trailers between HTTP/1.1 and the neutral form of ends.py: which fields pass, and which end at this hop.

Towards the backend (RFC 9113, section 8.2.2; RFC 9110, section 7.6.1), hop-by-hop fields are removed, and every field
that Connection names. Which requests are served, and which fields pass, wire/requests.py decides for both protocols:
here is only what HTTP/2 has no form for.
"""

import base64
import hashlib

from mcproxy.l7.bridge.ends import RequestHead, Upgrade
from mcproxy.wire.fields import HOP_BY_HOP, BadRequest, Malformed, passed_answer
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head
from mcproxy.wire.http1_framing import BadMessage
from mcproxy.wire.requests import WEBSOCKET, check_request, is_authority, passed_request

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def translate(head: Head, hostname: str) -> RequestHead:
    """Return a request's head in neutral form. `hostname` takes the place of a missing Host. Raises BadMessage."""
    connection = head.tokens(b"connection")
    upgrade = _upgrade(head, connection)
    fields = _pseudo(head, upgrade, hostname.encode())
    dropped = HOP_BY_HOP | connection | {b"host", b"te"}
    if head.minor == 0:
        dropped |= {b"expect"}  # RFC 9110, section 10.1.1
    fields += [field for field in head.fields if field[0] not in dropped]
    if b"trailers" in head.tokens(b"te"):
        fields.append((b"te", b"trailers"))  # gRPC insists on it
    try:
        request = check_request(fields)
    except (Malformed, BadRequest) as error:
        raise BadMessage(400, str(error)) from None
    if request.refusal:
        raise BadMessage(request.refusal, request.why)
    passed = tuple(passed_request(fields) if request.rewrite else fields)
    is_1_1 = head.minor == 1
    expects = is_1_1 and head.has_body and b"100-continue" in head.tokens(b"expect")
    return RequestHead(request, passed, upgrade, expects, is_1_1)


def _pseudo(head: Head, upgrade: Upgrade, hostname: bytes) -> list[Field]:
    """The pseudo-fields of a request; its Host is no field then (RFC 9112, section 3.2). Raises BadMessage."""
    if head.method == b"CONNECT":
        return [(b":method", b"CONNECT"), (b":authority", head.target)]
    scheme, authority, path = _target(head, hostname)
    if upgrade is Upgrade.WEBSOCKET:  # RFC 8441, section 4
        method = [(b":method", b"CONNECT"), (b":protocol", WEBSOCKET)]
    else:
        method = [(b":method", head.method)]
    return [*method, (b":scheme", scheme), (b":authority", authority), (b":path", path)]


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


def _upgrade(head: Head, connection: frozenset[bytes]) -> Upgrade:
    wanted = head.tokens(b"upgrade")
    if b"upgrade" not in connection or not wanted or head.minor == 0:
        return Upgrade.NONE
    if wanted == {b"websocket"}:
        if head.method != b"GET" or head.has_body:
            raise BadMessage(400, "a WebSocket handshake is a GET without a body")  # RFC 6455, section 4.1
        if not any(name == b"sec-websocket-key" and value for name, value in head.fields):
            raise BadMessage(400, "a WebSocket handshake without a key")
        return Upgrade.WEBSOCKET
    if all(token.startswith((b"h2c", b"tls/", b"http/")) for token in wanted):
        return Upgrade.NONE  # RFC 9113, section 3.1: no longer in use; to go on as before is a full answer
    return Upgrade.UNKNOWN


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def answer_head(fields: list[Field]) -> tuple[int, list[Field]]:
    """Status and fields of an answer, as they go to the client. Raises ValueError where the status is invalid."""
    kept = [field for field in passed_answer(fields) if field[0][:1] != b":"]
    return int(dict(fields[:1])[b":status"]), kept
