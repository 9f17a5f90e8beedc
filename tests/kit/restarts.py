"""Clients that never stop connecting, while the proxy is restarted again and again as systemd would do it.

    python -m tests.kit.restarts FOLDER RESTARTS CONNECTIONS

The listening socket is here, as systemd has it with mcproxy.socket. A restart is SIGTERM, the end of the process, and
a new one. Each client connects, sends a ClientHello and some data, and must get all of it back and then a FIN; whoever
is refused or reset, or gets less, is a failure. The restarts are spread over the connections.
"""

import signal
import socket
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from tests.kit.hellos import TINY
from tests.kit.peers import DEADLINE, Backend, echo, read_all
from tests.kit.service_manager import Activated

CLIENTS = 8  # at a time
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; the port is chosen by connect(), which may use one of TIME_WAIT
DATA = b"x" * 10_000


class Clients:
    """Threads, each with one connection after the other, from an address of its own: so every worker has some."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds
        self._numbers = count(1)
        self.done = 0
        self._threads = [threading.Thread(target=self._run, args=(f"127.0.0.{i + 1}",)) for i in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, source: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._one(source)
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.done = next(self._numbers)

    def _one(self, source: str) -> None:
        with socket.socket() as client:
            client.settimeout(DEADLINE)
            client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            client.bind((source, 0))
            client.connect(("127.0.0.1", self._port))
            client.sendall(TINY + DATA)
            client.shutdown(socket.SHUT_WR)
            received = read_all(client)
            assert received == TINY + DATA, f"{len(received)} bytes"

    def wait_for(self, number: int) -> None:
        """Wait until that many connections are over."""
        deadline = time.monotonic() + DEADLINE
        while self.done < number and not self.failures:
            assert time.monotonic() < deadline, f"{self.done} of {number} connections after {DEADLINE:g} s"
            time.sleep(0.01)

    def stop(self) -> None:
        """Let each end its connection."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def restart_under_load(folder: Path, restarts: int, connections: int) -> tuple[int, list[str], float]:
    """Returns how many connections there were, what failed, and the slowest one's seconds."""
    backend = Backend(echo)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock:
        port = sock.getsockname()[1]
        routes = [{"hostname": "a.test", "backend": backend.address}]
        document = {"listeners": [{"addr": f"127.0.0.1:{port}", "routes": routes}]}
        program = Activated(folder, document, [sock])
        clients = Clients(port)
        try:
            for i in range(restarts):
                clients.wait_for(clients.done + connections // (restarts + 1))
                program.signal(signal.SIGTERM)
                status = program.wait()
                if status != 0:
                    clients.failures.append(f"restart {i}: exit status {status}: {''.join(program.err)}")
                program = Activated(folder, document, [sock])
            clients.wait_for(connections)
        finally:
            clients.stop()
            program.signal(signal.SIGTERM)
            program.wait()
    backend.close()
    return clients.done, clients.failures, clients.slowest


def main() -> int:
    """Run it, tell, and return 1 where a client was failed."""
    folder, restarts, connections = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(dir=folder) as fresh:  # a database of an earlier run names another port
        done, failures, slowest = restart_under_load(Path(fresh), restarts, connections)
    print(f"{done} connections over {restarts} restarts, {len(failures)} failed, the slowest took {slowest:.2f} s")
    for failure in failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
