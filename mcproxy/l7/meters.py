"""Every loop that a peer can drive, in one table, and what counts them.

A peer that repeats something cheap makes us, or the other side, do something dear: the attacks that have names are
Rapid Reset (CVE-2023-44487), MadeYouReset (CVE-2025-8671), the floods of CVE-2019-9511 to 9518 and of CONTINUATION
(CVE-2024-27316 and its kin), and HPACK bombs. So each such loop is a row of `Loop`: who drives it, what is counted, how
often it may happen and why, and what happens beyond. A `Meter` and a `Pace` can only be made of a row, so that there is
no loop that is counted and not in the table. Rows that neither of them counts name a bound that its own file holds.

Nothing here is only a rate: what a client has done that is worth something (`earned`) adds to what it may do.

What comes before HTTP is bounded elsewhere: connections and their handshakes by policy/limits.py and net/listener.py,
TLS without a byte of HTTP by sockets/channel.py and net/read_guard.py; and lines of the log by journal.py.
"""

from enum import Enum
from typing import Final, NamedTuple

from mcproxy.l7.bounds import MAX_INTERIM, MAX_PENDING
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import MAX_FIELDS
from mcproxy.wire.http1 import MAX_EMPTY_LINES
from mcproxy.wire.http1_framing import MAX_MEMBERS, MAX_TRAILERS
from mcproxy.wire.http2 import ConnectionFault, ErrorCode

# Named once: CONTRIBUTING says why.
_ANSWERED: Final = ExchangeEnd.ANSWERED
_DONE: Final = ExchangeEnd.DONE

PERIOD: Final = 10.0  # seconds; long enough that a burst of a real client averages out
# Frames without work for each request and each DATA frame either way; grpc-go: a PING a round trip.
TALK_FOR_WORK: Final = 10
SMALL: Final = 32  # bytes: a smaller piece of a body costs more to pass than to send
BARREN: Final = 5  # small pieces that a small read counts for that completes nothing: it takes as long


class Side(Enum):
    """Who drives a loop, in which protocol."""

    CLIENT_2 = "HTTP/2 client"
    CLIENT_1 = "HTTP/1.1 client"
    BACKEND = "backend"  # of a client of either protocol


class Per(Enum):
    """What a limit counts in."""

    PERIOD = "in 10 s"  # a Meter's
    SECOND = "a second"  # a Pace's
    THING = "each"  # a bound: of one head, one answer, one connection


class Outcome(Enum):
    """What happens beyond a limit."""

    ABUSE = "the connection ends (GOAWAY, or Connection: close): end=abuse, and the detail has the row's name"
    BACKEND_LOST = "the backend's connection ends: 502, and the detail has the row's name"
    SLOWED = "it is read no further until it may go on; the connection's line has the row's name"
    ANSWERED = "the request is answered 400 or 431 and has its line"
    FAILED = "the answer is 502, and its line has the reason"


class Row(NamedTuple):
    """One loop."""

    side: Side
    name: str  # in the log
    limit: int
    per: Per
    outcome: Outcome
    why: str
    earned: str = ""  # what adds to the limit, one for one but for TALK_FOR_WORK


