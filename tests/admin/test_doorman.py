import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mcproxy.admin.doorman import Doorman, _Side
from mcproxy.admin.entrance import TcpEntrance, UnixEntrance
from mcproxy.admin.peer import Peer, peer_of
from mcproxy.admin.room import Room
from tests.kit.peers import DEADLINE, until

SIZE = 3  # places of a small room


@contextmanager
def served(man: Doorman) -> Iterator[tuple[Doorman, socket.socket]]:
    """A doorman, and the socket that stands for gRPC's."""
    try:
        with socket.socket(socket.AF_UNIX) as inner:
            inner.bind(os.fspath(man.entrance.inner))
            inner.listen(128)
            inner.settimeout(DEADLINE)
            man.entrance.inside()
            man.start()
            yield man, inner
    finally:
        man.close()


@contextmanager
def door(folder: Path) -> Iterator[tuple[Doorman, socket.socket]]:
    """On a UNIX socket."""
    with served(Doorman(UnixEntrance(folder / "admin.sock"))) as made:
        yield made


def connect(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(os.fspath(folder / "admin.sock"))
    return sock


class Tcp:
    """A doorman on TCP with SIZE places, and its clients."""

    def __init__(self, man: Doorman, inner: socket.socket, stack: ExitStack) -> None:
        self.man = man
        self._inner = inner
        self._stack = stack

    def connect(self, host: str = "127.0.0.1") -> socket.socket:
        """A client at this address of this machine."""
        assert isinstance(self.man.entrance, TcpEntrance)
        made = socket.create_connection(("127.0.0.1", self.man.entrance.port), DEADLINE, (host, 0))
        return self._stack.enter_context(made)

    def come(self, host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket, str]:
        """A client, the other end of it, and gRPC's name for it, once it has its place."""
        outside = self.connect(host)
        inside, name = self._inner.accept()
        inside.settimeout(DEADLINE)
        self._stack.enter_context(inside)
        return outside, inside, f"unix-abstract:{name[1:].decode()}"


@pytest.fixture
def tcp() -> Iterator[Tcp]:
    with served(Doorman(TcpEntrance("127.0.0.1:0"), Room(SIZE))) as made, ExitStack() as stack:
        yield Tcp(*made, stack)


def works(outside: socket.socket, inside: socket.socket) -> bool:
    outside.sendall(b"x")
    return inside.recv(10) == b"x"


@contextmanager
def pair(folder: Path, inner: socket.socket) -> Iterator[tuple[socket.socket, socket.socket, bytes]]:
    """A connection from end to end, and the name that the doorman gave it."""
    with connect(folder) as outside:
        inside, name = inner.accept()
        inside.settimeout(DEADLINE)
        with inside:
            yield outside, inside, name


def test_bytes_pass_both_ways_and_each_end_is_passed_on(tmp_path: Path) -> None:
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (outside, inside, _):
        outside.sendall(b"ping")
        assert inside.recv(100) == b"ping"
        outside.shutdown(socket.SHUT_WR)
        assert inside.recv(100) == b"", "the client has ended"
        inside.sendall(b"pong")
        assert outside.recv(100) == b"pong", "the server has not"
        inside.close()
        assert outside.recv(100) == b""


def test_much_passes_whole_though_the_reader_is_slow(tmp_path: Path) -> None:
    sent = os.urandom(1 << 20) * 8
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (outside, inside, _):

        def send() -> None:
            outside.sendall(sent)
            outside.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = bytearray()
        while piece := inside.recv(10_000):
            received += piece
        sender.join(DEADLINE)
        assert bytes(received) == sent


def test_a_reset_ends_the_other_side(tmp_path: Path) -> None:
    with door(tmp_path) as (man, inner), pair(tmp_path, inner) as (outside, inside, _):
        inside.sendall(b"x" * 1000)
        until(lambda: outside.recv(1, socket.MSG_PEEK) == b"x", "bytes")
        outside.close()  # with bytes unread
        assert inside.recv(10) == b""
        inside.close()
        until(lambda: "connections=0" in repr(man), "the connection to be forgotten")


def test_where_nobody_listens_inside_the_client_is_let_go(tmp_path: Path) -> None:
    man = Doorman(UnixEntrance(tmp_path / "admin.sock"))
    man.start()
    try:
        with connect(tmp_path) as outside:
            assert outside.recv(1) == b""
    finally:
        man.close()


def test_nothing_is_left(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with door(tmp_path) as (man, inner), pair(tmp_path, inner):
        folder = man.entrance.inner.parent
    assert not folder.exists()
    assert not (tmp_path / "admin.sock").exists()
    assert set(threading.enumerate()) <= threads


def test_a_connection_that_is_over_waits_for_no_collector(tcp: Tcp, no_collector: None) -> None:
    """Each command left the two sides of its connection, which had each other."""
    for end in tcp.come()[:2]:
        end.close()
    # The thread's own variable may keep the one that it has served last.
    until(lambda: sum(type(each) is _Side for each in gc.get_objects()) < 2, "its sides to be gone")


def test_the_peer_is_in_the_name(tmp_path: Path, tcp: Tcp) -> None:
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (_, _, name):
        assert name.startswith(b"\0mcproxy-")
        assert peer_of("unix-abstract:" + name[1:].decode()) == Peer(uid=os.getuid())
    assert peer_of(tcp.come("127.0.0.2")[2]) == Peer(ip="127.0.0.2")


def test_names_that_another_user_could_guess_and_take_keep_nobody_out(tmp_path: Path) -> None:
    """The names of all connections had one token and a serial number: who took the next ones shut everybody out."""
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (_, _, name), ExitStack() as stack:
        before, serial = name.rsplit(b"-", 1)
        for number in range(int(serial) + 1, int(serial) + 20):
            taken = stack.enter_context(socket.socket(socket.AF_UNIX))
            taken.bind(before + b"-%d" % number)
        with pair(tmp_path, inner) as (outside, inside, _):
            assert works(outside, inside)


def test_when_all_places_are_taken_the_oldest_of_the_flood_goes(tcp: Tcp) -> None:
    operator, inside, _ = tcp.come("127.0.0.2")
    oldest, other = tcp.come(), tcp.come()
    newest = tcp.come()
    assert oldest[0].recv(1) == b"", "though the operator's is older"
    assert works(operator, inside)
    assert works(*other[:2])
    assert works(*newest[:2])


def test_a_connection_with_a_call_stays_and_one_more_is_refused_when_all_have(tcp: Tcp) -> None:
    taken = [tcp.come() for _ in range(SIZE)]
    assert all(works(*each[:2]) for each in taken)
    ends = [tcp.man.call(name) for *_, name in taken]
    assert tcp.connect().recv(1) == b""
    assert all(works(*each[:2]) for each in taken)
    ends.pop()()
    for end in taken.pop()[:2]:
        end.close()
    until(lambda: f"connections={SIZE - 1}" in repr(tcp.man), "it to be forgotten")
    assert works(*tcp.come()[:2]), "there is room again"
    tcp.man.call("unix:")()


def test_who_comes_in_the_time_of_grace_waits_and_keeps_its_turn(tcp: Tcp) -> None:
    """A flood from the operator's own address: each is served in the order in which they came."""
    come = [tcp.connect() for _ in range(5 * SIZE)]
    for each in come:
        each.sendall(str(each.getsockname()[1]).encode())
    order = []
    for _ in come:
        inside, _ = tcp._inner.accept()
        inside.settimeout(DEADLINE)
        with inside:
            order.append(int(inside.recv(100) or 0))
    assert order == [each.getsockname()[1] for each in come]


def test_what_grpc_ends_is_over_though_the_client_stays(tcp: Tcp) -> None:
    """Else a client that gRPC has given up would keep its place for as long as it likes."""
    outside, inside, _ = tcp.come()
    inside.sendall(b"alert")
    inside.close()
    assert outside.recv(10) == b"alert"
    assert outside.recv(10) == b""
    until(lambda: "connections=0" in repr(tcp.man), "the connection to be forgotten")
