"""A worker on a hub of its own, driven from the test's thread as from any other, with a clock that the test winds."""

import socket
from collections.abc import Callable
from typing import Any, cast

from mcproxy.model import Connection, Listener, Route, Timeouts
from mcproxy.net.passing import Passing
from mcproxy.net.raw import unsent
from mcproxy.net.session import Session
from mcproxy.net.shared import Phase, Shared
from mcproxy.net.sweep import LATENESS, Sweeper
from mcproxy.net.worker import Worker
from mcproxy.notation.address import parse_backend
from mcproxy.policy.limits import Limits
from mcproxy.table import Live, Table
from tests.kit.clock import Clock
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, client_hello, read_all, until

V4, V6 = "127.0.0.1:0", "[::1]:0"
TIMEOUTS = Timeouts(handshake=10, connect=5, idle=300, half_close=60)  # on the clock that the test winds
HELLO = client_hello("a.test", alpn=("h2", "http/1.1"))


def table_for(backend: str) -> Table:
    """Two listeners, each with a route from a.test."""
    route = Route("a.test", parse_backend(backend))
    return Table.build([(Listener(addr), [route]) for addr in (V4, V6)])


NOWHERE = table_for("127.0.0.1:9")


def swallow(connection: socket.socket) -> None:
    """A backend that reads and never answers."""
    read_all(connection)


class Bench:
    """The worker; `ended` is what it told of its sessions."""

    def __init__(self, hub: HubThread, table: Table, sweeper: type[Sweeper] = Sweeper, **seams: Any) -> None:
        self.hub = hub
        self.clock = Clock()
        self.ended: list[Connection] = []
        self.worker = hub.call(self._build, table, sweeper, seams)
        self.shared = self.worker.shared

    def _build(self, table: Table, sweeper: type[Sweeper], seams: dict[str, Any]) -> Worker:
        limits, inherited = Limits(0, 0, 0, 0), seams.pop("inherited", lambda _addr: ())
        shared = Shared(Live(table), limits, TIMEOUTS, self.ended.append, sweeper=sweeper(self.clock), **seams)
        return Worker(shared, inherited)

    def open(self, addr: str = V4) -> int:
        """Listen; returns the port."""
        self.hub.call(self.worker.bind, addr)
        self.hub.call(self.worker.start, addr)
        return self.worker.addresses[addr][1]

    def client(self, sends: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """A client of the IPv4 listener, which is opened for the first."""
        known = self.worker.addresses.get(V4)
        port = known[1] if known else self.open()
        client = socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0))
        client.sendall(sends)
        return client

    def wind(self, seconds: float) -> None:
        """Let time pass, in ticks, as the sweeper's timer would see it."""
        self.hub.call(self._wind, seconds)

    def _wind(self, seconds: float) -> None:
        for _ in range(round(seconds / LATENESS)):
            self.clock.time += LATENESS
            self.shared.sweeper.sweep()

    def sessions(self) -> list[Session]:
        """The open ones."""
        return cast("list[Session]", self.hub.call(self.worker.sessions))

    def reach(self, *phases: Phase) -> Session:
        """Wait until there are sessions in these phases and no others; returns one of them."""
        until(lambda: sorted(each.phase for each in self.sessions()) == sorted(phases), f"sessions to be {phases}")
        return self.sessions()[0]

    def deliver(self, session: Session) -> None:
        """Wait until both peers of an l4 session have acknowledged what they were sent, an end among that.

        It is progress: where it came behind what is wound, a deadline would be put off.
        """
        assert isinstance(session.carrier, Passing)
        relay = session.carrier._relay
        assert relay is not None
        until(lambda: not any(self.hub.call(unsent, peer) for peer in relay.peers), "both peers to acknowledge")

    def last(self) -> Connection:
        """What was reported of the last session, when none is left."""
        until(lambda: self.ended and not self.sessions(), "the sessions to end")
        return self.ended[-1]

    def drain(self, timeout: float) -> bool:
        """As the worker's, with its listeners closed before; `timeout` is on the clock that the test winds."""
        self.hub.call(self.worker.stop_listening)
        return self.hub.spawn(self.worker.drain, timeout).result(DEADLINE)

    def stop(self) -> None:
        """Cut what is left and let go of everything."""
        self.drain(0)
        self.hub.spawn(self.worker.release).result(DEADLINE)
        limits = self.shared.limits
        assert isinstance(limits, Limits)
        assert (limits.connections, limits.by_listener, self.shared.sessions) == (0, {}, {})


MakeBench = Callable[..., Bench]
