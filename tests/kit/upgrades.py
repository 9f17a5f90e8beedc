"""Clients that never stop connecting, while one server takes over from another again and again.

    python -m tests.kit.upgrades FOLDER UPGRADES CONNECTIONS [WORKERS]

An upgrade is a second `mcproxy server` with the same configuration. Every client must be served whole, as in
restarts.py. Before each upgrade a client connects that stays: the old server must go on serving it, and end once it has
gone. A route is added before each upgrade and after the last: all of them must be there in the end. The
servers have WORKERS workers, 1 by default; with "2,1,3" one after the other has that many, over and over.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from tests.kit.hellos import TINY
from tests.kit.peers import DEADLINE, Backend, connect, echo, free_port
from tests.kit.program import ROOT, Program, environment, write_config
from tests.kit.restarts import Clients

MOST_SECONDS = 5.0  # for a connection, on a busy machine; a drain takes as long as the client that stays


class Upgraded:
    """The server that runs, and those that drain."""

    def __init__(self, folder: Path, workers: Sequence[int]) -> None:
        self.backend = Backend(echo)
        self.port = free_port()
        self.folder = folder
        routes = [{"hostname": "a.test", "backend": self.backend.address}]
        self.document = {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "grpc": {"addr": f"unix:{self.folder}/a.sock"},
        }
        self._workers = cycle(workers)
        self.program = self.begin()

    def begin(self) -> Program:
        """A server that serves, with the next number of workers."""
        proxy = {"shutdown_timeout": f"{DEADLINE:g}s", "workers": next(self._workers)}
        self.config = write_config(self.folder, {**self.document, "proxy": proxy})
        program = Program(sys.executable, "-m", "mcproxy", "server", "-c", self.config, env=environment())
        try:
            program.line("started, generation")
        except BaseException:
            program.close()
            raise
        return program

    def upgrade(self) -> Program:
        """Have a new server take over; returns the old one, which drains."""
        old = self.program
        self.program = self.begin()
        old.line("has taken over: draining")
        return old

    def command(self, *arguments: str) -> str:
        """A command's output."""
        done = subprocess.run(
            [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.config)],
            env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End it."""
        self.program.signal(signal.SIGTERM)
        status = self.program.wait()
        self.backend.close()
        assert status == 0, "".join(self.program.err)


def stays(port: int) -> socket.socket:
    """A client that has been served, and stays."""
    client = connect(port)
    client.sendall(TINY)
    assert client.recv(1000) == TINY
    return client


def talks(client: socket.socket) -> None:
    """The client is served still."""
    client.sendall(b"still here")
    assert client.recv(1000) == b"still here"


def upgrade_under_load(
    folder: Path, upgrades: int, connections: int, workers: Sequence[int]
) -> tuple[int, list[str], float]:
    """Returns how many connections there were, what failed, and the slowest one's seconds."""
    server = Upgraded(folder, workers)
    clients = Clients(server.port)
    try:
        for i in range(upgrades):
            server.command("routes", "add", f"{i}.test", "127.0.0.1:1")
            with stays(server.port) as client:
                clients.wait_for(clients.done + connections // (upgrades + 1))
                old = server.upgrade()
                before = clients.done
                clients.wait_for(before + 10)  # while the old one drains
                talks(client)
                assert old.process.poll() is None, "it serves the client that stays"
            assert old.wait() == 0, "".join(old.err)
        clients.wait_for(connections)
        server.command("routes", "add", "last.test", "127.0.0.1:1")
    finally:
        clients.stop()
    routes = {each["hostname"] for each in json.loads(server.command("routes", "list", "--json"))}
    wanted = {"a.test", "last.test", *(f"{i}.test" for i in range(upgrades))}
    failures = [*clients.failures, *(f"the route {name} is missing" for name in wanted - routes)]
    server.close()
    if clients.slowest > MOST_SECONDS:
        failures.append(f"a connection took {clients.slowest:.1f} s")
    return clients.done, failures, clients.slowest


def main() -> int:
    """Run it, and return 1 where a client was failed."""
    folder, upgrades, connections = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    workers = [int(each) for each in (sys.argv[4] if len(sys.argv) > 4 else "1").split(",")]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        done, failures, slowest = upgrade_under_load(Path(fresh), upgrades, connections, workers)
    print(
        f"{done} connections over {upgrades} upgrades in {time.monotonic() - began:.0f} s, {len(failures)} failed, "
        f"the slowest took {slowest:.2f} s"
    )
    for failure in failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
