"""How a session reaches its backend: what ALPN agrees on, what that says of the backend, and what is said of faults."""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest
from gevent import spawn

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.approach import Approach, backend_fault
from mcproxy.l7.sockets.backend_link import OtherVersion
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.sockets.channel import Channel, Flooded, Lost
from mcproxy.l7.sockets.pooled import Made
from mcproxy.l7.sockets.probe import Answer, judge
from mcproxy.model import Backend, BackendProtocol, Mode, Refused, Route
from mcproxy.net.crew import Crew
from mcproxy.net.dial import Outgoing
from mcproxy.net.reach import Arrival
from mcproxy.net.read_guard import ReadGuard
from mcproxy.net.shared import Shared
from mcproxy.net.turns import Turns
from mcproxy.notation.address import parse_backend
from mcproxy.table import Live, Table
from mcproxy.wire.hello import Hello
from mcproxy.wire.http2 import settings
from tests.conftest import MakeBackend
from tests.kit.peers import Authority, Handler, free_port, read_all, receive, tls, until
from tests.kit.worker_bench import TIMEOUTS

ROUTE = Route("one.test", Backend("127.0.0.1", 1), Mode.L7, "absent.pem", "absent.key")
KEY = (":443", "one.test")


class Way:
    """An approach to a backend, on the hub of the test."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.backends = Backends(Live(Table()))
        parts: Any = SimpleNamespace(
            crew=Crew(), outgoing=Outgoing.make(), turns=Turns(), read_guard=ReadGuard(), timeouts=TIMEOUTS
        )
        self.shared = cast("Shared", parts)
        self.reached: list[float | None] = []
        hello = Hello("one.test", (), (), ech=False, size=0)
        self.approach = Approach(
            self.shared, Arrival(7, ":443", ("192.0.2.7", 5), None, hello, route), "h2", Contexts(()), self.backends,
            lambda _backend, took: self.reached.append(took),
        )  # fmt: skip

    def known(self) -> str:
        """What is remembered of the backend."""
        spoken = self.backends.spoken(KEY, self.route)
        return spoken.version if spoken else ""

    def dial(self) -> Channel:
        """As a relay."""
        return spawn(self.approach.dial, b"first").get()

    def connect(self) -> Made:
        """As a line."""
        return spawn(self.approach.connect).get()

    def close(self) -> None:
        self.shared.outgoing.names.close()
        self.shared.turns.close()
        self.shared.read_guard.close()
        self.shared.crew.close()
        gevent.sleep(0)


MakeWay = Callable[..., Way]


@pytest.fixture
def way(nothing_left: None, authority: Authority) -> Iterator[MakeWay]:
    made: list[Way] = []

    def make(address: str, **more: Any) -> Way:
        made.append(Way(replace(ROUTE, backend=parse_backend(address), backend_ca=str(authority.path), **more)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def speaks(authority: Authority, *protocols: str, then: Handler = lambda connection: None) -> Handler:
    """A backend that chooses one of these in ALPN."""
    context = authority.server_context("one.test")
    context.set_alpn_protocols(list(protocols))
    return tls(context, then)


def in_clear_text(connection: socket.socket) -> None:
    """A backend of HTTP/2 that reads to the end."""
    connection.sendall(settings([]))
    read_all(connection)


@pytest.mark.usefixtures("main_hub")
def test_a_relay_gets_http2_and_its_first_bytes_are_sent(
    way: MakeWay, backend: MakeBackend, authority: Authority
) -> None:
    seen: list[bytes] = []
    server = backend(speaks(authority, "h2", then=lambda peer: seen.append(receive(peer, 5))))
    to = way(server.address, backend_tls=True)
    channel = to.dial()
    until(lambda: seen == [b"first"], "its bytes")
    assert len(to.reached) == 1
    channel.close()


@pytest.mark.usefixtures("main_hub")
def test_a_relay_that_finds_http1_by_alpn_begins_again(
    way: MakeWay, backend: MakeBackend, authority: Authority
) -> None:
    to = way(backend(speaks(authority, "http/1.1")).address, backend_tls=True)
    with pytest.raises(OtherVersion):
        to.dial()
    assert to.known() == "http/1.1"


@pytest.mark.usefixtures("main_hub")
def test_a_route_for_http2_alone_says_what_is_missing(way: MakeWay, backend: MakeBackend, authority: Authority) -> None:
    wants = {"backend_tls": True, "backend_protocol": BackendProtocol.H2}
    to = way(backend(speaks(authority, "http/1.1")).address, **wants)
    for reach in (to.dial, to.connect):
        with pytest.raises(Lost, match="the backend offers no HTTP/2 in ALPN at 127"):
            reach()


@pytest.mark.usefixtures("main_hub")
@pytest.mark.parametrize(("protocols", "version"), [(["h2"], "h2"), (["http/1.1"], "http/1.1"), ([], "http/1.1")])
def test_a_line_gets_what_alpn_agrees_on(
    protocols: list[str], version: str, way: MakeWay, backend: MakeBackend, authority: Authority
) -> None:
    to = way(backend(speaks(authority, *protocols)).address, backend_tls=True)
    made = to.connect()
    assert (made.version, made.known, to.known(), to.reached) == (version, True, version, [])
    made.channel.close()


@pytest.mark.usefixtures("main_hub")
@pytest.mark.parametrize("wanted", [BackendProtocol.AUTO, BackendProtocol.H2])
def test_a_line_gets_in_clear_text_what_was_found(wanted: BackendProtocol, way: MakeWay, backend: MakeBackend) -> None:
    server = backend(in_clear_text)
    to = way(server.address, backend_protocol=wanted)
    made = to.connect()
    assert (made.version, made.known) == ("h2", wanted is BackendProtocol.H2)
    count = 2 if wanted is BackendProtocol.AUTO else 1  # one of them asked
    until(lambda: len(server.connections) == count, f"{count} connections")
    made.channel.close()


@pytest.mark.usefixtures("main_hub")
def test_a_backend_that_was_away_is_looked_at_again(way: MakeWay, backend: MakeBackend) -> None:
    to = way(f"127.0.0.1:{free_port()}")
    assert to.approach.version() == "http/1.1", "the most likely version, in which a request gets its 502"
    to.backends.found(KEY, to.route, judge(settings([])))
    assert to.approach.version() == "h2"
    for reach in (to.dial, to.connect):
        with pytest.raises(Refused):
            reach()
        assert to.known() == "h2"
    looks: list[Route] = []

    def look(route: Route) -> Answer:
        looks.append(route)
        return judge(b"")

    assert to.backends.find(KEY, to.route, look, spawn) == "http/1.1"
    assert looks == [to.route], "once"


@pytest.mark.usefixtures("main_hub")
@pytest.mark.parametrize(("said", "version"), [(b"HTTP/1.1 400 Bad", "http/1.1"), (b"", "h2")])
def test_what_contradicts_is_noted_or_doubted(said: bytes, version: str, way: MakeWay) -> None:
    to = way("127.0.0.1:9")
    to.backends.found(KEY, to.route, judge(settings([])))
    to.approach.contradicted(said)
    assert to.known() == version
    assert repr(to.approach) == "<Approach 127.0.0.1:9>"


def lost(cause: Exception, told: str) -> Lost:
    failure = Lost(told)
    failure.__cause__ = cause
    return failure


def refused_certificate(code: int, message: str) -> Lost:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return lost(error, f"certificate: {message}")


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        (62, "Hostname mismatch.",
         "is not for one.test; give a name that it has as backend_server_name (Hostname mismatch)"),
        (18, "self-signed certificate",
         "is of no CA in this system's store; name the file of its CA in backend_ca (self-signed certificate)"),
        (10, "certificate has expired",
         "has expired, or one of its CAs has; renew it at the backend (certificate has expired)"),
        (26, "unsuitable certificate purpose",
         "was not accepted; check backend_ca and backend_server_name (unsuitable certificate purpose)"),
    ],
)  # fmt: skip
def test_a_backends_certificate_is_called_that(code: int, message: str, told: str) -> None:
    assert backend_fault(refused_certificate(code, message), ROUTE) == f"the backend's certificate {told}"


def test_what_else_keeps_tls_from_a_backend() -> None:
    named = replace(ROUTE, backend_server_name="inner.test", backend_ca="/ca.pem")
    assert "is not for inner.test;" in backend_fault(refused_certificate(62, "x"), named)
    assert "is of no CA in /ca.pem;" in backend_fault(refused_certificate(20, "x"), named)
    assert backend_fault(lost(OSError("gone"), "gone"), named) == "TLS with the backend: gone"
    assert backend_fault(Flooded("too many reads"), named) == "TLS with the backend: too many reads"
    without = "the backend offers no HTTP/2 in ALPN at 127.0.0.1:1; switch it on there, or set backend_protocol to auto"
    alert = ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)")
    alert.reason = ""
    assert backend_fault(lost(alert, str(alert)), named) == without
    assert backend_fault(Lost("it chose http/1.1 in ALPN, not h2"), named) == without
