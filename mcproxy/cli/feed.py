"""Gets the news for `mcproxy top`: of two native threads, one samples the server each second, one watches it.

They put it into a queue that the screen empties. When the server doesn't answer, they report that there too, and try
again.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import NoReturn

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli.client import Client

SAMPLE_INTERVAL = 1.0  # seconds between two samples
MAX_ROUTES = 2_000  # that are asked for: two pages
MAX_CONNECTIONS = 1_000  # oldest ones that are asked for: one page
MAX_NEWS = 1_000  # waiting for a screen that is paused; more is dropped, and the next sample makes up for it


class Lost(Exception):
    """The server can't be asked; the message says why."""


def lose(message: str, _status: int) -> NoReturn:
    """Raise Lost when a call fails."""
    raise Lost(message.removeprefix("mcproxy: "))


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's counters at a moment."""

    at: float  # seconds, of a clock that never runs backwards
    status: pb.GetStatusResponse
    routes: list[pb.RouteCounters]
    connections: list[pb.Connection]


News = Sample | pb.ConnectionEvent | Lost


class Feed:
    """The two threads, from `start` to `close`."""

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Client]], interval: float = SAMPLE_INTERVAL
    ) -> None:
        """`connect` gives a client whose calls raise Lost."""
        self.news: queue.Queue[News] = queue.Queue(MAX_NEWS)
        self._connect = connect
        self._interval = interval
        self._closing = threading.Event()
        self._connection = connect()
        self._client = self._connection.__enter__()
        self._threads = [
            threading.Thread(target=self._repeat, args=(each,), daemon=True) for each in (self._sample, self._watch)
        ]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the calls and the threads."""
        self._closing.set()
        self._connection.__exit__(None, None, None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def close_connection(self, number: int) -> None:
        """Close one connection. Raises Lost, also if it is not there."""
        self._client.call("CloseConnection", pb.CloseConnectionRequest(id=number))

    def block(self, request: pb.AddFirewallRuleRequest) -> pb.AddFirewallRuleResponse:
        """Add a rule, or only plan it. Raises Lost, also if the server refuses it."""
        answer: pb.AddFirewallRuleResponse = self._client.call("AddFirewallRule", request)
        return answer

    def route(self, listener: str, hostname: str) -> pb.Route | None:
        """A route as it is configured now; None if it is gone. Raises Lost."""
        request = pb.ListRoutesRequest(listener=listener, prefix=hostname, page_size=1)
        found = [each.route for each in self._client.call("ListRoutes", request).routes]
        return found[0] if found and found[0].hostname == hostname else None

    def _repeat(self, ask: Callable[[], None]) -> None:
        while not self._closing.is_set():
            try:
                ask()
            except Lost as lost:
                self._put(lost)
            except ValueError:  # gRPC's word for a channel that was closed
                return
            self._closing.wait(self._interval)

    def _put(self, news: News) -> None:
        with suppress(queue.Full):
            self.news.put_nowait(news)

    def _sample(self) -> None:
        status = self._client.call("GetStatus", pb.GetStatusRequest())
        routes: list[pb.RouteCounters] = []
        for route in self._client.pages("ListRouteCounters", pb.ListRouteCountersRequest(page_size=1000), "routes"):
            routes.append(route)
            if len(routes) == MAX_ROUTES:
                break
        request = pb.ListConnectionsRequest(page_size=MAX_CONNECTIONS)
        connections = list(self._client.call("ListConnections", request).connections)
        self._put(Sample(time.monotonic(), status, routes, connections))

    def _watch(self) -> None:
        for answer in self._client.stream("WatchConnections", pb.WatchConnectionsRequest()):
            for event in answer.events:
                self._put(event)
