"""`make devserver`: the proxy in front of three small backends, everything on this machine.

The first run creates srv/: a commented configuration to play with, a certificate authority, and certificates. Later
runs use what is there. With PORT=N it takes other ports, and srv/N instead. Ctrl-C ends it all, at any moment.
"""

import errno
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp

import trustme

from mcproxy.notation.address import MAX_API_PATH

ROOT = Path(__file__).resolve().parents[2]
SRV = ROOT / "srv"
PORT = 8443
OTHER = 18443  # what is proposed where the port is taken
# The backends' ports, counted from the proxy's: 9441, 9442, 9444. curl and browsers take *.localhost for this machine.
L4 = {"one.localhost": 998, "two.localhost": 999}
L7 = "three.localhost"
BACKENDS = {**L4, L7: 1001}
PORTS = range(1024, 2**16 - max(BACKENDS.values()))

CONFIG = """\
# The development server's configuration, made by 'make devserver'; 'make clean' removes it. Listeners, routes and rules
# are read once, into the database: after a change here, `mcproxy apply mcproxy.toml` in this folder.
# Every key with its default: etc/mcproxy.toml.example

[database]
path = "mcproxy.db"

[[listeners]]
addr = "127.0.0.1:{port}"

  # Passed on as it is: the backend shows its own certificate and sees every byte that the client sent.
  [[listeners.routes]]
  hostname = "one.localhost"
  backend = "127.0.0.1:{one.localhost}"

  [[listeners.routes]]
  hostname = "two.localhost"
  backend = "127.0.0.1:{two.localhost}"

  # TLS ends at the proxy, which passes HTTP requests on to a web application without TLS, one of HTTP/1.1.
  [[listeners.routes]]
  hostname = "three.localhost"
  backend = "127.0.0.1:{three.localhost}"
  mode = "l7"
  tls_cert = "three.localhost.pem"
  tls_key = "three.localhost.pem"

[grpc]
addr = "unix:{socket}"

[proxy]
shutdown_timeout = "2s"
"""


def create(folder: Path, port: int) -> None:
    """Make what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mcproxy.toml"
    if not config.exists():
        text = CONFIG.replace("{port}", str(port)).replace("{socket}", admin_socket(folder))
        for name, offset in BACKENDS.items():
            text = text.replace(f"{{{name}}}", str(port + offset))
        config.write_text(text)
    if (folder / "ca.pem").exists():
        return
    authority = trustme.CA()
    for name in BACKENDS:
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))


def admin_socket(folder: Path) -> str:
    """Beside the configuration, or in a folder of its own where this tree lies too deep for a UNIX socket's path."""
    return "admin.sock" if len(f"{folder}/admin.sock".encode()) <= MAX_API_PATH else f"{mkdtemp()}/admin.sock"


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with the backend's name, in HTTP/1.1."""

    server: "Backend"
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer requests until the connection ends."""
        with suppress(OSError):  # one that leaves in a handshake, as `explain --dial` does, is no news
            super().handle()

    def do_GET(self) -> None:
        """Answer one."""
        body = f"This is {self.server.name}. You asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Log nothing: the proxy's log is the one to look at."""


class Backend(ThreadingHTTPServer):
    """One of the three; over TLS of its own where there is a certificate."""

    def __init__(self, name: str, port: int, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), Answer)
        self.name = name
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


def refuse_taken(ports: Iterable[int]) -> None:
    """End the program with a sentence where another one listens on one of these ports."""
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another program listens there; end it" if taken else os.strerror(error.errno or 0)
            sys.exit(
                f"devserver: can't listen on 127.0.0.1:{port}: {why}, or take other ports: make devserver PORT={OTHER}"
            )


def explain(folder: Path, port: int) -> None:
    """Print what to try."""
    shown = folder.relative_to(ROOT)
    print(f"\nRoutes {', '.join(BACKENDS)} on port {port}. In another terminal:\n")
    for name in BACKENDS:
        print(f"  curl --cacert {shown}/ca.pem https://{name}:{port}/hello")
    print(f"\n  .venv/bin/mcproxy status -c {shown}/mcproxy.toml")
    print("\nEach line below is one connection, or one request of the last. Ctrl-C ends it.\n", flush=True)


def run_proxy(folder: Path) -> int:
    """Run the proxy until a signal ends it; return its exit status.

    It is in a process group of its own, so Ctrl-C reaches it through here only: once it can drain, or not at all.
    """
    running: list[subprocess.Popen[bytes]] = []
    ended = threading.Event()

    def end(*_: object) -> None:
        ended.set()
        for each in running:
            each.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    command = [sys.executable, "-m", "mcproxy", "server", "-c", str(folder / "mcproxy.toml")]
    running.append(subprocess.Popen(command, cwd=ROOT, process_group=0))
    if ended.is_set():  # while it was started
        end()
    status = running[0].wait()
    return 0 if ended.is_set() and status < 0 else status  # it had no handlers yet


def main() -> int:
    """Run until Ctrl-C; return the proxy's exit status."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the Makefile has blocked it
    text = sys.argv[1] if len(sys.argv) > 1 else str(PORT)
    if not (text.isdigit() and int(text) in PORTS):
        sys.exit(f"devserver: PORT={text} is not a number from {PORTS[0]} to {PORTS[-1]}")
    port = int(text)
    folder = SRV if port == PORT else SRV / text
    create(folder, port)
    refuse_taken([port, *(port + offset for offset in BACKENDS.values())])
    servers = [Backend(name, port + offset, folder / f"{name}.pem") for name, offset in L4.items()]
    servers.append(Backend(L7, port + BACKENDS[L7]))
    for server in servers:
        threading.Thread(target=server.serve_forever, name=server.name, daemon=True).start()
    explain(folder, port)
    return run_proxy(folder)


if __name__ == "__main__":
    sys.exit(main())
