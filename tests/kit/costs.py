"""What one connection or one request costs, counted in system calls and in calls of Python functions: no clock.

    python -m tests.kit.costs            measures, and prints each figure beside the recorded one
    python -m tests.kit.costs --record   writes tests/e2e/costs.toml

One server has a route of each kind, and one client does one thing after another. So nothing can go together with
anything else, and a loaded machine counts the same. Timers add a little: a wait that only a timer ended isn't counted,
and of some rounds the least counts.

The server counts its own functions by `sys.setprofile`, and strace its system calls; SIGUSR1 makes it write the number,
which marks the place in strace's lines too. Comprehensions aren't counted: since Python 3.12 they are no functions.
"""

import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import HEADER, HEADER_SIZE, PREFACE, SETTINGS_ACK, Flag, Frame, data, headers, settings
from tests.kit.pace import pause
from tests.kit.peers import (
    DEADLINE,
    Authority,
    Backend,
    client_hello,
    closing,
    connect,
    echo,
    free_port,
    receive,
    until,
)
from tests.kit.program import environment

RECORDED = Path(__file__).parent.parent / "e2e" / "costs.toml"
TIMES = 40  # of one kind of work in a round: a tick of a timer is a small part of it
ROUNDS = 3
THINKING = 0.01  # seconds
_OF_THREADS = {"futex", "getpid", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn"}
# A line of strace's at the end of a call, and its result; one that another thread interrupted has two lines.
_DONE = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>).*\) += (\S+)").match
_MARK = re.compile(r'\d+ +write\(1, "called (\d+)').match

COUNTING = """
import os, signal, sys
from mcproxy.cli.main import main
calls, uncounted = 0, {"<listcomp>", "<setcomp>", "<dictcomp>"}
def count(frame, event, arg):
    global calls
    calls += event == "call" and frame.f_code.co_name not in uncounted
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"called %d\\n" % calls))
sys.setprofile(count)  # of this thread, which is the hub's
main(prog_name="mcproxy")
"""


class Cost(NamedTuple):
    """Of one connection, message or request."""

    system_calls: float
    functions: float


Once = Callable[[], None]  # does one thing, and returns when all of its answer has come
Client = AbstractContextManager[Once]


class Site(NamedTuple):
    """The server, as clients find it."""

    port: int
    context: ssl.SSLContext


# Backends


def http1_backend(sock: socket.socket) -> None:
    """Answer each request of HTTP/1.1, in one piece."""
    while sock.recv(65_536).endswith(b"\r\n\r\n"):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def frames(sock: socket.socket) -> Iterator[tuple[int, int, int]]:
    """The type, flags and stream of each frame that comes; payloads are read over."""
    with sock.makefile("rb") as coming:
        while len(header := coming.read(HEADER_SIZE)) == HEADER_SIZE:
            high, low, kind, flags, stream = HEADER.unpack(header)
            coming.read(high << 8 | low)
            yield kind, flags, stream


def http2_backend(sock: socket.socket) -> None:
    """Answer each request of HTTP/2, in one piece."""
    receive(sock, len(PREFACE))
    sock.sendall(settings([]))
    head = encode([(b":status", b"200"), (b"content-length", b"2")])
    for kind, flags, stream in frames(sock):
        if kind == Frame.SETTINGS and not flags & Flag.ACK:
            sock.sendall(SETTINGS_ACK)
        elif kind == Frame.HEADERS:
            sock.sendall(headers(stream, head) + data(stream, b"ok", end_stream=True))


# Clients


@contextmanager
def l4_connection(site: Site) -> Iterator[Once]:
    """Hello, its echo, FIN, FIN."""
    hello = client_hello("l4.test")

    def once() -> None:
        with connect(site.port) as client:
            client.sendall(hello)
            assert client.recv(65_536) == hello
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""

    yield once


@contextmanager
def l4_message(site: Site) -> Iterator[Once]:
    """There and back, on one connection."""
    hello = client_hello("l4.test")
    with connect(site.port) as client:
        client.sendall(hello)
        assert client.recv(65_536) == hello

        def once() -> None:
            client.sendall(b"ping")
            assert client.recv(100) == b"ping"

        yield once


@contextmanager
def secured(site: Site, name: str, protocol: str) -> Iterator[ssl.SSLSocket]:
    """A connection with TLS, which speaks this protocol.

    The client's second flight comes when the server already waits for it: else it is cheaper, and nobody knows when.
    """
    site.context.set_alpn_protocols([protocol])
    with (
        connect(site.port) as client,
        site.context.wrap_socket(client, server_hostname=name, do_handshake_on_connect=False) as inside,
    ):
        inside.setblocking(False)
        with suppress(ssl.SSLWantReadError):
            inside.do_handshake()
        pause(THINKING)
        inside.settimeout(DEADLINE)
        inside.do_handshake()
        assert inside.selected_alpn_protocol() == protocol
        yield inside


def ask_http1(client: ssl.SSLSocket, name: str) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        more = client.recv(65_536)
        assert more, answer
        answer += more


@contextmanager
def l7_connection(site: Site) -> Iterator[Once]:
    """A handshake and one request, HTTP/1.1 to HTTP/1.1."""

    def once() -> None:
        with secured(site, "h1.test", "http/1.1") as client:
            ask_http1(client, "h1.test")

    yield once


def http1_request(name: str) -> Callable[[Site], Client]:
    """Over HTTP/1.1, to the backend of that host."""

    @contextmanager
    def made(site: Site) -> Iterator[Once]:
        with secured(site, name, "http/1.1") as client:
            yield lambda: ask_http1(client, name)

    return made


