"""A flood of connections costs what it costs, and holds nothing that others need."""

import signal
from pathlib import Path

from tests.conftest import listener
from tests.kit.peers import client_hello, connect, free_port
from tests.kit.program import Server

FLOOD = 3_000  # connections, fewer than BACKLOG: they are all there when the server looks
MOST = 300  # descriptors; some 20 are the server's own, 64 those of sessions that wait to begin


def test_connections_that_were_accepted_do_not_pile_up(nothing_left: None, tmp_path: Path) -> None:
    """The hub accepted up to 100 in a round of which it began 25: thousands waited, each with a descriptor."""
    port = free_port()
    document = {"listeners": [listener({"a.test": "127.0.0.1:9"}, addr=f"127.0.0.1:{port}")]}
    hello = client_hello("b.test")
    with Server(tmp_path, document) as server:
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(FLOOD):
            with connect(port) as client:
                client.sendall(hello)
        server.process.send_signal(signal.SIGCONT)
        descriptors, seen = Path(f"/proc/{server.process.pid}/fd"), 0
        while sum(" connection id=" in line for line in server.out) < FLOOD:
            seen = max(seen, len(list(descriptors.iterdir())))
        assert seen <= MOST
