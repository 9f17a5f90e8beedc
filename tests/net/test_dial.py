"""Every kind of backend address is reached with the first bytes sent, or refused with the reason that fits."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

from mcproxy.model import Backend, Reason, Refused
from mcproxy.net.dial import MAX_ADDRESSES, dial
from mcproxy.net.raw import RawSocket
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, pattern, receive, until
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


class Resolver:
    """In the place of the hub's: knows one name."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self._addresses = addresses
        self.asked: list[tuple[Any, ...]] = []

    def getaddrinfo(self, *arguments: Any) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.asked.append(arguments)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self._addresses]

    def close(self) -> None:
        """The hub calls this at its end."""


def resolve(hub: HubThread, *addresses: tuple[str, int]) -> Resolver:
    """From now on every name has these addresses."""
    resolver = Resolver(*addresses)
    hub.call(lambda: setattr(get_hub(), "resolver", resolver))
    return resolver


# --- reached ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("first", [FIRST, b""], ids=["first bytes", "none"])
def test_a_literal_address_is_reached(family: socket.AddressFamily, first: bytes, hub: HubThread, serve: Serve) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    server = serve(family, (host, 0))
    dialled = hub.spawn(dial, Backend(host, server.getsockname()[1]), first)
    assert arrives(server, dialled, first)


def test_a_unix_socket_is_reached(hub: HubThread, serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "backend.sock")
    server = serve(socket.AF_UNIX, path)
    assert arrives(server, hub.spawn(dial, Backend(path=path), FIRST))


