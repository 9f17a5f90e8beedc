"""The backend's end of the bridge: which connection carries a request, and whether it may go once more.

A request that a backend did not process (GOAWAY, REFUSED_STREAM) is sent once more over a new connection if its body is
at hand; so is one with a safe method whose connection, used before, ended without a word, because a backend may close
an idle connection at any moment.
"""

from typing import Protocol

from h2 import events

from mcproxy.l7.bridge.backend_http2 import BackendConnection, BackendFault, checked_head, fields_of
from mcproxy.l7.bridge.bounds import ATTEMPTS
from mcproxy.l7.bridge.outgoing import Going, Outgoing
from mcproxy.l7.core import Turn
from mcproxy.wire.hpack_block import Field


class Answered(Protocol):
    """What becomes of the answer to a request; each call may raise BackendFault."""

    outgoing: Outgoing

    @property
    def over(self) -> bool:
        """Whether to call it no more."""

    def on_ready(self) -> None:
        """The backend has said what it offers."""

    def on_interim(self, fields: list[Field]) -> None:
        """A 1xx head."""

    def on_head(self, fields: list[Field], ended: bool) -> None:
        """The final head; `ended`: nothing follows it."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""

    def on_trailers(self, fields: list[Field]) -> None:
        """The trailers."""

    def on_end(self) -> None:
        """The answer is complete."""

    def on_reset(self, code: int) -> None:
        """The backend gave it up."""


class BackendEnd:
    """One connection to the backend at a time, replaced where it must be, and one request at a time on it."""

    def __init__(self) -> None:
        self._connection: BackendConnection | None = None
        self.wants_dial = False  # for the connection that there is

    def __repr__(self) -> str:
        return f"<BackendEnd {self._connection!r}{' to be dialled' if self.wants_dial else ''}>"

    @property
    def is_there(self) -> bool:
        """Whether there is a connection that is of use."""
        return self._connection is not None

    def take(self) -> bytes:
        """What is to be sent."""
        return self._connection.take() if self._connection else b""

    def drop(self) -> None:
        """The connection is of no use any more."""
        self._connection = None

    # Requests

    def begin(self, request: Outgoing) -> bool:
        """Send a request's head, over a new connection if the present one takes no request.

        False: it is a WebSocket, and the backend takes none. Raises BackendFault.
        """
        connection = self._connection
        if connection is None or not connection.accepts:
            if request.dials >= ATTEMPTS:
                raise BackendFault("it takes no request")
            request.dials += 1
            self._connection = connection = BackendConnection()
            self.wants_dial = True
        if request.is_websocket:
            if not connection.heard:
                return True  # whether it takes one, only its SETTINGS tell: see `Answered.on_ready`
            if not connection.offers_websocket:
                return False
        request.attempts += 1
        ended = request.complete and not request.waiting and not request.trailers
        request.state = Going.OVER if ended else Going.OPEN
        request.stream = connection.request(request.fields, ended)
        return True

    def send(self, request: Outgoing) -> None:
        """Send what may go of what has come of the body, and its end behind it. Raises BackendFault."""
        connection = self._connection
        if connection is None or request.state is not Going.OPEN:
            return
        while request.waiting:
            room = connection.room(request.stream)
            if room <= 0:
                return
            connection.send(request.stream, request.next_piece(room))
        if request.complete:
            request.state = Going.OVER
            connection.end(request.stream, request.trailers)

    def again(self, request: Outgoing) -> bool:
        """Send a request once more over a new connection, if that is possible."""
        if request.attempts >= ATTEMPTS or not request.replayable:
            return False
        if self._connection is not None:
            self._connection.accepts = False
        request.rewind()
        try:
            return self.begin(request)
        except BackendFault:
            self._connection = None
            return False

    def lost(self, request: Outgoing) -> bool:
        """The connection is of no use any more. Whether the request goes again."""
        connection, self._connection = self._connection, None
        if connection is not None and 0 < request.stream <= connection.processed:
            used_before = connection.requests > 1
            if not (used_before and request.is_safe and not request.received):
                return False
        return self.again(request)

    def left_behind(self, request: Outgoing | None) -> bool:
        """Let go of a connection that takes no further request. Whether `request` is lost with it."""
        connection = self._connection
        if connection is None or connection.accepts:
            return False
        if request is None:
            self._connection = None
            return False
        covered = 0 < request.stream <= connection.processed  # it is answered yet
        return not covered and not self.again(request)

    def let_go(self, request: Outgoing, answer_complete: bool) -> None:
        """Nothing more is to come or to go on its stream."""
        connection, state = self._connection, request.state
        request.state = Going.LET_GO
        done = state is Going.LET_GO or (state is Going.OVER and answer_complete)
        if connection is not None and request.stream and not done:
            try:
                connection.cancel(request.stream)
            except BackendFault:
                self._connection = None

    # Answers

    def receive(self, data: bytes, turn: Turn, exchange: Answered | None) -> int:
        """Judge what came; returns how many bytes were taken. Raises BackendFault, and what `exchange` raises."""
        connection = self._connection
        if connection is None:
            return len(data)
        found, taken = connection.receive(data, turn)
        for event in found:
            if exchange is None or exchange.over or self._connection is not connection:
                break
            if isinstance(event, events.RemoteSettingsChanged):
                exchange.on_ready()
            elif getattr(event, "stream_id", 0) == exchange.outgoing.stream:  # else late, of a request that is over
                _tell(exchange, event)
        return taken


def _tell(exchange: Answered, event: events.Event) -> None:
    if isinstance(event, events.DataReceived):
        exchange.on_data(bytes(event.data))
    elif isinstance(event, events.InformationalResponseReceived):
        exchange.on_interim(checked_head(event.headers))
    elif isinstance(event, events.ResponseReceived):
        exchange.on_head(checked_head(event.headers), event.stream_ended is not None)
    elif isinstance(event, events.TrailersReceived):
        exchange.on_trailers(fields_of(event.headers))
    elif isinstance(event, events.StreamEnded):
        exchange.on_end()
    elif isinstance(event, events.StreamReset):
        exchange.on_reset(int(event.error_code))
