"""Which requests are served, and what of them the backend gets: one set of rules for HTTP/1.1 and HTTP/2.

A request of HTTP/2 is judged as it came. One of HTTP/1.1 is read by http1.py, put into HTTP/2's form
(l7/bridge/translate.py), and judged by the same functions. So the table holds for both, but for the rows that say
otherwise: there the two RFCs differ, and each protocol follows its own.

"400" stands for a request that is refused: 400 in HTTP/1.1, 400 or a stream error PROTOCOL_ERROR in HTTP/2 (RFC 9113,
section 8.1.1). Either way the reason is in the exception.

| of a request | rule | source |
| --- | --- | --- |
| method | any token; else 400 | 9110, 9.1 |
| scheme | http or https, in any case, else 400; the backend gets https, because TLS was used | 9110, 4.2; 3986, 3.1 |
| authority | of the target: `:authority`, or the absolute form, or CONNECT's | 9112, 3.2.2; 9113, 8.3.1 |
| - where that has none | of Host; HTTP/2 gets `:authority`, and never `host`, HTTP/1.1 only Host | 9113, 8.3.1 |
| - neither | 400; HTTP/1.0 without Host means the connection's name | 9112, 3.2 |
| - Host beside it | HTTP/1.1 ignores it; HTTP/2 refuses another entity after normalisation | 9112, 3.2.2; 9113, 8.3.1 |
| - normalisation | case of the host; a port that is empty or the scheme's default. Only to compare | 9110, 4.2.3 |
| - form | a host and an optional port, passed as the client wrote it; userinfo is 400 | 9110, 4.2.4 |
| - Host twice | 400, equal ones too | 9112, 3.2 |
| - another route's | 421 (the caller's rule) | 9110, 7.4 |
| path | absolute, passed byte for byte; also bytes above 0x7f, which URIs lack and clients send | 9113, 8.3.1 |
| - control, blank, # | 400 | 3986, 3.3 |
| - * | for OPTIONS only | 9112, 3.2.4 |
| - empty | "/" (or "*" for OPTIONS) in an absolute form; 400 as `:path` | 9112, 3.2.1; 9113, 8.3.1 |
| CONNECT | 501: this is no way out; without a port, or with a path, 400 | 9110, 9.3.6 |
| - extended | WebSocket only; else 501 | 8441, 4 |
| - its framing | content-length: 0 and Sec-WebSocket-Key end here; a body is 400 | 8441, 5.1; 6455, 4.1 |
| - its answer | without content-length where it opens the tunnel (the caller's rule) | 9110, 9.3.6 |
| Upgrade | WebSocket, before HTTP/1.1 backends others, too; no h2c, TLS or HTTP; behind a body, none | 9110, 7.8 |
| Connection | HTTP/1.1: it and what it names (64 names, else 431) end here; HTTP/2: 400 | 9110, 7.6.1; 9113, 8.2.2 |
| TE | only `trailers` passes, to HTTP/2; HTTP/2 refuses another value | 9110, 10.1.4; 9113, 8.2.2 |
| HTTP2-Settings | ends here | 7540, 3.2.1 |
| Max-Forwards | of OPTIONS and TRACE: one less for the backend; 0 is answered here, 200 or 501 | 9110, 7.6.2 |
| Via | passes, and we add none | below |
| Expect | passes, for the backend to answer; of HTTP/1.0 it ends here | 9110, 10.1.1 |
| content-length | one of at most 18 digits; twice (equal ones too), a list or a sign is 400 | 9110, 8.6 |
| - beside transfer-encoding | 400 | 9112, 6.3 |
| size | 64 KiB and 256 fields, else 431; HTTP/2 counts 32 bytes more a field, and pseudo-fields | 6585, 5 |
| cookie | crumbs pass as the client cut them; HTTP/1.1 gets one field, joined with "; " | 9113, 8.2.3 |
| X-Forwarded-*, X-Real-IP, Forwarded | end here; the caller sets our own | - |
| names, values, trailers | see fields.py | 9110, 5.5, 6.5.1; 9113, 8.2.1 |
| empty lines before it | up to 16 are ignored (http1.py) | 9112, 2.2 |

Via: RFC 9110, section 7.6.3 has a gateway add its entry. nginx, HAProxy, Envoy and Apache httpd don't unless they are
told to, and backends change with it: nginx and others compress nothing for a request that has Via. So we don't either.
The field is for loops and for versions: what finds loops here is net/own.py, and the backend can see the version.

TRACE passes: whether to answer it is the backend's to say. One that ends here is not answered with the request (9110,
9.3.8): that would show scripts the fields that browsers keep from them.

The judging costs what a head costs, and happens once for each distinct header block (l7/http2/header_link.py).
"""

