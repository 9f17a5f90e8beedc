"""sd_notify(3) and sd_listen_fds(3): what is said, what is taken over, and that nobody is missed where nobody is."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcproxy.notify import FIRST_DESCRIPTOR, Inherited, Notifier
from tests.kit.hub import messages

PID = str(os.getpid())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    tell: list[tuple[Callable[[], None], bytes]] = [
        (notifier.ready, b"READY=1"),
        (notifier.stopping, b"STOPPING=1"),
        (notifier.alive, b"WATCHDOG=1"),
        (lambda: notifier.status("3 open"), b"STATUS=3 open"),
    ]
    for say, expected in tell:
        say()
        assert manager.recv(1000) == expected
    notifier.reloading()
    first, second = manager.recv(1000).split(b"\n")
    assert first == b"RELOADING=1"
    assert second.startswith(b"MONOTONIC_USEC=")
    assert int(second.partition(b"=")[2]) > 0
    notifier.close()
    notifier.ready()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_an_abstract_socket() -> None:
    name = f"mcproxy-test-{PID}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        notifier = Notifier(f"@{name}")
        notifier.ready()
        assert sock.recv(1000) == b"READY=1"
        notifier.close()


def test_without_a_service_manager_nothing_is_said() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready()
    assert notifier.interval == 0
    assert repr(notifier) == "<Notifier off interval=0>"


def test_a_manager_that_is_gone_or_takes_nothing_stops_nobody(tmp_path: Path, manager: socket.socket) -> None:
    with messages() as said:
        gone = Notifier(str(tmp_path / "nobody"))
        gone.ready()
        gone.close()
        full = Notifier(manager.getsockname())
        for _ in range(10_000):
            full.alive()
        full.close()
    assert "could not send READY=1" in said[0]
    assert len(said) > 1


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": PID}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_fed_thrice_in_its_interval(environ: dict[str, str], interval: float) -> None:
    assert Notifier.from_environment(environ).interval == interval


def listening(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    return socket.create_server((host, 0), family=socket.AddressFamily(family), dualstack_ipv6=host == "::")


def handed(sock: socket.socket) -> range:
    """The descriptor of a socket that somebody else left to us."""
    number = sock.detach()
    return range(number, number + 1)


@pytest.mark.parametrize(
    ("host", "family", "addr", "other"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1:{}", ":{}"),
        ("0.0.0.0", socket.AF_INET, ":{}", "127.0.0.1:{}"),
        ("::", socket.AF_INET6, ":{}", "0.0.0.0:{}"),
        ("::", socket.AF_INET6, "[::0]:{}", "[::1]:{}"),
        ("::1", socket.AF_INET6, "[::1]:{}", ":{}"),
    ],
)
def test_sockets_are_matched_by_address(host: str, family: int, addr: str, other: str) -> None:
    sock = listening(host, family)
    port = sock.getsockname()[1]
    inherited = Inherited(handed(sock))
    assert not inherited.take(other.format(port))
    assert not inherited.take(addr.format(port + 1))
    (taken,) = inherited.take(addr.format(port))
    (again,) = inherited.take(addr.format(port))  # of a listener that was removed and has come back
    with taken, again:
        assert inherited.is_managers(taken)
        assert taken.getsockname()[1] == port
        assert not taken.getblocking()
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_inheritable(taken.fileno())
        with socket.create_connection(("::1" if family == socket.AF_INET6 else "127.0.0.1", port), 5):
            taken.setblocking(True)
            taken.accept()[0].close()
    assert inherited.unclaimed({addr.format(port): None}) == []
    assert len(inherited.unclaimed({other.format(port): None})) == 1
    inherited.close()
    assert repr(inherited) == "<Inherited none>"


def test_given_sockets_of_a_listener_keep_their_order() -> None:
    """That is the order of the workers, of which each has one."""
    inherited, sockets = Inherited(), [listening("127.0.0.1", socket.AF_INET) for _ in range(4)]
    for addr, sock in zip([":1", ":2", ":1", ":3"], sockets, strict=True):
        inherited.give(addr, sock)
    assert inherited.take(":1") == [sockets[0], sockets[2]]
    assert not inherited.take(":1"), "they are the caller's"
    assert inherited.take(":2") == [sockets[1]]
    inherited.close()
    assert sockets[3].fileno() == -1, "nobody has taken it"
    for each in sockets:
        each.close()


def test_a_given_socket_may_be_the_service_managers() -> None:
    """Where the server before had inherited it: it is given as its listener's, and once more as inherited."""
    sock, other = listening("127.0.0.1", socket.AF_INET), listening("127.0.0.1", socket.AF_INET)
    inherited = Inherited()
    inherited.give(":1", sock)
    inherited.give("", sock.dup())
    with other:
        assert inherited.is_managers(sock)
        assert not inherited.is_managers(other)
    inherited.close()


def test_what_is_no_listening_tcp_socket_is_left_alone(tmp_path: Path) -> None:
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected, other = socket.socketpair()
    with datagram, connected, other, (tmp_path / "file").open("w") as file, messages() as said:
        for each in (datagram, connected, file):
            Inherited(range(each.fileno(), each.fileno() + 1)).close()
            os.fstat(each.fileno())
        Inherited(range(9999, 10000)).close()  # nothing at all
    assert len(said) == 4
    assert all("is not a listening TCP socket" in line for line in said)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "one", "LISTEN_PID": PID},
    ],
)
def test_what_is_meant_for_another_process_is_not_taken(environ: dict[str, str]) -> None:
    inherited = Inherited.from_environment(environ)
    assert repr(inherited) == "<Inherited none>"
    assert environ == {}, "and not handed on"


def test_descriptors_begin_at_three() -> None:
    assert FIRST_DESCRIPTOR == 3
