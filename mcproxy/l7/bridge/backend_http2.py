"""The backend's end of an exchange in HTTP/2: one connection at a time, and one request at a time on it.

The connection itself is guarded_h2.py. h2's events end here: an exchange gets them in the words of ends.py.
"""

from h2 import events

from mcproxy.l7.bridge.ends import Answered, BackendFault, Processed, RequestHead, Takes
from mcproxy.l7.bridge.guarded_h2 import GuardedH2, checked_head, checked_trailers
from mcproxy.l7.core import Turn
from mcproxy.l7.meters import Pace
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import ErrorCode


class Http2Backend:
    """A `BackendEnd` (ends.py). Methods that send raise BackendFault."""

    __slots__ = ("_connection", "_stream", "_trailers", "wants_dial")

    def __init__(self) -> None:
        self._connection: GuardedH2 | None = None
        self._stream = 0  # of the request on this connection; 0: none
        self._trailers: list[Field] = []  # of its answer
        self.wants_dial = False  # for the present connection, which has no socket yet

    def __repr__(self) -> str:
        return f"<Http2Backend {self._connection!r} {self._stream}{' to be dialled' if self.wants_dial else ''}>"

    @property
    def is_there(self) -> bool:
        """Whether there is a connection that is of use."""
        return self._connection is not None

    @property
    def pace(self) -> Pace | None:
        """What the present connection's small pieces are counted by."""
        return self._connection.meters.pace if self._connection else None

    def take(self) -> bytes:
        """Bytes for the backend, each once."""
        return self._connection.take() if self._connection else b""

    # Connections

    @property
    def accepts(self) -> bool:
        """Whether the present connection takes a request."""
        return self._connection is not None and self._connection.accepts

    def connect(self) -> None:
        """Have a new connection made, in place of the present one."""
        self._connection = GuardedH2()
        self._stream = 0
        self.wants_dial = True

    def retire(self) -> None:
        """Use the present connection for no further request."""
        if self._connection is not None:
            self._connection.accepts = False

    def drop(self) -> Processed:
        """Forget the connection. Returns whether its request may have been processed."""
        connection, self._connection = self._connection, None
        if connection is None or not self._covers(connection):
            return Processed.NO
        return Processed.UNKNOWN if connection.requests > 1 else Processed.POSSIBLY

    def _covers(self, connection: GuardedH2) -> bool:
        """Whether the request was sent, and no GOAWAY says that it was not processed."""
        return 0 < self._stream <= connection.processed

    # The request

    def takes(self, head: RequestHead) -> Takes:
        """Whether the connection takes this request. Only SETTINGS say whether it takes a WebSocket."""
        assert self._connection is not None
        if not head.is_websocket or self._connection.offers_websocket:
            return Takes.NOW
        return Takes.NEVER if self._connection.heard else Takes.LATER

    def head(self, fields: tuple[Field, ...], ended: bool) -> None:
        """Send a request's head; `ended`: nothing follows it."""
        assert self._connection is not None
        self._trailers = []
        self._stream = self._connection.request(fields, ended)

    @property
    def room(self) -> int:
        """Bytes of the request's body that may be sent now."""
        return self._connection.room(self._stream) if self._connection else 0

    def body(self, data: bytes) -> None:
        """Send a piece of the body, of at most `room` bytes."""
        assert self._connection is not None
        self._connection.send(self._stream, data)

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request."""
        if self._connection is not None:
            self._connection.end(self._stream, trailers)

    def let_go(self, complete: bool) -> None:
        """Forget the request; unless it is `complete`, its stream is cancelled."""
        connection, stream = self._connection, self._stream
        self._stream = 0
        if connection is not None and stream and not complete:
            try:
                connection.cancel(stream)
            except BackendFault:
                self._connection = None

    # The answer

    def receive(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Judge what came, and pass it to the exchange. Returns how many bytes were taken.

        Raises BackendFault, also for an answer that the exchange can't pass on.
        """
        connection = self._connection
        if connection is None:
            return len(data)
        if connection.meters.pace.over and connection.meters.pace.must_wait(now):
            return 0
        found, taken = connection.receive(data, turn, now)
        for event in found:
            if exchange is None or exchange.over or self._connection is not connection:
                break
            if isinstance(event, events.RemoteSettingsChanged):
                exchange.on_ready()
            elif getattr(event, "stream_id", 0) == self._stream:  # else late, of a request that is over
                self._pass_on(exchange, event)
        if self._connection is connection and not connection.accepts:
            self._go_away(connection, exchange)
        return taken

    def _go_away(self, connection: GuardedH2, exchange: Answered | None) -> None:
        """The connection takes no further request; one that its GOAWAY covers is still answered."""
        if exchange is None or exchange.over:
            self._connection = None
        elif not self._covers(connection):
            exchange.on_lost("the backend went away", Processed.NO)

    def _pass_on(self, exchange: Answered, event: events.Event) -> None:
        if isinstance(event, events.DataReceived):
            exchange.on_body(bytes(event.data))
        elif isinstance(event, events.InformationalResponseReceived):
            exchange.on_interim(checked_head(event.headers))
        elif isinstance(event, events.ResponseReceived):
            exchange.on_head(checked_head(event.headers), event.stream_ended is not None)
        elif isinstance(event, events.TrailersReceived):
            self._trailers = checked_trailers(event.headers)
        elif isinstance(event, events.StreamEnded):
            exchange.on_end(self._trailers)
        elif isinstance(event, events.StreamReset):
            code = int(event.error_code)
            exchange.on_reset(code, Processed.NO if code == ErrorCode.REFUSED_STREAM else Processed.POSSIBLY)
