"""A client that is a socket of this process is recognised, and nobody else is."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mcproxy.net.own import MAX_COPIES, MAX_NOTED, OwnSockets
from mcproxy.net.raw import RawSocket


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def server(request: pytest.FixtureRequest, nothing_left: None) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    address = ("::" if request.param.startswith("::f") else request.param, 0)
    with socket.create_server(address, family=family, dualstack_ipv6=request.param.startswith("::f")) as listening:
        yield listening


def dialled(server: socket.socket) -> RawSocket:
    dual = server.getsockname()[0] == "::"
    sock = RawSocket(socket.AF_INET if dual else server.family, socket.SOCK_STREAM)
    sock.connect(("127.0.0.1" if dual else server.getsockname()[0], server.getsockname()[1]))
    return sock


def test_a_socket_that_was_dialled_is_recognised_while_it_is_open(server: socket.socket) -> None:
    own = OwnSockets()
    sock = dialled(server)
    own.note(sock)
    accepted, peer = server.accept()
    with accepted:
        assert own.has(accepted, peer[:2])
        sock.close()
        assert not own.has(accepted, peer[:2])


def test_a_number_that_is_another_file_by_now_proves_nothing(server: socket.socket) -> None:
    """Descriptors are used again at once, for files and for other connections."""
    own = OwnSockets()
    sock = dialled(server)
    own.note(sock)
    accepted, peer = server.accept()
    with accepted:
        number = sock.fileno()
        sock.close()
        with Path("/dev/null").open("rb") as file:
            assert file.fileno() == number
            assert not own.has(accepted, peer[:2])
        with closing(dialled(server)) as other:
            assert other.fileno() == number
            assert not own.has(accepted, peer[:2])


def test_a_client_is_nobody_of_ours(server: socket.socket) -> None:
    own = OwnSockets()
    with closing(dialled(server)) as sock:
        accepted, peer = server.accept()
        with accepted:
            assert not own.has(accepted, peer[:2])
            own.note(sock)
            assert not own.has(accepted, (peer[0], peer[1] ^ 1))
            assert not own.has(accepted, ("192.0.2.1", peer[1]))


def test_only_so_many_are_noted(nothing_left: None) -> None:
    class Sock(RawSocket):
        port = 0

        def getsockname(self) -> tuple[str, int]:
            self.port += 1
            return "127.0.0.1", self.port

    own = OwnSockets()
    with closing(Sock(socket.AF_INET)) as sock:
        for _ in range(MAX_NOTED + 10):
            own.note(sock)
    assert repr(own) == f"<OwnSockets noted={MAX_NOTED} hellos=0>"


def test_a_hello_is_counted_while_its_sessions_live() -> None:
    own, random = OwnSockets(), bytes(32)
    for _ in range(MAX_COPIES):
        assert not own.goes_round(random)
        own.pass_on(random)
    assert own.goes_round(random)
    assert not own.goes_round(b"another")
    own.passed(random)
    assert not own.goes_round(random)
    for _ in range(MAX_COPIES - 1):
        own.passed(random)
    assert repr(own) == "<OwnSockets noted=0 hellos=0>"
