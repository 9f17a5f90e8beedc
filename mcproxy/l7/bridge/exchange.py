"""One request of an HTTP/1.1 client and its answer, between the client's end and the backend's.

What it shows of itself is what the HTTP/2 side's `Stream` shows, so that one access log serves both. An exchange always
ends by being `over`; what follows for the connection is for the bridge to see.

**100-continue** is the backend's to say (RFC 9110, section 10.1.1); where it says nothing, we do after EXPECT_SECONDS.
"""

from enum import Enum

from mcproxy.l7.bounds import BODY_STALL_SECONDS, MAX_INTERIM
from mcproxy.l7.bridge.backend_end import BackendEnd
from mcproxy.l7.bridge.backend_http2 import BackendFault
from mcproxy.l7.bridge.bounds import (
    BODY_GRACE_SECONDS,
    EXPECT_SECONDS,
    MAX_UNREAD,
    MAX_WAITING,
    MIN_BODY_RATE,
    SETTINGS_SECONDS,
    STEP_COST,
)
from mcproxy.l7.bridge.client_http1 import ClientEnd
from mcproxy.l7.bridge.outgoing import Going, Outgoing
from mcproxy.l7.bridge.translate import Translated, Upgrade, accept_key, answer_trailers, request_trailers
from mcproxy.l7.core import ExchangeEnd, Turn
from mcproxy.wire.fields import NO_REQUEST, Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head, Requests
from mcproxy.wire.http2 import ErrorCode

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))  # RFC 9110, section 9.2.1


class Coming(Enum):
    """How far the request has come from the client."""

    EXPECTING = "expecting"  # the client waits for 100 before it sends the body
    COMING = "coming"
    COMPLETE = "complete"


class Answer(Enum):
    """How far the answer is."""

    AWAITED = "awaited"
    BEGUN = "begun"  # its final head has gone to the client
    COMPLETE = "complete"
    OURS = "ours"  # another one, of our own, has gone instead
    BROKEN = "broken"  # it will never be complete, and its client must not take it for that


