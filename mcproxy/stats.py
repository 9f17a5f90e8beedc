"""Counters, written only by the hub's thread, read by any thread.

Plain integers need no lock: there is one writer, and a reader sees each number as it was a moment ago. The number of
counters is bounded by the configuration (listeners, routes) and by the reasons; clients can't add any.
"""

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

from mcproxy.model import Connection, End, Exchanges, Reason, RouteKey
from mcproxy.native import mypyc_attr

# Upper bounds of buckets, in seconds. A connection lasts anything from a refusal's microseconds to days; a backend in
# the same rack answers in less than a millisecond, and connect_timeout is some seconds; a healthy hub is never late by
# more than a few milliseconds, and Python hands the interpreter to another thread every 5.
DURATIONS: Final[tuple[float, ...]] = (
    0.005,
    0.025,
    0.1,
    0.5,
    1.0,
    5.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    3600.0,
    21600.0,
    86400.0,
)
DIALS: Final[tuple[float, ...]] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LAGS: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


_OK: Final = Reason.OK  # named once: CONTRIBUTING says why
DONE: Final = "done"  # the end of a request that is complete, with its answer


class Distribution(NamedTuple):
    """The contents of a histogram at one moment."""

    bounds: Sequence[float]
    counts: Sequence[int]  # one more than bounds: the last is for values above all of them
    total: float  # the sum of the values

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> "Distribution":
        """Before anything was observed."""
        return cls(bounds, (0,) * (len(bounds) + 1), 0.0)

    def plus(self, other: "Distribution") -> "Distribution":
        """The sum of both; they have the same bounds."""
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Distribution(self.bounds, counts, self.total + other.total)

    def quantile(self, share: float) -> float:
        """The bound that this share of the values does not exceed: inf above all bounds, 0.0 if there is no value."""
        wanted, seen = share * sum(self.counts), 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound
        return 0.0


NO_DURATIONS, NO_DIALS, NO_LAGS = (Distribution.empty(bounds) for bounds in (DURATIONS, DIALS, LAGS))


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True)
class BackendCounters:
    """An l7 route's connections to its backend, as of one moment. They can be added."""

    made: Mapping[str, int] = field(default_factory=dict)  # by the version of HTTP: "h2", "http/1.1"
    reused: int = 0  # requests that found an idle connection
    retries: int = 0  # requests that were sent once more, over another connection
    waiting: int = 0  # requests that wait at that moment, because as many connections as may be are in use
    waited_too_long: int = 0  # of those, the ones that were answered 503
    idle: int = 0  # connections that wait for a request at that moment
    dead: int = 0  # idle ones that the backend ended before we did
    poisoned: int = 0  # connections over which the backend sent more than its answer

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickling, which otherwise asks each dataclass for its fields and takes ten times as long."""
        return BackendCounters, _of_backend(self)

    def __add__(self, other: "BackendCounters") -> "BackendCounters":
        return BackendCounters(
            Counter(self.made) + Counter(other.made),
            self.reused + other.reused,
            self.retries + other.retries,
            self.waiting + other.waiting,
            self.waited_too_long + other.waited_too_long,
            self.idle + other.idle,
            self.dead + other.dead,
            self.poisoned + other.poisoned,
        )


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a listener or a route at one moment. They can be added."""

    connections: int = 0  # open at that moment
    accepted: int = 0
    refused: Mapping[Reason, int] = field(default_factory=dict)
    ended: Mapping[End, int] = field(default_factory=dict)
    received: int = 0  # bytes from clients
    sent: int = 0  # bytes to clients
    requests: Mapping[str, int] = field(default_factory=dict)  # l7, by status class, such as "2xx"; "none": no answer
    request_ends: Mapping[str, int] = field(default_factory=dict)  # the same by how they ended: "done", "client reset"
    durations: Distribution = NO_DURATIONS
    dials: Distribution = NO_DIALS
    backend: BackendCounters = field(default_factory=BackendCounters)  # of a route
    passed: Mapping[str, int] = field(default_factory=dict)  # requests that backends got, by their HTTP: "h2"
    heads: int = 0  # those of them whose answer has begun
    waited: float = 0.0  # seconds of all these together, from the request's head to the answer's

    def __reduce__(self) -> tuple[Any, ...]:
        """As that of BackendCounters."""
        return Counters, _of_counters(self)

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.connections + other.connections,
            self.accepted + other.accepted,
            Counter(self.refused) + Counter(other.refused),
            Counter(self.ended) + Counter(other.ended),
            self.received + other.received,
            self.sent + other.sent,
            Counter(self.requests) + Counter(other.requests),
            Counter(self.request_ends) + Counter(other.request_ends),
            self.durations.plus(other.durations),
            self.dials.plus(other.dials),
            self.backend + other.backend,
            Counter(self.passed) + Counter(other.passed),
            self.heads + other.heads,
            self.waited + other.waited,
        )