import re
from typing import Final

from mcproxy.wire.fields import (
    BLANKS,
    HOP_BY_HOP,
    NO_LENGTH,
    BadRequest,
    Malformed,
    Regular,
    Request,
    check_regular,
    content_length,
    is_length,
    is_token,
    split_pseudo,
    stripped,
    without_claims,
)
from mcproxy.wire.hpack_block import Field

WEBSOCKET: Final = b"websocket"  # RFC 8441, section 5
OK, NOT_IMPLEMENTED = 200, 501
_HOPS: Final[tuple[bytes, ...]] = (b"OPTIONS", b"TRACE")  # methods that Max-Forwards is about (RFC 9110, section 7.6.2)
_MAX_HOPS: Final = 255  # more proxies than there are on any way
DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}  # RFC 9110, section 4.2
PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
# Of a WebSocket's handshake, what frames the message or belongs to HTTP/1.1's form of it (RFC 8441, section 5.1).
_NOT_IN_EXTENDED_CONNECT: Final = frozenset((b"content-length", b"sec-websocket-key", b"sec-websocket-accept"))
_NOT_IN_REQUESTS: Final = HOP_BY_HOP | {b"host"}

# RFC 3986, section 3.3 with what clients send beyond it; no blank, no control, no "#".
is_path: Final = re.compile(rb"/[!\"$-~\x80-\xff]*").fullmatch
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]+)(?::([0-9]{0,5}))?").fullmatch


def check_request(fields: list[Field]) -> Request:
    """Judge a request's head in the form of HTTP/2. Raises Malformed, BadRequest."""
    pseudo, rest = split_pseudo(fields, PSEUDO)
    regular = check_regular(rest)
    method, protocol = pseudo.get(b":method", b""), pseudo.get(b":protocol", b"")
    if not is_token(method):
        raise Malformed("no :method, or not a token")
    _check_target(method, pseudo)
    authority, host = _authority(pseudo, regular.seen.get(b"host"))
    length = content_length(regular.seen)
    if protocol and length > 0:
        raise BadRequest("an extended CONNECT with a body of a declared length")
    hops = _hops(method, rest) if b"max-forwards" in regular.seen else None
    refusal, why = _refusal(method, protocol, hops)
    return Request(
        method,
        authority,
        host,
        pseudo.get(b":path", b""),
        protocol,
        NO_LENGTH if protocol else length,
        regular.seen.get(b"content-type", b"").startswith(b"application/grpc"),
        _needs_rewriting(pseudo, regular, protocol, rest) or hops is not None,
        refusal,
        why,
    )


def passed_request(fields: list[Field]) -> list[Field]:
    """Return a request's head, which `check_request` has accepted, as the backend gets it."""
    pseudo = [field for field in fields if field[0][:1] == b":"]
    regular = fields[len(pseudo) :]
    names = {name for name, _ in pseudo}
    if b":authority" not in names:
        pseudo.append((b":authority", next(stripped(field)[1] for field in regular if field[0] == b"host")))
    pseudo = [(b":scheme", b"https") if field[0] == b":scheme" else field for field in pseudo]
    dropped = _NOT_IN_REQUESTS | (_NOT_IN_EXTENDED_CONNECT if b":protocol" in names else frozenset())
    hops = _hops(next(value for name, value in pseudo if name == b":method"), regular)
    more = [] if hops is None else [(b"max-forwards", b"%d" % (hops - 1))]
    if more:
        dropped |= {b"max-forwards"}
    return pseudo + [stripped(field) for field in without_claims(regular) if field[0] not in dropped] + more


def is_authority(value: bytes) -> bool:
    """True if this is a host with an optional port, and without userinfo (RFC 9110, section 4.2.4)."""
    return _AUTHORITY(value) is not None


