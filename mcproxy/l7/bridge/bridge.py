"""The core for a client and a backend of different HTTP versions: joins the two connections of a session.

Bytes of the client become exchanges in client_http1.py, which decides how the client's connection goes on and ends.
Bytes of the backend reach the exchange through backend_http2.py. The bridge passes bytes and events to the one that
they are for, and has the other one react: an answer may be over, a window may have opened, a connection may be lost.

core.py says what the owner does, and when.
"""

from collections.abc import Callable

from mcproxy.l7.bounds import READ_SIZE
from mcproxy.l7.bridge.backend_http2 import Http2Backend
from mcproxy.l7.bridge.client_http1 import Http1Client
from mcproxy.l7.bridge.ends import BackendFault, Site
from mcproxy.l7.bridge.exchange import Finished
from mcproxy.l7.bridge.request_half import Coming
from mcproxy.l7.core import Ending, ExchangeEnd, Turn
from mcproxy.wire.fields import forwarded


class Bridge:
    """A `Core` (l7/core.py)."""

    __slots__ = ("_backend", "_client")

    def __init__(self, hostname: str, address: str, leads_here: Callable[[bytes], bool], now: float) -> None:
        """`address` is the client's; `leads_here` says whether a host leads to the connection's route, `hostname`."""
        self._backend = Http2Backend()
        self._client = Http1Client(Site(hostname, forwarded(address), leads_here), self._backend, now)

    def __repr__(self) -> str:
        return f"<Bridge {self._client!r} {self._backend!r}>"

    # What the owner asks

    @property
    def ending(self) -> Ending | None:
        """How the client's connection ends."""
        return self._client.ending

    @property
    def wants_client(self) -> bool:
        """Whether the client is to be read."""
        exchange = self._client.exchange
        return not self._client.is_slowed and (exchange is None or exchange.to_backend.has_room)

    @property
    def wants_backend(self) -> bool:
        """Always, unless it is slowed; the drive bounds what is unsent to the client."""
        pace = self._backend.pace
        return pace is None or not pace.over

    @property
    def has_backend(self) -> bool:
        """Whether the backend's connection is still of use."""
        return self._backend.is_there

    @property
    def wants_dial(self) -> bool:
        """Whether to make a new backend connection."""
        return self._backend.wants_dial

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        exchange = self._client.exchange
        expecting = exchange is not None and exchange.to_backend.coming is Coming.EXPECTING
        return expecting or self._client.is_slowed or not self.wants_backend

    def take_for_client(self) -> bytes:
        """Bytes for the client."""
        return self._client.take()

    def take_for_backend(self) -> bytes:
        """Bytes for the backend."""
        return self._backend.take()

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk: no more than fit a turn, because h2 copies them."""
        return min(most, READ_SIZE)

    def take_ended(self) -> list[Finished]:
        """Exchanges that are over, each once."""
        return self._client.take_ended()

    # What happens to the client

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent."""
        return self._client.receive(data, turn, now)

    def client_closed(self, now: float) -> None:
        """The client has ended its side."""
        self._client.closed(now)

    def client_lost(self, now: float) -> None:
        """The client's connection is broken."""
        self._client.cut(ExchangeEnd.CLIENT_GONE, "the client's connection broke", now)

    def cut(self, why: str, now: float) -> None:
        """We end the client's connection where it stands."""
        self._client.cut(ExchangeEnd.CUT, why, now)

    # What happens to the backend

    def dialling(self) -> None:
        """The owner makes a new connection."""
        self._backend.wants_dial = False

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent."""
        client, taken = self._client, len(data)
        if client.ending:
            return taken
        try:
            taken = self._backend.receive(data, turn, client.exchange, now)
            if (pace := self._backend.pace) is not None and pace.over:
                client.fault = client.fault or pace.note
        except BackendFault as fault:
            self._lose(f"the backend broke HTTP: {fault}", ExchangeEnd.BACKEND_FAULT)
        client.settle(now)
        self._pass_on(now)
        return taken

    def backend_closed(self, now: float) -> None:
        """The backend's connection has ended."""
        if self._backend.is_there:
            self._lose("the backend closed its connection", ExchangeEnd.BACKEND_GONE)
        self._pass_on(now)

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """The backend could not be reached."""
        self._backend.drop()
        if self._client.exchange is not None:
            self._client.exchange.fail(status, ExchangeEnd.ANSWERED, why)
        self._client.settle(now)

    def _lose(self, why: str, end: ExchangeEnd) -> None:
        processed = self._backend.drop()
        if self._client.exchange is not None:
            self._client.exchange.on_lost(why, processed, end)

    def _pass_on(self, now: float) -> None:
        """A window may have opened, or there is another connection."""
        if self._client.exchange is not None:
            self._client.exchange.send_on()
        self._client.settle(now)

    # Time

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long."""
        self._client.give_up(now)

    def drain(self, now: float) -> None:  # noqa: ARG002 - the Core's
        """Take no further request."""
        self._client.drain()

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""
        if (pace := self._backend.pace) is not None:
            pace.must_wait(now)
        self._client.tick(now, idle)
