"""A look at a backend costs the hub a dial, has a bound in time and in number, and leaves nothing behind.

What it says of real backends is shown by tests/e2e/test_explain_dial.py.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcproxy.certificates.contexts import Contexts
from mcproxy.look.looker import MAX_LOOKS, Looker
from mcproxy.messages import PlaneBusy, Step
from mcproxy.model import Backend, Mode, Reason, Route
from mcproxy.net.dial import Outgoing
from tests.conftest import MakeBackend
from tests.kit.hub import HubThread, paused
from tests.kit.peers import DEADLINE, Authority, echo, free_port
from tests.kit.peers import Backend as Server

MakeLooker = Callable[..., Looker]
L4 = Route("a.test", Backend("127.0.0.1", 1))


@pytest.fixture
def looker(hub: HubThread) -> Iterator[MakeLooker]:
    outgoing: Outgoing = hub.call(Outgoing.make)

    def make(patience: float = DEADLINE) -> Looker:
        return Looker(hub.door, Contexts(()), outgoing, lambda: patience)

    yield make
    hub.call(outgoing.names.close)


def to(server: Server, **fields: Any) -> Route:
    host, _, port = server.address.rpartition(":")
    return Route("a.test", Backend(host, int(port)), **fields)


def test_a_backend_that_is_there(looker: MakeLooker, backend: MakeBackend) -> None:
    found = looker().look(to(backend(echo)))
    assert (found.reason, [step.name for step in found.steps]) == (Reason.OK, ["connect", "backend TLS"])


def test_each_address_of_a_name_is_told(looker: MakeLooker, backend: MakeBackend) -> None:
    """As a session tries them: the next one where one fails."""
    _, port = backend(echo).address.rsplit(":", 1)
    found = looker().look(Route("a.test", Backend("localhost", int(port))))
    assert f"connected to 127.0.0.1:{port} in " in found.steps[0].detail
    dead = looker().look(Route("a.test", Backend("localhost", free_port())))
    assert dead.reason is Reason.BACKEND_REFUSED
    assert "127.0.0.1" in dead.steps[0].detail
    assert "Connection refused" in dead.steps[0].detail


def test_the_time_is_the_least_of_three(looker: MakeLooker) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        route = Route("a.test", Backend(*server.getsockname()))
        for patience, most in ((0.05, 5.0), (5.0, 0.05)):
            found = looker(patience).look(route, most)
            assert found.steps == [Step("connect", False, f"{route.backend}: no connection in 0.05 s")]
            assert found.reason is Reason.BACKEND_TIMEOUT


def test_no_more_than_a_few_at_once(looker: MakeLooker, backend: MakeBackend) -> None:
    held, come = threading.Event(), threading.Semaphore(0)

    def hold(connection: socket.socket) -> None:
        connection.recv(1)
        come.release()
        held.wait(DEADLINE)

    looks, route = looker(), to(backend(hold))
    threads = [threading.Thread(target=looks.look, args=(route,)) for _ in range(MAX_LOOKS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert come.acquire(timeout=DEADLINE)
    with pytest.raises(PlaneBusy, match="which is the limit"):
        looks.look(route)
    held.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert looks.look(route).reason is Reason.OK


def test_a_hub_that_does_not_turn(hub: HubThread, looker: MakeLooker, backend: MakeBackend) -> None:
    """A connection that it dials later, when nobody waits, is closed: `nothing_left` looks."""
    server = backend(echo)
    with paused(hub.door), pytest.raises(PlaneBusy, match="too busy to dial"):
        looker(0.01).look(to(server))
    hub.call(lambda: None)


def test_an_authority_that_can_not_be_read(looker: MakeLooker, backend: MakeBackend, authority: Authority) -> None:
    route = to(backend(echo), mode=Mode.L7, backend_tls=True, backend_ca="/absent.pem")
    found = looker().look(route)
    assert found.steps[1].name == "backend TLS"
    assert found.steps[1].detail.startswith("requests will be answered 502: /absent.pem can't be read: ")
