"""The request's half of an exchange: from the client's connection, through a buffer, to the backend's end.

It has two states, one for each of its ends: how much has come from the client, and how much has gone to the backend.
A second attempt sets only the second one back.
"""

from enum import Enum
from typing import Final

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.body import Body
from mcproxy.l7.bridge.bounds import ATTEMPTS, BODY_GRACE_SECONDS, MAX_UNREAD, MAX_WAITING, MIN_BODY_RATE
from mcproxy.l7.bridge.ends import Answered, BackendEnd, BackendFault, ClientEnd, NewEnd, Processed, Takes
from mcproxy.l7.bridge.heads import RequestHead, Upgrade
from mcproxy.l7.core import LineState
from mcproxy.wire.fields import NO_REQUEST, Request, passed_request_trailers
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
BUSY: Final = LineState.BUSY
WANTED: Final = LineState.WANTED
POSSIBLY: Final = Processed.POSSIBLY
UNHEARD: Final = Processed.UNHEARD
UNKNOWN: Final = Processed.UNKNOWN
NOW: Final = Takes.NOW
NO_UPGRADE: Final = Upgrade.NONE

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110, section 9.2.2


class Coming(Enum):
    """How much of the request has come from the client."""

    __hash__ = object.__hash__  # a member is one of a kind; the one of Enum is written in Python

    EXPECTING = "expecting"  # the client waits for 100 before it sends the body
    COMING = "coming"  # the rest of the body, or of the client's half of a tunnel, is still to come
    UPGRADING = "upgrading"  # all of a request for a tunnel, which may still become one; the tunnel's bytes wait
    COMPLETE = "complete"  # all of it


class Going(Enum):
    """How much of the request has gone to the backend."""

    __hash__ = object.__hash__  # a member is one of a kind; the one of Enum is written in Python

    UNSENT = "unsent"  # nothing
    OPEN = "open"  # its head, and more may follow
    SENT = "sent"  # all of it
    LET_GO = "let go"  # nothing more will be sent, and nothing more is expected


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
COMING: Final = Coming.COMING
COMPLETE: Final = Coming.COMPLETE
EXPECTING: Final = Coming.EXPECTING
UPGRADING: Final = Coming.UPGRADING
LET_GO: Final = Going.LET_GO
OPEN: Final = Going.OPEN
SENT: Final = Going.SENT
UNSENT: Final = Going.UNSENT