def entity(authority: bytes, scheme: bytes) -> tuple[bytes, int]:
    """Return what an authority names, normalised for its scheme: a host in lower case, and a port.

    RFC 9110, section 4.2.3; RFC 3986, sections 6.2.2.1 and 6.2.3. Raises BadRequest.
    """
    match = _AUTHORITY(authority)
    if match is None:
        fault = "has userinfo" if b"@" in authority else "is not a host with an optional port"
        raise BadRequest(f"the authority {fault}")
    return match[1].lower(), int(match[2]) if match[2] else DEFAULT_PORTS[scheme.lower()]


def _check_target(method: bytes, pseudo: dict[bytes, bytes]) -> None:
    """Judge which pseudo-fields a request has (RFC 9113, sections 8.3.1 and 8.5; RFC 8441, section 4)."""
    path, scheme = pseudo.get(b":path"), pseudo.get(b":scheme", b"")
    if b":protocol" in pseudo:
        if method != b"CONNECT" or not is_token(pseudo[b":protocol"]):
            raise Malformed(":protocol without CONNECT, or not a token")
    elif method == b"CONNECT":
        if path is not None or scheme or b":authority" not in pseudo:
            raise Malformed("CONNECT with :scheme or :path, or without :authority")
        return
    if scheme.lower() not in DEFAULT_PORTS:
        raise Malformed("no scheme, or another than http and https")
    if path is None or not (is_path(path) or (path == b"*" and method == b"OPTIONS")):
        raise Malformed(_path_fault(path))


def _path_fault(path: bytes | None) -> str:
    if not path:
        return "no path"
    if b"#" in path:
        return "a path with a fragment"
    if path == b"*":
        return "a path of * without OPTIONS"
    return "a path with a blank or a control character" if path[:1] == b"/" else "a path that is not absolute"


def _authority(pseudo: dict[bytes, bytes], host: bytes | None) -> tuple[bytes, bytes]:
    """Return the authority as the client wrote it, and its host (RFC 9113, section 8.3.1). Raises BadRequest."""
    authority, scheme = pseudo.get(b":authority"), pseudo.get(b":scheme", b"https")
    if authority is None:
        if not host:
            raise BadRequest("no authority, and no Host")
        return host, entity(host, scheme)[0]
    name, port = entity(authority, scheme)
    if host is not None and host != authority and entity(host, scheme) != (name, port):
        raise BadRequest("Host names another authority than the target")
    if pseudo[b":method"] == b"CONNECT" and b":protocol" not in pseudo and not authority.rpartition(b":")[2].isdigit():
        raise BadRequest("CONNECT to an authority without a port")  # RFC 9110, section 9.3.6
    return authority, name


def _hops(method: bytes, fields: list[Field]) -> int | None:
    """How often a request may be passed on; None: it doesn't say so, in a number (RFC 9110, section 7.6.2)."""
    if method not in _HOPS:
        return None
    values = [value.strip(BLANKS) for name, value in fields if name == b"max-forwards"]
    numbers = [int(value) if is_length(value) else _MAX_HOPS for value in values if value.isdigit()]
    return min([*numbers, _MAX_HOPS]) if numbers else None


def _refusal(method: bytes, protocol: bytes, hops: int | None) -> tuple[int, str]:
    """Return the status that answers a request which is read and never served, and why; 0: none."""
    if hops == 0:
        return OK if method == b"OPTIONS" else NOT_IMPLEMENTED, f"{method.decode()} with Max-Forwards: 0"
    if method != b"CONNECT" or protocol.lower() == WEBSOCKET:
        return 0, ""
    return NOT_IMPLEMENTED, "an extended CONNECT to another protocol than WebSocket" if protocol else "CONNECT"


def _needs_rewriting(pseudo: dict[bytes, bytes], regular: Regular, protocol: bytes, rest: list[Field]) -> bool:
    return (
        regular.blanks
        or regular.claims
        or not _NOT_IN_REQUESTS.isdisjoint(regular.seen)
        or pseudo.get(b":scheme", b"https") != b"https"
        or (protocol != b"" and any(name in _NOT_IN_EXTENDED_CONNECT for name, _ in rest))
    )
