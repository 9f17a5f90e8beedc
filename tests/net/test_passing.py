"""An l4 session from its dial to its end: the deadlines of the dial, of silence, and of half a connection.

The clock that deadlines go by is the test's to wind; that the right deadline strikes is seen from outside.
"""

import socket
import threading

import pytest

from mcproxy.model import End, Reason
from mcproxy.net.delivery import VISITS
from mcproxy.net.shared import Phase
from mcproxy.net.sweep import LATENESS
from mcproxy.notation.address import parse_backend
from tests.conftest import MakeBackend
from tests.kit.peers import DEADLINE, is_reset, reset, until
from tests.kit.worker_bench import HELLO, TIMEOUTS, MakeBench, swallow, table_for


def test_dialling_has_a_deadline_of_its_own(bench: MakeBench, full_socket: str) -> None:
    running = bench(table_for(full_socket))
    with running.client() as client:
        running.reach(Phase.PEEKING)
        running.wind(TIMEOUTS.handshake - 1)
        client.sendall(HELLO)
        running.reach(Phase.DIALLING)
        running.wind(TIMEOUTS.connect - LATENESS)
        running.reach(Phase.DIALLING)
        running.wind(3 * LATENESS)
        assert is_reset(client)
    ended = running.last()
    assert (ended.reason, ended.detail) == (Reason.BACKEND_TIMEOUT, "no connection in 5 s")
    assert ended.backend == parse_backend(full_socket)


@pytest.mark.parametrize("sender", ["client", "backend"])
def test_a_byte_either_way_puts_idleness_off(sender: str, bench: MakeBench, backend: MakeBackend) -> None:
    server = backend(swallow)
    running = bench(table_for(server.address))
    with running.client(HELLO) as client:
        session = running.reach(Phase.RELAYING)
        until(lambda: server.connections, "the backend to accept")
        for count in range(1, 4):
            running.wind(TIMEOUTS.idle - 1)
            (client if sender == "client" else server.connections[0]).sendall(b"x")
            until(lambda c=count: session.received + session.sent == len(HELLO) + c, "the byte")  # type: ignore[misc]
            running.deliver(session)
        running.wind(TIMEOUTS.idle - 1)
        running.reach(Phase.RELAYING)
        running.wind(1 + 2 * TIMEOUTS.idle / VISITS + (VISITS + 1) * 2 * LATENESS)
        if sender == "backend":
            assert client.recv(9) == b"xxx"
        assert is_reset(client)
    assert running.last().end is End.IDLE_TIMEOUT


@pytest.mark.parametrize("first", ["client", "backend"])
def test_who_is_half_closed_has_less_time(first: str, bench: MakeBench, backend: MakeBackend) -> None:
    over = threading.Event()

    def hold(_connection: socket.socket) -> None:
        assert over.wait(DEADLINE)

    server = backend(hold)
    running = bench(table_for(server.address))
    with running.client(HELLO) as client:
        running.reach(Phase.RELAYING)
        until(lambda: server.connections, "the backend to accept")
        ends = {"client": client, "backend": server.connections[0]}
        ends.pop(first).shutdown(socket.SHUT_WR)
        session = running.reach(Phase.HALF_CLOSED)
        (other,) = ends.values()
        while other.recv(65_536):
            continue
        running.deliver(session)  # the FIN, too
        running.wind(TIMEOUTS.half_close - 1)
        running.reach(Phase.HALF_CLOSED)
        running.wind(1 + 2 * TIMEOUTS.half_close / VISITS + (VISITS + 1) * 2 * LATENESS)
        if first == "client":
            assert is_reset(client)
        assert running.last().end is End.HALF_CLOSE_TIMEOUT
        over.set()


def test_a_side_that_does_not_take_what_came_before_a_reset_is_given_up(bench: MakeBench, backend: MakeBackend) -> None:
    def answer_and_reset(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes(40_000))
        until(lambda: session.sent == 40_000, "the answer to be relayed")
        reset(connection)

    running = bench(table_for(backend(answer_and_reset).address))
    with socket.socket() as client:
        client.settimeout(DEADLINE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.open()))
        session = running.reach(Phase.PEEKING)
        client.sendall(HELLO)
        running.reach(Phase.FLUSHING)
        running.wind(TIMEOUTS.half_close * (1 + 2 / VISITS) + (VISITS + 1) * 2 * LATENESS)
        assert running.last().end is End.HALF_CLOSE_TIMEOUT
