"""HTTP/2 backends for end-to-end tests: h2 in threads, and the servers that people run."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from tests.kit.peers import DEADLINE, Authority, Handler, free_port, until

Fields = list[tuple[str, str]]


class Seen:
    """A request as a backend gets it, and how it is answered."""

    def __init__(self, server: "Serving", stream: int, fields: Fields) -> None:
        self._server = server
        self.stream = stream
        self.fields = dict(fields)
        self.all_fields = fields
        self.body = b""
        self.trailers: Fields = []
        self.reset = False

    def head(self, status: int = 200, fields: Fields | None = None, end: bool = False) -> None:
        self._server.h2.send_headers(self.stream, [(":status", str(status)), *(fields or [])], end_stream=end)
        self._server.flush()

    def data(self, data: bytes, end: bool = False) -> None:
        """Send as windows allow; reads meanwhile."""
        h2 = self._server.h2
        while data:
            room = min(h2.local_flow_control_window(self.stream), h2.max_outbound_frame_size)
            if room:
                h2.send_data(self.stream, data[:room])
                data = data[room:]
            self._server.flush()
            if not room and not self._server.read():
                raise ConnectionError("the proxy has gone")
        if end:
            h2.end_stream(self.stream)
            self._server.flush()

    def trail(self, fields: Fields) -> None:
        self._server.h2.send_headers(self.stream, fields, end_stream=True)
        self._server.flush()

    def answer(self, body: bytes, status: int = 200, fields: Fields | None = None) -> None:
        self.head(status, [("content-length", str(len(body))), *(fields or [])])
        self.data(body, end=True)


App = Callable[[Seen], None]


class Serving:
    """One connection of an h2 backend."""

    def __init__(
        self, sock: socket.socket, on_head: App | None, on_data: App | None, on_end: App | None, websockets: bool
    ) -> None:
        self.sock = sock
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a close may drop what Nagle holds back
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.h2.initiate_connection()
        if websockets:
            self.h2.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self._calls = (on_head, on_data, on_end)
        self.seen: dict[int, Seen] = {}
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def read(self) -> bool:
        data = self.sock.recv(1 << 16)
        if not data:
            return False
        on_head, on_data, on_end = self._calls
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                fields = [(str(name), str(value)) for name, value in event.headers]
                self.seen[event.stream_id] = Seen(self, event.stream_id, fields)
                call = on_head
            elif isinstance(event, DataReceived):
                self.seen[event.stream_id].body += bytes(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                call = on_data
            elif isinstance(event, TrailersReceived):
                self.seen[event.stream_id].trailers = [(str(name), str(value)) for name, value in event.headers]
                continue
            elif isinstance(event, StreamReset):
                self.seen[event.stream_id].reset = True
                call = on_end
            elif isinstance(event, StreamEnded):
                call = on_end
            else:
                continue
            if call:
                call(self.seen[event.stream_id])
        self.flush()
        return True


def h2(
    on_end: App | None = None, on_head: App | None = None, on_data: App | None = None, websockets: bool = False
) -> Handler:
    """A backend that calls these when a request's head, a piece of its body, or its end has come."""

    def serve(sock: socket.socket) -> None:
        serving = Serving(sock, on_head, on_data, on_end, websockets)
        with contextlib.suppress(ConnectionError):
            while serving.read():
                continue

    return serve


def says(name: str) -> App:
    """Answers with that name and the path."""
    return lambda seen: seen.answer(f"{name} {seen.fields[':path']}\n".encode())


def echo(seen: Seen) -> None:
    """Answers with the body."""
    if not seen.reset:
        seen.answer(seen.body)


def l7_listener(routes: dict[str, str], authority: Authority, **more: Any) -> dict[str, Any]:
    """One listener on a free port, with l7 routes from name to backend; `more` is for each route."""
    given = []
    for name, backend in routes.items():
        chain, key = authority.pair(name)
        given.append(
            {
                "hostname": name, "backend": backend, "mode": "l7", "tls_cert": str(chain), "tls_key": str(key), **more,
            }
        )  # fmt: skip
    return {"addr": "127.0.0.1:0", "routes": given}


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server until it listens on a port of this machine; gives its address, and ends it afterwards."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Apache ends its whole process group; PHP's workers outlive the one that began
    )
    try:

        def is_up() -> bool:
            assert process.poll() is None, f"{command[0]} ended at once"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(is_up, f"{command[0]} to listen")
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE)


def nghttpd(root: Path, *options: str) -> contextlib.AbstractContextManager[str]:
    """nghttp2's own server, without TLS."""
    port = free_port()
    program = shutil.which("nghttpd")
    assert program, "install nghttp2-server"
    return running([program, "--no-tls", "--address=127.0.0.1", f"--htdocs={root}", *options, str(port)], port)


def nginx(
    root: Path, folder: Path, server: str = "", http: str = "", protocol: str = "http2"
) -> contextlib.AbstractContextManager[str]:
    """nginx with HTTP/2 without TLS, or HTTP/1 where `protocol` is ""; `server` and `http` are more configuration."""
    port = free_port()
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, "install nginx"
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths} {http}\n"
        f"  server {{ listen 127.0.0.1:{port} {protocol}; root {root}; {server} }} }}\n"
    )
    return running(
        [program, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")], port
    )
