"""TCP keepalive: the kernel asks a silent client whether it is still there. Of backends: tests/net/test_dial.py."""

import socket
from contextlib import ExitStack

from mcproxy.net.raw import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.peers import client_hello, connect, echo, receive
from tests.kit.proxy import open_descriptors


def test_a_client_that_is_silent_is_asked(proxy: MakeProxy, backend: MakeBackend) -> None:
    """Neither was: an idle connection over a firewall that forgets was dead, and nobody knew before idle_timeout."""
    server = backend(echo)
    running = proxy({"listeners": [listener({"a.test": server.address})]})
    hello = client_hello("a.test")
    with connect(running.port) as client, ExitStack() as copies:
        client.sendall(hello)
        assert receive(client, len(hello)) == hello
        far_end = client.getsockname()
        (ours,) = [sock for sock in map(copies.enter_context, sockets()) if peer(sock) == far_end]
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == KEEPALIVE_INTERVAL


def sockets() -> list[socket.socket]:
    """Copies of those of this process."""
    numbers = [int(number) for number, what in open_descriptors().items() if what.startswith("socket:")]
    return [socket.socket(fileno=socket.dup(number)) for number in numbers]


def peer(sock: socket.socket) -> object:
    try:
        return sock.getpeername()
    except OSError:
        return None
