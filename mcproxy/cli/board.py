"""What `mcproxy top` knows: counters turned into rates, and the last minute's events turned into clients.

Pure: it is fed with answers of the admin API and with the time, and read by whoever draws. Whatever it keeps has a
bound, for it looks at a server under attack too.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcproxy.admin.pb import admin_pb2 as pb

HISTORY = 60  # samples of each rate, one a second
BYTES_WINDOW = 15  # samples that a rate of bytes is taken over: the server counts those of open connections that often
CLIENTS_WINDOW = 60.0  # seconds for which a client is remembered after an event
MAX_EVENTS = 50_000  # that are remembered, some 10 MB; in a flood the window is shorter
MAX_REFUSALS = 200  # newest ones that are kept

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


@dataclass(slots=True)
class Traffic:
    """What passes through a route, or all of them."""

    open: int = 0
    accepted: Meter = field(default_factory=Meter)
    refused: Meter = field(default_factory=Meter)
    received: Meter = field(default_factory=_bytes_meter)
    sent: Meter = field(default_factory=_bytes_meter)

    def feed(self, at: float, counters: Sequence[Any]) -> None:
        """Take the sum of these counters: of routes, or of listeners."""
        self.open = sum(each.connections for each in counters)
        self.accepted.feed(at, sum(each.accepted for each in counters))
        self.refused.feed(at, sum(each.refused for each in counters))
        self.received.feed(at, sum(each.received_bytes for each in counters))
        self.sent.feed(at, sum(each.sent_bytes for each in counters))


@dataclass(slots=True)
class ClientRow:
    """One client's last minute."""

    address: str
    ended: int = 0
    refused: int = 0
    moved: int = 0  # bytes, of connections that have ended


@dataclass(frozen=True, slots=True)
class _Event:
    at: float
    client: str
    route: str
    refused: bool
    moved: int


class Board:
    """Everything that is shown."""

    def __init__(self) -> None:
        self.status = pb.GetStatusResponse()
        self.total = Traffic()
        self.routes: dict[tuple[str, str], Traffic] = {}
        self.reasons: dict[str, Meter] = {}
        self.refused_by_reason: Counter[str] = Counter()
        self.connections: list[pb.Connection] = []
        self.refusals: deque[pb.ConnectionEvent] = deque(maxlen=MAX_REFUSALS)  # newest first
        self._events: deque[_Event] = deque(maxlen=MAX_EVENTS)

    def __repr__(self) -> str:
        return f"<Board routes={len(self.routes)} events={len(self._events)}>"

    def sample(
        self, at: float, status: pb.GetStatusResponse, routes: Sequence[pb.RouteCounters],
        connections: Sequence[pb.Connection],
    ) -> None:  # fmt: skip
        """Take what the server says at a moment, in seconds."""
        self.status = status
        self.connections = list(connections)
        self.total.feed(at, status.listeners)
        keys = {(each.listener, each.hostname): each for each in routes}
        self.routes = {key: self.routes.get(key) or Traffic() for key in keys}
        for key, traffic in self.routes.items():
            traffic.feed(at, [keys[key]])
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
        connection = event.connection
        address = connection.client.rpartition(":")[0]
        moved = connection.received_bytes + connection.sent_bytes
        self._events.append(_Event(event.at, address, connection.route, refused, moved))

    def clients(self, now: float, route: str = "") -> list[ClientRow]:
        """Who had connections that ended in the last minute, by address; of routes with this in their name."""
        while self._events and self._events[0].at < now - CLIENTS_WINDOW:
            self._events.popleft()
        rows: dict[str, ClientRow] = {}
        for event in self._events:
            if route not in event.route:
                continue
            row = rows.setdefault(event.client, ClientRow(event.client))
            row.ended += 1
            row.refused += event.refused
            row.moved += event.moved
        return list(rows.values())
