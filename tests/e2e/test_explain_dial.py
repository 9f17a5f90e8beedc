"""`explain --dial`: what it says of a backend is what a client finds there. Real servers, dead ports, silent ones."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from mcproxy.admin.pb import admin_pb2 as pb
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.http2_backends import h2, l7_listener, nghttpd, nginx
from tests.kit.http2_backends import says as says_h2
from tests.kit.peers import DEADLINE, Authority, client_hello, connect, echo, free_port, is_reset, read_all, says, tls
from tests.kit.proxy import Proxy

NAME = "a.test"


class Asked:
    """A proxy with one route, and its admin API."""

    def __init__(self, make: MakeProxy, folder: Path, listener: dict[str, Any], **document: Any) -> None:
        self.proxy: Proxy = make({"listeners": [listener], "grpc": grpc_section(folder), **document})
        self._folder = folder

    def explain(self) -> tuple[str, dict[str, tuple[bool, str]]]:
        """The reason, and each step of the look at the backend."""
        with stub(self._folder) as admin:
            answer = admin.Explain(pb.ExplainRequest(sni=NAME, ip="127.0.0.1", dial=True), timeout=DEADLINE)
        steps = {step.name: (step.passed, step.detail) for step in answer.steps}
        return answer.reason, {name: found for name, found in steps.items() if name in {"connect", *LATER}}


LATER = ("backend TLS", "backend HTTP")


def l4(address: str, **route: Any) -> dict[str, Any]:
    return {"addr": "127.0.0.1:0", "routes": [{"hostname": NAME, "backend": address, **route}]}


def l7(address: str, authority: Authority, **route: Any) -> dict[str, Any]:
    listener = l7_listener({NAME: address}, authority)
    listener["routes"][0] |= route
    return listener


def over_tls(authority: Authority, **route: Any) -> dict[str, Any]:
    return {"backend_tls": True, "backend_ca": str(authority.path), **route}


@contextmanager
def silent() -> Iterator[str]:
    """Nobody gets a connection there: the queue is full, and SYNs are dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


# --- is there a connection? -------------------------------------------------------------------------------------------


def test_a_backend_that_answers(proxy: MakeProxy, backend: MakeBackend, tmp_path: Path) -> None:
    asked = Asked(proxy, tmp_path, l4(served := backend(echo).address))
    reason, steps = asked.explain()
    assert reason == "ok"
    assert steps["connect"][0]
    assert steps["connect"][1].startswith(f"connected to {served} in ")
    assert steps["backend TLS"][0], "of l4 it is only told"
    assert f"no handshake for {NAME}" in steps["backend TLS"][1]


