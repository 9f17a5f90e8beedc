"""The request's half of an exchange: from the client's connection, through a buffer, to the backend's end.

It has two states, one for each of its ends: how much has come from the client, and how much has gone to the backend.
A second attempt sets only the second one back.
"""

from enum import Enum

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.body import Body
from mcproxy.l7.bridge.bounds import ATTEMPTS, BODY_GRACE_SECONDS, MAX_UNREAD, MAX_WAITING, MIN_BODY_RATE
from mcproxy.l7.bridge.ends import BackendEnd, BackendFault, Processed, RequestHead, Takes
from mcproxy.wire.fields import NO_REQUEST, Request, passed_request_trailers
from mcproxy.wire.hpack_block import Field

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))  # RFC 9110, section 9.2.1


class Coming(Enum):
    """How much of the request has come from the client."""

    EXPECTING = "expecting"  # the client waits for 100 before it sends the body
    COMING = "coming"  # the rest of the body, or of the client's half of a tunnel, is still to come
    UPGRADING = "upgrading"  # all of a request for a tunnel, which may still become one
    COMPLETE = "complete"  # all of it


class Going(Enum):
    """How much of the request has gone to the backend."""

    UNSENT = "unsent"  # nothing
    OPEN = "open"  # its head, and more may follow
    SENT = "sent"  # all of it
    LET_GO = "let go"  # nothing more will be sent, and nothing more is expected


_COMING: dict[Coming, frozenset[Coming]] = {
    Coming.EXPECTING: frozenset((Coming.COMING, Coming.COMPLETE)),
    Coming.COMING: frozenset((Coming.COMPLETE, Coming.EXPECTING)),
    Coming.UPGRADING: frozenset((Coming.COMING,)),  # the tunnel is open
    Coming.COMPLETE: frozenset((Coming.UPGRADING,)),
}
_GOING: dict[Going, frozenset[Going]] = {
    Going.UNSENT: frozenset((Going.OPEN, Going.SENT, Going.LET_GO)),
    Going.OPEN: frozenset((Going.SENT, Going.UNSENT, Going.LET_GO)),  # UNSENT: it goes again
    Going.SENT: frozenset((Going.UNSENT, Going.LET_GO)),
    Going.LET_GO: frozenset((Going.LET_GO,)),
}


