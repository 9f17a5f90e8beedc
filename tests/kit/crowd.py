"""Real worker processes without a control plane, driven as app.py and the admin API drive them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mcproxy.change import Change, next_table
from mcproxy.messages import BindListener, ConnectionEvent, Publish, ReadStatus, Settings, StartListener, WorkerInfo
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from mcproxy.table import Table
from mcproxy.workers.workers import Workers
from tests.kit.peers import DEADLINE, client_hello, read_all, until
from tests.kit.worker_bench import TIMEOUTS, V4

SETTINGS = Settings(TIMEOUTS, 0, 0, 0, 0, "text")


class Crowd:
    """Workers with one listener, V4, open on a port of the kernel's choice."""

    def __init__(self, table: Table, count: int = 2, **options: Any) -> None:
        self.lines: list[str] = []
        self.events: list[ConnectionEvent] = []
        self.table = table
        self.workers = Workers(
            count, table, SETTINGS, log_level="info", geoip=None, drain=0.2, put_lines=self.lines.extend,
            tell=self.events.append, **options,
        )  # fmt: skip
        self.courier = self.workers.courier
        self.port = 0

    def start(self) -> None:
        self.workers.prepare()
        self.courier.ask(BindListener(V4))
        known = self.workers._team.known.listeners[V4]
        self.port = known.sockets[0].getsockname()[1]
        self.courier.ask(StartListener(V4))

    def publish(self, *changes: Change) -> None:
        self.table = next_table(self.table, changes, self.table.generation + 1)
        self.courier.ask(Publish(self.table, changes))

    def infos(self) -> list[WorkerInfo]:
        return list(self.courier.ask(ReadStatus()).workers)

    def pids(self) -> list[int]:
        """Of all workers, once all have a process: a signal to 0 would go to the tests themselves."""
        until(lambda: all(each.pid for each in self.infos()), "all workers to have a process")
        return [each.pid for each in self.infos()]

    def client(self, source: str = "127.0.0.1") -> socket.socket:
        """A client from this address, connected."""
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE, source_address=(source, 0))

    def client_of(self, number: int) -> socket.socket:
        """A client whose home is that worker."""
        count = len(self.workers._team.slots)
        last = next(each for each in range(1, 250) if home(pack(f"127.0.0.{each}"), count) == number - 1)
        return self.client(f"127.0.0.{last}")

    def served(self, source: str = "127.0.0.1", name: str = "a.test") -> bytes:
        """What a client from this address gets."""
        with self.client(source) as client:
            client.sendall(client_hello(name))
            return read_all(client)

    def until(self, condition: Callable[[list[WorkerInfo]], object], what: str) -> None:
        until(lambda: condition(self.infos()), what)


@contextmanager
def crowd(table: Table, count: int = 2, **options: Any) -> Iterator[Crowd]:
    running = Crowd(table, count, **options)
    try:
        running.start()
        yield running
    finally:
        running.workers.close()
