"""HTTP/1.1 when something goes wrong: backends that are not there or break off, clients that don't read, draining."""

import contextlib
import errno
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from h2.exceptions import H2Error

from mcproxy.net import raw
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import Seen, echo, h2, l7_listener, says
from tests.kit.peers import DEADLINE, Authority, connect, free_port, read_all, reset, until
from tests.kit.proxy import Proxy

GET = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"


def tls(running: Proxy, authority: Authority) -> ssl.SSLSocket:
    context = authority.client_context()
    return context.wrap_socket(connect(running.port), server_hostname="one.test", suppress_ragged_eofs=False)


def read_head(sock: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1)
        assert part, data
        data += part
    return data


def test_a_backend_that_refuses_is_502_and_one_that_is_silent_504(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    silent = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    fillers = []
    for _ in range(4):  # a full backlog: further connections are not even refused
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex(silent.getsockname())
    for target, status in ((f"127.0.0.1:{free_port()}", b"502"), (address, b"504")):
        running = proxy(
            {"proxy": {"connect_timeout": "300ms"}, "listeners": [l7_listener({"one.test": target}, authority)]}
        )
        with tls(running, authority) as client:
            for _ in range(2):
                client.sendall(GET)
                assert read_head(client).startswith(b"HTTP/1.1 " + status)
                client.recv(100)
        assert running.connection(route="one.test", mode="l7")["detail"]
    for each in (silent, *fillers):
        each.close()


@pytest.mark.parametrize("length", [[], [("content-length", "1000")]])
def test_an_answer_that_breaks_off_ends_with_a_reset(
    length: list[tuple[str, str]], backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    def break_off(seen: Seen) -> None:
        seen.head(200, length)
        seen.data(b"x" * 100)
        seen._server.sock.close()
        raise ConnectionError

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(break_off)).address}, authority)]})
    with tls(running, authority) as client:
        client.sendall(GET)
        got = b""
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # noqa: PT012 - what came before is looked at
            while part := client.recv(1000):
                got += part
        assert raw.is_reset(client), "not a FIN: some clients take that for the end of the answer"
        assert got.count(b"x") == 100
        assert not got.endswith(b"0\r\n\r\n")
    assert running.connection(route="one.test", mode="l7")["end"] == "backend_reset"
    assert running.connection(protocol="http/1.1")["end"] == '"backend gone"'


def test_a_client_that_goes_is_told_to_the_backend(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    gone, begun = threading.Event(), threading.Event()

    def on_head(seen: Seen) -> None:
        seen.head(200)
        begun.set()

    def on_end(seen: Seen) -> None:
        if seen.reset:
            gone.set()

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(on_end, on_head)).address}, authority)]})
    client = tls(running, authority)
    client.sendall(b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert begun.wait(DEADLINE)
    read_head(client)
    reset(client)
    assert gone.wait(DEADLINE)
    assert running.connection(mode="l7")["end"] == "client_reset"
    assert running.connection(protocol="http/1.1")["end"] == '"client gone"'


def end_side(client: ssl.SSLSocket) -> bool:
    socket.socket.shutdown(client, socket.SHUT_WR)
    return False


def say_goodbye(client: ssl.SSLSocket) -> bool:
    """close_notify, with the connection left open; whether the reset was seen: the kernel reports it only once."""
    client.setblocking(False)
    try:
        client.unwrap()
    except ConnectionResetError:
        return True
    except ssl.SSLWantReadError:
        return False
    return False


def leave_at_once(client: ssl.SSLSocket) -> bool:
    client.close()
    return False


@pytest.mark.parametrize("leave", [end_side, say_goodbye, leave_at_once])
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_cancels_what_it_waits_for(
    leave: Callable[[ssl.SSLSocket], bool], begun: bool, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    def on_head(seen: Seen) -> None:
        if begun:
            seen.head(200)
            seen.data(b"some")
        asked.set()

    def on_end(seen: Seen) -> None:
        if seen.reset:
            cancelled.set()

    def serve(sock: socket.socket) -> None:
        h2(on_end, on_head)(sock)
        cancelled.set()  # where its last bytes were not read here, a RST has overtaken RST_STREAM

    running = proxy({"listeners": [l7_listener({"one.test": backend(serve).address}, authority)]})
    with tls(running, authority) as client:
        client.sendall(GET)
        assert asked.wait(DEADLINE)
        if begun:
            read_head(client)
            assert client.recv(100)
        reset_seen = leave(client)
        assert cancelled.wait(DEADLINE)
        line = running.connection(protocol="http/1.1")
        assert (line["status"], line["end"]) == ("200" if begun else "0", '"client gone"')
        # Session tickets that were not read make the kernel reset what is closed.
        gone = client.fileno() < 0
        assert running.connection(mode="l7")["end"] in ("closed", "client_reset" if gone else "")
        if begun and not gone and not reset_seen:
            error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert error == errno.ECONNRESET, "a FIN is taken for the end of the answer"


def test_a_curl_that_is_interrupted_cancels_its_request(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    def on_end(seen: Seen) -> None:
        (cancelled if seen.reset else asked).set()

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(on_end)).address}, authority)]})
    waiting = subprocess.Popen(
        ["curl", "--silent", "--http1.1", "--noproxy", "*", "--cacert", str(authority.path),
         "--connect-to", f"one.test:443:127.0.0.1:{running.port}", "https://one.test/"],
    )  # fmt: skip
    try:
        assert asked.wait(DEADLINE)
    finally:
        waiting.terminate()
        waiting.wait(DEADLINE)
    assert cancelled.wait(DEADLINE)
    assert running.connection(protocol="http/1.1")["end"] == '"client gone"'