class RequestHalf:
    """The request of one exchange. `now` is seconds of the bridge's clock."""

    __slots__ = (
        "_attempts", "_dials", "_fields", "_head", "_progress", "_trailers", "backend", "body", "coming",
        "going", "method", "request",
    )  # fmt: skip

    def __init__(self, backend: BackendEnd, now: float) -> None:
        self.backend = backend
        self.method = b""  # the client's; request.method is the backend's
        self.request = NO_REQUEST
        self.coming = Coming.COMING
        self.going = Going.UNSENT
        self.body = Body(now)
        self._head: RequestHead | None = None  # None: not known to be a valid request yet
        self._fields: tuple[Field, ...] = ()  # of the head, with ours
        self._trailers: list[Field] = []
        self._progress = now  # when the body last grew, or could not
        self._attempts = 0  # how often its head was sent
        self._dials = 0  # connections made for it, whether it was sent there or not

    def __repr__(self) -> str:
        return f"<RequestHalf {self.method!r} {self.coming.value}, {self.going.value} {self.body!r}>"

    def _come(self, state: Coming) -> None:
        assert state in _COMING[self.coming], (self, state)
        self.coming = state

    def _go(self, state: Going) -> None:
        assert state in _GOING[self.going], (self, state)
        self.going = state

    @property
    def is_read(self) -> bool:
        """Whether the client has sent all of the message."""
        return self.coming is Coming.COMPLETE or self.coming is Coming.UPGRADING

    @property
    def has_room(self) -> bool:
        """Whether more of the body may be taken from the client."""
        return self.body.waiting_bytes <= MAX_WAITING

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a tunnel."""
        return self._head is not None and self._head.is_websocket

    @property
    def leaves_much_unread(self) -> bool:
        """Whether to end the connection rather than to read the rest of a body that is no longer wanted."""
        if self.is_read:
            return False
        # A client that still waits for 100 may send the body now, or not: it is impossible to know.
        rest = max(self.request.content_length - self.body.received, self.body.dropped)
        return self.coming is Coming.EXPECTING or rest > MAX_UNREAD

    # From the client

    def read(self, method: bytes, request: Request, has_body: bool) -> None:
        """The head was read; whether it is valid is not known yet, so `request` has what the log needs."""
        self.method = method
        self.request = request
        if not has_body:
            self._come(Coming.COMPLETE)

    def accept(self, head: RequestHead, ours: tuple[Field, ...]) -> None:
        """The head is valid; `ours` are the fields that we add."""
        self._head = head
        self._fields = head.fields + ours
        self.request = head.request
        if head.expects_continue:
            self._come(Coming.EXPECTING)
        elif head.is_websocket:
            self._come(Coming.UPGRADING)

    def add(self, data: bytes, now: float) -> None:
        """Some of the message came: a piece of the body, or b"" for its framing only."""
        if data:
            self.body.add(data)
        self._progress = self.body.moved = now
        self.invited()  # the client did not wait

    def invited(self) -> bool:
        """The client waits for 100 no longer. Whether it did."""
        expecting = self.coming is Coming.EXPECTING
        if expecting:
            self._come(Coming.COMING)
        return expecting

    def open_tunnel(self) -> None:
        """The request becomes the client's half of a tunnel."""
        self._come(Coming.COMING)

    def end(self, trailers: list[Field]) -> None:
        """All of the message, or of the tunnel, came."""
        self._come(Coming.COMPLETE)
        self._trailers = passed_request_trailers(trailers)

    def waits(self, now: float, seconds: float) -> bool:
        """Whether it has been the backend's turn for so long: all came, or some came that it doesn't take."""
        return now - self.body.moved >= seconds and (self.is_read or self.body.waiting_bytes > 0)

    def is_slow(self, started: float, now: float) -> bool:
        """Whether the client takes too long to send the body."""
        if self.is_read:
            return False
        if self.body.waiting_bytes:
            self._progress = now  # it is the backend that is slow
            return False
        age = now - started - BODY_GRACE_SECONDS
        if self.request.content_length >= 0 and self.body.received < age * MIN_BODY_RATE:
            return True
        return now - self._progress > BODY_STALL_SECONDS

    # To the backend

    def begin(self) -> Takes:
        """Send the head, over a new connection if the present one takes no request. Raises BackendFault."""
        assert self._head is not None
        backend = self.backend
        if not backend.accepts:
            if self._dials >= ATTEMPTS:
                raise BackendFault("it takes no request")
            self._dials += 1
            backend.connect()
        takes = backend.takes(self._head)
        if takes is Takes.NOW:
            self._attempts += 1
            ended = self.coming is Coming.COMPLETE and not self.body.waiting_bytes and not self._trailers
            backend.head(self._fields, ended)
            self._go(Going.SENT if ended else Going.OPEN)
        return takes

    def send(self) -> None:
        """Send as much of the body as there is room for, and the end if all has come. Raises BackendFault."""
        if self.going is not Going.OPEN:
            return
        backend, body = self.backend, self.body
        while body.waiting_bytes:
            room = backend.room
            if room <= 0:
                return
            backend.body(body.next_piece(room))
        if self.coming is Coming.COMPLETE:
            self._go(Going.SENT)
            backend.end(self._trailers)

    def goes_again(self, processed: Processed) -> bool:
        """Send the request once more over a new connection, if that is allowed.

        RFC 9110, section 9.2.2 and RFC 9113, section 8.7: a request that was not processed may go again, whatever its
        method. A backend may close an idle connection at any moment, so a safe request without a body goes again if its
        connection had been used before.
        """
        if processed is Processed.POSSIBLY:
            return False
        if processed is Processed.UNKNOWN and (self.method not in _SAFE or self.body.received):
            return False
        if self._attempts >= ATTEMPTS or not self.body.replayable or self._head is None:
            return False
        self.backend.retire()
        self.body.rewind()
        if self.going is not Going.UNSENT:
            self._go(Going.UNSENT)
        try:
            self.begin()
        except BackendFault:
            self.backend.drop()
            return False
        return True

    def given_up(self) -> None:
        """The backend has given the request up."""
        self._go(Going.LET_GO)

    def let_go(self, answered: bool) -> None:
        """Nothing more is sent or expected; `answered`: the answer is complete."""
        complete = self.going is Going.LET_GO or (self.going is Going.SENT and answered)
        self._go(Going.LET_GO)
        self.backend.let_go(complete)
