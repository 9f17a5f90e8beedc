"""Answers of the proxy's own: one header block that leaves every dynamic table as it is, and no body.

A body would take from flow-control windows that are the backend's to fill (and may be closed), so there is none; the
status says it all. A gRPC client reads its status from trailers, so it learns of a failing backend by a Trailers-only
answer with status 14, UNAVAILABLE (gRPC over HTTP2, "Responses"). What is the client's own fault stays an HTTP status
for it too.
"""

from functools import cache

from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import headers
from mcproxy.wire.phrases import phrase

GRPC_UNAVAILABLE = 14
SERVER_ERROR = 500  # and above: RFC 9110, 15.6


@cache
def _plain(status: int) -> bytes:
    return encode([(b":status", b"%d" % status), (b"content-length", b"0")])


@cache
def _grpc(status: int) -> bytes:
    return encode(
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % GRPC_UNAVAILABLE),
            (b"grpc-message", phrase(status)),
        ]
    )


def grpc_status(status: int, request: Request) -> int | None:
    """The gRPC status in our answer to this request; None: it has none."""
    return GRPC_UNAVAILABLE if request.grpc and status >= SERVER_ERROR else None


def answer(stream_id: int, status: int, request: Request, prefix: bytes = b"") -> bytes:
    """The frame of a whole answer; `prefix` is put before its header block (a size update)."""
    block = _plain(status) if grpc_status(status, request) is None else _grpc(status)
    return headers(stream_id, prefix + block, end_stream=True)
