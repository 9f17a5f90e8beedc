"""Kill workers of a running server, again and again, under traffic and changes, and look at what clients get.

    python -m tests.kit.killed_workers FOLDER KILLS

A route leads to one of two backends in turn. Whenever a change is acknowledged, clients at every worker must reach the
new one, or be cut because their worker was killed. Some clients stay, until their worker is killed or it is all over.
Prints what it did as JSON; an assertion fails where something was lost: an acknowledged change, a connection of a
worker that lives, a count. Only UNCOUNTED of a hundred workers may have been killed between the kernel's accept and the
count of that connection, some 2 us (mcproxy/ledger.py).
"""

import json
import os
import random
import signal
import socket
import sys
import threading
from collections import Counter, deque
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import DEADLINE, Backend, client_hello, free_port, read_all, says, until
from tests.kit.program import Server

WORKERS = 3
NAMES = (b"first", b"second")
SOURCES = [f"127.0.{n}.1" for n in range(1, 13)]
HELLO = client_hello("a.test")
STAYING = 16  # clients
UNCOUNTED = 2
LONGEST = 1000  # bytes of an answer


class Scene:
    """A server, its two backends, and what clients have seen."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.backends = [Backend(says(name.decode())) for name in NAMES]
        for backend in self.backends:
            stack.enter_context(closing(backend))
        self.port = free_port()
        routes = [{"hostname": "a.test", "backend": self.backends[0].address}]
        document = {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "grpc": grpc_section(folder),
            "proxy": {"workers": WORKERS},
        }
        self.server = stack.enter_context(Server(folder, document))
        self.admin: Any = stack.enter_context(stub(folder))
        self.seen: Counter[str] = Counter()
        self.staying: deque[socket.socket] = deque()
        self.accepted = 0

    def pids(self) -> dict[int, int]:
        """Processes of workers that serve, by number."""
        status = self.admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE)
        return {each.number: each.pid for each in status.workers if each.pid and each.state == "serving"}

    def ask(self, source: str) -> bytes | None:
        """What a client from there gets; None if it was cut."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), DEADLINE, source_address=(source, 0)) as client:
                self.seen["established"] += 1
                client.sendall(HELLO)
                return read_all(client) or None
        except ConnectionResetError:
            return None

    def stay(self, source: str) -> None:
        """A client connects, and stays; the one that has stayed longest leaves."""
        self.staying.append(socket.create_connection(("127.0.0.1", self.port), DEADLINE, source_address=(source, 0)))
        self.seen["established"] += 1
        if len(self.staying) > STAYING:
            self.staying.popleft().close()

    def look(self, current: int, killed: int) -> None:
        """Every client gets what is in force; only one whose worker was killed may be cut."""
        for source in SOURCES:
            found = self.ask(source)
            if found is None:
                assert home(pack(source), WORKERS) + 1 == killed, f"{source} was cut, and its worker lives"
                self.seen["cut"] += 1
                continue
            self.seen["bytes"] += len(found)
            assert NAMES[current] in found, f"{source} got {found!r} after {NAMES[current]!r} was acknowledged"
            self.seen["served"] += 1

    def count(self) -> Any:
        """No counter has fallen, and none is above what clients have done. Returns the listener's."""
        (listener,) = self.admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).listeners
        assert self.accepted <= listener.accepted <= self.seen["established"]
        self.accepted = listener.accepted
        return listener

    def add_up(self, kills: int) -> None:
        """Once all clients have gone: what they have seen is what was counted, by whichever process."""
        while self.staying:
            self.staying.pop().close()
        seen, most_missing = self.seen, 1 + kills * UNCOUNTED // 100

        def settled() -> bool:
            listener = self.count()
            return not listener.connections and seen["established"] - listener.accepted <= most_missing

        until(settled, "all connections to be counted")
        listener = self.count()
        missing, lost = seen["established"] - listener.accepted, listener.ended["lost"]
        assert sum(listener.ended.values()) == listener.accepted
        # One that was killed after it had sent the last byte has served its client, and may not have counted that.
        assert seen["served"] - kills <= listener.ended["closed"] <= seen["served"]
        assert seen["bytes"] - kills * LONGEST <= listener.sent_bytes <= seen["bytes"] + kills * LONGEST
        assert seen["cut"] - missing <= lost <= seen["cut"] + kills * (STAYING + 1)
        seen.update(lost=lost, missing=missing)


def main(folder: Path, kills: int) -> None:
    chance = random.Random(kills)  # the same every time
    with ExitStack() as stack:
        scene = Scene(stack, folder)
        current = 0
        for _ in range(kills):
            until(lambda: len(scene.pids()) == WORKERS, "all workers to serve")
            number, pid = chance.choice(sorted(scene.pids().items()))
            timer = threading.Timer(chance.random() * 0.05, os.kill, (pid, signal.SIGKILL))  # the moment is random
            timer.start()
            scene.stay(chance.choice(SOURCES))
            for _ in range(3):
                current = 1 - current
                route = pb.Route(hostname="a.test", backend=scene.backends[current].address)
                scene.admin.UpdateRoute(
                    pb.UpdateRouteRequest(route=route, update_mask=FieldMask(paths=["backend"])), timeout=DEADLINE
                )
                scene.look(current, number)
            timer.join()
            scene.count()
        scene.add_up(kills)
        generation = scene.admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).generation
        assert generation == 1 + 3 * kills, "each acknowledged change is one generation"
        scene.server.signal(signal.SIGTERM)
        assert scene.server.wait() == 0
    print(json.dumps({"kills": kills, "changes": 3 * kills, "accepted": scene.accepted, **scene.seen}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
