"""The way of one request to the backend: a core.Line for the drive, the backend's end (ends.py) for the exchange.

A line is made when an exchange needs one, and asks the drive for a connection. What version of HTTP is spoken there is
known once there is one, and a `BackendConnection` of that version does the rest. Between two requests, a connection of
HTTP/1.1 goes back to the pool of the route (sockets/pool.py), which all clients share. One of HTTP/2 stays with its
client: its line lasts, and carries the client's next request.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from mcproxy.l7.bridge.bounds import MAX_UNSENT
from mcproxy.l7.bridge.ends import Answered, BackendConnection, BackendEnd, BackendFault, Processed, Takes
from mcproxy.l7.bridge.heads import Forwarded, RequestHead
from mcproxy.l7.bridge.http1_connection import Http1Connection
from mcproxy.l7.bridge.http2_connection import Http2Connection
from mcproxy.l7.core import ExchangeEnd, Line, LineState, Turn
from mcproxy.l7.pieces import taken
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece

# Members of an enum cost three times as much to read as a global.
WANTED: Final = LineState.WANTED
BUSY: Final = LineState.BUSY
FREE: Final = LineState.FREE
SPENT: Final = LineState.SPENT


class Owner(Protocol):
    """Whose lines they are."""

    __slots__ = ()

    def settle(self, now: float) -> None:
        """An event of a line has been handled."""


class Lines:
    """The lines of one client connection."""

    __slots__ = ("_keeps", "_lasting", "_owner", "_slowed", "_stirred", "forwarded", "note")

    def __init__(self, forwarded: Forwarded, keeps: bool, owner: Owner) -> None:
        """`keeps`: one request is under way at a time, so that a line of HTTP/2 can last."""
        self.forwarded = forwarded
        self._owner: Owner | None = owner
        self.note = ""  # what the log says of a backend that had to wait
        self._keeps = keeps
        self._lasting: BackendLine | None = None
        self._stirred: list[BackendLine] = []  # the drive is to look at these
        self._slowed: list[BackendLine] = []  # their backends have to wait before more is read

    def settle(self, now: float) -> None:
        """An event of a line has been handled."""
        owner = self._owner
        if owner is not None:
            owner.settle(now)

    def __repr__(self) -> str:
        return f"<Lines {self._lasting!r} stirred={len(self._stirred)}>"

    def line_for(self, exchange: Answered) -> "BackendLine":
        """Return the line that lasts, if it takes another request, else a new one."""
        line, self._lasting = self._lasting, None
        if line is None or not line.carry(exchange):
            line = BackendLine(self, exchange)
            self.stir(line)
        return line

    def lasts(self, line: "BackendLine") -> bool:
        """Keep a line of HTTP/2 whose request is over, if this client connection does that."""
        if self._keeps:
            self._lasting = line
        return self._keeps

    def end(self) -> None:
        """The client's connection ends: let go of the lines, or the collector would have to find out."""
        self._lasting = self._owner = None
        self._slowed.clear()

    def stir(self, line: "BackendLine") -> None:
        """Have the drive look at a line."""
        if not line.stirred:
            line.stirred = True
            self._stirred.append(line)

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        return bool(self._slowed)

    def slow(self, line: "BackendLine", note: str) -> None:
        """Have a line wait until its backend may send more. `note` is for the log."""
        if line not in self._slowed:
            self._slowed.append(line)
            self.stir(line)
        self.note = note

    def tick(self, now: float) -> None:
        """Look at the lines that wait."""
        slowed, self._slowed = self._slowed, []
        for line in slowed:
            if _must_wait(line, now):
                self._slowed.append(line)
            else:
                self.stir(line)

    @property
    def stirred(self) -> bool:
        """Whether the drive is to look at any."""
        return bool(self._stirred)

    def take(self) -> Sequence[Line]:
        """The lines that the drive is to look at, each once."""
        stirred = self._stirred
        if not stirred:
            return ()
        self._stirred = []
        for line in stirred:
            line.stirred = False
        return stirred


