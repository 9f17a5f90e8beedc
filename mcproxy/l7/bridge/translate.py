"""Heads and trailers between HTTP/1.1 and the neutral form of ends.py: which fields pass, and which end at this hop.

Towards the backend (RFC 9113, section 8.2.2; RFC 9110, section 7.6.1), hop-by-hop fields are removed, and every field
that Connection names. X-Forwarded-* and the like never pass as the client sent them; wire/fields.py, which checks the
result, knows which these are.
"""

import base64
import hashlib

from mcproxy.l7.bridge.ends import RequestHead, Upgrade
from mcproxy.wire.fields import BadRequest, Malformed, check_request, without_not_passed
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import BadMessage, Head

# Meant for the next hop alone; te has a rule of its own.
_HOP_BY_HOP = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings", b"te")
)
# RFC 9110, section 6.5.1: what a trailer may not change after the fact.
_NOT_IN_TRAILERS = _HOP_BY_HOP | {
    b"host", b"content-length", b"content-encoding", b"content-type", b"content-range", b"trailer", b"authorization",
    b"cookie", b"set-cookie", b"expect", b"max-forwards", b"cache-control", b"range",
}  # fmt: skip
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def translate(head: Head, hostname: str) -> RequestHead:
    """Return a request's head in neutral form. `hostname` takes the place of a missing Host. Raises BadMessage."""
    authority, path = _target(head, hostname.encode())
    connection = head.tokens(b"connection")
    upgrade = _upgrade(head, connection)
    websocket = upgrade is Upgrade.WEBSOCKET
    fields: list[Field] = [
        (b":method", b"CONNECT" if websocket else head.method),
        (b":scheme", b"https"),
        (b":authority", authority),
        (b":path", path),
    ]
    if websocket:
        fields.append((b":protocol", b"websocket"))  # RFC 8441, section 4
    dropped = _HOP_BY_HOP | connection | {b"host", b"sec-websocket-key" if websocket else b"host"}
    fields += [field for field in head.fields if field[0] not in dropped]
    if b"trailers" in head.tokens(b"te"):
        fields.append((b"te", b"trailers"))  # gRPC insists on it
    try:
        request = check_request(fields)
    except (Malformed, BadRequest) as error:
        raise BadMessage(400, str(error)) from None
    passed = tuple(without_not_passed(fields)) if request.rewrite else tuple(fields)
    is_1_1 = head.minor == 1
    expects = is_1_1 and head.has_body and b"100-continue" in head.tokens(b"expect")
    return RequestHead(request, passed, upgrade, expects, is_1_1)


def _target(head: Head, hostname: bytes) -> tuple[bytes, bytes]:
    """Authority and path (RFC 9112, section 3.2)."""
    target, host = head.target, hostname if head.host is None else head.host
    if head.method == b"CONNECT":
        raise BadMessage(501, "CONNECT")  # an edge for backends is no way out
    if target.startswith(b"/") or (target == b"*" and head.method == b"OPTIONS"):
        return host, target
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"https", b"http"):
        raise BadMessage(400, "a target in no known form")
    authority, path = rest, b""
    for mark in (b"/", b"?"):
        authority = authority.partition(mark)[0]
    path = rest[len(authority) :]
    if head.host is not None and head.host.lower() != authority.lower():
        raise BadMessage(400, "the target names another authority than Host")
    if not path and head.method == b"OPTIONS":
        return authority, b"*"  # section 3.2.4
    return authority, path if path.startswith(b"/") else b"/" + path


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
        return Upgrade.NONE  # RFC 9113, section 3.1: not in use any more; to go on as before is a full answer
    return Upgrade.UNKNOWN


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def request_trailers(fields: list[Field]) -> list[Field]:
    """Those trailers that may pass to the backend: what is not the client's to claim in a head, is not here either."""
    return without_not_passed(answer_trailers(fields))


def answer_trailers(fields: list[Field]) -> list[Field]:
    """Those trailers that may pass to the client."""
    return [field for field in fields if field[0] not in _NOT_IN_TRAILERS and field[0][:1] != b":"]


def answer_head(fields: list[Field]) -> tuple[int, list[Field]]:
    """Status and fields of an answer, as they go to the client. Raises ValueError where the status is invalid."""
    kept = [field for field in fields if field[0][:1] != b":" and field[0] not in _HOP_BY_HOP]
    return int(dict(fields[:1])[b":status"]), kept
