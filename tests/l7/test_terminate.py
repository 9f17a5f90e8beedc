"""Decisions on the way into l7: which host leads to a route, and what its exchanges have in common."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.terminate import Terminator, _leads_to, _origin
from mcproxy.model import Backend, Mode, Origin, Reason, Refused, Route
from mcproxy.net.reach import Arrival
from mcproxy.net.session import Session
from mcproxy.table import Live, Table
from mcproxy.wire.hello import Hello

ROUTE = Route("one.test", Backend("127.0.0.1", 1), Mode.L7, "absent.pem", "absent.key")


def session(alpn: tuple[bytes, ...] = ()) -> Session:
    made: Any = SimpleNamespace(arrival=lambda: arrival(alpn), hand_over=lambda _carrier: None)
    return cast("Session", made)


def arrival(alpn: tuple[bytes, ...] = ()) -> Arrival:
    return Arrival(7, ":443", ("192.0.2.7", 5), None, Hello("one.test", alpn, (), ech=False, size=0), ROUTE)


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
        ((b"acme-tls/1",), Reason.CHALLENGE_UNEXPECTED),
        # Exactly this protocol is the CA's (RFC 8737, section 3); with another one it is somebody else.
        ((b"acme-tls/1", b"ftp"), Reason.TLS_FAILED), ((b"acme-tls/1", b"h2"), Reason.CERTIFICATE_UNUSABLE),
    ],
)  # fmt: skip
def test_what_never_gets_to_a_handshake(alpn: tuple[bytes, ...], reason: Reason) -> None:
    terminator = Terminator(Contexts(()), Backends(Live(Table())), lambda _: lambda _: None)
    with pytest.raises(Refused) as refused:
        terminator(session(alpn))
    assert refused.value.reason is reason
    assert repr(terminator) == "<Terminator <Contexts servers=0 clients=0>>"


@pytest.mark.parametrize(
    ("chosen", "spoken"), [("h2", "h2"), ("http/1.1", "http/1.1"), ("http/1.0", "http/1.1"), ("", "http/1.1")]
)
def test_what_all_exchanges_of_a_session_have_in_common(chosen: str, spoken: str) -> None:
    assert _origin(arrival(), chosen) == Origin(7, spoken, ":443", ("192.0.2.7", 5), "one.test")