class Loop(Enum):
    """The table."""

    SETTINGS = Row(
        Side.CLIENT_2,
        "SETTINGS",
        50,
        Per.PERIOD,
        Outcome.ABUSE,
        "each walks all streams; real clients send two or three in a connection's life",
    )
    EMPTY = Row(
        Side.CLIENT_2,
        "empty frames",
        500,
        Per.PERIOD,
        Outcome.ABUSE,
        "DATA without a byte or an end, empty CONTINUATION: they say nothing",
    )
    TALK = Row(
        Side.CLIENT_2,
        "frames without work",
        2_000,
        Per.PERIOD,
        Outcome.ABUSE,
        "PING, WINDOW_UPDATE, PRIORITY, GOAWAY, unknown types, whatever comes for a stream that is over",
        "10 for each request and DATA frame",
    )
    RESETS = Row(
        Side.CLIENT_2,
        "streams ended early",
        500,
        Per.PERIOD,
        Outcome.ABUSE,
        "the backend has begun to work, and nobody wants it: cancelled before its answer began, or malformed",
        "an exchange that was completed",
    )
    TOO_LARGE = Row(
        Side.CLIENT_2,
        "header lists too large",
        20,
        Per.PERIOD,
        Outcome.ABUSE,
        "each may take 3 ms to decode; real clients learn from the first 431",
    )
    OWN_ANSWERS = Row(
        Side.CLIENT_2,
        "requests that we answer ourselves",
        100,
        Per.PERIOD,
        Outcome.ABUSE,
        "421, 501: the backend gets none of them, and each has its line; real clients go elsewhere after one",
        "an exchange that was completed",
    )
    LATE_REQUESTS = Row(
        Side.CLIENT_2,
        "requests after GOAWAY",
        1_000,
        Per.PERIOD,
        Outcome.ABUSE,
        "each is reset and has its line; what was on its way is 256 at most, and some clients retry here once or twice",
    )
    PIECES = Row(
        Side.CLIENT_2,
        "small pieces",
        10_000,
        Per.SECOND,
        Outcome.SLOWED,
        "DATA of fewer than 32 bytes that ends nothing; a read of so few that completes no frame counts for five. Some "
        "programs write byte by byte: they are served, but a client must not have the whole core for it",
    )
    CHUNKS = Row(
        Side.CLIENT_1,
        "small pieces",
        5_000,
        Per.SECOND,
        Outcome.SLOWED,
        "the same of chunks, and of a body of declared length; each becomes a frame for the backend",
    )
    BACKEND_PIECES = Row(
        Side.BACKEND,
        "small pieces of the backend",
        10_000,
        Per.SECOND,
        Outcome.SLOWED,
        "the same, of answers",
    )
    OWN_ANSWERS_1 = Row(
        Side.CLIENT_1,
        "requests that we answer ourselves",
        100,
        Per.PERIOD,
        Outcome.ABUSE,
        "the same; a 400 or 431 ends the connection of HTTP/1.1 anyway",
        "an exchange that was completed",
    )
    FAILURES = Row(
        Side.CLIENT_1,
        "requests that no backend answers",
        1_000,
        Per.PERIOD,
        Outcome.ABUSE,
        "502, 503, 504: each may dial, and has its line. In HTTP/2 the connection is asked to end after the first",
        "an exchange that was completed",
    )
    BACKEND_SETTINGS = Row(
        Side.BACKEND,
        "SETTINGS of the backend",
        50,
        Per.PERIOD,
        Outcome.BACKEND_LOST,
        "each is announced to the client, and may walk all streams",
    )
    BACKEND_EMPTY = Row(
        Side.BACKEND,
        "empty frames of the backend",
        500,
        Per.PERIOD,
        Outcome.BACKEND_LOST,
        "DATA without a byte or an end, empty CONTINUATION: they say nothing",
    )
    BACKEND_TALK = Row(
        Side.BACKEND,
        "frames without work of the backend",
        2_000,
        Per.PERIOD,
        Outcome.BACKEND_LOST,
        "PING, WINDOW_UPDATE, PRIORITY, GOAWAY, acknowledgements, unknown types, what comes for a stream that is over",
        "10 for each request and DATA frame",
    )
    INTERIM = Row(
        Side.BACKEND,
        "interim answers",
        MAX_INTERIM,
        Per.THING,
        Outcome.FAILED,
        "1xx heads of one answer, under no flow control; real ones send one or two",
    )
    FIELDS = Row(
        Side.CLIENT_1,
        "fields",
        MAX_FIELDS,
        Per.THING,
        Outcome.ANSWERED,
        "of one head: each is read, judged and encoded; real requests have fewer than 60",
    )
    CONNECTION_TOKENS = Row(
        Side.CLIENT_1,
        "members of Connection",
        MAX_MEMBERS,
        Per.THING,
        Outcome.ANSWERED,
        "each is looked up in every field; real ones hold three",
    )
    TRAILERS = Row(
        Side.CLIENT_1,
        "bytes of trailers",
        MAX_TRAILERS,
        Per.THING,
        Outcome.ANSWERED,
        "they are kept until the body ends; real ones hold a checksum or two",
    )
    EMPTY_LINES = Row(
        Side.CLIENT_1,
        "empty lines before a request",
        MAX_EMPTY_LINES,
        Per.THING,
        Outcome.ANSWERED,
        "old clients send one or two behind a body",
    )
    PIPELINED = Row(
        Side.CLIENT_1, "bytes of pipelined requests", MAX_PENDING, Per.THING, Outcome.SLOWED,
        "one request is under way at a time; those behind it wait unread",
    )  # fmt: skip

    @property
    def limit(self) -> int:
        """How often, or how much."""
        return self.value.limit

    @property
    def title(self) -> str:
        """What the log calls it."""
        return self.value.name


