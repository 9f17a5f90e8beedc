"""Looks at backends without a worker."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mcproxy.look.alone import look, look_at_all
from mcproxy.model import Backend, BackendProtocol, Mode, Route
from mcproxy.wire import http2
from mcproxy.wire.proxy_protocol import LOCAL_V2
from tests.kit.peers import DEADLINE, free_port


def route(backend: str, **more: object) -> Route:
    found = Backend(path=backend) if backend.startswith("/") else Backend("127.0.0.1", int(backend))
    return Route("a.test", found, Mode.L7, **more)  # type: ignore[arg-type]


@contextmanager
def served(serve: Callable[[socket.socket], None], path: Path | None = None) -> Iterator[str]:
    """A server of one connection; its address."""
    listening = socket.socket(socket.AF_UNIX) if path else socket.create_server(("127.0.0.1", 0))
    if path:
        listening.bind(str(path))
        listening.listen()

    def run() -> None:
        sock, _ = listening.accept()
        with sock:
            serve(sock)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with listening:
        yield str(path) if path else str(listening.getsockname()[1])
        thread.join(DEADLINE)


def old(sock: socket.socket) -> None:
    assert sock.recv(65_536).startswith(b"PRI * HTTP/2.0")
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_what_is_spoken(tmp_path: Path) -> None:
    def new(sock: socket.socket) -> None:
        assert sock.recv(65_536)
        sock.sendall(http2.settings([]))
        sock.recv(65_536)

    with served(old) as port:
        step = look(route(port), 5.0)
        assert (step.passed, step.detail) == (True, "HTTP/1.1 (answered 400 to HTTP/2's preface)")
    with served(new, tmp_path / "socket") as path:
        assert look(route(path), 5.0).detail.startswith("HTTP/2, SETTINGS in ")


def test_a_proxy_header_says_that_nobody_asks() -> None:
    seen: list[bytes] = []

    def behind_a_header(sock: socket.socket) -> None:
        seen.append(sock.recv(len(LOCAL_V2), socket.MSG_WAITALL))
        old(sock)

    with served(behind_a_header) as port:
        assert look(route(port, send_proxy_protocol=True), 5.0).passed
    assert seen == [LOCAL_V2]


def test_faults_say_what_requests_will_get() -> None:
    with served(old) as port:
        step = look(route(port, backend_protocol=BackendProtocol.H2), 5.0)
        assert not step.passed
        assert "the backend speaks HTTP/1.1" in step.detail
    nobody = str(free_port())
    absent, plain = look_at_all([route(nobody), route(nobody, backend_tls=True, backend_ca="/absent.pem")], 5.0)
    for step in (absent, plain):
        assert step.detail == f"requests will be answered 502: 127.0.0.1:{nobody}: Connection refused"
    with served(lambda _sock: None) as port:
        step = look(route(port, backend_tls=True, backend_ca="/absent.pem"), 5.0)
        assert (step.name, step.passed) == ("backend TLS", False)
