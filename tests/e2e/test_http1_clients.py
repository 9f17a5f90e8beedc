"""HTTP/1.1 clients that people use, in front of HTTP/2 backends that people run."""

import hashlib
import http.client
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import Seen, echo, h2, l7_listener, nghttpd, nginx, says
from tests.kit.peers import DEADLINE, Authority, connect
from tests.kit.proxy import Proxy

BIG = 16 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("www")
    (folder / "small").write_bytes(b"hello\n")
    (folder / "big").write_bytes(os.urandom(BIG))
    folder.chmod(0o755)
    return folder


@pytest.fixture(params=["nghttpd", "nginx"])
def server(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Iterator[str]:
    with nghttpd(root) if request.param == "nghttpd" else nginx(root, tmp_path) as address:
        yield address


def curl(running: Proxy, authority: Authority, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--http1.1", "--noproxy", "*", "--cacert", str(authority.path),
         "--connect-to", f"one.test:443:127.0.0.1:{running.port}", *args],
        capture_output=True, timeout=DEADLINE, check=True,
    )  # fmt: skip


def client(running: Proxy, authority: Authority) -> http.client.HTTPSConnection:
    """Python's own, its socket connected by hand."""
    made = http.client.HTTPSConnection("one.test", timeout=DEADLINE)
    raw = connect(running.port)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # http.client sends head and body apart
    made.sock = authority.client_context().wrap_socket(raw, server_hostname="one.test")
    return made


def test_curl_gets_files(server: str, root: Path, authority: Authority, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": server}, authority)]})
    twice = curl(running, authority, "https://one.test/small", "https://one.test/small")
    assert twice.stdout == b"hello\nhello\n"
    assert curl(running, authority, "https://one.test/big").stdout == (root / "big").read_bytes()
    head = curl(running, authority, "--head", "https://one.test/small").stdout
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 6\r\n" in head
    assert b"404" in curl(running, authority, "--include", "https://one.test/none").stdout
    old = curl(running, authority, "--http1.0", "--include", "https://one.test/small").stdout
    assert old.endswith(b"\r\n\r\nhello\n")
    line = running.connection(route="one.test", protocol="http/1.1", path='"/big"')
    assert (line["method"], line["status"], line["sent"], line["end"]) == ('"GET"', "200", str(BIG), '"done"')
    assert running.connection(mode="l7")["reason"] == "ok"


def test_a_conditional_request_gets_304(server: str, authority: Authority, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": server}, authority)]})
    made = client(running, authority)
    made.request("GET", "/small")
    first = made.getresponse()
    first.read()
    stamp = first.getheader("last-modified")
    assert stamp
    for _ in range(2):
        made.request("GET", "/small", headers={"If-Modified-Since": stamp})
        answer = made.getresponse()
        assert (answer.status, answer.read()) == (304, b"")
    made.close()


def test_openssl_whose_input_has_ended_gets_what_it_asked_for(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """With -quiet it goes on after the end of its input, which it does not tell."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one"))).address}, authority)]})
    last = b"GET /last HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n"
    asking = subprocess.run(
        ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{running.port}", "-servername", "one.test"],
        input=b"GET /first HTTP/1.1\r\nHost: one.test\r\n\r\n" + last,
        capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert b"one /first\n" in asking.stdout
    assert asking.stdout.endswith(b"one /last\n")


def test_uploads_of_both_kinds(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    hashes: list[tuple[str, str | None]] = []

    def hashed(seen: Seen) -> None:
        hashes.append((hashlib.sha256(seen.body).hexdigest(), seen.fields.get("content-length")))
        seen.answer(b"done")

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(hashed)).address}, authority)]})
    body = os.urandom(BIG)
    made = client(running, authority)
    made.request("POST", "/", body=body)
    assert made.getresponse().read() == b"done"
    pieces = [body[i : i + 100_000] for i in range(0, BIG, 100_000)]
    made.request("PUT", "/", body=iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert made.getresponse().read() == b"done"
    made.close()
    digest = hashlib.sha256(body).hexdigest()
    assert hashes == [(digest, str(BIG)), (digest, None)]


def test_curl_uploads_with_100_continue(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy, tmp_path: Path
) -> None:
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(echo)).address}, authority)]})
    (tmp_path / "body").write_bytes(b"x" * 2_000_000)
    upload = ["--data-binary", f"@{tmp_path / 'body'}", "--header", "Expect: 100-continue"]
    done = curl(running, authority, "--include", *upload, "https://one.test/")
    assert done.stdout.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert done.stdout.endswith(b"x" * 1000)


def test_a_backend_that_goes_away_every_50_requests_costs_nothing(
    root: Path, tmp_path: Path, authority: Authority, proxy: MakeProxy
) -> None:
    with nginx(root, tmp_path, server="keepalive_requests 50;") as address:
        running = proxy({"listeners": [l7_listener({"one.test": address}, authority)]})
        made = client(running, authority)
        for i in range(320):
            made.request("POST" if i % 3 == 0 else "GET", "/small", body=b"x" if i % 3 == 0 else None)
            answer = made.getresponse()
            assert answer.status in (200, 405), (i, "".join(running.lines[-3:]))
            answer.read()
        made.close()


def test_fields_as_the_backend_sees_them(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    seen: list[Seen] = []

    def keep(request: Seen) -> None:
        seen.append(request)
        request.answer(b"")

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(keep)).address}, authority)]})
    made = client(running, authority)
    sent = {
        "X-Forwarded-For": "10.0.0.1",
        "Connection": "keep-alive, x-hop, x-forwarded-for, x-real-ip",
        "X-Hop": "a",
        "X-Kept": "b",
        "TE": "trailers",
    }
    made.request("GET", "/a%20b?c=d&e", headers=sent)
    made.getresponse().read()
    made.close()
    assert seen[0].all_fields == [
        (":method", "GET"), (":scheme", "https"), (":authority", "one.test"), (":path", "/a%20b?c=d&e"),
        ("accept-encoding", "identity"), ("x-kept", "b"), ("te", "trailers"), ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"), ("x-real-ip", "127.0.0.1"),
    ]  # fmt: skip


def test_credentials_are_in_no_line(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    """Fields are not logged. Paths are, with their queries: SECURITY.md says so."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(says("one.test"))).address}, authority)]})
    made = client(running, authority)
    secret = "c2VjcmV0"
    made.request("POST", "/", body=secret, headers={"Authorization": f"Basic {secret}", "Cookie": f"session={secret}"})
    made.getresponse().read()
    made.close()
    running.connection(route="one.test", end="closed")
    assert secret not in "".join(running.lines)


def test_two_routes_on_one_listener_with_l4_beside_them(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    names = ("one.test", "two.test")
    listener = l7_listener({name: backend(h2(says(name))).address for name in names}, authority)
    running = proxy({"listeners": [listener]})
    for name in names:
        made = http.client.HTTPSConnection(name, timeout=DEADLINE)
        made.sock = authority.client_context().wrap_socket(connect(running.port), server_hostname=name)
        made.request("GET", "/x")
        assert made.getresponse().read() == f"{name} /x\n".encode()
        other = names[name == names[0]]
        made.request("GET", "/x", headers={"Host": other})
        answer = made.getresponse()
        assert (answer.status, answer.read()) == (421, b"421 Misdirected Request\n")
        made.close()