class Exceeded(ConnectionFault):
    """A peer has driven a loop too often."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"too many: {loop.title}")
        self.loop = loop


def _limits(per: Per) -> dict[int, int]:
    """Limits by the identity of their row, because an Enum's `value` and its hash are functions of Python.

    Each connection makes a handful of meters: asked by `value`, they were a tenth of all that it calls.
    """
    return {id(loop): loop.limit for loop in Loop if loop.value.per is per}


_OF_PERIODS: Final = _limits(Per.PERIOD)
_OF_SECONDS: Final = _limits(Per.SECOND)


class Meter:
    """Counts one loop in periods; a count past its limit is the peer's fault."""

    __slots__ = ("count", "limit", "loop", "since")

    def __init__(self, loop: Loop, now: float) -> None:
        self.loop = loop
        self.limit = _OF_PERIODS[id(loop)]
        self.count = 0
        self.since = now  # seconds, of the clock that the core is given

    def __repr__(self) -> str:
        return f"<Meter {self.loop.title} {self.count} of {self.limit}>"

    def spend(self, now: float, allowance: int = 0) -> bool:
        """Count one. True: a new period began. Raises Exceeded past the limit and `allowance`."""
        self.count += 1
        if self.count <= self.limit + allowance:
            return False
        if now - self.since < PERIOD:
            raise Exceeded(self.loop)
        self.since = now
        self.count = 1
        return True

    def renew(self, now: float) -> None:
        """Begin a new period."""
        self.since = now
        self.count = 0


class ClientMeters:
    """Counts what an HTTP/1.1 client makes us do: pieces of bodies, and answers of our own."""

    __slots__ = ("_done", "_failed", "_left", "_own", "_since", "pace", "requests")

    def __init__(self, now: float) -> None:
        self.requests = 0  # ever
        self.pace = Pace(Loop.CHUNKS)
        self._own = Meter(Loop.OWN_ANSWERS_1, now)
        self._failed = Meter(Loop.FAILURES, now)
        self._done = 0  # exchanges that were completed, in this period
        self._left = 0  # bytes that were not taken at the last offer
        self._since = now

    def __repr__(self) -> str:
        return f"<ClientMeters {self._own!r} {self.pace!r}>"

    def pieces(self, body: list[bytes], now: float) -> None:
        """Count pieces of a body."""
        small = sum(len(each) < SMALL for each in body)
        if small:
            self.pace.spend(now, small)

    def offered(self, size: int, taken: int, now: float) -> None:
        """Count an offer of `size` bytes, those that were not taken before included."""
        if not taken and 0 < size - self._left < SMALL:
            self.pace.spend(now, BARREN)
        self._left = size - taken

    def ended(self, end: ExchangeEnd, status: int, now: float) -> None:
        """Count an exchange that is over. Raises Exceeded."""
        if now - self._since >= PERIOD:
            self._since, self._done = now, 0
            self._own.renew(now)
            self._failed.renew(now)
        if end is _ANSWERED:
            meter = self._own if status < 500 or status == 501 else self._failed
            meter.spend(now, self._done)
        elif end is _DONE:
            self._done += 1


class Pace:
    """Counts one loop by the second; a peer that is faster isn't read until it is not."""

    __slots__ = ("_left", "_limit", "_since", "loop", "over")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.over = False  # the peer must wait
        self._limit = float(_OF_SECONDS[id(loop)])
        self._left = self._limit  # a second's worth may come at once
        self._since = 0.0  # when it was so many: seconds, of the clock that the core is given

    def __repr__(self) -> str:
        return f"<Pace {self.loop.title} {self._left:.0f} of {self.loop.limit} left>"

    @property
    def note(self) -> str:
        """What the log says of a peer that had to wait."""
        return f"slowed down, too many: {self.loop.title}"

    @property
    def has_counted(self) -> bool:
        """Whether anything was counted lately."""
        return self._left != self._limit

    def spend(self, now: float, count: int = 1) -> bool:
        """Count some. Returns whether the peer must wait."""
        if self._left == self._limit:
            self._since = now
        self._left -= count
        return self._left <= 0 and self.must_wait(now)

    def must_wait(self, now: float) -> bool:
        """Return whether the peer must wait still."""
        if self._left <= 0:
            self._left = min(self._limit, self._left + (now - self._since) * self._limit)
            self._since = now
        self.over = self._left <= 0
        return self.over
