"""A drive whose core has lines, which keep their calls; their connections' far ends are the test's."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from gevent.event import Event as Gate

from mcproxy.l7.core import Line, LineState, Turn
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.dialling import Dial
from mcproxy.l7.sockets.lines import Lines
from mcproxy.l7.sockets.pool import Pool
from mcproxy.l7.sockets.pooled import HTTP1, Made
from mcproxy.model import Backend
from mcproxy.stats import Stats
from mcproxy.table import Live, Table
from mcproxy.wire.http2 import Piece
from tests.kit.drive_stage import Stage, Telling
from tests.kit.pool_stage import LISTENER, route

Told = tuple[Any, ...]


class PlayedLine:
    """A line that keeps its calls, and does what it is set to."""

    def __init__(self, core: "LinedTelling") -> None:
        self._core = core
        self.state = LineState.WANTED
        self.wants_read = True
        self.half_closed = self.again = False
        self.left: object = None
        self.out = b""
        self.told: list[Told] = []
        self.use: Callable[[bytes, Turn], int] = lambda data, _turn: len(data)
        self.is_express: Callable[[bytes], bool] = lambda _data: False
        self.react: Callable[[Told], None] = lambda _what: None

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self.react(what)

    @property
    def received(self) -> bytes:
        """All that came."""
        return b"".join(what[1] for what in self.told if what[0] == "received")

    def become(self, state: LineState) -> None:
        """Change, and have the drive look."""
        self.state = state
        self._core.stir(self)

    def send(self, data: bytes) -> None:
        """Have bytes for the backend."""
        self.out += data
        self._core.stir(self)

    def connected(self, version: str, reused: bool, now: float, left: object = None) -> object:
        self.become(LineState.BUSY)
        self._tell("connected", version, reused)
        return self.left

    def failed(self, status: int, why: str, now: float) -> None:
        self.state = LineState.SPENT
        self._tell("failed", status, why)

    def take(self) -> Sequence[Piece]:
        data, self.out = self.out, b""
        return (data,) if data else ()

    def sent(self, unsent: int, now: float) -> None:
        self._tell("sent", unsent)

    def lags(self, now: float) -> None:
        self._tell("lags")

    def express(self, data: bytes, now: float) -> bool:
        if is_express := self.is_express(data):
            self._tell("express", data)
        return is_express

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        used = self.use(data, turn)
        if used:
            self._tell("received", data[:used])
        return used

    def closed(self, clean: bool, now: float) -> None:
        self.state = LineState.SPENT
        self._tell("closed", clean)


class LinedTelling(Telling):
    """A core that has lines."""

    def __init__(self) -> None:
        super().__init__()
        self.has_backend = False
        self.lines: list[PlayedLine] = []  # ever
        self._stirred: list[PlayedLine] = []

    def line(self) -> PlayedLine:
        """A new one, which wants a connection."""
        self.lines.append(PlayedLine(self))
        self.stir(self.lines[-1])
        return self.lines[-1]

    def stir(self, line: PlayedLine) -> None:
        if line not in self._stirred:
            self._stirred.append(line)

    @property
    def stirred(self) -> bool:
        return bool(self._stirred) or super().stirred

    def take_lines(self) -> Sequence[Line]:
        stirred, self._stirred = self._stirred, []
        return cast("Sequence[Line]", stirred)


class LinedStage(Stage):
    """A drive with lines in a greenlet. Each byte of the client's is a new line with a byte to send."""

    core: LinedTelling

    def __init__(self, bound: int = 8, version: str = HTTP1, known: bool = True, **options: Any) -> None:
        self.version = version
        self.known = known
        self.gate = Gate()  # dials wait for it
        self.gate.set()
        self.failure: Exception | None = None  # of dials
        self.channel: type[Channel] = Channel
        self.reached: list[float | None] = []
        self.doubts = 0
        self._bound = bound
        super().__init__(**options)

    def _core(self) -> LinedTelling:
        core = LinedTelling()
        core.react = self._begin
        return core

    def _begin(self, what: Told) -> None:
        if what[0] == "client":
            for byte in what[1]:
                self.core.line().out = bytes([byte])

    def _way(self) -> Dial | Lines:
        shared: Any = self.session.shared
        shared.stats, shared.live = Stats(), Live(Table())
        of = route(self._bound)
        self.pool = Pool(shared, (LISTENER, of.hostname), of)
        session: Any = self.session
        session.reached = self._reached
        self.lines = Lines(session, cast("Any", self.core), self.pool, self._made, self._doubt)
        return self.lines

    def _reached(self, _backend: Backend, took: float | None) -> None:
        self.reached.append(took)

    def _doubt(self) -> None:
        self.doubts += 1

    def _made(self) -> Made:
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Made(self.connect(b"", self.channel), self.version, 0.25, self.known)

    def close(self) -> None:
        self.gate.set()
        super().close()
        self.pool.retire()