def test_a_client_that_does_not_read_holds_its_backend_up_in_bounded_memory(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    sent = [0]

    def pour(seen: Seen) -> None:
        seen.head(200)
        with contextlib.suppress(OSError, H2Error):
            while True:
                seen.data(bytes(1 << 16))
                sent[0] += 1 << 16

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(pour)).address}, authority)]})
    with tls(running, authority) as client:
        client.sendall(GET)
        read_head(client)
        stalled = [-1, 0]

        def has_stalled() -> bool:
            stalled[1] = stalled[1] + 1 if stalled[0] == sent[0] else 0
            stalled[0] = sent[0]
            return stalled[1] > 40  # looks, 5 ms apart

        until(has_stalled, "the backend to be held up")
        assert sent[0] < 32 << 20, "the rest is in the kernel's buffers"
        (session,) = running.sessions()
        assert running.call(lambda: session.carrier._client.channel.unsent) < 1 << 20  # type: ignore[union-attr]
        before = sent[0]
        for _ in range(400):
            client.recv(1 << 16)
        until(lambda: sent[0] > before, "the backend to go on")
        reset(client)


def test_a_backend_that_does_not_read_holds_its_client_up(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    go_on = threading.Event()

    def serve(sock: socket.socket) -> None:
        go_on.wait(DEADLINE)
        h2(echo)(sock)

    running = proxy({"listeners": [l7_listener({"one.test": backend(serve).address}, authority)]})
    size = 64 << 20
    with tls(running, authority) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: %d\r\n\r\n" % size)
        client.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):  # noqa: PT012 - how much went is looked at
            while sent < size:
                sent += client.send(bytes(1 << 16))
        assert sent < 32 << 20
        reset(client)
        go_on.set()


def test_draining_finishes_what_is_under_way(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(seen: Seen) -> None:
        begun.set()
        go_on.wait(DEADLINE)
        seen.answer(b"done")

    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(slow)).address}, authority)]})
    with tls(running, authority) as busy, tls(running, authority) as idle:
        busy.sendall(GET)
        assert begun.wait(DEADLINE)
        until(lambda: len(running.sessions()) == 2, "both to be open")
        running.begin_stop()
        assert idle.recv(1) == b""
        go_on.set()
        answer = read_all(busy)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert answer.endswith(b"done")
    running.stop()
    assert running.clean


def test_an_idle_connection_is_cut(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    running = proxy(
        {
            "proxy": {"idle_timeout": "300ms"},
            "listeners": [l7_listener({"one.test": backend(h2(says("one"))).address}, authority)],
        }
    )
    with tls(running, authority) as client:
        client.sendall(GET)
        read_head(client)
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
            read_all(client)
    assert running.connection(mode="l7")["end"] == "idle_timeout"


def test_proxy_v2_comes_first(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    headers: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        fixed = sock.recv(16, socket.MSG_WAITALL)
        headers.append(fixed + sock.recv(int.from_bytes(fixed[14:16], "big"), socket.MSG_WAITALL))
        h2(says("one"))(sock)

    listener = l7_listener(
        {"one.test": backend(serve).address}, authority, send_proxy_protocol=True, backend_protocol="h2"
    )
    listener |= {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    running = proxy({"listeners": [listener]})
    with contextlib.ExitStack() as stack:
        for host in ("198.51.100.9", "198.51.100.10"):  # both at once: they must not share a connection to the backend
            plain = connect(running.port)
            plain.sendall(b"PROXY TCP4 %b 203.0.113.1 4567 443\r\n" % host.encode())
            client = authority.client_context().wrap_socket(plain, server_hostname="one.test")
            stack.enter_context(client).sendall(GET)
            assert read_head(client).startswith(b"HTTP/1.1 200 ")
    assert len(headers) == 2
    assert all(header.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11") for header in headers)
    assert [header[16:20] for header in headers] == [bytes((198, 51, 100, last)) for last in (9, 10)]
    assert running.connection(protocol="http/1.1", client="198.51.100.9:4567")


def test_a_slow_handshake_is_refused(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy, tmp_path: Path
) -> None:
    running = proxy(
        {
            "proxy": {"handshake_timeout": "300ms"},
            "listeners": [l7_listener({"one.test": backend(h2(says("one"))).address}, authority)],
        }
    )
    outgoing = ssl.MemoryBIO()
    half = authority.client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="one.test")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    with connect(running.port) as client:
        client.sendall(outgoing.read())
        with contextlib.suppress(ConnectionResetError):
            read_all(client)
    assert running.connection(route="one.test")["reason"] == "handshake_timeout"
