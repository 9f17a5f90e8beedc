"""Counters, written by the hub's thread alone, read by anyone.

Plain integers need no lock: one writer, and a reader that sees each number as it was a moment ago. What is counted is
bounded by what is configured (listeners, routes, reasons), never by what clients send.
"""

import time
from collections import Counter
from collections.abc import Callable

from mcproxy.model import Connection, End, Exchange, Reason

RouteKey = tuple[str, str]  # a listener's address and a route's host name


class Tally:
    """What is counted of one listener or one route."""

    __slots__ = ("answers", "bytes_down", "bytes_up", "ends", "open", "refused", "requests", "total")

    def __init__(self) -> None:
        self.total = 0  # connections that began
        self.open = 0  # connections that have not ended yet
        self.bytes_up = 0  # client to backend, of connections that have ended
        self.bytes_down = 0
        self.refused: Counter[Reason] = Counter()
        self.ends: Counter[End] = Counter()
        self.requests = 0  # l7: that have ended
        self.answers: Counter[int] = Counter()  # by the first digit of their status; 0: none was begun

    def __repr__(self) -> str:
        return f"<Tally total={self.total} open={self.open} refused={self.refused.total()}>"

    def begin(self) -> None:
        """Count a connection that has just come."""
        self.total += 1
        self.open += 1

    def end(self, connection: Connection) -> None:
        """Count what is known of a connection only when it has ended."""
        self.open -= 1
        self.bytes_up += connection.bytes_up
        self.bytes_down += connection.bytes_down
        self.ends[connection.end] += 1
        if connection.reason is not Reason.OK:
            self.refused[connection.reason] += 1

    def answered(self, exchange: Exchange) -> None:
        """Count a request that has ended."""
        self.requests += 1
        self.answers[exchange.status // 100] += 1


class Stats:
    """All tallies of one worker."""

    def __init__(self) -> None:
        self.started = time.time()  # seconds since the epoch
        self.listeners: dict[str, Tally] = {}
        self.routes: dict[RouteKey, Tally] = {}

    def __repr__(self) -> str:
        return f"<Stats listeners={len(self.listeners)} routes={len(self.routes)}>"

    def listener(self, addr: str) -> Tally:
        """The tally of a listener, new if need be."""
        tally = self.listeners.get(addr)
        if tally is None:
            tally = self.listeners[addr] = Tally()
        return tally

    def route(self, key: RouteKey) -> Tally:
        """The tally of a route, new if need be."""
        tally = self.routes.get(key)
        if tally is None:
            tally = self.routes[key] = Tally()
        return tally

    def forget_routes(self, is_kept: Callable[[RouteKey], bool]) -> None:
        """Drop the tallies of routes that are gone and have no connection left."""
        for key in [key for key, tally in self.routes.items() if not tally.open and not is_kept(key)]:
            del self.routes[key]