_COMING: dict[Coming, frozenset[Coming]] = {
    Coming.EXPECTING: frozenset((Coming.COMING, Coming.COMPLETE)),
    Coming.COMING: frozenset((Coming.COMPLETE, Coming.EXPECTING, Coming.UPGRADING)),
    Coming.UPGRADING: frozenset((Coming.COMING, Coming.COMPLETE)),  # the tunnel is open, or has ended before that
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
        "_barred", "_client", "_new_end", "_searches", "_trailers", "attempts", "backend", "body",
        "coming", "going", "head", "request",
    )  # fmt: skip

    def __init__(self, new_end: NewEnd, client: ClientEnd, now: float) -> None:
        """`new_end` makes a way to the backend; `client` learns how much of the body has gone."""
        self._new_end = new_end
        self._client = client
        self.backend: BackendEnd | None = None
        self.request = NO_REQUEST
        self.coming = COMING
        self.going = UNSENT
        self.body = Body(now)
        self.head: RequestHead | None = None  # None: not known to be valid yet, or needed no more
        self._trailers: list[Field] = []
        self.attempts = 0  # how often its head was sent
        self._searches = 0  # for a connection, whether it was sent there or not
        self._barred = ""  # a version of HTTP in which the backend may have processed it: it must not go again in that

    def __repr__(self) -> str:
        return f"<RequestHalf {self.request.method!r} {self.coming.value}, {self.going.value} {self.body!r}>"

    def _come(self, state: Coming) -> None:
        assert state in _COMING[self.coming], (self, state)
        self.coming = state

    def _go(self, state: Going) -> None:
        assert state in _GOING[self.going], (self, state)
        self.going = state

    @property
    def is_read(self) -> bool:
        """Whether the client has sent all of the message."""
        return self.coming is COMPLETE or self.coming is UPGRADING

    @property
    def has_room(self) -> bool:
        """Whether more of the body may be taken from the client."""
        return self.body.waiting_bytes <= MAX_WAITING

    @property
    def upgrade(self) -> Upgrade:
        """Whether it asks its connection to become a tunnel."""
        return self.head.upgrade if self.head is not None else NO_UPGRADE

    @property
    def leaves_much_unread(self) -> bool:
        """Whether to end the connection rather than to read the rest of a body that is no longer wanted."""
        if self.is_read:
            return False
        # A client that still waits for 100 may send the body now, or not: it is impossible to know.
        rest = max(self.request.content_length - self.body.received, self.body.dropped)
        return self.coming is EXPECTING or rest > MAX_UNREAD

    # From the client

    def read(self, request: Request, has_body: bool) -> None:
        """The head was read; whether it is valid is not known yet, so `request` has what the log needs."""
        self.request = request
        if not has_body:
            self.coming = COMPLETE

    def accept(self, head: RequestHead) -> None:
        """The head is valid."""
        self.head = head
        self.request = head.request
        if head.expects_continue:
            if self.coming is COMING:
                self._come(EXPECTING)
        elif head.upgrade is not NO_UPGRADE:
            self._come(UPGRADING)

    def add(self, data: Piece, now: float) -> None:
        """Some of the message came: a piece of the body, or b"" for its framing only."""
        if data:
            self.body.add(data)
        self.body.progress = self.body.moved = now
        self.invited()  # the client did not wait

    def invited(self) -> bool:
        """The client waits for 100 no longer. Whether it did."""
        expecting = self.coming is EXPECTING
        if expecting:
            self._come(COMING)
        return expecting

    def open_tunnel(self) -> None:
        """The request becomes the client's half of a tunnel."""
        if self.coming is UPGRADING:
            self._come(COMING)

    def end(self, trailers: list[Field]) -> None:
        """All of the message, or of the tunnel, came."""
        self._come(COMPLETE)
        self._trailers = passed_request_trailers(trailers)

    def waits(self, now: float, seconds: float) -> bool:
        """Whether it has been the backend's turn for so long: all came, or some came that it doesn't take."""
        since = self.body.moved if self.backend is None else max(self.body.moved, self.backend.lagged)
        return now - since >= seconds and (self.is_read or self.body.waiting_bytes > 0)

    def is_slow(self, started: float, now: float) -> bool:
        """Whether the client takes too long to send the body."""
        if self.is_read:
            return False
        if self.body.waiting_bytes:
            self.body.progress = now  # it is the backend that is slow
            return False
        age = now - max(started, self.body.asked) - BODY_GRACE_SECONDS
        if self.request.content_length >= 0 and self.body.received < age * MIN_BODY_RATE:
            return True
        return now - self.body.progress > BODY_STALL_SECONDS

    # To the backend

    @property
    def version(self) -> str:
        """The version of HTTP in which it went to the backend; "": it didn't."""
        return self.backend.version if self.backend is not None and self.attempts else ""

    @property
    def reused(self) -> bool:
        """Whether its connection to the backend had carried another request before."""
        return self.backend is not None and self.backend.reused

    @property
    def waits_for_settings(self) -> bool:
        """Whether it has a connection, and can't be sent before the backend has said what it offers."""
        return self.going is UNSENT and self.backend is not None and self.backend.state is BUSY

    def begin(self, exchange: Answered) -> Takes:
        """Send the head, by a new way if the present one is closed. Raises BackendFault."""
        head, backend = self.head, self.backend
        assert head is not None
        if backend is None or not (backend.state is BUSY or backend.state is WANTED):
            if self._searches >= ATTEMPTS:
                raise BackendFault("it takes no request")
            self._searches += 1
            self.backend = backend = self._new_end(exchange)
        takes = backend.takes(head)
        if takes is NOW:
            if backend.version == self._barred:
                raise BackendFault("the backend closed its connection, and may have processed the request")
            self.attempts += 1
            ended = self.coming is COMPLETE and not self.body.waiting_bytes and not self._trailers
            backend.begin(head, ended)
            self._go(SENT if ended else OPEN)
        return takes

    def send(self) -> None:
        """Send as much of the body as there is room for, and the end if all has come. Raises BackendFault."""
        backend = self.backend
        if self.going is not OPEN or backend is None or self.coming is UPGRADING:
            return
        body = self.body
        while body.waiting_bytes:
            room = backend.room
            if room <= 0:
                return
            piece = body.next_piece(room)
            backend.body(piece)
            self._client.taken(len(piece))
            if len(piece) == room and body.waiting_bytes:
                return  # that was all the room
        if self.coming is COMPLETE:
            self._go(SENT)
            backend.end(self._trailers)

    def goes_again(self, processed: Processed, exchange: Answered) -> bool:
        """Send the request once more over a new connection, if that is allowed.

        RFC 9110, section 9.2.2 and RFC 9113, section 8.7: a request that was not processed may go again, whatever its
        method. A backend may close an idle connection at any moment, so an idempotent request goes again if its
        connection had been used before. Either needs the whole of its body at hand. One that went as HTTP/2 to a
        backend that then was silent for ever goes again only if the next connection finds a backend of HTTP/1.1 there,
        which can't have read it.
        """
        if processed is POSSIBLY:
            return False
        if processed is UNKNOWN and self.request.method not in _IDEMPOTENT:
            return False
        if self.attempts >= ATTEMPTS or not self.body.replayable or self.head is None:
            return False
        if processed is UNHEARD:
            self._barred = self.version
        self.body.rewind()
        if self.going is not UNSENT:
            self._go(UNSENT)
        if self.backend is not None:
            self.backend.drop()
        try:
            self.begin(exchange)
        except BackendFault:
            return False
        return True

    def given_up(self) -> None:
        """The backend has given the request up."""
        self._go(LET_GO)

    def let_go(self, answered: bool) -> None:
        """Nothing more is sent or expected; `answered`: the answer is complete."""
        complete = self.going is LET_GO or (self.going is SENT and answered)
        self.going = LET_GO
        if self.backend is not None:
            self.backend.let_go(complete)

    def resume(self) -> None:
        """The client takes more of the answer again."""
        if self.backend is not None:
            self.backend.resume()
