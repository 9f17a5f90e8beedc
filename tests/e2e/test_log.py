"""One line for each connection on the real program's standard output, the refused ones too, in text and in JSON.

Whatever a client sends, it can't forge a line or a field: every line that there is begins as a line of ours does, and
there are as many as there were connections.
"""

import json
import re
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend
from tests.kit.hellos import alpn, hello, server_name, supported_versions
from tests.kit.peers import Authority, client_hello, connect, free_port, is_reset, read_all, says, tls
from tests.kit.program import Server

HELLO = client_hello("A.test", alpn=("h2", "http/1.1"))
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
OUR_LINE = re.compile(rf"{STAMP} (info|warning|error) (connection id=\d+ listener=|\w+: ).*\n")

FORGERY = b"a.test\n2026-11-22 info connection id=1 verdict=routed reason=ok"


class Running:
    """The program with one listener and one route from a.test."""

    def __init__(self, stack: ExitStack, folder: Path, target: str, options: dict[str, Any], style: str) -> None:
        self.port = free_port()
        self.addr, self.target = f"127.0.0.1:{self.port}", target
        route = {"hostname": "a.test", "backend": target}
        document = {"listeners": [{"addr": self.addr, "routes": [route], **options}], "log": {"format": style}}
        self._server = stack.enter_context(Server(folder, document))

    def client(self, sends: bytes, is_refused: bool = False) -> str:
        """Connect, send, hear; the client's address."""
        with connect(self.port) as client:
            client.sendall(sends)
            if is_refused:
                assert is_reset(client)
            else:
                assert read_all(client)
            return f"127.0.0.1:{client.getsockname()[1]}"

    def stop(self, count: int) -> tuple[list[str], list[str]]:
        """Stop it. The lines of its connections, of which there must be so many, and all of its lines."""
        lines = self._server.connections(count)
        self._server.signal(signal.SIGTERM)
        assert self._server.wait() == 0
        assert self._server.err == []
        assert len(self._server.connections(count)) == len(lines) == count
        return lines, self._server.out


Run = Callable[..., Running]


