"""A message that two HTTP/1.1 readers could read differently gets 400, and nothing behind it is served."""

import ssl

import pytest

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import Seen, h2, l7_listener
from tests.kit.peers import Authority, connect

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: one.test\r\n\r\n"
HOST = b"Host: one.test\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
FORMS = {
    "CL.TE": (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE.CL": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", 400),
    "TE.TE": (POST + b"Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n0\r\n\r\n", 400),
    "TE other": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "TE vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "TE in 1.0": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "CL.CL": (POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
    "CL list": (POST + b"Content-Length: 0, 44\r\n\r\n", 400),
    "CL sign": (POST + b"Content-Length: +44\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\n" + HOST + b"\n", 400),
    "bare LF in a field": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400),
    "bare CR in a field": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rContent-Length: 44\r\n\r\n", 400),
    "folding": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n Content-Length: 44\r\n\r\n", 400),
    "blank before colon": (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length : 44\r\n\r\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: two.test\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "userinfo": (b"GET https://one.test@two.test/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "authority form": (b"GET one.test HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443\r\n\r\n", 501),
    "method": (b"GE\x07T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n", 400),
    "HTTP/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "long head": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 300 + b"\r\n", 431),
    "chunk sign": (POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n", 400),
    "chunk LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n", 400),
    "chunk overlong": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400),
    "chunk beyond 64 bits": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n", 400,
    ),
    "trailer folding": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n", 400,
    ),
    "trailer LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n", 400),
}  # fmt: skip


def test_forms(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    seen: list[Seen] = []

    def keep(request: Seen) -> None:
        seen.append(request)
        if not request.reset:
            request.answer(b"served")

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(keep)).address}, authority)]})
    context = authority.client_context()
    wrong = {}
    for name, (form, status) in FORMS.items():
        with context.wrap_socket(connect(running.port), server_hostname="one.test") as client:
            client.sendall(form + HIDDEN)
            got = b""
            while part := client.recv(1 << 16):
                got += part
        if (
            not got.startswith(b"HTTP/1.1 %d " % status)
            or b"connection: close" not in got
            or got.count(b"HTTP/1.1 ") > 1
        ):
            wrong[name] = got
    assert not wrong
    assert not [request for request in seen if request.fields[":path"] == "/hidden"]
    assert not [request for request in seen if not request.reset]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_byte_by_byte(
    version: ssl.TLSVersion, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    running = proxy(
        {"listeners": [l7_listener({"one.test": backend(h2(lambda seen: seen.answer(seen.body))).address}, authority)]}
    )
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    raw = (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX: a\r\n\r\n"
    )
    with context.wrap_socket(connect(running.port), server_hostname="one.test") as client:
        for byte in raw:
            client.sendall(bytes((byte,)))
        got = b""
        while not got.endswith(b"abcde"):
            part = client.recv(1 << 16)
            assert part, got
            got += part