class Exchange:
    """Times are seconds of the clock that the bridge is given."""

    __slots__ = (
        "_backend",
        "_client",
        "_interim",
        "_key",
        "_takes_interim",
        "_trailers",
        "answer",
        "coming",
        "end",
        "ended",
        "id",
        "method",
        "outgoing",
        "over",
        "progress",
        "request",
        "sent",
        "started",
        "status",
        "why",
    )  # fmt: skip

    def __init__(self, number: int, client: ClientEnd, backend: BackendEnd, now: float) -> None:
        self._client = client
        self._backend = backend
        self._key = b""  # Sec-WebSocket-Key
        self._takes_interim = False  # HTTP/1.0 knows no 1xx (RFC 9110, section 15.2)
        self._interim = 0  # heads so far
        self._trailers: list[Field] = []  # of the answer
        self.id = number  # of the connection's requests, from 1
        self.method = b""  # the client's; request.method is the backend's
        self.request = NO_REQUEST
        self.outgoing = Outgoing()
        self.coming = Coming.COMING
        self.answer = Answer.AWAITED
        self.started = self.progress = now  # when its body last grew
        self.ended = 0.0
        self.status = 0  # of the final answer; 0: not begun
        self.sent = 0
        self.over = False
        self.end = ExchangeEnd.DONE  # once it is over
        self.why = ""  # what went wrong, for the log

    def __repr__(self) -> str:
        states = f"{self.coming.value}, {self.outgoing.state.value}, {self.answer.value}"
        return f"<Exchange {self.id} {self.method!r} {self.request.path!r} {self.status} {states}>"

    @property
    def received(self) -> int:
        """Of the request's body."""
        return self.outgoing.received

    @property
    def in_tunnel(self) -> bool:
        """Whether it has become a WebSocket's two-way stream."""
        return self.status == 101

    @property
    def leaves_much_unread(self) -> bool:
        """Whether its client had better not send the rest of its body, where that is not wanted any more."""
        if self.coming is Coming.COMPLETE:
            return False
        # One that still waits for 100 may now send the body, or not: nobody can know.
        expecting = self.coming is Coming.EXPECTING
        return expecting or max(self.request.content_length - self.received, self.outgoing.dropped) > MAX_UNREAD

    # The request

    def read(self, head: Head) -> None:
        """Its head has come; whether it is a request, its translation shows."""
        self.method = head.method
        self.request = Request(head.method, head.host or b"", b"", head.target)
        self._client.begin(head)
        if not head.has_body:
            self.coming = Coming.COMPLETE

    def accept(self, translated: Translated) -> None:
        """It is a request."""
        self.request = translated.request
        self._key = translated.key
        self._takes_interim = translated.is_1_1
        if translated.expects_continue:
            self.coming = Coming.EXPECTING
        websocket = translated.upgrade is Upgrade.WEBSOCKET
        self.outgoing = Outgoing(translated.fields, is_safe=self.method in _SAFE, is_websocket=websocket)
        self.outgoing.complete = self.coming is Coming.COMPLETE and not websocket

    def dispatch(self) -> None:
        """Send its head to the backend."""
        try:
            if not self._backend.begin(self.outgoing):
                self.answer_with(501, ExchangeEnd.ANSWERED)
        except BackendFault as fault:
            self.lose(str(fault))

    def take(self, requests: Requests, data: bytes, turn: Turn, now: float) -> int:
        """Take more of its body, or of the tunnel; 0: something has to be waited for. Raises BadMessage.

        What is offered of a tunnel is taken whole: its end may be behind it.
        """
        if self.in_tunnel:
            requests.tunnel()
        outgoing = self.outgoing
        if not requests.in_message or (outgoing.waiting_bytes > MAX_WAITING and not self.in_tunnel):
            return 0
        body: list[bytes] = []
        size, steps = requests.next_body(data, -(-turn.left // STEP_COST), body)
        turn.spend(steps * STEP_COST)
        if not size:
            return 0
        if body:
            outgoing.add(b"".join(body))  # a frame for each small chunk would cost more than its bytes
        self.progress = now
        if self.coming is Coming.EXPECTING:
            self.coming = Coming.COMING  # it did not wait
        self._see_end(requests)
        if self.answer is Answer.COMPLETE:
            self._drop()
        self.send()
        return size

    def _see_end(self, requests: Requests) -> None:
        if not requests.in_message:
            self.coming = Coming.COMPLETE
            self.outgoing.trailers = request_trailers(requests.trailers)
            self.outgoing.complete = True

    def _drop(self) -> None:
        """The answer is complete: nobody needs what the client still sends, but that it ends."""
        self.outgoing.drop()
        if self.coming is Coming.COMPLETE or self.leaves_much_unread:
            self.finish(ExchangeEnd.DONE)

    def end_tunnel(self) -> None:
        """The client has ended its half."""
        self.outgoing.complete = True
        self.send()

    def send(self) -> None:
        """Pass on what there is, over another connection if need be."""
        while not self.over:
            try:
                self._backend.send(self.outgoing)
            except BackendFault as fault:
                self.lose(str(fault))
            else:
                return

    # The answer (Answered)

    def on_ready(self) -> None:
        """The backend has said what it offers."""
        if self.outgoing.state is Going.UNSENT:
            self.dispatch()

    def on_interim(self, fields: list[Field]) -> None:
        """A 1xx head. Raises BackendFault."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BackendFault("too many interim answers")
        if fields[0][1] == b"100":
            self._invite()
        elif self._takes_interim:
            self._client.interim(fields)

    def _invite(self) -> None:
        if self.coming is Coming.EXPECTING:
            self.coming = Coming.COMING
            self._client.invite()

    def on_head(self, fields: list[Field], ended: bool) -> None:
        """The final head. Raises LocalProtocolError."""
        if self.outgoing.is_websocket and fields[0][1][:1] == b"2" and not ended:
            self._client.switch(fields, accept_key(self._key))
            self.status = 101
        else:
            empty = ended and self.method != b"HEAD"
            self.status = self._client.head(fields, empty, self.leaves_much_unread)
        self.answer = Answer.BEGUN
        self.outgoing.keep_no_more()

    def on_data(self, data: bytes) -> None:
        """A piece of the body. Raises LocalProtocolError."""
        self.sent += len(data)
        if self.in_tunnel:
            self._client.raw(data)
        else:
            self._client.data(data)

    def on_trailers(self, fields: list[Field]) -> None:
        """The trailers."""
        self._trailers = answer_trailers(fields)

    def on_end(self) -> None:
        """The answer is complete. Raises LocalProtocolError."""
        if not self.in_tunnel:
            self._client.end(self._trailers)
        self.answer = Answer.COMPLETE
        if self.in_tunnel or self.coming is Coming.COMPLETE or self.leaves_much_unread:
            self.finish(ExchangeEnd.DONE)
        else:
            # What the client still sends is read and dropped, so that another request can follow.
            self._backend.let_go(self.outgoing, answer_complete=True)

    def on_reset(self, code: int) -> None:
        """The backend gave it up."""
        if self.answer is Answer.COMPLETE:
            return  # it only says that the rest of the request is not needed (RFC 9113, section 8.1)
        if code == ErrorCode.REFUSED_STREAM and self._backend.again(self.outgoing):
            return
        self.outgoing.state = Going.LET_GO  # by the backend
        self.fail(502, ExchangeEnd.BACKEND_RESET, f"the backend reset the stream: {code}")

    # The end

    def tick(self, now: float) -> bool:
        """Look at what may not take for ever. Whether the client was too slow."""
        if self.coming is Coming.EXPECTING and self.outgoing.stream and now - self.started > EXPECT_SECONDS:
            self._invite()
        if self.coming is not Coming.COMPLETE and self.is_slow(now):
            return True
        if not self.outgoing.stream and now - self.started > SETTINGS_SECONDS:
            self.fail(504, ExchangeEnd.ANSWERED, "the backend sent no SETTINGS")
        return False

    def is_slow(self, now: float) -> bool:
        """Whether the client takes too long over its body."""
        if self.outgoing.waiting_bytes:
            self.progress = now  # it is the backend that doesn't take it
            return False
        age = now - self.started - BODY_GRACE_SECONDS
        if self.request.content_length >= 0 and self.received < age * MIN_BODY_RATE:
            return True
        return now - self.progress > BODY_STALL_SECONDS

    def lose(self, why: str) -> None:
        """The connection to the backend is of no use any more."""
        if self.answer is Answer.COMPLETE:
            self._backend.drop()  # only the rest of the request is yet to come, which nobody needs
        elif not self._backend.lost(self.outgoing):
            self.fail(502, ExchangeEnd.BACKEND_GONE, why)

    def fail(self, status: int, end: ExchangeEnd, why: str) -> None:
        """It can't be completed: an answer of ours where none has begun, else no clean end."""
        self.why = why
        if self.answer is Answer.AWAITED:
            self.answer_with(status, end)
        else:
            self.answer = Answer.BROKEN
            self.finish(end)

    def answer_with(self, status: int, end: ExchangeEnd) -> None:
        """Answer it ourselves."""
        self.status = status
        self.sent = self._client.own(status, self.coming is not Coming.COMPLETE)
        self.answer = Answer.OURS
        self.finish(end)

    def abandon(self) -> None:
        """Its client has left."""
        complete = self.answer is Answer.COMPLETE
        if self.answer is Answer.BEGUN:
            self.answer = Answer.BROKEN
        self.finish(ExchangeEnd.DONE if complete else ExchangeEnd.CLIENT_GONE)

    def finish(self, end: ExchangeEnd) -> None:
        """It is over."""
        self.over = True
        self.end = end
        self._backend.let_go(self.outgoing, self.answer is Answer.COMPLETE)
