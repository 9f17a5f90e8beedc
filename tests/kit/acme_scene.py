"""A CA, a backend, and the proxy, as a process that may be killed and started again."""

import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.kit.commands import Shell
from tests.kit.pebble import Pebble
from tests.kit.peers import DEADLINE, Backend, connect, echo, free_port, is_reset, until
from tests.kit.program import Server, environment

WWW = "www.example.org"
CLIENTS = [f"127.0.0.{last}" for last in range(1, 9)]  # with two workers, each serves some of these


def from_address(address: str, port: int) -> socket.socket:
    """A client from this address of the loopback."""
    return socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(address, 0))


class Scene:
    """A CA, a backend, and the proxy, which may be killed and started again."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int = 0, **variables: str) -> None:
        """With `workers` processes; 0 is the test suite's own choice."""
        self.port = free_port()
        self.folder = folder
        self.pebble = Pebble(stack, folder, self.port, **variables)
        self.backend = Backend(echo)
        stack.callback(self.backend.close)
        self.tables: dict[str, Any] = {"proxy": {"workers": workers}} if workers else {}
        self.server: Server
        self.stack = stack

    def document(self) -> dict[str, Any]:
        routes = [{"hostname": "git.example.org", "backend": self.backend.address}]
        return {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "grpc": {"addr": f"unix:{self.folder}/admin.sock"}, "acme": self.pebble.section(), **self.tables,
        }  # fmt: skip

    def start(self) -> "Scene":
        self.server = self.stack.enter_context(Server(self.folder, self.document()))
        return self

    def kill(self) -> None:
        self.server.signal(signal.SIGKILL)
        self.server.wait()

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        whole = [sys.executable, "-m", "mcproxy", *command, "-c", str(self.folder / "mcproxy.toml")]
        return subprocess.run(whole, capture_output=True, text=True, env=environment(), timeout=60, check=False)

    def ok(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, hostname: str = WWW, *options: str) -> None:
        self.ok("routes", "add", hostname, self.backend.address, "--mode", "l7", *(options or ("--acme",)))

    def listed(self, hostname: str = WWW) -> dict[str, Any]:
        found = Shell(self.folder / "mcproxy.toml").json("certificates", "list")  # asked again and again
        return next(each for each in found if each["hostname"] == hostname)

    def until_issued(self, hostname: str = WWW) -> None:
        def is_served() -> bool:
            try:
                self.serial(hostname)
            except (ConnectionError, ssl.SSLError):
                return False
            return True

        until(is_served, f"a certificate for {hostname}")

    def serial(self, hostname: str = WWW, cafile: Path | None = None, client: str = CLIENTS[0]) -> str:
        """The serial number of the certificate that a client from this address gets, verified."""
        if cafile is None:
            cafile = self.folder / "root.pem"
            cafile.write_bytes(self.pebble.root())
        context = ssl.create_default_context(cafile=str(cafile))
        with from_address(client, self.port) as sock, context.wrap_socket(sock, server_hostname=hostname) as secured:
            found = secured.getpeercert()
        assert found is not None
        return str(found["serialNumber"])

    def refused(self, hello: bytes) -> str:
        """The line of a client that is refused."""
        seen = len(self.server.out)
        with connect(self.port) as client:
            itself = f" client=127.0.0.1:{client.getsockname()[1]} "  # an earlier client's line may still be on its way
            client.sendall(hello)
            assert is_reset(client)
        until(lambda: any(itself in each for each in self.server.out[seen:]), "its line")
        line = next(each for each in self.server.out[seen:] if itself in each)
        assert " verdict=refused " in line
        return line
