"""What a backend is found to speak by what it says to HTTP/2, over real sockets."""

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from gevent import Timeout, spawn

from mcproxy.l7.sockets import channel as channels
from mcproxy.l7.sockets import probe
from mcproxy.l7.sockets.channel import Lost, TLSChannel
from mcproxy.l7.sockets.probe import CLOSED, NO_HTTP, SILENT, Answer, decided, judge, look
from mcproxy.model import Backend as Address
from mcproxy.model import BackendProtocol, Mode, Reason, Refused, Route
from mcproxy.net.dial import Outgoing
from mcproxy.net.raw import RawSocket
from mcproxy.net.read_guard import ReadGuard
from mcproxy.net.turns import Turns
from mcproxy.notation.address import parse_backend
from mcproxy.wire import proxy_protocol
from mcproxy.wire.http2 import PREFACE, SETTINGS_ACK, ErrorCode, goaway, ping, settings
from tests.conftest import MakeBackend
from tests.kit.peers import Authority, free_port, read_all, receive, until

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")

ANSWER_400 = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


@pytest.fixture
def outgoing() -> Iterator[Outgoing]:
    made = Outgoing.make()
    yield made
    made.names.close()


def to(address: str, **more: object) -> Route:
    return Route("a.test", parse_backend(address), Mode.L7, "a.pem", "a.key", **more)  # type: ignore[arg-type]


def no_tls(_route: Route, _sock: RawSocket) -> TLSChannel:
    raise AssertionError("in clear text")


def found(route: Route, outgoing: Outgoing, limit: float = 5.0) -> Answer:
    """Look, in a greenlet as the crew's."""
    return spawn(look, route, outgoing, no_tls, limit).get()


def says(data: bytes) -> Callable[[socket.socket], None]:
    """A backend that says this once HTTP/2 has begun, and closes."""

    def handle(connection: socket.socket) -> None:
        receive(connection, len(PREFACE))
        connection.sendall(data)

    return handle


def test_settings_are_http2_and_are_said_goodbye_to(backend: MakeBackend, outgoing: Outgoing) -> None:
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        connection.sendall(settings([(3, 100)]))
        seen.append(read_all(connection))

    assert found(to(backend(handle).address), outgoing) == Answer("h2", "SETTINGS")
    until(lambda: seen, "the backend to be said goodbye to")
    assert seen == [PREFACE + settings([]) + SETTINGS_ACK + goaway(0, ErrorCode.NO_ERROR)], "and no request"


@pytest.mark.parametrize(
    ("data", "how"),
    [
        (ANSWER_400, "answered 400 to HTTP/2's preface"), (b"", CLOSED), (ping(b"12345678"), NO_HTTP),
        (b"HTTP/1.0 505 No\r\n\r\n", "answered 505 to HTTP/2's preface"), (b"HTTP", NO_HTTP),
        (b"<!DOCTYPE HTML", "answered HTML to HTTP/2's preface"),
    ],
)  # fmt: skip
def test_all_else_is_http1(data: bytes, how: str, backend: MakeBackend, outgoing: Outgoing) -> None:
    assert found(to(backend(says(data)).address), outgoing) == Answer("http/1.1", how)


def test_so_is_a_reset(backend: MakeBackend, outgoing: Outgoing) -> None:
    def handle(connection: socket.socket) -> None:
        receive(connection, len(PREFACE))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert found(to(backend(handle).address), outgoing) == Answer("http/1.1", CLOSED)


def test_so_is_silence(backend: MakeBackend, outgoing: Outgoing) -> None:
    """Some servers wait for the rest of what they take for a request."""
    assert found(to(backend(read_all).address), outgoing) == Answer("http/1.1", SILENT)


def test_a_proxy_header_says_that_nobody_is_behind_it(backend: MakeBackend, outgoing: Outgoing) -> None:
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        seen.append(receive(connection, len(proxy_protocol.LOCAL_V2 + PREFACE)))
        connection.sendall(settings([]))
        read_all(connection)

    answer = found(to(backend(handle).address, send_proxy_protocol=True), outgoing)
    assert (answer.version, seen) == ("h2", [proxy_protocol.LOCAL_V2 + PREFACE])


def test_a_backend_that_is_not_there_stays_unknown(outgoing: Outgoing) -> None:
    with pytest.raises(Refused) as refused:
        found(to(f"127.0.0.1:{free_port()}"), outgoing)
    assert refused.value.reason is Reason.BACKEND_REFUSED


def test_so_does_one_that_accepts_nobody(outgoing: Outgoing) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(Refused) as refused:
            found(to(f"127.0.0.1:{port}"), outgoing, 0.2)
    assert (refused.value.reason, refused.value.detail) == (Reason.BACKEND_TIMEOUT, "no connection in 0.2 s")


@pytest.mark.parametrize(
    ("protocols", "version"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], "http/1.1")]
)
def test_over_tls_alpn_says_it(
    protocols: list[str], version: str, backend: MakeBackend, outgoing: Outgoing, authority: Authority
) -> None:
    context = authority.server_context("a.test")
    context.set_alpn_protocols(protocols)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    offer, guard, turns = authority.client_context(), ReadGuard(), Turns()
    offer.set_alpn_protocols(["h2", "http/1.1"])

    def secure(route: Route, sock: RawSocket) -> TLSChannel:
        return channels.connect(sock, offer, route.hostname, turns, guard)

    route = to(backend(handle).address, backend_tls=True)
    assert spawn(look, route, outgoing, secure, 5.0).get() == Answer(version, "ALPN")
    with pytest.raises(Lost):
        spawn(look, to(backend(says(b"")).address, backend_tls=True), outgoing, secure, 5.0).get()
    guard.close()
    turns.close()


def test_a_time_that_is_over_elsewhere_is_no_silence(backend: MakeBackend, outgoing: Outgoing) -> None:
    """A look that is given up must not be taken for an answer."""

    def limited() -> Answer:
        with Timeout(0.1, ZeroDivisionError("over")):
            return look(to(backend(read_all).address), outgoing, no_tls, 5.0)

    with pytest.raises(ZeroDivisionError):
        spawn(limited).get()


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"\0", "h2"), (settings([])[:8], "h2"), (settings([(1, 2)]), "h2"), (b"H", "http/1.1"), (None, "http/1.1"),
        (b"\0\0\0\4\0\0\0\0\1", "http/1.1"), (b"\0\0\0\0\0\0\0\0\0", "http/1.1"),
    ],
)  # fmt: skip
def test_what_the_first_bytes_mean(data: bytes | None, version: str) -> None:
    assert judge(data).version == version


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (BackendProtocol.AUTO, None),
        (BackendProtocol.H2, Answer("h2", "backend_protocol")),
        (BackendProtocol.HTTP1, Answer("http/1.1", "backend_protocol")),
    ],
)
def test_a_route_may_decide_itself(wanted: BackendProtocol, answer: Answer | None) -> None:
    assert decided(Route("a.test", Address("127.0.0.1", 1), Mode.L7, backend_protocol=wanted)) == answer
    assert probe.SILENCE == 1.0