@pytest.mark.parametrize("mode", ["l4", "l7"])
def test_nobody_listens(mode: str, proxy: MakeProxy, authority: Authority, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    asked = Asked(proxy, tmp_path, l4(address) if mode == "l4" else l7(address, authority))
    reason, steps = asked.explain()
    if mode == "l4":
        assert (reason, steps) == ("backend_refused", {"connect": (False, f"{address}: Connection refused")})
        with connect(asked.proxy.port) as client:
            client.sendall(client_hello(NAME))
            assert is_reset(client), "which is what a client finds"
        assert asked.proxy.connection(sni=NAME)["reason"] == reason
    else:
        detail = f"requests will be answered 502: {address}: Connection refused"
        assert (reason, steps) == ("ok", {"connect": (False, detail)})


@pytest.mark.parametrize("mode", ["l4", "l7"])
def test_nobody_answers(mode: str, proxy: MakeProxy, authority: Authority, tmp_path: Path) -> None:
    with silent() as address:
        listener = l4(address) if mode == "l4" else l7(address, authority)
        asked = Asked(proxy, tmp_path, listener, proxy={"connect_timeout": "300ms"})
        reason, steps = asked.explain()
        late = f"{address}: no connection in 0.3 s"
        if mode == "l4":
            assert (reason, steps) == ("backend_timeout", {"connect": (False, late)})
        else:
            assert (reason, steps) == ("ok", {"connect": (False, f"requests will be answered 504: {late}")})


def test_a_name_and_a_socket(proxy: MakeProxy, backend: MakeBackend, tmp_path: Path) -> None:
    _, port = backend(echo).address.rsplit(":", 1)
    _, steps = Asked(proxy, tmp_path, l4(f"localhost:{port}")).explain()
    assert steps["connect"][0]
    assert f"connected to 127.0.0.1:{port} in " in steps["connect"][1]
    assert steps["connect"][1].endswith(", its name's resolution included")


def test_a_name_that_is_none(proxy: MakeProxy, tmp_path: Path) -> None:
    reason, steps = Asked(proxy, tmp_path, l4("no-such-host.invalid:1")).explain()
    assert reason == "backend_unresolved"
    assert steps["connect"][1].startswith("no-such-host.invalid: ")


def test_a_unix_socket(proxy: MakeProxy, backend: MakeBackend, tmp_path: Path) -> None:
    path = str(tmp_path / "b.sock")
    reason, steps = Asked(proxy, tmp_path, l4(f"unix:{path}")).explain()
    assert (reason, steps["connect"]) == ("backend_refused", (False, f"unix:{path}: No such file or directory"))


def test_a_header_for_nobody(proxy: MakeProxy, backend: MakeBackend, tmp_path: Path) -> None:
    """One that names a client would make the backend log a client that never was."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(connection.recv(16, socket.MSG_WAITALL))
        heads.append(connection.recv(1))

    asked = Asked(proxy, tmp_path, l4(backend(serve).address, send_proxy_protocol=True))
    _, steps = asked.explain()
    assert steps["connect"][1].endswith(", after a PROXY header (LOCAL)")
    assert heads == [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\x16"]


# --- what an l4 backend speaks ----------------------------------------------------------------------------------------


def test_the_tls_of_an_l4_backend_is_told_and_not_judged(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    context = authority.server_context("other.test")
    context.set_alpn_protocols(["http/1.1"])
    reason, steps = Asked(proxy, tmp_path, l4(backend(tls(context, says("x"))).address)).explain()
    assert reason == "ok"
    passed, detail = steps["backend TLS"]
    assert passed
    assert detail.startswith("TLSv1.3, ALPN http/1.1, certificate for other.test, by ")
    assert ", until " in detail


# --- what an l7 backend speaks ----------------------------------------------------------------------------------------


@pytest.fixture
def www(tmp_path: Path) -> Path:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "small").write_bytes(b"small")
    return tmp_path / "www"


@pytest.mark.parametrize("which", ["nghttpd", "nginx"])
def test_http2_without_tls(which: str, proxy: MakeProxy, authority: Authority, tmp_path: Path, www: Path) -> None:
    with nghttpd(www) if which == "nghttpd" else nginx(www, tmp_path) as address:
        reason, steps = Asked(proxy, tmp_path, l7(address, authority)).explain()
        assert reason == "ok"
        assert "backend TLS" not in steps
        passed, detail = steps["backend HTTP"]
        assert passed, detail
        assert detail.startswith("HTTP/2, SETTINGS in ")
        assert (", 100 requests at once" if which == "nghttpd" else ", 128 requests at once") in detail


@pytest.mark.parametrize("wanted", ["auto", "http/1.1", "h2"])
def test_http1_is_recognised(wanted: str, proxy: MakeProxy, authority: Authority, tmp_path: Path, www: Path) -> None:
    """It is a fault only where the route wants HTTP/2."""
    with nginx(www, tmp_path, protocol="") as address:
        asked = Asked(proxy, tmp_path, l7(address, authority, backend_protocol=wanted))
        reason, steps = asked.explain()
        assert (reason, steps["connect"][0]) == ("ok", True)
        passed, detail = steps["backend HTTP"]
        found = "HTTP/1.1 (answered 400 to HTTP/2's preface)"
        if wanted == "h2":
            assert not passed
            assert detail.startswith(f"requests will be answered 502: the backend speaks {found}; switch HTTP/2 on")
            assert status(asked.proxy.port, authority) == 502, "which is what a client finds"
        else:
            assert (passed, detail) == (True, found)
            assert status(asked.proxy.port, authority) == 403, "of nginx, which has no index"


def status(port: int, authority: Authority) -> int:
    with authority.client_context().wrap_socket(connect(port), server_hostname=NAME) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return int(read_all(client).split()[1])


def test_http2_over_tls(proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path) -> None:
    context = authority.server_context(NAME)
    context.set_alpn_protocols(["h2"])
    address = backend(tls(context, h2(says_h2("x")))).address
    reason, steps = Asked(proxy, tmp_path, l7(address, authority, **over_tls(authority))).explain()
    assert reason == "ok"
    assert all(passed for passed, _ in steps.values()), steps
    assert steps["backend TLS"][1].startswith(f"TLSv1.3, ALPN h2, certificate for {NAME}, by ")
    assert steps["backend TLS"][1].endswith(f", verified by {authority.path} for {NAME}")


def test_http1_over_tls(proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path) -> None:
    for protocols, how in ((["http/1.1"], "ALPN"), ([], "nothing chosen in ALPN")):
        context = authority.server_context(NAME)
        if protocols:
            context.set_alpn_protocols(protocols)
        address = backend(tls(context, says("x"))).address
        asked = Asked(proxy, tmp_path, l7(address, authority, **over_tls(authority)))
        _, steps = asked.explain()
        assert steps["backend TLS"][0]
        assert steps["backend HTTP"] == (True, f"HTTP/1.1 ({how})")
        asked.proxy.stop()


@pytest.mark.parametrize("fault", ["other authority", "other name", "http/1.1 only", "no tls"])
def test_tls_that_an_l7_route_does_not_accept(
    fault: str, proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    context = authority.server_context("b.test" if fault == "other name" else NAME)
    route = over_tls(authority)
    if fault == "other authority":
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        route["backend_ca"] = str(tmp_path / "other.pem")
    if fault == "http/1.1 only":
        route["backend_protocol"] = "h2"
    context.set_alpn_protocols(["http/1.1"] if fault == "http/1.1 only" else ["h2"])
    serve = says("plain") if fault == "no tls" else tls(context, h2(says_h2("x")))
    asked = Asked(proxy, tmp_path, l7(backend(serve).address, authority, **route))
    reason, steps = asked.explain()
    assert (reason, "backend HTTP" in steps) == ("ok", False)
    passed, detail = steps["backend TLS"]
    assert not passed
    assert detail.startswith("requests will be answered 502: ")
    expected = {
        "other authority": ("name the file of its CA in backend_ca", f"; it shows one for {NAME}, by "),
        "other name": ("give a name that it has as backend_server_name", "; it shows one for b.test, by "),
        "http/1.1 only": ("offers no HTTP/2 in ALPN",),
        "no tls": ("speaks no TLS at",),
    }
    assert all(part in detail for part in expected[fault]), detail
    assert status(asked.proxy.port, authority) == 502


def test_a_backend_that_says_nothing_is_not_waited_for_long(
    proxy: MakeProxy, backend: MakeBackend, authority: Authority, tmp_path: Path
) -> None:
    def swallow(connection: socket.socket) -> None:
        while connection.recv(65536):
            continue

    for route in ({}, over_tls(authority)):
        listener = l7(backend(swallow).address, authority, **route)
        asked = Asked(proxy, tmp_path, listener, proxy={"connect_timeout": "200ms"})
        _, steps = asked.explain()
        passed, detail = steps["backend TLS" if route else "backend HTTP"]
        if route:
            assert not passed
            assert "no answer in time" in detail
        else:
            assert (passed, detail) == (True, "HTTP/1.1 (is silent when HTTP/2 begins)")
        asked.proxy.stop()
