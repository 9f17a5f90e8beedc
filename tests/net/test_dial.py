"""Every kind of backend address is reached with the first bytes sent, or refused with the reason that fits."""

import errno
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

from mcproxy.model import Backend, Reason, Refused
from mcproxy.net.dial import MAX_ADDRESSES, Outgoing, addresses, dial
from mcproxy.net.lookups import Address
from mcproxy.net.names import Names
from mcproxy.net.own import OwnSockets
from mcproxy.net.raw import KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, RawSocket
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, pattern, receive, until
from tests.kit.resolver import Resolver
from tests.kit.socket_pairs import no_more_descriptors, turn

FIRST = b"first bytes"
HUGE = 24 << 20  # bytes; far more than the buffers between two sockets take before the backend reads

Serve = Callable[..., socket.socket]


@pytest.fixture
def serve(nothing_left: None) -> Iterator[Serve]:
    """Makes listening sockets."""
    made: list[socket.socket] = []

    def make(family: int, address: Any, backlog: int = 10) -> socket.socket:
        made.append(socket.socket(family))
        made[-1].bind(address)
        made[-1].listen(backlog)
        made[-1].settimeout(DEADLINE)
        return made[-1]

    yield make
    for each in made:
        each.close()


def arrives(server: socket.socket, dialled: "Future[RawSocket]", first: bytes = FIRST) -> bool:
    """Whether the backend gets `first`, and what `dial` returned is the other end of that, and does not block."""
    accepted, _ = server.accept()
    accepted.settimeout(DEADLINE)
    with accepted:
        assert receive(accepted, len(first)) == first
        with closing(dialled.result(DEADLINE)) as sock:
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            accepted.sendall(b"answer")
            until(lambda: sock.recv(6, socket.MSG_PEEK | socket.MSG_DONTWAIT), "the answer")
            return sock.recv(6) == b"answer"


def refusal(dialled: "Future[RawSocket]") -> Refused:
    failure = dialled.exception(DEADLINE)
    assert isinstance(failure, Refused)
    return failure


@pytest.fixture
def resolver() -> Resolver:
    """The system's, until it is given addresses."""
    return Resolver()


@pytest.fixture
def outgoing(hub: HubThread, resolver: Resolver) -> Iterator[Outgoing]:
    made: Outgoing = hub.call(lambda: Outgoing(Names(resolver), OwnSockets()))
    yield made
    hub.call(made.names.close)


# --- reached ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("first", [FIRST, b""], ids=["first bytes", "none"])
def test_a_literal_address_is_reached(
    family: socket.AddressFamily, first: bytes, hub: HubThread, outgoing: Outgoing, serve: Serve
) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    server = serve(family, (host, 0))
    dialled = hub.spawn(dial, Backend(host, server.getsockname()[1]), first, outgoing)
    assert arrives(server, dialled, first)


def test_a_unix_socket_is_reached(hub: HubThread, outgoing: Outgoing, serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "backend.sock")
    server = serve(socket.AF_UNIX, path)
    assert arrives(server, hub.spawn(dial, Backend(path=path), FIRST, outgoing))


