"""The data of `mcproxy top`: counters turned into rates, and the last minute's events turned into clients.

Pure: its input is answers of the admin API and the time; the screen reads it. Everything that it keeps has a bound,
because it must work for a server under attack too.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.model import host_of

HISTORY = 60  # samples of each rate, one a second
BYTES_WINDOW = 15  # samples that a rate of bytes is taken over: the server counts those of open connections that often
CLIENTS_WINDOW = 60.0  # seconds for which a client is remembered after an event
MAX_EVENTS = 50_000  # that are remembered, some 10 MB; in a flood the window is shorter
MAX_REFUSALS = 200  # newest ones that are kept

SPEED_WINDOW = 5  # samples that a connection's speed is taken over

K = TypeVar("K")

_BLOCKS = "▁▂▃▄▅▆▇█"


def blocks(values: Iterable[float], width: int) -> str:
    """The last `width` values as a line of blocks, the highest of them full."""
    shown = list(values)[-width:]
    top = max(shown, default=0.0)
    line = "".join(_BLOCKS[min(7, int(value / top * 8))] if value > 0 else " " for value in shown)
    return line.rjust(width)


class Meter:
    """A rising counter as a rate."""

    __slots__ = ("_samples", "rates")

    def __init__(self, window: int = 1) -> None:
        """Rates are taken over so many samples."""
        self._samples: deque[tuple[float, int]] = deque(maxlen=window + 1)
        self.rates: deque[float] = deque(maxlen=HISTORY)  # a second

    def feed(self, at: float, value: int) -> None:
        """The counter's value at a moment, in seconds. One that falls is a server that was restarted."""
        if self._samples and value < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((at, value))
        then, before = self._samples[0]
        self.rates.append((value - before) / (at - then) if at > then else 0.0)

    @property
    def rate(self) -> float:
        """The newest one."""
        return self.rates[-1] if self.rates else 0.0


def _bytes_meter() -> Meter:
    return Meter(BYTES_WINDOW)


CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")  # of an answer's status; the last: the request ended without one


@dataclass(slots=True)
class Traffic:
    """The traffic of a route or a listener, or of all of them."""

    open: int = 0
    total: int = 0  # connections since the server's start
    refusals: int = 0  # of these
    moved: tuple[int, int] = (0, 0)  # bytes from clients and to clients since the server's start
    reasons: Counter[str] = field(default_factory=Counter)  # of the refusals
    answers: Counter[str] = field(default_factory=Counter)  # of l7: how many, by the class of their status
    ends: Counter[str] = field(default_factory=Counter)  # the same requests, by how they ended
    answering: dict[str, Meter] = field(default_factory=dict)  # the same as rates
    accepted: Meter = field(default_factory=Meter)
    refused: Meter = field(default_factory=Meter)
    received: Meter = field(default_factory=_bytes_meter)
    sent: Meter = field(default_factory=_bytes_meter)

    def feed(self, at: float, counters: Sequence[Any]) -> None:
        """Take the sum of these counters: of routes, or of listeners."""
        self.open = sum(each.connections for each in counters)
        self.total = sum(each.accepted for each in counters)
        self.refusals = sum(each.refused for each in counters)
        self.moved = sum(each.received_bytes for each in counters), sum(each.sent_bytes for each in counters)
        self.accepted.feed(at, self.total)
        self.refused.feed(at, self.refusals)
        self.received.feed(at, self.moved[0])
        self.sent.feed(at, self.moved[1])
        self.answers, self.ends, self.reasons = Counter(), Counter(), Counter()
        for each in counters:
            self.answers.update(each.requests)
            self.ends.update(each.request_ends)
            self.reasons.update(each.refused_by_reason)
        for status, count in self.answers.items():
            self.answering.setdefault(status, Meter()).feed(at, count)


def _fed(old: Mapping[K, Traffic], at: float, counters: Mapping[K, Any]) -> dict[K, Traffic]:
    """The traffic of everything that has counters now."""
    found = {key: old.get(key) or Traffic() for key in counters}
    for key, traffic in found.items():
        traffic.feed(at, [counters[key]])
    return found


@dataclass(slots=True)
class ClientRow:
    """One client: what is open, and its last minute."""

    address: str
    open: int = 0
    ended: int = 0
    refused: int = 0
    moved: int = 0  # bytes, of connections that have ended
    reasons: Counter[str] = field(default_factory=Counter)  # of its refusals


@dataclass(frozen=True, slots=True)
class _Event:
    at: float
    client: str
    reason: str  # of a refusal; "" for others
    moved: int


class Board:
    """Everything that is shown."""

    def __init__(self) -> None:
        self.status = pb.GetStatusResponse()
        self.total = Traffic()
        self.routes: dict[tuple[str, str], Traffic] = {}
        self.listeners: dict[str, Traffic] = {}
        self.reasons: dict[str, Meter] = {}
        self.refused_by_reason: Counter[str] = Counter()
        self.connections: list[pb.Connection] = []
        self.speeds: dict[int, Meter] = {}  # of connections by id: bytes a second, both ways
        self.refusals: deque[pb.ConnectionEvent] = deque(maxlen=MAX_REFUSALS)  # newest first
        self._events: deque[_Event] = deque(maxlen=MAX_EVENTS)

    def __repr__(self) -> str:
        return f"<Board routes={len(self.routes)} events={len(self._events)}>"

    def sample(
        self, at: float, status: pb.GetStatusResponse, routes: Sequence[pb.RouteCounters],
        connections: Sequence[pb.Connection],
    ) -> None:  # fmt: skip
        """Take the server's counters at a moment, in seconds."""
        self.status = status
        self.total.feed(at, status.listeners)
        self.routes = _fed(self.routes, at, {(each.listener, each.hostname): each for each in routes})
        self.listeners = _fed(self.listeners, at, {each.addr: each for each in status.listeners})
        self.connections = list(connections)
        self.speeds = {each.id: self.speeds.get(each.id) or Meter(SPEED_WINDOW) for each in connections}
        for each in connections:
            self.speeds[each.id].feed(at, each.received_bytes + each.sent_bytes)
        self.refused_by_reason = Counter()
        for listener in status.listeners:
            self.refused_by_reason.update(listener.refused_by_reason)
        for reason, count in self.refused_by_reason.items():
            self.reasons.setdefault(reason, Meter()).feed(at, count)

    def happened(self, event: pb.ConnectionEvent) -> None:
        """Take one event of the stream."""
        if event.kind == pb.ConnectionEvent.KIND_OPENED:
            return
        refused = event.kind == pb.ConnectionEvent.KIND_REFUSED
        if refused:
            self.refusals.appendleft(event)
        moved = event.connection.received_bytes + event.connection.sent_bytes
        client = host_of(event.connection.client)
        self._events.append(_Event(event.at, client, event.reason if refused else "", moved))

    def clients(self, now: float) -> list[ClientRow]:
        """Clients with connections now, or with some that ended in the last minute, by address."""
        while self._events and self._events[0].at < now - CLIENTS_WINDOW:
            self._events.popleft()
        rows: dict[str, ClientRow] = {}
        for connection in self.connections:
            client = host_of(connection.client)
            rows.setdefault(client, ClientRow(client)).open += 1
        for event in self._events:
            row = rows.setdefault(event.client, ClientRow(event.client))
            row.ended += 1
            row.moved += event.moved
            if event.reason:
                row.refused += 1
                row.reasons[event.reason] += 1
        return list(rows.values())