@pytest.fixture
def run(nothing_left: None, tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        yield lambda target, style="text", **options: Running(stack, tmp_path, target, options, style)


def test_a_routed_connection_in_text(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address)
    client = running.client(HELLO)
    ((line,), lines) = running.stop(1)
    answer = 60 + len("here\n")
    wanted = (
        rf"{STAMP} info connection id=\d+ listener={running.addr} client={client} sni=a\.test route=a\.test mode=l4 "
        rf"backend={running.target} verdict=routed reason=ok end=closed received={len(HELLO)} sent=(\d+) "
        rf"duration=\d\.\d{{3}} tls=1\.3,1\.2 alpn=h2,http/1\.1 ech=no\n"
    )
    found = re.fullmatch(wanted, line)
    assert found, line
    assert int(found[1]) == pytest.approx(answer, abs=10)
    assert all(map(OUR_LINE.fullmatch, lines)), lines


def test_a_routed_connection_in_json(run: Run, backend: MakeBackend) -> None:
    began = time.time()
    running = run(backend(says("here")).address, "json")
    client = running.client(HELLO)
    ((line,), lines) = running.stop(1)
    found = json.loads(line)
    assert found.pop("id") >= 1
    assert 0 < found.pop("duration") < time.time() - began
    assert found.pop("sent_bytes") > len("here\n")
    assert re.fullmatch(STAMP, found.pop("time"))
    assert found == {
        "level": "info",
        "event": "connection",
        "listener": running.addr,
        "client": "127.0.0.1",
        "client_port": int(client.rpartition(":")[2]),
        "sni": "a.test",
        "route": "a.test",
        "mode": "l4",
        "backend": running.target,
        "verdict": "routed",
        "reason": "ok",
        "end": "closed",
        "received_bytes": len(HELLO),
        "tls_versions": ["1.3", "1.2"],
        "alpn": ["h2", "http/1.1"],
        "ech": False,
        "detail": "",
    }
    assert {json.loads(line)["event"] for line in lines} == {"connection", "message"}


def test_refused_connections_in_text(run: Run) -> None:
    running = run("127.0.0.1:9")
    unknown = running.client(client_hello("b.test", alpn=("h2",)), is_refused=True)
    other = running.client(b"GET / HTTP/1.1\r\n\r\n", is_refused=True)
    (first, second), _ = running.stop(2)
    assert (
        f"client={unknown} sni=b.test route=- mode=- backend=- verdict=refused reason=route_unknown end=refused"
        in first
    )
    assert re.search(
        r" received=0 sent=0 duration=\d\.\d{3} tls=1\.3,1\.2 alpn=h2 ech=no detail=\"no route for b\.test", first
    )
    assert f"client={other} sni=- route=- mode=- backend=- verdict=refused reason=hello_not_tls end=refused" in second
    assert second.endswith(' tls=- alpn=- ech=no detail="the client speaks plain HTTP"\n')


def test_refused_connections_in_json(run: Run) -> None:
    running = run("127.0.0.1:9", "json")
    running.client(client_hello(None, alpn=("h2",)), is_refused=True)
    running.client(HELLO, is_refused=True)
    (first, second), _ = running.stop(2)
    found = json.loads(first)
    assert (found["verdict"], found["reason"], found["sni"], found["alpn"]) == ("refused", "sni_missing", "", ["h2"])
    assert found["detail"]
    found = json.loads(second)
    assert (found["reason"], found["route"], found["backend"]) == ("backend_refused", "a.test", "127.0.0.1:9")


def test_what_real_tls_offers_is_told(run: Run, backend: MakeBackend, authority: Authority) -> None:
    running = run(backend(tls(authority.server_context("a.test"), says("here"))).address)
    context = authority.client_context()
    context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(connect(running.port), server_hostname="a.test") as client:
        client.sendall(b"?")
        assert read_all(client)
    (line,), _ = running.stop(1)
    assert " tls=1.2 alpn=- ech=no\n" in line


ODD_PROTOCOLS = (b"h2\nforged=yes", b'"', b"\xff\x00\x1b[31m", b"a b=c,d\\", b"x" * 255)
# Each tries to begin a line, to end a value, or to upset a terminal.
FORGERIES = {
    "a name with a line": (hello(server_name(FORGERY)), "sni_invalid"),
    "a name with quotes": (hello(server_name(b'a" reason="ok')), "sni_invalid"),
    "a name with blanks": (hello(server_name(b"a.test reason=ok verdict=routed")), "sni_invalid"),
    "a name with control bytes": (hello(server_name(b"a\x1b]0;x\x07\x08\x7f\x00.test")), "sni_invalid"),
    "a name in UTF-8": (hello(server_name("a\u2028b.test".encode())), "sni_invalid"),
    "a name that is long": (hello(server_name(b"\n" * 15000)), "sni_invalid"),
    "odd protocols": (hello(server_name(b"b.test"), alpn(*ODD_PROTOCOLS)), "route_unknown"),
    "odd versions": (hello(server_name(b"b.test"), supported_versions(0x0D0A, 0x2222, 0xFFFF)), "route_unknown"),
    "a line instead of a hello": (FORGERY + b"\n", "hello_not_tls"),
}  # fmt: skip


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_clients_send_forges_nothing(style: str, run: Run) -> None:
    running = run("127.0.0.1:9", style)
    for sends, _ in FORGERIES.values():
        running.client(sends, is_refused=True)
    lines, every = running.stop(len(FORGERIES))
    for line, (_, reason) in zip(lines, FORGERIES.values(), strict=True):
        assert line.isascii()
        assert line[:-1].isprintable(), line
        assert len(line) < 1500
        if style == "json":
            assert (json.loads(line)["reason"], json.loads(line)["verdict"]) == (reason, "refused")
        else:
            before_detail = line.partition(' detail="')[0].split(" ")
            assert [part.partition("=")[0] for part in before_detail[3:]] == FIELDS
            assert f"reason={reason}" in before_detail
    if style == "text":
        assert all(map(OUR_LINE.fullmatch, every)), every


FIELDS = [
    "id", "listener", "client", "sni", "route", "mode", "backend", "verdict", "reason", "end", "received", "sent",
    "duration", "tls", "alpn", "ech",
]  # fmt: skip


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_proxy_header_forges_nothing(style: str, run: Run) -> None:
    running = run("127.0.0.1:9", style, proxy_protocol=True, trusted_proxies=["127.0.0.0/8"])
    headers = (
        b'PROXY TCP4 "1.2.3.4" reason=ok 1 2\r\n',
        b"PROXY TCP4 1.2.3.4\n" + FORGERY + b"\r\n",
        b"PROXY TCP6 ::1%\x1b[2J ::1 1 2\r\n",
    )
    for header in headers:
        running.client(header + HELLO, is_refused=True)
    lines, every = running.stop(len(headers))
    for line in lines:
        assert line.isascii()
        assert line[:-1].isprintable(), line
        assert "proxy_malformed" in line
        assert (json.loads(line)["client"] if style == "json" else line.split("client=")[1]).startswith("127.0.0.1")
    if style == "text":
        assert all(map(OUR_LINE.fullmatch, every)), every