class BackendLine(Line, BackendEnd):
    """One way to the backend."""

    __slots__ = (
        "_exchange", "_halted", "_lines", "_receiving", "_unsent", "again", "connection", "lagged", "now", "reused",
        "state", "stirred",
    )  # fmt: skip
    again: bool
    lagged: float
    now: float
    reused: bool
    state: LineState

    def __init__(self, lines: Lines, exchange: Answered) -> None:
        self._lines = lines
        self._exchange: Answered | None = exchange
        self.connection: BackendConnection | None = None
        self._unsent = 0  # bytes that the drive has taken, and not sent
        self._halted = False  # the drive does not read
        self._receiving = False  # the connection is passing on what came: only then is it known what it is fit for
        self.again = exchange.sent_before
        self.now = 0.0  # when it last heard of the backend
        self.lagged = 0.0  # when the backend still had older bytes to take
        self.reused = False  # the connection had carried requests before this one
        self.state = WANTED
        self.stirred = False  # the drive will look at it

    def __repr__(self) -> str:
        return f"<BackendLine {self.state.value} {self.connection!r}>"

    @property
    def version(self) -> str:
        """The HTTP that is spoken there; "" while that is unknown."""
        return self.connection.version if self.connection is not None else ""

    def _become(self, state: LineState) -> None:
        self.state = state
        self._exchange = None
        self._lines.stir(self)

    # For the drive: core.Line

    @property
    def wants_read(self) -> bool:
        """Whether to read: not while the client takes nothing, nor while the backend is slowed."""
        exchange, connection = self._exchange, self.connection
        self._halted = (exchange is not None and not exchange.wants_more) or (
            connection is not None and connection.pace.over
        )
        return not self._halted

    @property
    def half_closed(self) -> bool:
        """Whether our side ends once all is sent."""
        return self.connection is not None and self.connection.half_closed

    def connected(self, version: str, reused: bool, now: float, left: object = None) -> object:
        """There is a connection."""
        self.state = BUSY
        self.reused = reused
        if isinstance(left, Http1Connection):
            left.go_on()
            self.connection = left
        else:
            self.connection = Http2Connection(now, reused) if version == "h2" else Http1Connection(now, reused)
        self._lines.stir(self)  # the preface of HTTP/2 goes even where the request has to wait
        exchange = self._exchange
        if exchange is not None:
            exchange.on_ready()
            if exchange.over:
                self._lines.settle(now)
        return self.connection

    def failed(self, status: int, why: str, now: float) -> None:
        """There will be none."""
        exchange = self._exchange
        self._become(SPENT)
        if exchange is not None and not exchange.over:
            exchange.on_refused(status, why)
        self._lines.settle(now)

    def take(self) -> Sequence[Piece]:
        """Bytes for the backend, each once."""
        if self.connection is None:
            return ()
        pieces = taken(self.connection.out)
        for piece in pieces:
            self._unsent += len(piece)
        return pieces

    def sent(self, unsent: int, now: float) -> None:
        """So many bytes still wait in the drive."""
        before, self._unsent = self._unsent, unsent
        if unsent < before and before >= MAX_UNSENT and self._exchange is not None:  # else nothing waited for room
            self._exchange.send_on()
            self._lines.settle(now)

    def lags(self, now: float) -> None:
        """The backend still takes what it was sent before."""
        self.lagged = now

    def express(self, data: bytes, now: float) -> bool:
        """Send on where the backend only takes more of the request."""
        exchange, connection = self._exchange, self.connection
        if exchange is None or connection is None or self.stirred or not connection.express(data, now):
            return False
        self.now = now
        self.stirred = True  # the drive looks at it without being asked to
        exchange.send_on()
        self.stirred = False
        if exchange.over or self.state is not BUSY:
            self._lines.stir(self)
            self._lines.settle(now)
        return True

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Pass on what the backend sent."""
        connection, taken = self.connection, len(data)
        if connection is None or self.state is not BUSY:
            return taken
        pace = connection.pace
        if pace.over and pace.must_wait(now):
            return 0
        self.now = now
        self._receiving = True
        try:
            taken = connection.receive(data, turn, self._exchange, now)
        except BackendFault as fault:
            self._lose(f"the backend broke HTTP: {fault}", ExchangeEnd.BACKEND_FAULT)
        finally:
            self._receiving = False
        if connection.out:
            self._lines.stir(self)
        if self._exchange is None:
            self._rest()
        elif pace.over:
            self._lines.slow(self, pace.note)
        self._lines.settle(now)
        return taken

    def closed(self, clean: bool, now: float) -> None:
        """The connection is over."""
        exchange, connection = self._exchange, self.connection
        if self.state is not BUSY or connection is None:
            return
        self._receiving = True
        try:
            connection.closed(exchange, clean)
        except BackendFault as fault:
            self._lose(f"the backend broke HTTP: {fault}", ExchangeEnd.BACKEND_FAULT)
        finally:
            self._receiving = False
        if self.state is BUSY:
            self._become(SPENT)
        self._lines.settle(now)

    def _lose(self, why: str, end: ExchangeEnd) -> None:
        """The connection is no longer of use."""
        exchange = self._exchange
        processed = self.drop()
        if exchange is not None and not exchange.over:
            exchange.on_lost(why, processed, end)

    def _rest(self) -> None:
        """No request is under way: what becomes of the connection."""
        connection = self.connection
        if self.state is not BUSY or connection is None:
            return
        if not connection.reusable:
            self._become(SPENT)
        elif connection.version != "h2" or not self._lines.lasts(self):
            self._become(FREE)

    # For the exchange: BackendEnd

    def carry(self, exchange: Answered) -> bool:
        """Carry another request, if the connection still takes one."""
        connection = self.connection
        if self.state is not BUSY or connection is None or not connection.reusable:
            return False
        self.reused = True
        self._exchange = exchange
        return True

    @property
    def room(self) -> int:
        """Bytes of the request's body that may be sent now."""
        return self.connection.room(self._unsent) if self.connection is not None else 0

    def takes(self, head: RequestHead) -> Takes:
        """Whether the connection takes this request."""
        return Takes.LATER if self.connection is None else self.connection.takes(head)

    def begin(self, head: RequestHead, ended: bool) -> None:
        """Send a request's head. Raises BackendFault."""
        assert self.connection is not None
        self._lines.stir(self)
        self.connection.begin(head, self._lines.forwarded, ended)

    def body(self, data: Piece) -> None:
        """Send a piece of the body. Raises BackendFault."""
        assert self.connection is not None
        self._lines.stir(self)
        self.connection.body(data)

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request. Raises BackendFault."""
        if self.connection is not None:
            self._lines.stir(self)
            self.connection.end(trailers)

    def let_go(self, complete: bool) -> None:
        """Forget the request; unless it is `complete`, it is cancelled."""
        if self._exchange is None:
            return
        self._exchange = None
        if self.connection is None:
            self._become(SPENT)
            return
        if not complete:
            self.connection.cancel()
            self._lines.stir(self)
        if not self._receiving:
            self._rest()

    def drop(self) -> Processed:
        """Forget the connection. Returns whether its request may have been processed."""
        connection = self.connection
        processed = Processed.NO if connection is None or self._exchange is None else connection.processed
        if self.state is WANTED or self.state is BUSY:
            self._become(SPENT)
        return processed

    def resume(self) -> None:
        """The client takes more of the answer again."""
        if self._halted:
            self._lines.stir(self)


def _must_wait(line: BackendLine, now: float) -> bool:
    """Whether its backend has sent so many small pieces that it must wait still."""
    return line.state is BUSY and line.connection is not None and line.connection.pace.must_wait(now)
