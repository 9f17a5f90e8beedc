"""Decisions on the way into l7: which host leads to a route, and what its exchanges have in common."""

import ssl
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.approach import backend_fault
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.sockets.channel import Lost
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
    ],
)  # fmt: skip
def test_what_never_gets_to_a_handshake(alpn: tuple[bytes, ...], reason: Reason) -> None:
    terminator = Terminator(Contexts(()), Backends(Live(Table())), lambda _: lambda _: None)
    with pytest.raises(Refused) as refused:
        terminator(session(alpn))
    assert refused.value.reason is reason
    assert repr(terminator) == "<Terminator <Contexts servers=0 clients=0>>"


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
    without = "the backend offers no HTTP/2 in ALPN at 127.0.0.1:1; switch it on there, or set backend_protocol to auto"
    alert = ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1006)")
    alert.reason = ""
    assert backend_fault(lost(alert, str(alert)), named) == without
    assert backend_fault(Lost("it chose http/1.1 in ALPN, not h2"), named) == without


@pytest.mark.parametrize(
    ("chosen", "spoken"), [("h2", "h2"), ("http/1.1", "http/1.1"), ("http/1.0", "http/1.1"), ("", "http/1.1")]
)
def test_what_all_exchanges_of_a_session_have_in_common(chosen: str, spoken: str) -> None:
    assert _origin(arrival(), chosen) == Origin(7, spoken, ":443", ("192.0.2.7", 5), "one.test")
