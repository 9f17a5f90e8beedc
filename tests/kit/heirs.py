"""Successors that fail: they ask a running server for its seat, and stop at a step.

    python -m tests.kit.heirs DATABASE CONFIGURATION STEP [NODE]

takes the steps up to STEP ("asked", "ready" or "serving"), writes its name, and hangs until it is killed.
"""

import signal
import socket
import sys
from pathlib import Path

from mcproxy.takeover.letters import PROTOCOL, Kind, Letter, receive, send
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity

STEPS = ("asked", "ready", "granted", "serving")


def connected(seat: Seat) -> socket.socket:
    """A connection to the server that runs."""
    found = seat.connect()
    assert found is not None, f"nobody listens at {seat.path}"
    return found


def ask(sock: socket.socket, identity: Identity, **others: object) -> None:
    """Send the first letter."""
    send(sock, Letter(Kind.ASK, {**identity.fields(), "protocol": PROTOCOL, "version": "0", **others}))


def take(sock: socket.socket) -> tuple[Letter, list[socket.socket]]:
    """The last letter before one is ready, and the sockets that came; the last one is the seat's."""
    sockets: list[socket.socket] = []
    while True:
        letter = receive(sock)
        sockets += [socket.socket(fileno=each) for each in letter.sockets]
        if letter.kind is not Kind.SOCKETS:
            return letter, sockets


def main() -> None:
    """Take some steps, and hang."""
    database, configuration, step, *node = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    sock = connected(Seat(database))
    ask(sock, Identity.of(configuration, database, node="".join(node)))
    kept = None
    if step != "asked":
        kept = take(sock)
    if step in ("granted", "serving"):
        send(sock, Letter(Kind.READY))
        assert receive(sock).kind is Kind.YOURS
    if step == "serving":
        send(sock, Letter(Kind.SERVING))
    print(step, len(kept[1]) if kept else 0, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
