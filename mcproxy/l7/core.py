"""The contract between sockets and HTTP: `sockets/drive.py` knows HTTP by this alone, and HTTP knows the drive by it.

A core is the HTTP between one client connection and its backend. It has no socket and no clock: it is given bytes and
the time, and asked for bytes. Nothing here raises but by a defect.

Bytes that were read wait in one place, with the drive, until the core has taken them. A core is offered all of them at
once, returns how many it took, and leaves the rest for one of two reasons. Either the turn is over: then the rest is
offered in the session's next turn. Or it can't use them yet, such as a request behind the one that is under way: then
they are offered again after the next event. An end is delivered behind the bytes that came before it, never while bytes
that can be used wait for a turn.

The order of a core's life, from its side:

    made                the client's first bytes are still to come; `wants_dial` may be true at once
    receive_*, tick, drain, give_up, backend_*
                        in any order, until there is an `ending`; after each of them the drive asks everything again:
                        it takes and sends what is for either side, takes the exchanges that are over, dials, and reads
                        a side again only where `wants_client` or `wants_backend` allows it
    client_closed, client_lost, cut
                        the end of the client: what follows is at most what is said at `ending`
    ending              final. The drive takes what is left for both sides, and the exchanges that are over, and closes.
                        A core ignores bytes and events that reach it later.

Only behind what lets more of a body go to the backend, and nothing else (`express`), is not everything asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Protocol

from mcproxy.l7.bounds import TURN
from mcproxy.model import End, Exchanges
from mcproxy.wire.http2 import Piece

_NO_CONNECTION: Final = "a core with lines has no connection of its own"

Record = Callable[[Exchanges], None]  # is given exchanges that have ended, each of them once; must not raise


class ExchangeEnd(StrEnum):
    """How an exchange ended; the words of the log and the counters."""

    DONE = "done"  # request and answer are complete
    ANSWERED = "answered"  # by the proxy itself
    REFUSED = "refused"  # never processed: the client may repeat it (section 8.7)
    CLIENT_RESET = "client reset"  # cancelled
    CLIENT_FAULT = "client fault"  # the client broke a rule
    CLIENT_GONE = "client gone"  # the connection ended under it
    CUT = "cut"  # the connection was, by the proxy: killed, idle, a flood of TLS, or at shutdown_timeout
    BACKEND_RESET = "backend reset"
    BACKEND_FAULT = "backend fault"
    BACKEND_GONE = "backend gone"


class How(Enum):
    """What a connection ends with, once all that waits for the client has been sent."""

    FIN = "fin"  # behind a close_notify
    RST = "rst"  # once the client has acknowledged the rest: an answer broke off, and must not look whole


@dataclass(frozen=True, slots=True)
class Ending:
    """How a client's connection ends."""

    how: How = How.FIN
    end: End = End.CLOSED  # the word in the log
    why: str = ""  # what went wrong, for the log

    def __repr__(self) -> str:
        return f"<Ending {self.how.value} {self.end.value} {self.why!r}>"


class Turn:
    """How much may be done before other sessions have their turn, in microseconds as measured."""

    __slots__ = ("left",)

    def __init__(self, left: int = TURN) -> None:
        self.left = left

    def __repr__(self) -> str:
        return f"<Turn {self.left} us left>"

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.left <= 0

    def spend(self, cost: int) -> None:
        """Something was done that takes `cost` microseconds."""
        self.left -= cost


