"""The core for every pairing of HTTP versions but HTTP/2 to HTTP/2: joins a client's connection and its lines.

Bytes of the client become exchanges in client_http1.py or client_http2.py, which decide how the client's connection
goes on and ends. Each exchange has a line to the backend (backend_line.py). After each event of either, the client's
connection settles: an answer may be over, a window may have opened, a connection may be lost.

core.py says what the owner does, and when.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol
from weakref import ref

from mcproxy.l7.bridge.backend_line import Lines
from mcproxy.l7.bridge.client_http1 import Http1Client
from mcproxy.l7.bridge.client_http2 import Http2Client
from mcproxy.l7.bridge.ends import NewEnd, Site
from mcproxy.l7.bridge.heads import Forwarded
from mcproxy.l7.core import Ending, ExchangeEnd, Line, Turn
from mcproxy.model import Exchanges
from mcproxy.native import mypyc_attr
from mcproxy.wire.fields import forwarded
from mcproxy.wire.http2 import Piece


class ClientConnection(Protocol):
    """One client connection, in one version of HTTP. Its methods are those of core.py."""

    fault: str  # what went wrong, for the log

    def __init__(self, site: Site, new_end: NewEnd, now: float) -> None:
        """`new_end` makes an exchange's way to the backend."""

    @property
    def ending(self) -> Ending | None:
        """How it ends."""

    @property
    def wants_read(self) -> bool:
        """Whether to read it."""

    @property
    def kept(self) -> int:
        """Bytes of answers that its windows don't allow yet."""

    @property
    def stirred(self) -> bool:
        """Whether anything is to be asked or taken: as `LinedCore.stirred`."""

    @property
    def leaving(self) -> bool:
        """Whether it ends for want of a request."""

    def leave(self, now: float) -> None:
        """End, if it is still `leaving`."""

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent. Returns how many bytes."""

    def closed(self, now: float) -> None:
        """The client has ended its side."""

    def cut(self, end: ExchangeEnd, why: str, now: float) -> None:
        """The connection ends where it stands; `end` is how its exchanges end."""

    def settle(self, now: float) -> None:
        """An event has been handled: do what follows for the connection."""

    def lags(self, now: float) -> None:
        """It still takes what it was sent before: as `Core.client_lags`."""

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long."""

    def drain(self, now: float) -> None:
        """Take no further request."""

    def take(self) -> Sequence[Piece]:
        """Bytes for the client, each once."""

    def take_ended(self) -> Exchanges:
        """Exchanges that are over, each once."""


@mypyc_attr(native_class=False)  # for its weak references
class Bridge:
    """A `LinedCore` (l7/core.py)."""

    __slots__ = (
        "__weakref__", "_client", "_lines", "give_up", "receive_from_client", "take_ended", "take_for_client",
    )  # fmt: skip

    def __init__(
        self, version: str, hostname: str, address: str, leads_here: Callable[[bytes], bool], now: float
    ) -> None:
        """`version` is the client's, "h2" or "http/1.1", and `address` where it comes from.

        `leads_here` returns whether another host than `hostname` leads to the connection's route.
        """
        site = Site(hostname, _forwarded(address), leads_here, hostname.encode())
        self._lines = Lines(site.forwarded, version != "h2", ref(self))
        make: type[ClientConnection] = Http2Client if version == "h2" else Http1Client
        self._client = client = make(site, self._lines.line_for, now)
        # What each event calls is theirs, without a call in between.
        self.receive_from_client = client.receive
        self.take_for_client = client.take
        self.take_ended = client.take_ended
        self.give_up = client.give_up

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

    # What happens to the client

    def client_closed(self, now: float) -> None:
        """The client has ended its side."""
        self._client.closed(now)

    def client_lost(self, now: float) -> None:
        """The client's connection is broken."""
        self._client.cut(ExchangeEnd.CLIENT_GONE, "the client's connection broke", now)

    def cut(self, why: str, now: float) -> None:
        """We end the client's connection where it stands."""
        self._client.cut(ExchangeEnd.CUT, why, now)

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

    # The one backend connection of a core that has no lines

    wants_dial = False
    wants_backend = False
    has_backend = False

    def dialling(self) -> None:
        """Never called, for `wants_dial` is false."""

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:  # noqa: ARG002 - the Core's
        """Never called, for there is no such connection."""
        return len(data)

    def express(self, data: bytes, now: float) -> int:  # noqa: ARG002 - the Core's
        """Never called."""
        return 0

    def backend_closed(self, now: float) -> None:
        """Never called."""

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """Never called."""

    def bulk_read(self, most: int) -> int:
        """Never called."""
        return most

    def take_for_backend(self) -> Sequence[Piece]:
        """Nothing."""
        return ()


@lru_cache(maxsize=1024)  # clients, half a kilobyte each, most of which come again
def _forwarded(address: str) -> Forwarded:
    return Forwarded(forwarded(address))
