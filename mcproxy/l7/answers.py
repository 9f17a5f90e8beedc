"""Answers of the proxy's own, as header blocks that leave every dynamic table as it is.

A gRPC client reads its status from trailers, so a failing backend is told to it as a Trailers-only answer with status
14, UNAVAILABLE (gRPC over HTTP2, "Responses"). What is the client's own fault stays an HTTP status for it too.
"""

from functools import cache
from http import HTTPStatus

from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import data, headers

GRPC_UNAVAILABLE = b"14"


@cache
def _plain(status: int, head: bool) -> tuple[bytes, bytes]:
    body = f"{status} {HTTPStatus(status).phrase}\n".encode()
    block = encode(
        [
            (b":status", b"%d" % status),
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
        ]
    )
    return block, b"" if head else body


@cache
def _grpc(status: int) -> bytes:
    return encode(
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", GRPC_UNAVAILABLE),
            (b"grpc-message", HTTPStatus(status).phrase.encode()),
        ]
    )


def answer(stream_id: int, status: int, request: Request | None, prefix: bytes = b"") -> bytes:
    """The frames of a whole answer; `prefix` is put before its header block (a size update)."""
    if request and request.grpc and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return headers(stream_id, prefix + _grpc(status), end_stream=True)
    block, body = _plain(status, request is not None and request.method == b"HEAD")
    if not body:
        return headers(stream_id, prefix + block, end_stream=True)
    return headers(stream_id, prefix + block) + data(stream_id, body, end_stream=True)