class Core(Protocol):
    """HTTP between a client and a backend, without sockets. `now` is seconds of one monotonic clock."""

    __slots__ = ()

    @property
    def ending(self) -> Ending | None:
        """How the connection ends, once that is certain: the drive sends what is left, and ends so. Never changes."""

    @property
    def wants_dial(self) -> bool:
        """Whether to make a new backend connection, in place of the one that there is. `dialling` follows."""

    def dialling(self) -> None:
        """The drive lets go of the backend connection that there is, and dials. Only while `wants_dial`."""

    @property
    def wants_client(self) -> bool:
        """Whether to read the client. May change with any call."""

    @property
    def wants_backend(self) -> bool:
        """Whether to read the backend. May change with any call."""

    @property
    def has_backend(self) -> bool:
        """Whether the backend's connection is still of use. If not, the drive sends what is left and closes it."""

    @property
    def kept(self) -> int:
        """Bytes of answers that the client's windows don't allow yet, roughly. May change with any call."""

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed ten times a second; once a second is usual."""

    @property
    def leaving(self) -> bool:
        """Whether it ends for want of a request: the drive reads the client once more, and then calls `leave`.

        What the client has sent by then is a request like any other; it may have come long ago to a busy hub.
        """

    def leave(self, now: float) -> None:
        """End, if it is still `leaving`. `ending` follows then."""

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent and was not taken yet; returns how many bytes that is. The turn isn't over yet.

        Never after `client_closed` or `client_lost`.
        """

    def client_closed(self, now: float) -> None:
        """The client has ended its side, and sent nothing more that could be used. Once. Only a tunnel lives on."""

    def client_lost(self, now: float) -> None:
        """The client's connection broke, at any time: nothing more can be sent. `ending` follows."""

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """The same for the backend. Follows a dial that succeeded."""

    def express(self, data: bytes, now: float) -> int:
        """Take what the backend sent as far as nothing follows from it but bytes for the backend. Returns how much.

        The drive takes and sends these at once, and asks for nothing else unless the core is `stirred`. The rest, or
        all where that is 0, is for `receive_from_backend`. What only opens windows is taken like this.
        """

    @property
    def stirred(self) -> bool:
        """Whether anything is to be asked again behind an express read; False only there."""

    def backend_closed(self, now: float) -> None:
        """The backend's connection is over, however that came; all that it sent has been taken.

        Once for each connection. `wants_dial` may follow: a request may go again, over another connection.
        """

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """The dial failed: requests that wait for it get `status`, 502 or 504. In place of a connection."""

    def cut(self, why: str, now: float) -> None:
        """The client's connection ends where it stands, by our own decision, for `why`. `ending` follows."""

    def client_lags(self, now: float) -> None:
        """The client still takes bytes that it was sent a second ago or more: no timer that waits for it may run.

        Before `tick`, for as long as that lasts.
        """

    def backend_lags(self, now: float) -> None:
        """The same of the backend."""

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines. A request gets 504 once its answer has not begun in `idle` seconds.

        They count from when the request was complete, or its body moved last.
        """

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the connection drains. Once."""

    def drain(self, now: float) -> None:
        """Finish what is under way and take nothing new. May come at any time, more than once, before anything else."""

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk, if it may be about `most`."""

    def take_for_client(self) -> Sequence[Piece]:
        """Bytes for the client, each once, in pieces. After every call, and once more at `ending`."""

    def take_for_backend(self) -> Sequence[Piece]:
        """Bytes for the backend, each once; the first ones go with the dial. Never while `wants_dial`."""

    def take_ended(self) -> Exchanges:
        """The exchanges that are over, each once. After every call, and once more at `ending`."""


class LineState(Enum):
    """What a line is to its drive."""

    WANTED = "wanted"  # it has no connection yet
    BUSY = "busy"  # it has one
    FREE = "free"  # it needs its connection no longer, which can carry another request
    SPENT = "spent"  # it needs its connection no longer, which can't: the drive closes it, or drops the search for one


class Line(Protocol):
    """One way from a core to the backend, over a connection that the drive finds: one that is idle, or a new one.

    A core that has lines instead of one backend connection (`LinedCore`) makes one for each request; one that leads to
    HTTP/2 lasts as long as the core likes. In order:

        WANTED      `connected` or `failed` follows, unless the core makes it SPENT before
        BUSY        the drive sends what `take` returns and then says what is still unsent, delivers bytes, and the end
        FREE, SPENT final: the drive takes and sends what is left, and calls nothing else
    """

    __slots__ = ()

    @property
    def state(self) -> LineState:
        """See there. Changes only within calls of the core and of the line, and `take_lines` returns it then."""

    @property
    def again(self) -> bool:
        """Whether its request was sent before, over another line."""

    @property
    def wants_read(self) -> bool:
        """Whether to read the connection. `take_lines` returns the line when this has changed."""

    @property
    def half_closed(self) -> bool:
        """Whether to end our side of the connection once all is sent. Never taken back."""

    def connected(self, version: str, reused: bool, now: float, left: object = None) -> object:
        """There is a connection, which speaks `version`, "h2" or "http/1.1".

        `reused`: it has carried requests; `left` is what the line returned that had it before: how HTTP stands on it.
        """

    def failed(self, status: int, why: str, now: float) -> None:
        """There will be none: its request gets `status`, 502, 503 or 504. The line is SPENT."""

    def take(self) -> Sequence[Piece]:
        """Bytes for the backend, each once."""

    def sent(self, unsent: int, now: float) -> None:
        """The drive has sent what there was room for; `unsent` bytes that were taken still wait there."""

    def lags(self, now: float) -> None:
        """The backend still takes bytes that it was sent before: as `Core.backend_lags`. While BUSY."""

    def express(self, data: bytes, now: float) -> bool:
        """Take a read from which nothing follows but bytes for the backend; the drive takes and sends these at once.

        False: nothing was taken, and `receive` is to have it. A few bytes that open windows are such a read.
        """

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent: as `Core.receive_from_backend`."""

    def closed(self, clean: bool, now: float) -> None:
        """The connection is over; all that it sent has been taken. The line is SPENT.

        `clean`: the backend ended its side (FIN; over TLS behind a close_notify). Only that can be the end of an answer
        which is delimited by it (RFC 9112, section 8).
        """


class LinedCore(Core, Protocol):
    """A core whose requests have lines, and no use for what is about the one backend connection of others."""

    __slots__ = ()

    def take_lines(self) -> Sequence[Line]:
        """The lines that the drive is to look at: new ones, ones with bytes to send, and ones that have changed.

        After every call of the core or of a line, and once more at `ending`.
        """

    wants_dial: bool = False
    wants_backend: bool = False
    has_backend: bool = False

    def dialling(self) -> None:
        """Never called, for `wants_dial` is false."""
        raise AssertionError(_NO_CONNECTION)

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:  # noqa: ARG002 - the Core's
        """Never called, for there is no such connection."""
        return len(data)

    def express(self, data: bytes, now: float) -> int:  # noqa: ARG002 - the Core's
        """Never called."""
        return 0

    def backend_closed(self, now: float) -> None:  # noqa: ARG002 - the Core's
        """Never called."""
        raise AssertionError(_NO_CONNECTION)

    def backend_failed(self, status: int, why: str, now: float) -> None:  # noqa: ARG002 - the Core's
        """Never called."""
        raise AssertionError(_NO_CONNECTION)

    def bulk_read(self, most: int) -> int:
        """Never called."""
        return most

    def take_for_backend(self) -> Sequence[Piece]:
        """Nothing."""
        return ()
