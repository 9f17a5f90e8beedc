"""Lines of a bridge in memory: each gets a connection to a backend that a test writes by hand.

`Bridged` is an HTTP/2 client before such backends.
"""

from collections.abc import Callable

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Line, LineState
from mcproxy.model import FinishedExchange
from tests.kit.http2_peer import HOST, MemoryClient
from tests.kit.inbox import Inbox

ADDRESS = "192.0.2.1"


class Lane:
    """One connection to the backend, under a line."""

    def __init__(self, line: Line, reused: bool = False) -> None:
        self.line = line
        self.reused = reused
        self.got = b""  # what the backend has received, and no test has taken
        self.inbox = Inbox(line.receive)

    def take(self) -> bytes:
        """What the backend has received since the last look."""
        got, self.got = self.got, b""
        return got


class Lanes:
    """All connections that a bridge's lines asked for, in that order."""

    def __init__(self, bridge: Bridge, version: str = "http/1.1") -> None:
        self._bridge = bridge
        self.version = version
        self.failure: tuple[int, str] | None = None  # of every search for a connection
        self.keeps_waiting = False  # a search has no result
        self.all: list[Lane] = []
        self.waiting: list[Line] = []
        self.free: list[Lane] = []  # could carry another request
        self.unsent = 0  # bytes that are said to wait
        self.now = 0.0

    @property
    def last(self) -> Lane:
        return self.all[-1]

    def look(self) -> None:
        """Do what the lines ask for."""
        while lines := self._bridge.take_lines():
            for line in lines:
                self._look(line)

    def _look(self, line: Line) -> None:
        lane = next((each for each in self.all if each.line is line), None)
        if line.state is LineState.WANTED:
            self.waiting.append(line)
            if not self.keeps_waiting:
                self.connect()
        elif lane is not None:
            lane.got += b"".join(line.take())
            if line.state is LineState.BUSY:
                line.sent(self.unsent, self.now)
            elif line.state is LineState.FREE:
                self.free.append(lane)

    def connect(self, reused: bool = False) -> None:
        """Give each line that waits a connection, or the failure."""
        waiting, self.waiting = self.waiting, []
        for line in waiting:
            if line.state is not LineState.WANTED:
                continue
            if self.failure is not None:
                line.failed(*self.failure, self.now)
                continue
            self.all.append(Lane(line, reused))
            line.connected(self.version, reused, self.now)
            self._look(line)

    def send(self, data: bytes, lane: Lane | None = None) -> None:
        """The backend sends."""
        (lane or self.last).inbox.in_turns(data, self.now)
        self.look()

    def close(self, clean: bool = True, lane: Lane | None = None) -> None:
        """The backend's connection ends."""
        line = (lane or self.last).line
        if line.state is LineState.BUSY:
            line.closed(clean, self.now)
        self.look()


class Bridged(MemoryClient):
    """A raw HTTP/2 client whose connection is a `Bridge`, before backends of HTTP/1.1.

    `answer` is sent to each request as it comes; None: a test answers.
    """

    def __init__(self, answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world") -> None:
        super().__init__()
        self.bridge = Bridge("h2", HOST, ADDRESS, lambda host: host == b"b.test", 0.0)
        self._to_bridge = Inbox(self.bridge.receive_from_client)
        self.lanes = Lanes(self.bridge)
        self._answer = answer
        self._ended: list[FinishedExchange] = []

    @property
    def ended(self) -> list[FinishedExchange]:
        """All exchanges that have ended."""
        self._ended += self.bridge.take_ended()
        return self._ended

    @property
    def closed(self) -> bool:
        return self.bridge.ending is not None

    def send(self, data: bytes) -> None:
        self._to_bridge.in_turns(data, self.now)
        self.look()

    def look(self) -> None:
        """Carry what waits."""
        self.lanes.now = self.now
        self.lanes.look()
        if self._answer is not None:
            for lane in [each for each in self.lanes.all if each.line.state is LineState.BUSY]:
                if lane.got.endswith((b"\r\n\r\n", b"0\r\n\r\n")):
                    lane.take()
                    self.lanes.send(self._answer, lane)
        self.inbox += self.cutter.feed(b"".join(self.bridge.take_for_client()))

    def do(self, what: Callable[..., None], *args: object) -> None:
        """The backend does something."""
        what(*args)
        self.look()

    def wait_for(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.bridge.tick(self.now, 300.0)
            self.look()
