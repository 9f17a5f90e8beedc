"""TLS of l7 routes over the wire: names, protocols, resumption, reloading, and TLS to the backend."""

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import h2, l7_listener, says
from tests.kit.peers import DEADLINE, Authority, client_hello, connect, free_port, is_reset, read_all
from tests.kit.peers import tls as in_tls
from tests.kit.program import bounded
from tests.kit.proxy import Proxy

GET = b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"


def ask(running: Proxy, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """One request, its answer read; the closed socket still knows its session."""
    with context.wrap_socket(connect(running.port), server_hostname=name, session=session) as client:
        client.sendall(GET % name.encode())
        assert f"{name} /".encode() in read_all(client)
        client.last_session = client.session  # type: ignore[attr-defined]
        client.was_reused = client.session_reused  # type: ignore[attr-defined]
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_within_a_route_and_not_across(
    version: ssl.TLSVersion, backend: MakeBackend, authority: Authority, proxy: MakeProxy, tmp_path: Path
) -> None:
    ca = trustme.CA()
    both = tmp_path / "both.pem"
    ca.issue_cert("one.test", "two.test").private_key_and_cert_chain_pem.write_to_path(both)
    routes = {name: backend(h2(says(name))).address for name in ("one.test", "two.test")}
    listener = l7_listener(routes, authority)
    for route in listener["routes"]:
        route |= {"tls_cert": str(both), "tls_key": str(both)}
    running = proxy({"listeners": [listener]})
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    ca.configure_trust(context)
    first = ask(running, context, "one.test").last_session  # type: ignore[attr-defined]
    assert ask(running, context, "one.test", first).was_reused  # type: ignore[attr-defined]
    assert not ask(running, context, "two.test", first).was_reused  # type: ignore[attr-defined]


def test_protocols(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    for offered, chosen in (
        (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
        (["x", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0"), ([], None),
    ):  # fmt: skip
        context = authority.client_context()
        if offered:
            context.set_alpn_protocols(offered)
        with context.wrap_socket(connect(running.port), server_hostname="one.test") as client:
            assert client.selected_alpn_protocol() == chosen
    with connect(running.port) as foreign:
        foreign.sendall(client_hello("one.test", alpn=("imap", "ftp")))
        assert is_reset(foreign)
    assert running.connection(reason="tls_failed")["verdict"] == "refused"


def test_old_versions_are_refused(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    context = authority.client_context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)), connect(running.port) as plain:
        context.wrap_socket(plain, server_hostname="one.test")
    assert running.connection(reason="tls_failed")["detail"] == '"unsupported protocol"'


def s_client(port: int, *options: str, sends: bytes = GET % b"one.test") -> str:
    """What OpenSSL's own client prints; it goes on until the server has ended the connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "one.test", *options]
    done = subprocess.run(command, input=sends, capture_output=True, timeout=DEADLINE, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_renegotiation_is_refused(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    """Each one costs a server several times what it costs a client (CVE-2011-1473)."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    said = s_client(running.port, "-tls1_2", sends=b"R\n" + GET % b"one.test")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert "one.test /" not in said


def test_a_ticket_allows_no_early_data(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    """Early data can be replayed (RFC 8446, 8): a client that follows its ticket sends none, OpenSSL skips the rest."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    said = s_client(running.port, "-tls1_3", "-ign_eof")
    assert "TLS session ticket:" in said
    assert "Max Early Data: 0\n" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_neither_compression_nor_a_clients_certificate_is_asked_for(
    version: str, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """Compression before encryption tells what is inside (CRIME, CVE-2012-4929)."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    said = s_client(running.port, version, "-comp", "-ign_eof")
    assert "one.test /" in said
    assert "Compression: NONE\n" in said
    assert "No client certificate CA names sent\n" in said
    assert "Client Certificate Types" not in said


@pytest.mark.parametrize(
    "cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256", "NULL:@SECLEVEL=0"]
)
def test_weak_ciphers_are_refused(cipher: str, backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    """No forward secrecy, no authenticated encryption, a group of the client's choice, no encryption."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    assert "handshake failure" in s_client(running.port, "-tls1_2", "-cipher", cipher)
    assert running.connection(reason="tls_failed")["detail"] == '"no shared cipher"'


def test_a_client_that_trusts_another_authority_ends_the_handshake(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 the server is done by then
    with pytest.raises(ssl.SSLCertVerificationError), connect(running.port) as plain:
        context.wrap_socket(plain, server_hostname="one.test")
    assert "unknown ca" in running.connection(reason="tls_failed")["detail"]


def test_a_certificate_is_replaced_under_live_connections(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy, tmp_path: Path
) -> None:
    listener = l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)
    chain, key = tmp_path / "one.pem", tmp_path / "one.key"
    for source, target in zip(authority.pair("one.test"), (chain, key), strict=True):
        shutil.copy(source, target)
    listener["routes"][0] |= {"tls_cert": str(chain), "tls_key": str(key)}
    running = proxy({"listeners": [listener]})
    trusting = authority.client_context()
    fresh = trustme.CA()
    fresh.configure_trust(trusting)

    def serial(client: ssl.SSLSocket) -> object:
        certificate = client.getpeercert()
        assert certificate
        return certificate["serialNumber"]

    made = http.client.HTTPSConnection("one.test", timeout=DEADLINE)
    made.sock = live = trusting.wrap_socket(connect(running.port), server_hostname="one.test")
    old = serial(live)
    chain.write_text("junk")
    running.app.reloader.reload()
    with trusting.wrap_socket(connect(running.port), server_hostname="one.test") as client:
        assert serial(client) == old, "a broken file keeps the old certificate"
    issued = fresh.issue_cert("one.test")
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    running.app.reloader.reload()
    with trusting.wrap_socket(connect(running.port), server_hostname="one.test") as client:
        assert serial(client) != old
    made.request("GET", "/still")
    assert made.getresponse().read() == b"one.test /still\n"
    made.close()


def test_a_route_whose_certificate_can_t_be_read_refuses_with_a_reset(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy, tmp_path: Path
) -> None:
    listener = l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)
    listener["routes"][0]["tls_cert"] = str(tmp_path / "absent.pem")
    running = proxy({"listeners": [listener]})
    with connect(running.port) as client:
        client.sendall(client_hello("one.test"))
        assert is_reset(client)
    assert "absent.pem" in running.connection(reason="certificate_unusable")["detail"]


def backend_context(authority: Authority, name: str, protocols: list[str]) -> ssl.SSLContext:
    context = authority.server_context(name)
    context.set_alpn_protocols(protocols)
    return context


def test_tls_to_the_backend(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    good = backend(in_tls(backend_context(authority, "inner.test", ["h2"]), h2(says("one.test")))).address
    trusted = {"backend_tls": True, "backend_ca": str(authority.path), "backend_server_name": "inner.test"}
    running = proxy({"listeners": [l7_listener({"one.test": good}, authority, **trusted)]})
    ask(running, authority.client_context(), "one.test")
    for more, says_why in (
        (
            {"backend_server_name": "other.test"},
            "the backend's certificate is not for other.test; give a name that it has as backend_server_name (Hostname",
        ),
        (
            {"backend_ca": ""},
            "the backend's certificate is of no CA in this system's store; name the file of its CA in backend_ca (",
        ),
    ):
        answer(
            proxy({"listeners": [l7_listener({"one.test": good}, authority, **(trusted | more))]}), authority, says_why
        )


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
def test_a_backend_without_h2_in_alpn_is_502(
    protocols: list[str], backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            in_tls(backend_context(authority, "one.test", protocols), h2())(sock)

    trusted = {"backend_tls": True, "backend_ca": str(authority.path), "backend_protocol": "h2"}
    running = proxy({"listeners": [l7_listener({"one.test": backend(serve).address}, authority, **trusted)]})
    answer(running, authority, "the backend offers no HTTP/2 in ALPN at 127.0.0.1:")


def test_a_backend_that_refuses_for_want_of_a_protocol_is_called_that(authority: Authority, proxy: MakeProxy) -> None:
    """OpenSSL's own server sends the alert for it, which Python's can't."""
    chain, key = authority.pair("one.test")
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(chain), "-key", str(key)]
    trusted = {"backend_tls": True, "backend_ca": str(authority.path), "backend_protocol": "h2"}
    with bounded(*command, "-alpn", "http/1.1", stdin=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert any(line.startswith("ACCEPT") for line in server.stdout), "it listens"
        running = proxy({"listeners": [l7_listener({"one.test": f"127.0.0.1:{port}"}, authority, **trusted)]})
        answer(running, authority, f"the backend offers no HTTP/2 in ALPN at 127.0.0.1:{port}; switch it on there")


def test_a_backend_that_speaks_no_tls_is_502(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        read_all(sock)

    listener = l7_listener({"one.test": backend(serve).address}, authority, backend_tls=True)
    answer(proxy({"listeners": [listener]}), authority, "the backend speaks no TLS at 127.0.0.1:")


def answer(running: Proxy, authority: Authority, why: str) -> None:
    """A request is answered with 502, and the log says why."""
    with authority.client_context().wrap_socket(connect(running.port), server_hostname="one.test") as client:
        client.sendall(GET % b"one.test")
        assert read_all(client).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    detail = running.connection(mode="l7")["detail"]
    assert why in detail