_of_backend, _of_counters = (attrgetter(*(each.name for each in fields(kind))) for kind in (BackendCounters, Counters))


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True)
class Spoken:
    """The version of HTTP that a route's backend was found to speak."""

    version: str  # "h2" or "http/1.1"
    how: str  # it was found, in words for operators: "ALPN", "SETTINGS", "answered 400 to HTTP/2's preface"
    at: float  # seconds since the epoch


class Histogram:
    """Counts values by fixed buckets: a binary search and two additions, some 150 ns."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise; a value belongs to the first that is not below it."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram count={sum(self._counts)} total={self._total:g}>"

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """The present contents. Any thread may ask."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


class BackendTally:
    """The live counters of an l7 route's connections to its backend; the fields are those of `BackendCounters`."""

    __slots__ = ("dead", "idle", "made", "poisoned", "retries", "reused", "waited_too_long", "waiting")

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.reused = self.retries = self.waiting = self.waited_too_long = self.idle = self.dead = self.poisoned = 0

    def __repr__(self) -> str:
        return f"<BackendTally {self.read()}>"

    def read(self) -> BackendCounters:
        """The present contents. Any thread may ask."""
        return BackendCounters(
            dict(self.made), self.reused, self.retries, self.waiting, self.waited_too_long, self.idle, self.dead,
            self.poisoned,
        )  # fmt: skip