def test_a_name_is_resolved_when_it_is_dialled(hub: HubThread, outgoing: Outgoing, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    assert arrives(server, hub.spawn(dial, Backend("localhost", server.getsockname()[1]), FIRST, outgoing))


def test_small_segments_are_not_held_back(hub: HubThread, outgoing: Outgoing, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    with closing(hub.spawn(dial, Backend(*server.getsockname()), FIRST, outgoing).result(DEADLINE)) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", False), ("::ffff:127.0.0.1", True)])
def test_a_backend_that_is_silent_is_asked_unless_it_is_on_this_machine(
    host: str, asked: bool, hub: HubThread, outgoing: Outgoing, serve: Serve
) -> None:
    """It was not: an idle connection over a firewall that forgets was dead, and nobody knew before idle_timeout.

    Over loopback nothing can be lost without a word, and three options are a percent of what a connection costs. The
    other address stands for one of another machine, because it doesn't begin like this one's.
    """
    port = serve(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
    with closing(hub.spawn(dial, Backend(host, port), FIRST, outgoing).result(DEADLINE)) as sock:
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is asked
        if asked:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == KEEPALIVE_INTERVAL


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_socket_to_a_port_of_ours_is_noted(is_ours: bool, hub: HubThread, outgoing: Outgoing, serve: Serve) -> None:
    """A socket to any other port can't arrive at a listener of ours, and is not worth a system call."""
    port = serve(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
    outgoing.own.ports = frozenset([port if is_ours else port ^ 1])
    with closing(hub.spawn(dial, Backend("127.0.0.1", port), FIRST, outgoing).result(DEADLINE)):
        assert repr(outgoing.own) == f"<OwnSockets noted={int(is_ours)} hellos=0>"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_first_bytes_may_exceed_every_buffer(
    family: socket.AddressFamily, hub: HubThread, outgoing: Outgoing, serve: Serve, tmp_path: Path
) -> None:
    path = str(tmp_path / "backend.sock")
    server = serve(family, path if family == socket.AF_UNIX else ("127.0.0.1", 0))
    backend = Backend(path=path) if family == socket.AF_UNIX else Backend(*server.getsockname())
    first = pattern(HUGE)
    assert arrives(server, hub.spawn(dial, backend, first, outgoing), first)


def test_the_next_address_of_a_name_is_tried(
    hub: HubThread, outgoing: Outgoing, resolver: Resolver, serve: Serve
) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    port = server.getsockname()[1]
    # 127.0.0.2 refuses, because the server listens on 127.0.0.1 only; to a broadcast address there is no route.
    resolver.addresses = ["127.0.0.2", "127.255.255.255", "127.0.0.1"]
    assert arrives(server, hub.spawn(dial, Backend("several.test", port), FIRST, outgoing))
    assert resolver.asked == ["several.test"]


# --- refused ----------------------------------------------------------------------------------------------------------


def test_nobody_listens(hub: HubThread, outgoing: Outgoing, serve: Serve) -> None:
    port = serve(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
    failure = refusal(hub.spawn(dial, Backend("127.0.0.2", port), FIRST, outgoing))
    assert failure.reason is Reason.BACKEND_REFUSED
    assert failure.detail == f"127.0.0.2:{port}: Connection refused"


def test_no_route_leads_there(hub: HubThread, outgoing: Outgoing) -> None:
    failure = refusal(hub.spawn(dial, Backend("127.255.255.255", 443), FIRST, outgoing))
    assert failure.reason is Reason.BACKEND_UNREACHABLE
    assert failure.detail == "127.255.255.255:443: Network is unreachable"


def test_no_unix_socket_is_there(hub: HubThread, outgoing: Outgoing, tmp_path: Path) -> None:
    failure = refusal(hub.spawn(dial, Backend(path=str(tmp_path / "missing.sock")), FIRST, outgoing))
    assert failure.reason is Reason.BACKEND_REFUSED
    assert failure.detail.endswith("missing.sock: No such file or directory")


def test_nobody_listens_on_the_unix_socket_any_more(
    hub: HubThread, outgoing: Outgoing, serve: Serve, tmp_path: Path
) -> None:
    path = str(tmp_path / "left.sock")
    serve(socket.AF_UNIX, path).close()
    assert refusal(hub.spawn(dial, Backend(path=path), FIRST, outgoing)).reason is Reason.BACKEND_REFUSED


def test_a_name_without_an_address(hub: HubThread, outgoing: Outgoing) -> None:
    name = ".".join(["a" * 60] * 5)  # longer than any name may be (RFC 1035, 2.3.4), so that no resolver asks around
    failure = refusal(hub.spawn(dial, Backend(name, 443), FIRST, outgoing))
    assert failure.reason is Reason.BACKEND_UNRESOLVED
    assert failure.detail.startswith(f"{name}: ")


def test_a_name_with_no_addresses_at_all(hub: HubThread, outgoing: Outgoing, resolver: Resolver) -> None:
    resolver.addresses = []
    failure = refusal(hub.spawn(dial, Backend("none.test", 443), FIRST, outgoing))
    assert (failure.reason, failure.detail) == (Reason.BACKEND_UNRESOLVED, "none.test has no address")


def test_only_so_many_addresses_are_tried(hub: HubThread, outgoing: Outgoing, resolver: Resolver, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    port = server.getsockname()[1]
    resolver.addresses = ["127.0.0.2"] * MAX_ADDRESSES + ["127.0.0.1"]
    assert refusal(hub.spawn(dial, Backend("rotating.test", port), FIRST, outgoing)).reason is Reason.BACKEND_REFUSED


def test_no_descriptor_is_left(hub: HubThread, outgoing: Outgoing) -> None:
    with no_more_descriptors():
        failure = refusal(hub.spawn(dial, Backend("127.0.0.1", 443), FIRST, outgoing))
    assert failure.reason is Reason.DESCRIPTORS


# --- waiting ----------------------------------------------------------------------------------------------------------


def fill(server: socket.socket) -> list[socket.socket]:
    """Connect until no further connection gets into the backlog."""
    waiting = []
    for _ in range(3):  # listen(0) lets one wait; of TCP's others the kernel ignores the SYN, which they repeat
        waiting.append(socket.socket(server.family))
        waiting[-1].setblocking(False)
        if waiting[-1].connect_ex(server.getsockname()) == errno.EAGAIN:
            return waiting  # that is what a UNIX socket says
    return waiting


@pytest.fixture(params=[socket.AF_INET, socket.AF_UNIX])
def busy(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Iterator[tuple[socket.socket, Backend]]:
    """A backend whose backlog is full."""
    path = str(tmp_path / "busy.sock")
    unix = request.param == socket.AF_UNIX
    server = serve(request.param, path if unix else ("127.0.0.1", 0), 0)
    waiting = fill(server)
    yield server, Backend(path=path) if unix else Backend(*server.getsockname())
    for client in waiting:
        client.close()


def test_a_full_backlog_is_waited_for(busy: tuple[socket.socket, Backend], hub: HubThread, outgoing: Outgoing) -> None:
    server, backend = busy
    dialled = hub.spawn(dial, backend, FIRST, outgoing)
    turn(hub, 20)
    assert not dialled.done()
    server.setblocking(False)
    got: list[bytes] = []

    def accept() -> bool:
        try:
            accepted, _ = server.accept()
        except BlockingIOError:
            return False
        with accepted:
            accepted.setblocking(True)
            accepted.settimeout(0.1)
            try:
                got.append(accepted.recv(100))
            except TimeoutError:
                return False
        return FIRST in got

    until(accept, "the one that dials to be accepted")
    dialled.result(DEADLINE).close()


def test_cut_while_it_waits_it_leaves_nothing(
    busy: tuple[socket.socket, Backend], hub: HubThread, outgoing: Outgoing
) -> None:
    _, backend = busy
    dialling: list[greenlet] = []

    def run() -> RawSocket:
        dialling.append(getcurrent())
        return dial(backend, FIRST, outgoing)

    dialled = hub.spawn(run)
    turn(hub, 3)
    hub.call(dialling[0].throw, GreenletExit)
    assert isinstance(dialled.exception(DEADLINE), GreenletExit)


# --- several addresses ------------------------------------------------------------------------------------------------


@pytest.fixture
def swallows(serve: Serve) -> Iterator[int]:
    """The port of an address, 127.0.0.1, that answers nobody."""
    server = serve(socket.AF_INET, ("127.0.0.1", 0), 0)
    waiting = fill(server)
    yield server.getsockname()[1]
    for client in waiting:
        client.close()


@pytest.mark.parametrize("first", [FIRST, b""], ids=["first bytes", "none"])
def test_an_address_that_swallows_everything_costs_a_moment(
    first: bytes, hub: HubThread, outgoing: Outgoing, resolver: Resolver, swallows: int, serve: Serve
) -> None:
    """It used to be waited for until the whole deadline was over: a name with one dead address reached nobody."""
    server = serve(socket.AF_INET, ("127.0.0.2", swallows))
    resolver.addresses = ["127.0.0.1", "127.0.0.2"]
    backend = Backend("several.test", swallows)
    assert arrives(server, hub.spawn(dial, backend, first, outgoing), first)
    assert hub.spawn(addresses, backend, outgoing.names).result(DEADLINE) == [
        (socket.AF_INET, ("127.0.0.2", swallows)),  # it goes first from now on
        (socket.AF_INET, ("127.0.0.1", swallows)),
    ]


def test_each_address_is_told_of(
    hub: HubThread, outgoing: Outgoing, resolver: Resolver, swallows: int, serve: Serve
) -> None:
    server = serve(socket.AF_INET, ("127.0.0.3", swallows))
    resolver.addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    told: list[tuple[str, str]] = []

    def tried(address: Address, error: OSError | None) -> None:
        told.append((address[1][0], error.strerror.partition(" in ")[0] if error and error.strerror else ""))

    assert arrives(server, hub.spawn(dial, Backend("several.test", swallows), FIRST, outgoing, tried))
    assert told == [("127.0.0.2", "Connection refused"), ("127.0.0.1", "no answer"), ("127.0.0.3", "")]


def test_cut_during_a_race_it_leaves_nothing(
    hub: HubThread, outgoing: Outgoing, resolver: Resolver, swallows: int
) -> None:
    resolver.addresses = ["127.0.0.1", "127.0.0.1"]
    dialling: list[greenlet] = []

    def run() -> RawSocket:
        dialling.append(getcurrent())
        return dial(Backend("several.test", swallows), FIRST, outgoing)

    dialled = hub.spawn(run)
    until(lambda: resolver.asked, "the name to be asked for")
    turn(hub, 20)
    hub.call(dialling[0].throw, GreenletExit)
    assert isinstance(dialled.exception(DEADLINE), GreenletExit)
