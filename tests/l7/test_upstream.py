import socket
import ssl

import pytest
from gevent.hub import get_hub

from mcproxy.l7.upstream import dial_http2, tls_context
from mcproxy.model import Backend, Mode, Refused, Route
from tests.conftest import MakeBackend
from tests.l7.peer import HOST
from tests.peers import Authority, echo, tls
from tests.peers import Backend as Listening

get_hub()  # this thread's, made before descriptors are counted


def route(backend: Listening, **options: object) -> Route:
    port = int(backend.address.rpartition(":")[2])
    return Route(HOST, Backend(host="127.0.0.1", port=port), Mode.L7, **options)  # type: ignore[arg-type]


def test_h2c_with_a_header_before_it(backend: MakeBackend) -> None:
    end = dial_http2(route(backend(echo)), None, b"PROXY")
    assert end.read() == b"PROXY"
    end.close()


def secured(authority: Authority, alpn: list[str]) -> ssl.SSLContext:
    context = authority.server_context(HOST)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def test_tls_comes_after_the_header(backend: MakeBackend, authority: Authority) -> None:
    def handle(connection: socket.socket) -> None:
        assert connection.recv(5) == b"PROXY"
        tls(secured(authority, ["h2"]), echo)(connection)

    target = route(backend(handle), backend_tls=True, backend_ca=str(authority.path))
    end = dial_http2(target, tls_context(target), b"PROXY")
    end.push(b"over TLS")
    assert end.read() == b"over TLS"
    end.close()


@pytest.mark.parametrize(
    ("alpn", "name", "trusted", "why"),
    [
        ([], "", True, "ALPN"),
        (["http/1.1"], "", True, "TLS"),
        (["h2"], "other.test", True, "TLS"),
        (["h2"], "", False, "TLS"),
    ],
)
def test_what_is_no_backend_of_ours(
    backend: MakeBackend, authority: Authority, alpn: list[str], name: str, trusted: bool, why: str
) -> None:
    def handle(connection: socket.socket) -> None:
        with pytest.raises((OSError, ssl.SSLError)):  # noqa: PT012 - which of the two depends on the version of TLS
            tls(secured(authority, alpn), echo)(connection)
            raise OSError("a handshake that the client did not like")

    ca = str(authority.path) if trusted else ""
    target = route(backend(handle), backend_tls=True, backend_ca=ca, backend_server_name=name)
    with pytest.raises(Refused, match=why):
        dial_http2(target, tls_context(target))


def test_h2c_needs_no_context(backend: MakeBackend) -> None:
    assert tls_context(route(backend(echo))) is None
