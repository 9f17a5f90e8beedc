"""One connection to a backend that may carry the requests of many clients, one after the other.

Tested by tests/l7/sockets/test_idle.py and, in use, by tests/l7/sockets/test_lines.py.
"""

from enum import Enum
from typing import Final, NamedTuple, Protocol

from mcproxy.l7.core import Line
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.side import Event, Side

H2, HTTP1 = "h2", "http/1.1"  # the versions of HTTP that a connection speaks, in the words of ALPN


class Made(NamedTuple):
    """A connection that has just been made."""

    channel: Channel
    version: str  # H2 or HTTP1
    took: float  # seconds
    known: bool  # its version is certain: it was agreed on in TLS, or the route names it


class Holder(Protocol):
    """A session, for the connections that its lines use. Nothing of it raises."""

    __slots__ = ()

    def connect(self) -> Made:
        """Make a connection, in a greenlet of its own that may outlive the session. Raises Refused, Lost."""

    def found(self, line: Line, conn: "Pooled") -> None:
        """There is a connection for a line that waits. On the hub."""

    def failed(self, line: Line, status: int, why: str) -> None:
        """There will be none: its request gets `status`, 502, 503 or 504. On the hub."""

    def broke(self, failure: BaseException) -> None:
        """A defect of ours has ended a dial of this session. On the hub."""

    def happened(self, conn: "Pooled", event: Event) -> None:
        """A connection of one of its lines can be read, or written to. On the hub."""


class Fit(Enum):
    """What an idle connection is found to be."""

    GOOD = "good"
    DEAD = "dead"  # the backend has ended it
    POISONED = "poisoned"  # it has sent something that no request asked for


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
DEAD: Final = Fit.DEAD
GOOD: Final = Fit.GOOD
POISONED: Final = Fit.POISONED


class Pooled(Side):
    """A channel with its watchers, which stay on while the connection is idle."""

    __slots__ = ("_keeper", "half_closed", "heard", "holder", "idle_since", "left", "line", "made", "owner", "uses")

    def __init__(self, made: Made, owner: Holder | None, keeper: "Keeper") -> None:
        """`owner` is the only session that may use it, None: any may."""
        super().__init__(made.channel, Event.BACKEND, self._happened)
        self._keeper = keeper
        self.made = made
        self.owner = owner
        self.holder: Holder | None = None  # the session that uses it
        self.line: Line | None = None  # the line that does
        self.left: object = None  # how HTTP stands here, as the line before it left it
        self.uses = 0  # lines that it has served
        self.idle_since = 0.0  # on the sweeper's clock
        self.heard = False  # the backend has sent something
        self.half_closed = False  # our side has been ended

    def __repr__(self) -> str:
        return f"<Pooled {self.made.version} uses={self.uses} {self.channel!r}>"

    @property
    def is_http1(self) -> bool:
        """Whether it carries one request at a time, and counts in the route's bound."""
        return self.made.version != H2

    def begin(self, holder: Holder, line: Line) -> None:
        """Serve a line from now on."""
        self.holder, self.line = holder, line
        self.uses += 1

    def leave(self) -> None:
        """Serve no line."""
        self.holder = self.line = None

    def _happened(self, event: Event) -> None:
        if self.holder is not None:
            self.holder.happened(self, event)
        elif (fit := self.look()) is not GOOD:
            self._keeper.unfit(self, fit)

    def look(self) -> Fit:
        """Read an idle connection: there should be nothing. What TLS itself sends, such as tickets, is taken here."""
        if self.channel.receive():
            return POISONED
        return DEAD if self.channel.ended or self.channel.lost else GOOD


class Keeper(Protocol):
    """The keeper of idle connections."""

    __slots__ = ()

    def unfit(self, conn: Pooled, fit: Fit) -> None:
        """An idle connection is no longer of use."""
