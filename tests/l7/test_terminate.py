"""What the way into l7 decides by itself: which host leads to a route, and what the log says of an exchange."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcproxy.l7.contexts import Contexts
from mcproxy.l7.http1_exchange import Exchange as Http1Exchange
from mcproxy.l7.stream import StreamEnd
from mcproxy.l7.terminate import Terminator, _leads_to, recorded
from mcproxy.model import Backend, Exchange, Mode, Reason, Refused, Route
from mcproxy.net.session import Session
from mcproxy.wire.fields import Request

ROUTE = Route("one.test", Backend("127.0.0.1", 1), Mode.L7, "absent.pem", "absent.key")


def session(alpn: tuple[bytes, ...] = ()) -> Session:
    made: Any = SimpleNamespace(
        id=7, listener=":443", address=("192.0.2.7", 5), route=ROUTE, hello=SimpleNamespace(alpn=alpn)
    )
    return cast("Session", made)


@pytest.mark.parametrize(
    ("host", "leads"),
    [
        (b"one.test", True), (b"ONE.Test", True), (b"one.test.", True), (b"two.test", False), (b"a.one.test", False),
        (b"", False), (b"127.0.0.1", False), (b"[::1]", False), (b"one_test", False), (b"\xff", False),
    ],
)  # fmt: skip
def test_a_host_leads_to_the_route_of_its_name(host: bytes, leads: bool) -> None:
    assert _leads_to(ROUTE)(host) is leads


@pytest.mark.parametrize(
    ("alpn", "reason"),
    [
        ((b"imap",), Reason.TLS_FAILED), ((b"h3", b"ftp"), Reason.TLS_FAILED),
        ((b"http/1.1",), Reason.CERTIFICATE_UNUSABLE), ((), Reason.CERTIFICATE_UNUSABLE),
    ],
)  # fmt: skip
def test_what_never_gets_to_a_handshake(alpn: tuple[bytes, ...], reason: Reason) -> None:
    terminator = Terminator(Contexts(()), lambda _: None)
    with pytest.raises(Refused) as refused:
        terminator(session(alpn))
    assert refused.value.reason is reason
    assert repr(terminator) == "<Terminator <Contexts servers=0 clients=0>>"


def test_an_exchange_is_recorded() -> None:
    exchange = Http1Exchange(3, b"GET", Request(b"CONNECT", b"one.test:1", b"one.test", b"/a"), 100.0)
    exchange.ended, exchange.end = 102.5, StreamEnd.BACKEND_GONE
    exchange.status, exchange.bytes_up, exchange.bytes_down = 101, 4, 5
    got = recorded(session(), "http/1.1", exchange, exchange.method)
    assert got._replace(started=0.0) == Exchange(
        connection=7, stream=3, protocol="http/1.1", started=0.0, duration=2.5, listener=":443",
        client=("192.0.2.7", 5), route="one.test", method=b"GET", authority=b"one.test:1", path=b"/a", status=101,
        bytes_up=4, bytes_down=5, end="backend gone",
    )  # fmt: skip