def test_a_name_is_resolved_when_it_is_dialled(hub: HubThread, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    assert arrives(server, hub.spawn(dial, Backend("localhost", server.getsockname()[1]), FIRST))


def test_small_segments_are_not_held_back(hub: HubThread, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    with closing(hub.spawn(dial, Backend(*server.getsockname()), FIRST).result(DEADLINE)) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_first_bytes_may_exceed_every_buffer(
    family: socket.AddressFamily, hub: HubThread, serve: Serve, tmp_path: Path
) -> None:
    path = str(tmp_path / "backend.sock")
    server = serve(family, path if family == socket.AF_UNIX else ("127.0.0.1", 0))
    backend = Backend(path=path) if family == socket.AF_UNIX else Backend(*server.getsockname())
    first = pattern(HUGE)
    assert arrives(server, hub.spawn(dial, backend, first), first)


def test_the_next_address_of_a_name_is_tried(hub: HubThread, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    port = server.getsockname()[1]
    # 127.0.0.2 refuses, because the server listens on 127.0.0.1 alone; to a broadcast address there is no route.
    resolver = resolve(hub, ("127.0.0.2", port), ("127.255.255.255", port), ("127.0.0.1", port))
    assert arrives(server, hub.spawn(dial, Backend("several.test", port), FIRST))
    assert [asked[0] for asked in resolver.asked] == ["several.test"]


# --- refused ----------------------------------------------------------------------------------------------------------


def test_nobody_listens(hub: HubThread, serve: Serve) -> None:
    port = serve(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
    failure = refusal(hub.spawn(dial, Backend("127.0.0.2", port), FIRST))
    assert failure.reason is Reason.BACKEND_REFUSED
    assert failure.detail == f"127.0.0.2:{port}: Connection refused"


def test_no_route_leads_there(hub: HubThread) -> None:
    failure = refusal(hub.spawn(dial, Backend("127.255.255.255", 443), FIRST))
    assert failure.reason is Reason.BACKEND_UNREACHABLE
    assert failure.detail == "127.255.255.255:443: Network is unreachable"


def test_no_unix_socket_is_there(hub: HubThread, tmp_path: Path) -> None:
    failure = refusal(hub.spawn(dial, Backend(path=str(tmp_path / "missing.sock")), FIRST))
    assert failure.reason is Reason.BACKEND_REFUSED
    assert failure.detail.endswith("missing.sock: No such file or directory")


def test_nobody_listens_on_the_unix_socket_any_more(hub: HubThread, serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "left.sock")
    serve(socket.AF_UNIX, path).close()
    assert refusal(hub.spawn(dial, Backend(path=path), FIRST)).reason is Reason.BACKEND_REFUSED


def test_a_name_without_an_address(hub: HubThread) -> None:
    name = ".".join(["a" * 60] * 5)  # longer than any name may be (RFC 1035, 2.3.4), so that no resolver asks around
    failure = refusal(hub.spawn(dial, Backend(name, 443), FIRST))
    assert failure.reason is Reason.BACKEND_UNRESOLVED
    assert failure.detail.startswith(f"{name}: ")


def test_a_name_with_no_addresses_at_all(hub: HubThread) -> None:
    resolve(hub)
    failure = refusal(hub.spawn(dial, Backend("none.test", 443), FIRST))
    assert (failure.reason, failure.detail) == (Reason.BACKEND_UNRESOLVED, "none.test has no address")


def test_only_so_many_addresses_are_tried(hub: HubThread, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    port = server.getsockname()[1]
    resolve(hub, *[("127.0.0.2", port)] * MAX_ADDRESSES, ("127.0.0.1", port))
    assert refusal(hub.spawn(dial, Backend("rotating.test", port), FIRST)).reason is Reason.BACKEND_REFUSED


def test_no_descriptor_is_left(hub: HubThread) -> None:
    with no_more_descriptors():
        failure = refusal(hub.spawn(dial, Backend("127.0.0.1", 443), FIRST))
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


def test_a_full_backlog_is_waited_for(busy: tuple[socket.socket, Backend], hub: HubThread) -> None:
    server, backend = busy
    dialled = hub.spawn(dial, backend, FIRST)
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


def test_cut_while_it_waits_it_leaves_nothing(busy: tuple[socket.socket, Backend], hub: HubThread) -> None:
    _, backend = busy
    dialling: list[greenlet] = []

    def run() -> RawSocket:
        dialling.append(getcurrent())
        return dial(backend, FIRST)

    dialled = hub.spawn(run)
    turn(hub, 3)
    hub.call(dialling[0].throw, GreenletExit)
    assert isinstance(dialled.exception(DEADLINE), GreenletExit)


def test_a_slow_resolver_holds_up_nobody_else(hub: HubThread, serve: Serve) -> None:
    server = serve(socket.AF_INET, ("127.0.0.1", 0))
    port = server.getsockname()[1]
    answer = threading.Event()

    def keep_the_resolver_busy() -> None:
        pool = get_hub().threadpool
        for _ in range(pool.maxsize):
            pool.spawn(answer.wait, DEADLINE)

    hub.call(keep_the_resolver_busy)
    slow = hub.spawn(dial, Backend("localhost", port), FIRST)
    assert arrives(server, hub.spawn(dial, Backend("127.0.0.1", port), FIRST))
    assert not slow.done()
    answer.set()
    assert arrives(server, slow)


class SlowResolver(Resolver):
    """Answers when it is told to."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        super().__init__(*addresses)
        self.answer = Event()

    def getaddrinfo(self, *arguments: Any) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        found = super().getaddrinfo(*arguments)
        self.answer.wait()
        return found


def test_who_needs_a_name_that_is_being_looked_up_waits_for_that(hub: HubThread, serve: Serve) -> None:
    one, two = serve(socket.AF_INET, ("127.0.0.1", 0)), serve(socket.AF_INET, ("127.0.0.1", 0))
    backends = [Backend("slow.test", server.getsockname()[1]) for server in (one, two)]
    resolver: SlowResolver = hub.call(SlowResolver, ("127.0.0.1", 0))
    hub.call(lambda: setattr(get_hub(), "resolver", resolver))
    waiting: list[greenlet] = []

    def run() -> RawSocket:
        waiting.append(getcurrent())
        return dial(backends[0], FIRST)

    first = hub.spawn(run)
    others = [hub.spawn(dial, backend, FIRST) for backend in backends]
    turn(hub, 3)
    assert len(resolver.asked) == 1
    hub.call(waiting[0].throw, GreenletExit)  # as a deadline does
    assert isinstance(first.exception(DEADLINE), GreenletExit)
    assert not any(other.done() for other in others)
    hub.call(resolver.answer.set)
    assert all(arrives(server, other) for server, other in zip((one, two), others, strict=True))
    assert arrives(one, hub.spawn(dial, backends[0], FIRST))
    assert len(resolver.asked) == 2  # nothing was kept


def test_who_waits_for_a_name_without_an_address_is_refused_too(hub: HubThread) -> None:
    class Failing(SlowResolver):
        def getaddrinfo(self, *arguments: Any) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            super().getaddrinfo(*arguments)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

    resolver: Failing = hub.call(Failing)
    hub.call(lambda: setattr(get_hub(), "resolver", resolver))
    both = [hub.spawn(dial, Backend("silent.test", 443), FIRST) for _ in range(2)]
    hub.call(resolver.answer.set)
    assert [refusal(each).detail for each in both] == ["silent.test: try again"] * 2
    assert len(resolver.asked) == 1
