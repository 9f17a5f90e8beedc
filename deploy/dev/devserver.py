"""`make devserver`: the proxy in front of three small backends, everything on this machine.

The first run creates srv/: a commented configuration to play with, a certificate authority, and certificates. Later
runs use what is there. Ctrl-C ends it all.
"""

import signal
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from tempfile import mkdtemp

import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from mcproxy.config import MAX_GRPC_PATH

ROOT = Path(__file__).resolve().parents[2]
SRV = ROOT / "srv"
PORT = 8443
BACKENDS = {"one.localhost": 9441, "two.localhost": 9442}  # curl and browsers take *.localhost for this machine
L7, L7_PORT = "three.localhost", 9444

CONFIG = f"""\
# The development server's configuration, made by 'make devserver'. Change it and start again; 'make clean' removes it.
# Every key with its default: etc/mcproxy.toml.example

[database]
path = "mcproxy.db"

[[listeners]]
addr = "127.0.0.1:{PORT}"

  # Passed on as it is: the backend shows its own certificate and sees every byte that the client sent.
  [[listeners.routes]]
  hostname = "one.localhost"
  backend = "127.0.0.1:{BACKENDS["one.localhost"]}"

  [[listeners.routes]]
  hostname = "two.localhost"
  backend = "127.0.0.1:{BACKENDS["two.localhost"]}"

  # TLS ends at the proxy, which passes HTTP requests on to a backend that speaks HTTP/2 without TLS (h2c).
  [[listeners.routes]]
  hostname = "{L7}"
  backend = "127.0.0.1:{L7_PORT}"
  mode = "l7"
  tls_cert = "{L7}.pem"
  tls_key = "{L7}.pem"

[grpc]
addr = "unix:{{socket}}"

[proxy]
shutdown_timeout = "2s"
"""


def create() -> None:
    """Make what is not there yet."""
    SRV.mkdir(exist_ok=True)
    config = SRV / "mcproxy.toml"
    if not config.exists():
        config.write_text(CONFIG.replace("{socket}", admin_socket()))
    if (SRV / "ca.pem").exists():
        return
    authority = trustme.CA()
    for name in (*BACKENDS, L7):
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(SRV / f"{name}.pem"))
    authority.cert_pem.write_to_path(str(SRV / "ca.pem"))


def admin_socket() -> str:
    """Beside the configuration, or in a folder of its own where this tree lies too deep for a UNIX socket's path."""
    return "admin.sock" if len(f"{SRV}/admin.sock".encode()) <= MAX_GRPC_PATH else f"{mkdtemp()}/admin.sock"


def serve_backend(name: str, port: int) -> None:
    """Answer every GET with the backend's own name, over its own TLS."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"This is {name}. You asked for {self.path}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
            """Say nothing: the proxy's log is the one to look at."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SRV / f"{name}.pem")
    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, name=name, daemon=True).start()


class H2cServer(ThreadingTCPServer):
    """May be started again at once, and ends with the process."""

    allow_reuse_address = True
    daemon_threads = True


class H2cBackend(BaseRequestHandler):
    """One connection of the proxy's, over which many requests come; each is answered with the backend's name."""

    def handle(self) -> None:
        """Until the proxy closes it."""
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        data = b""
        while True:
            for event in connection.receive_data(data) if data else ():
                if isinstance(event, DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, f"This is {L7}.\n".encode(), end_stream=True)
            self.request.sendall(connection.data_to_send())
            if not (data := self.request.recv(65536)):
                return


def main() -> int:
    """Run until Ctrl-C; return the proxy's exit status."""
    create()
    for name, port in BACKENDS.items():
        serve_backend(name, port)
    h2c = H2cServer(("127.0.0.1", L7_PORT), H2cBackend)
    threading.Thread(target=h2c.serve_forever, name=L7, daemon=True).start()
    print(f"\nRoutes {', '.join((*BACKENDS, L7))} on port {PORT}. In another terminal:\n")
    for name in (*BACKENDS, L7):
        print(f"  curl --cacert srv/ca.pem https://{name}:{PORT}/hello")
    print("\n  .venv/bin/mcproxy status -c srv/mcproxy.toml")
    print("\nEach line below is one connection, or one request of the last. Ctrl-C ends it.\n", flush=True)
    proxy = subprocess.Popen([sys.executable, "-m", "mcproxy", "server", "-c", SRV / "mcproxy.toml"], cwd=ROOT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the proxy too
    signal.signal(signal.SIGTERM, lambda *_: proxy.terminate())
    return proxy.wait()


if __name__ == "__main__":
    sys.exit(main())