class RequestTally:
    """The live counters of the l7 requests of one listener or one route."""

    __slots__ = ("answers", "heads", "undone", "waited", "with_h2", "with_http1")

    def __init__(self) -> None:
        self.answers = [0] * 10  # requests that have ended, by the first digit of their status, or 0
        self.undone: Counter[str] = Counter()  # of these, the ones that did not end as DONE, by how they ended
        self.with_h2 = 0  # requests that backends got in this version of HTTP; for this and the next ones see Counters
        self.with_http1 = 0
        self.heads = 0
        self.waited = 0.0

    def __repr__(self) -> str:
        return f"<RequestTally {sum(self.answers)}>"

    def read(self) -> tuple[dict[str, int], dict[str, int]]:
        """Requests that have ended, by the class of their status, and by how they ended. Any thread may ask."""
        undone = dict(self.undone)  # before `answers`: what is counted in between is among those
        answers = tuple(self.answers)
        done = sum(answers) - sum(undone.values())
        classes = {f"{first}xx" if first else "none": count for first, count in enumerate(answers) if count}
        return classes, {DONE: done, **undone} if done else undone

    def add(
        self, answers: Mapping[int, int], undone: Mapping[str, int], http1: int, h2: int, heads: int, waited: float
    ) -> None:
        """Count requests that have ended: by status, by how they did not end as DONE; the rest as `Counters` has it."""
        for status, number in answers.items():
            self.answers[status // 100] += number
        for end, number in undone.items():  # behind `answers`: see `read`
            self.undone[end] += number
        self.with_http1 += http1
        self.with_h2 += h2
        self.heads += heads
        self.waited += waited

    @property
    def passed(self) -> dict[str, int]:
        """Requests that backends got, by their version of HTTP. Any thread may ask."""
        counts = {"h2": self.with_h2, "http/1.1": self.with_http1}
        return {version: count for version, count in counts.items() if count}


class Tally:
    """The live counters of one listener or one route."""

    __slots__ = ("backend", "dials", "durations", "ends", "open", "received", "refused", "requests", "sent", "total")

    def __init__(self) -> None:
        self.total = 0  # connections that began
        self.open = 0  # connections that have not ended yet
        self.received = 0  # client to backend
        self.sent = 0
        self.durations = Histogram(DURATIONS)  # of connections that have ended
        self.dials = Histogram(DIALS)  # of connections that reached their backend: how long that took
        self.refused: Counter[Reason] = Counter()
        self.ends: Counter[End] = Counter()
        self.requests = RequestTally()  # l7
        self.backend = BackendTally()

    def __repr__(self) -> str:
        return f"<Tally total={self.total} open={self.open} refused={self.refused.total()}>"

    def read(self) -> Counters:
        """The present contents. Any thread may ask."""
        requests = self.requests
        classes, ends = requests.read()
        return Counters(
            self.open,
            self.total,
            dict(self.refused),
            dict(self.ends),
            self.received,
            self.sent,
            classes,
            ends,
            self.durations.read(),
            self.dials.read(),
            self.backend.read(),
            requests.passed,
            requests.heads,
            requests.waited,
        )

    def begin(self) -> None:
        """Count a connection that has just come."""
        self.total += 1
        self.open += 1

    def hand_over(self) -> None:
        """Another worker counts how a connection ends."""
        self.open -= 1

    def take_over(self) -> None:
        """Another worker has counted the beginning of a connection."""
        self.open += 1

    def move(self, up: int, down: int) -> None:
        """Count bytes of a connection that goes on."""
        self.received += up
        self.sent += down

    def end(self, connection: Connection, counted: tuple[int, int] = (0, 0)) -> None:
        """Count the end of a connection; `move` has `counted` these bytes already."""
        self.open -= 1
        self.durations.observe(connection.duration)
        self.received += connection.received - counted[0]
        self.sent += connection.sent - counted[1]
        self.ends[connection.end] += 1
        if connection.reason is not _OK and connection.verdict == "refused":
            self.refused[connection.reason] += 1


class Account:
    """The tallies that count one connection: its listener's, and its route's as soon as it has one."""

    __slots__ = ("_moved", "_tallies", "lines")

    def __init__(self, tally: Tally) -> None:
        """`tally` is the listener's, which has counted the beginning."""
        self._tallies = [tally]
        self._moved = (0, 0)  # bytes up and down that are counted already
        self.lines = 0  # of the log, written while the connection lives

    def enter(self, tally: Tally) -> None:
        """Count it there too from now on."""
        tally.begin()
        self._tallies.append(tally)

    def dialled(self, seconds: float) -> None:
        """Count how long connecting to the backend took."""
        for tally in self._tallies:
            tally.dials.observe(seconds)

    def moved(self, up: int, down: int) -> None:
        """Count the bytes so far of a connection that goes on."""
        if (up, down) != self._moved:
            for tally in self._tallies:
                tally.move(up - self._moved[0], down - self._moved[1])
            self._moved = (up, down)

    def hand_over(self) -> None:
        """Another worker counts its end."""
        for tally in self._tallies:
            tally.hand_over()

    def end(self, connection: Connection) -> None:
        """Count its end."""
        for tally in self._tallies:
            tally.end(connection, self._moved)


class Stats:
    """All tallies of one worker."""

    def __init__(self) -> None:
        self.started = time.time()  # seconds since the epoch
        self.listeners: dict[str, Tally] = {}
        self.routes: dict[RouteKey, Tally] = {}
        self.lag = Histogram(LAGS)  # how late the hub is
        self.lines_left_out = 0  # of the log, being too many

    def __repr__(self) -> str:
        return f"<Stats listeners={len(self.listeners)} routes={len(self.routes)}>"

    def listener(self, addr: str) -> Tally:
        """The tally of a listener, new if need be."""
        tally = self.listeners.get(addr)
        if tally is None:
            tally = self.listeners[addr] = self.make(addr, "")
        return tally

    def route(self, key: RouteKey) -> Tally:
        """The tally of a route, new if need be."""
        tally = self.routes.get(key)
        if tally is None:
            tally = self.routes[key] = self.make(*key)
        return tally

    def requests(self, listener: str, route: str) -> Callable[[Exchanges], None]:
        """A function that counts a connection's requests as they end, in both tallies in one pass."""
        tallies = self.listener(listener).requests, self.route((listener, route)).requests

        def count(exchanges: Exchanges) -> None:
            http1 = h2 = heads = 0
            waited = 0.0
            answers: dict[int, int] = {}  # by status: all are the same mostly
            undone: dict[str, int] = {}
            for exchange in exchanges:
                status = exchange.status
                answers[status] = answers.get(status, 0) + 1
                if exchange.end != DONE:  # most are, and those are counted by `answers` already
                    undone[exchange.end] = undone.get(exchange.end, 0) + 1
                if protocol := exchange.backend_protocol:
                    if protocol == "h2":
                        h2 += 1
                    else:
                        http1 += 1
                    if head_at := exchange.head_at:
                        heads += 1
                        waited += head_at - exchange.started
            for tally in tallies:
                tally.add(answers, undone, http1, h2, heads, waited)

        return count

    def forget_routes(self, is_kept: Callable[[RouteKey], bool]) -> None:
        """Drop the tallies of routes that are gone and have no connection left."""
        for key in [key for key, tally in self.routes.items() if not tally.open and not is_kept(key)]:
            self.forget(self.routes.pop(key))

    def make(self, listener: str, hostname: str) -> Tally:  # noqa: ARG002 - ledger.py's needs them
        """A new tally, of a listener if `hostname` is empty."""
        return Tally()

    def forget(self, tally: Tally) -> None:
        """Nothing more is counted in this tally."""
