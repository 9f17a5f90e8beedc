"""The core for every pairing of HTTP versions but HTTP/2 to HTTP/2: joins a client's connection and its lines.

Bytes of the client become exchanges in client_http1.py or client_http2.py, which decide how the client's connection
goes on and ends. Each exchange has a line to the backend (backend_line.py). After each event of either, the client's
connection settles: an answer may be over, a window may have opened, a connection may be lost.

core.py says what the owner does, and when.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from mcproxy.l7.bridge.backend_line import Lines, Owner
from mcproxy.l7.bridge.client_http1 import Http1Client
from mcproxy.l7.bridge.client_http2 import Http2Client
from mcproxy.l7.bridge.ends import ClientConnection, Site
from mcproxy.l7.bridge.heads import Forwarded
from mcproxy.l7.core import Ending, ExchangeEnd, Line, LinedCore, Turn
from mcproxy.model import Exchanges
from mcproxy.wire.fields import forwarded
from mcproxy.wire.http2 import Piece


class Bridge(LinedCore, Owner):
    """A `LinedCore` (l7/core.py)."""

    __slots__ = ("_client", "_lines")

    def __init__(
        self, version: str, hostname: str, address: str, leads_here: Callable[[bytes], bool], now: float
    ) -> None:
        """`version` is the client's, "h2" or "http/1.1", and `address` where it comes from.

        `leads_here` returns whether another host than `hostname` leads to the connection's route.
        """
        site = Site(hostname, _forwarded(address), leads_here, hostname.encode())
        self._lines = Lines(site.forwarded, version != "h2", self)
        make: type[ClientConnection] = Http2Client if version == "h2" else Http1Client
        self._client = make(site, self._lines.line_for, now)

    def __repr__(self) -> str:
        return f"<Bridge {self._client!r} {self._lines!r}>"

    def settle(self, now: float) -> None:
        """An event of a line has been handled."""
        client = self._client
        if self._lines.note:
            client.fault = client.fault or self._lines.note
        client.settle(now)

    # What the owner asks

    @property
    def ending(self) -> Ending | None:
        """How the client's connection ends."""
        return self._client.ending

    @property
    def wants_client(self) -> bool:
        """Whether the client is to be read."""
        return self._client.wants_read

    @property
    def kept(self) -> int:
        """Bytes of answers that the client's windows don't allow yet."""
        return self._client.kept

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        return self._client.hurried or self._lines.hurried

    @property
    def stirred(self) -> bool:
        """Whether the drive is to ask again."""
        return self._lines.stirred or self._client.stirred

    @property
    def leaving(self) -> bool:
        """Whether the client's connection ends for want of a request."""
        return self._client.leaving

    def leave(self, now: float) -> None:
        """End, if it is still `leaving`."""
        self._client.leave(now)

    def take_lines(self) -> Sequence[Line]:
        """The lines that the drive is to look at."""
        if self._client.ending is not None:
            self._lines.end()
        return self._lines.take()

    def take_for_client(self) -> Sequence[Piece]:
        """Bytes for the client."""
        return self._client.take()

    def take_ended(self) -> Exchanges:
        """Exchanges that are over."""
        return self._client.take_ended()

    # What happens to the client

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what it sent."""
        return self._client.receive(data, turn, now)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long."""
        self._client.give_up(now)

    def client_closed(self, now: float) -> None:
        """The client has ended its side."""
        self._client.closed(now)

    def client_lost(self, now: float) -> None:
        """The client's connection is broken."""
        self._client.cut(ExchangeEnd.CLIENT_GONE, "the client's connection broke", now)
        self._lines.end()

    def cut(self, why: str, now: float) -> None:
        """We end the client's connection where it stands."""
        self._client.cut(ExchangeEnd.CUT, why, now)
        self._lines.end()

    # Time

    def drain(self, now: float) -> None:
        """Take no further request."""
        self._client.drain(now)

    def client_lags(self, now: float) -> None:
        """The client still takes what it was sent before."""
        self._client.lags(now)

    def backend_lags(self, now: float) -> None:
        """Never called."""

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""
        self._lines.tick(now)
        self._client.tick(now, idle)


@lru_cache(maxsize=1024)  # clients, half a kilobyte each, most of which come again
def _forwarded(address: str) -> Forwarded:
    return Forwarded(forwarded(address))
