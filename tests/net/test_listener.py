"""Listening sockets: which addresses they answer on, and that nothing that accept() says ends them."""

import errno
import os
import socket
from pathlib import Path

import pytest

from mcproxy.model import Connection, Listener, Reason, Timeouts
from mcproxy.net.group import open_group
from mcproxy.net.listener import BACKLOG, Acceptor
from mcproxy.net.shared import Shared
from mcproxy.net.worker import Worker
from mcproxy.policy.limits import Limits
from mcproxy.table import Live, Table
from tests.kit.hub import HubThread, messages
from tests.kit.peers import DEADLINE, connect, is_reset, until

ADDR = "127.0.0.1:0"


def listening(addr: str = ADDR) -> socket.socket:
    """The one socket of a listener."""
    (sock,) = open_group(addr, 1)
    return sock


def reached(sock: socket.socket, host: str) -> str | None:
    """The peer address that the listening socket sees of a client who connects to `host`; None: it is refused."""
    try:
        client = connect(sock.getsockname()[1], host)
    except ConnectionRefusedError:
        return None
    with client:
        sock.setblocking(True)
        accepted, peer = sock.accept()
        accepted.close()
    return str(peer[0])


@pytest.mark.parametrize(
    ("addr", "seen_of_v4", "seen_of_v6"),
    [
        (":0", "::ffff:127.0.0.1", "::1"),
        ("0.0.0.0:0", "127.0.0.1", None),
        ("127.0.0.1:0", "127.0.0.1", None),
        ("[::1]:0", None, "::1"),
        ("[::]:0", None, "::1"),
    ],
)
def test_an_address_is_listened_on_as_it_is_written(addr: str, seen_of_v4: str | None, seen_of_v6: str | None) -> None:
    with listening(addr) as sock:
        assert (reached(sock, "127.0.0.1"), reached(sock, "::1")) == (seen_of_v4, seen_of_v6)


def test_the_socket_is_made_for_many_short_waits() -> None:
    with listening() as sock:
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        # tcp(7): of a listening socket TCP_INFO has the length of the queue in tcpi_sacked, the 32-bit field at 28
        queue = int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], "little")
        assert queue == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))


def test_an_address_that_is_taken_is_an_error() -> None:
    with listening() as sock, pytest.raises(OSError, match="in use") as caught:
        listening(f"127.0.0.1:{sock.getsockname()[1]}")
    assert caught.value.errno == errno.EADDRINUSE


class Failing(socket.socket):
    """A listening socket whose accept() fails with these errors before it works."""

    def __init__(self, failures: list[int]) -> None:
        super().__init__(fileno=listening().detach())
        self.failures = failures

    def _accept(self) -> tuple[int, tuple[str, int]]:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super()._accept()  # type: ignore[misc,no-any-return]


class Running:
    """A listener that leads nowhere, so every client is refused."""

    def __init__(self, hub: HubThread, sock: socket.socket) -> None:
        self.port = sock.getsockname()[1]
        self.ended: list[Connection] = []
        self._hub = hub
        hub.call(self._start, sock)

    def _start(self, sock: socket.socket) -> None:
        live = Live(Table.build([(Listener(ADDR), [])]))
        self.shared = Shared(live, Limits(0, 0, 0, 0), Timeouts(5, 5, 5, 5), self.ended.append)
        self._worker = Worker(self.shared)
        self.listener = Acceptor(ADDR, sock, self.shared)
        self.listener.start()

    def answers(self) -> bool:
        before = len(self.ended)
        with connect(self.port) as client:
            client.sendall(b"GET /")
            refused = is_reset(client)
        until(lambda: len(self.ended) > before, "the session to end")
        return refused and self.ended[-1].reason is Reason.HELLO_NOT_TLS

    def stop(self) -> None:
        self._hub.call(self.listener.stop)
        self._hub.spawn(self._worker.release).result(DEADLINE)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_running_out_of_something_is_a_pause_and_no_end(number: int, hub: HubThread) -> None:
    sock = Failing([number] * 3)
    running = Running(hub, sock)
    with messages() as logged:
        assert running.answers()
    assert not sock.failures
    assert [line.split("; ")[0] for line in logged] == [
        f"warning {ADDR}: accept failed: {os.strerror(number)}" for _ in range(3)
    ]
    # Each pause is twice the one before, as told; after a success it is short again.
    assert [line.rpartition("trying again in ")[2] for line in logged] == ["0.01 s", "0.02 s", "0.04 s"]
    assert running.listener.delay == running.listener.min_delay
    assert running.answers()
    running.stop()


def test_the_pause_does_not_grow_beyond_a_second(hub: HubThread) -> None:
    with messages() as logged:
        running = Running(hub, Failing([errno.EMFILE]))
        running.listener.delay = 0.7
        assert running.answers()
        assert "trying again in 0.7 s" in logged[0]
    assert running.listener.max_delay == 1
    running.stop()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.ECONNRESET, errno.ETIMEDOUT])
def test_a_client_that_has_gone_already_costs_no_pause(number: int, hub: HubThread) -> None:
    sock = Failing([number] * 50)
    running = Running(hub, sock)
    with messages() as logged:
        assert running.answers()
    assert not sock.failures
    assert not logged
    running.stop()


def test_an_error_of_accept_prints_no_traceback(hub: HubThread, capfd: pytest.CaptureFixture[str]) -> None:
    running = Running(hub, Failing([errno.EMFILE]))
    with messages():
        assert running.answers()
    running.stop()
    assert capfd.readouterr() == ("", "")


def test_many_clients_are_accepted_for_one_wake_up(hub: HubThread) -> None:
    running = Running(hub, listening())
    clients = [connect(running.port) for _ in range(300)]
    until(lambda: running.shared.stats.listener(ADDR).open == 300, "all of them to be accepted")
    assert len(hub.call(lambda: list(running.shared.sessions))) == 300
    for client in clients:
        client.close()
    until(lambda: running.shared.stats.listener(ADDR).open == 0, "all of them to end")
    assert {connection.reason for connection in running.ended} == {Reason.PROBE}
    running.stop()


def test_before_it_closes_it_takes_who_waits_unless_accept_fails(hub: HubThread) -> None:
    sock = Failing([])
    running = Running(hub, sock)

    def take(failures: list[int]) -> tuple[socket.socket, int]:
        client = connect(running.port)
        sock.failures.extend(failures)
        running.listener.accept_waiting()
        return client, len(sock.failures)

    with messages() as logged:
        for failures in ([], [errno.ECONNABORTED], [errno.EMFILE]):
            client, left = hub.call(take, failures)
            with client:
                client.sendall(b"GET /")
                assert is_reset(client)
            assert not left
    assert len(logged) == 1
    running.stop()


def test_a_stopped_listener_takes_no_client(hub: HubThread) -> None:
    running = Running(hub, listening())
    assert running.answers()
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(running.port)
