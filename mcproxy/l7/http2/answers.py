"""Answers of the proxy's own: one header block that leaves every dynamic table as it is, and no body.

A body would take from flow-control windows that are the backend's to fill (and may be closed), so there is none; the
status says it all. A gRPC client reads its status from trailers, so it learns of a failing backend by a Trailers-only
answer (gRPC over HTTP2, "Responses"): with status 14, UNAVAILABLE, or 12, UNIMPLEMENTED, where the backend speaks what
carries no gRPC, and then with the reason. What is the client's own fault stays an HTTP status for it too.
"""

from functools import cache
from typing import Final
from urllib.parse import quote_from_bytes

from mcproxy.l7.bounds import RETRY_AFTER
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import headers
from mcproxy.wire.phrases import phrase

GRPC_UNIMPLEMENTED: Final = 12
GRPC_UNAVAILABLE: Final = 14
NOT_IMPLEMENTED: Final = 501
_SAFE: Final = bytes(range(0x20, 0x7F)).replace(b"%", b"")  # which are not quoted in a message of gRPC
SERVER_ERROR: Final = 500  # and above: RFC 9110, 15.6


@cache
def _plain(status: int) -> bytes:
    later = [(b"retry-after", b"%d" % RETRY_AFTER)] if status == 503 else []
    return encode([(b":status", b"%d" % status), (b"content-length", b"0"), *later])


@cache
def _unavailable(status: int) -> bytes:
    return _grpc(GRPC_UNAVAILABLE, phrase(status))


def _grpc(status: int, message: bytes) -> bytes:
    """A Trailers-only answer of gRPC, with a status of its own."""
    return encode(
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % status),
            (b"grpc-message", quote_from_bytes(message, _SAFE).encode()),
        ]
    )


def grpc_status(status: int, request: Request) -> int | None:
    """The gRPC status in our answer to this request; None: it has none."""
    if not request.grpc or status < SERVER_ERROR:
        return None
    return GRPC_UNIMPLEMENTED if status == NOT_IMPLEMENTED else GRPC_UNAVAILABLE


def answer(stream_id: int, status: int, request: Request, prefix: bytes = b"", why: str = "") -> bytes:
    """The frame of a whole answer.

    `prefix` is put before its header block (a size update). `why` is for a client of gRPC that asks for what can't be
    served; other reasons are the log's, for they may name a backend's address.
    """
    found = grpc_status(status, request)
    if found is None:
        block = _plain(status)
    elif found == GRPC_UNIMPLEMENTED:
        block = _grpc(found, why.encode() or phrase(status))
    else:
        block = _unavailable(status)
    return headers(stream_id, prefix + block, end_stream=True)
