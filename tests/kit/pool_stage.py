"""A pool of connections to a backend on the hub of the test, with guests that ask it for some, and the far ends."""

import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import gevent
from gevent.event import Event as Gate

from mcproxy.l7.core import Line
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.pool import Pool
from mcproxy.l7.sockets.pooled import HTTP1, Holder, Made, Pooled
from mcproxy.l7.sockets.side import Event
from mcproxy.model import Backend, Listener, Mode, Route, Timeouts
from mcproxy.net.crew import Crew
from mcproxy.net.shared import Shared
from mcproxy.net.sweep import LATENESS, Sweeper
from mcproxy.stats import Stats
from mcproxy.table import Live, Table
from tests.kit.clock import Clock
from tests.kit.hub import pass_rounds
from tests.kit.peers import DEADLINE
from tests.kit.socket_pairs import unix_pair

LISTENER = ":443"
TIMEOUTS = Timeouts(handshake=10, connect=5, idle=300, half_close=60, backend_idle=4)  # on the clock that is wound


def route(bound: int = 2, **more: Any) -> Route:
    """An l7 route whose backend is never dialled: guests make connections themselves."""
    return Route("a.test", Backend("127.0.0.1", 9), Mode.L7, "a.pem", "a.key", max_backend_connections=bound, **more)


class Name:
    """A line that waits for a connection; a pool looks at nothing of it."""

    def __init__(self, name: str) -> None:
        self.name = name


def line(name: str) -> Line:
    """A line of that name."""
    return cast("Line", Name(name))


class Guest:
    """A session that asks a pool for connections, and writes down what it gets."""

    def __init__(self, stage: "PoolStage", version: str = HTTP1) -> None:
        self._stage = stage
        self._version = version
        self.gate = Gate()  # dials wait for it
        self.gate.set()
        self.failure: Exception | None = None  # of its dials
        self.got: list[tuple[str, Pooled]] = []
        self.failures: list[tuple[str, int, str]] = []
        self.defects: list[BaseException] = []
        self.events: list[Event] = []

    def connect(self) -> Made:
        self._stage.dials += 1
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        ours, theirs = unix_pair()
        self._stage.far.append(theirs)
        return Made(Channel(ours), self._version, 0.001, known=False)

    def found(self, waiting: Line, conn: Pooled) -> None:
        conn.begin(cast("Holder", self), waiting)
        self.got.append((cast("Any", waiting).name, conn))

    def failed(self, waiting: Line, status: int, why: str) -> None:
        self.failures.append((cast("Any", waiting).name, status, why))

    def broke(self, failure: BaseException) -> None:
        self.defects.append(failure)

    def happened(self, conn: Pooled, event: Event) -> None:
        self.events.append(event)
        conn.channel.receive()

    def ask(self, name: str) -> Line:
        """Ask for a connection; what there is at once is in `got` then."""
        wanted = line(name)
        conn = self._stage.pool.ask(wanted, cast("Holder", self))
        if conn is not None:
            self.found(wanted, conn)
        return wanted

    def has(self, *names: str) -> None:
        """Wait until exactly these have got a connection, in this order."""
        self._stage.until(lambda: [name for name, _ in self.got] == list(names))

    def back(self, name: str) -> Pooled:
        """Give a connection back that was of use to a line."""
        conn = dict(self.got)[name]
        conn.leave()
        self._stage.pool.give_back(conn)
        return conn

    def leave(self) -> None:
        """The session ends."""
        self._stage.pool.leave(cast("Holder", self))


class PoolStage:
    """A pool, with a clock that the test winds."""

    def __init__(self, of: Route | None = None) -> None:
        self.route = of or route()
        self.clock = Clock()
        self.sweeper = Sweeper(self.clock)
        self.crew = Crew()
        self.live = Live(Table.build([(Listener(LISTENER), [self.route])]))
        parts: Any = SimpleNamespace(
            sweeper=self.sweeper, timeouts=TIMEOUTS, crew=self.crew, stats=Stats(), live=self.live
        )
        self.shared = cast("Shared", parts)
        self.dials = 0
        self.far: list[socket.socket] = []  # the backend's ends, in the order of the dials
        self.pool = Pool(self.shared, (LISTENER, self.route.hostname), self.route)
        self.tally = self.pool.tally

    def until(self, what: Any) -> None:
        """Let the hub run until something is so."""
        with gevent.Timeout(DEADLINE):
            while not what():
                gevent.sleep(0.001)

    def settle(self) -> None:
        """Let all that is due happen."""
        pass_rounds()

    def wind(self, seconds: float) -> None:
        """Let time pass for the sweeper."""
        for _ in range(round(seconds / LATENESS)):
            self.clock.time += LATENESS
            self.sweeper.sweep()
        self.settle()

    def is_closed(self, which: int) -> bool:
        """Whether we have closed the connection of this dial."""
        self.far[which].setblocking(False)
        with suppress(BlockingIOError):
            return self.far[which].recv(1) == b""
        return False

    def close(self) -> None:
        """Close what is left."""
        self.pool.retire()
        self.settle()
        self.sweeper.close()
        self.crew.close()
        gevent.sleep(0)
        for sock in self.far:
            sock.close()