def http2_request(name: str) -> Callable[[Site], Client]:
    """Over HTTP/2, to the backend of that host."""

    @contextmanager
    def made(site: Site) -> Iterator[Once]:
        block = encode([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", name.encode())])
        with secured(site, name, "h2") as client:
            client.sendall(PREFACE + settings([]))
            coming, streams = frames(client), iter(range(1, 1 << 20, 2))

            def once() -> None:
                stream = next(streams)
                client.sendall(headers(stream, block, end_stream=True))
                for kind, flags, its in coming:
                    if kind == Frame.SETTINGS and not flags & Flag.ACK:
                        client.sendall(SETTINGS_ACK)
                    assert kind not in (Frame.RST_STREAM, Frame.GOAWAY)
                    if its == stream and flags & Flag.END_STREAM and kind in (Frame.HEADERS, Frame.DATA):
                        return
                raise AssertionError("the connection ended")

            yield once

    return made


CLIENTS: dict[str, Callable[[Site], Client]] = {
    "l4 connection": l4_connection,
    "l4 message": l4_message,
    "l7 connection": l7_connection,
    "h1-h1 request": http1_request("h1.test"),
    "h1-h2 request": http1_request("h2.test"),
    "h2-h1 request": http2_request("h1.test"),
    "h2-h2 request": http2_request("h2.test"),
}


# The server, and the counters


class Server:
    """Counted by itself and by strace."""

    def __init__(self, process: "subprocess.Popen[bytes]", trace: TextIO) -> None:
        self._process = process
        self._trace = trace
        self._line = ""  # that strace is writing
        self._marks = self._calls = self._functions = 0  # since it began

    def mark(self) -> tuple[int, int]:
        """System calls and functions so far. Those of the mark itself are among them, a few."""
        before = self._marks
        self._process.send_signal(signal.SIGUSR1)
        until(lambda: self._read() > before, "the server to write its number")
        return self._calls, self._functions

    def _read(self) -> int:
        """Count what strace has written; returns how many marks there were."""
        *lines, self._line = (self._line + self._trace.read()).split("\n")
        for line in lines:
            done = _DONE(line)
            if done is not None and done[1] not in _OF_THREADS and not (done[1] == "epoll_wait" and done[2] == "0"):
                self._calls += 1
            if mark := _MARK(line):
                self._marks += 1
                self._functions = int(mark[1])
        return self._marks

    def cost(self, once: Once) -> Cost:
        """Of doing that."""
        calls, functions = self.mark()
        for _ in range(TIMES):
            once()
        more_calls, more_functions = self.mark()
        return Cost((more_calls - calls) / TIMES, (more_functions - functions) / TIMES)


@contextmanager
def serving(folder: Path, routes: str) -> Iterator[tuple[Server, int]]:
    """A server with these routes, and its port."""
    port, trace = free_port(), folder / "trace"
    listener = f'[[listeners]]\naddr = "127.0.0.1:{port}"\nroutes = [{routes}]\n'
    (folder / "mcproxy.toml").write_text(f'database.path = "mcproxy.db"\nlog.level = "info"\n{listener}')
    command = [sys.executable, "-c", COUNTING, "server", "-c", str(folder / "mcproxy.toml")]
    with (folder / "log").open("w") as log, ExitStack() as ends:
        server = ends.enter_context(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment()))
        ends.callback(server.terminate)
        until(lambda: "started" in (folder / "log").read_text(), "the server to start")
        strace = subprocess.Popen(["strace", "-f", "-o", trace, "-p", str(server.pid)], stderr=subprocess.PIPE)
        ends.enter_context(strace)
        ends.callback(strace.terminate)
        assert strace.stderr is not None
        strace.stderr.readline()  # "attached"
        yield Server(server, ends.enter_context(trace.open())), port


def measure(folder: Path) -> dict[str, Cost]:
    """By kind of work, the least of some rounds."""
    authority, found = Authority(folder), {}
    backends = {"l4": Backend(echo), "h1": Backend(http1_backend), "h2": Backend(http2_backend)}
    with closing(*backends.values()):
        routes = []
        for name, each in backends.items():
            route = f'hostname = "{name}.test", backend = "{each.address}"'
            if name != "l4":
                certificate, key = authority.pair(f"{name}.test")
                route += f', mode = "l7", tls_cert = "{certificate}", tls_key = "{key}"'
                route += f', backend_protocol = "{"h2" if name == "h2" else "http/1.1"}"'
            routes.append(f"{{ {route} }}")
        with serving(folder, ", ".join(routes)) as (server, port):
            for kind, client in CLIENTS.items():
                with client(Site(port, authority.client_context())) as once:
                    for _ in range(TIMES):  # what is made once, is there then
                        once()
                    rounds = [server.cost(once) for _ in range(ROUNDS)]
                found[kind] = Cost(*map(min, zip(*rounds, strict=True)))
    return found


def recorded() -> dict[str, Cost]:
    """The figures of tests/e2e/costs.toml."""
    return {kind: Cost(**costs) for kind, costs in tomllib.loads(RECORDED.read_text()).items()}


HEAD = """\
# What one of each costs the server, as Python {}.{} counted it. `python -m tests.kit.costs --record` writes this file;
# tests/e2e/test_cost.py fails where one rises by a tenth.
"""


def main() -> None:
    """Measure and print, or record."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    if "--record" in sys.argv[1:]:
        tables = (
            f'\n["{kind}"]\nsystem_calls = {cost[0]:.1f}\nfunctions = {cost[1]:.1f}\n' for kind, cost in found.items()
        )
        RECORDED.write_text(HEAD.format(*sys.version_info) + "".join(tables))
    before = recorded()
    for kind, cost in found.items():
        was = before[kind]
        print(f"{kind:14} {cost[0]:6.1f} system calls ({was[0]:.1f}) {cost[1]:7.1f} functions ({was[1]:.1f})")


if __name__ == "__main__":
    main()
