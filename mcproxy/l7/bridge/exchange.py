"""One request and its answer, between the two ends of ends.py: what holds for every pairing of a client and a backend.

The exchange joins two halves: the request's (request_half.py) passes to the backend, the answer's (answer_half.py) to
the client, and each keeps its own state. The decisions that need both are here. An exchange always ends by being
`over`; what follows for the client's connection is for that connection to decide.

**A second attempt.** A request that the backend did not process goes once more over a new connection, if its body is at
hand; so does a safe one whose connection, used before, ended without a word (`RequestHalf.goes_again`).

**100-continue** is the backend's to say (RFC 9110, section 10.1.1); if it says nothing, we do after EXPECT_SECONDS.

**421** answers a request for a host that leads to another route (RFC 9110, section 7.4).
"""

from typing import NamedTuple

from mcproxy.l7.bridge.answer_half import AnswerHalf, AnswerState
from mcproxy.l7.bridge.bounds import EXPECT_SECONDS, FIRST_SETTINGS_SECONDS
from mcproxy.l7.bridge.ends import BackendEnd, BackendFault, ClientEnd, Processed, RequestHead, Site, Takes, Upgrade
from mcproxy.l7.bridge.request_half import Coming, Going, RequestHalf
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import BODILESS, Request, grpc_status_in
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import code_name


class Finished(NamedTuple):
    """An exchange that is over, as the log and the counters need it: see `mcproxy.model.FinishedExchange`."""

    id: int  # the position among the connection's requests, from 1
    method: bytes
    request: Request
    status: int
    received: int
    sent: int
    started: float
    ended: float
    end: ExchangeEnd
    why: str
    grpc_status: int | None


class Exchange:
    """Times are seconds of the bridge's clock."""

    __slots__ = ("end", "grpc_status", "id", "started", "to_backend", "to_client", "why")

    def __init__(self, number: int, client: ClientEnd, backend: BackendEnd, now: float) -> None:
        """`number` is its position among the connection's requests, from 1."""
        self.id = number
        self.started = now
        self.to_backend = RequestHalf(backend, now)
        self.to_client = AnswerHalf(client)
        self.end: ExchangeEnd | None = None  # None: it is under way
        self.why = ""  # what went wrong, for the log
        self.grpc_status: int | None = None  # of the answer; None: it is not gRPC's

    def __repr__(self) -> str:
        up, down = self.to_backend, self.to_client
        states = f"{up.coming.value}, {up.going.value}, {down.state.value}"
        return f"<Exchange {self.id} {up.method!r} {up.request.path!r} {down.status} {states}>"

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.end is not None

    @property
    def in_tunnel(self) -> bool:
        """Whether it is a WebSocket's two-way stream now."""
        return self.to_client.state is AnswerState.TUNNEL

    def record(self, now: float) -> Finished:
        """What remains of it once it is over."""
        assert self.end is not None
        up, down = self.to_backend, self.to_client
        return Finished(
            self.id, up.method, up.request, down.status, up.body.received, down.sent, self.started, now, self.end,
            self.why, self.grpc_status,
        )  # fmt: skip

    # The request

    def accept(self, head: RequestHead, site: Site) -> None:
        """The head is valid: send it to the backend, or answer it."""
        self.to_backend.accept(head, site.forwarded)
        self.to_client.takes_interim = head.takes_interim
        if head.upgrade is Upgrade.UNKNOWN:
            self.answer_with(501, ExchangeEnd.ANSWERED, "an Upgrade to another protocol than WebSocket")
        elif not site.leads_here(head.request.host):
            self.answer_with(421, ExchangeEnd.ANSWERED, "the host leads to another route, or to none")
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        """Send the request to the backend."""
        try:
            takes = self.to_backend.begin()
        except BackendFault as fault:
            self._drop_backend(str(fault))
        else:
            if takes is Takes.NEVER:
                self.answer_with(501, ExchangeEnd.ANSWERED, "the backend takes no WebSocket (RFC 8441)")

    def receive(self, data: bytes, now: float) -> None:
        """More of the message, or of the tunnel, came: a piece of the body, or b"" for its framing only."""
        self.to_backend.add(data, now)

    def end_request(self, trailers: list[Field]) -> None:
        """All of the message, or of the client's half of the tunnel, came."""
        self.to_backend.end(trailers)

    def send_on(self) -> None:
        """Send what came to the backend, over another connection if need be; drop it behind a complete answer."""
        up = self.to_backend
        if self.to_client.state is AnswerState.COMPLETE and not self.over:
            up.body.drop()
            if up.is_read or up.leaves_much_unread:
                self.finish(ExchangeEnd.DONE)
        while not self.over:
            try:
                up.send()
            except BackendFault as fault:
                self._drop_backend(str(fault))
            else:
                return

    # The answer: Answered

    def on_ready(self) -> None:
        """The backend has said what it offers: a request that waited for that goes now."""
        if self.to_backend.going is Going.UNSENT:
            self._dispatch()

    def on_interim(self, fields: list[Field]) -> None:
        """A 1xx head came. Raises BackendFault."""
        self.to_client.count_interim()
        if fields[0][1] == b"100":
            self._invite()
        else:
            self.to_client.interim(fields)

    def _invite(self) -> None:
        """Tell a client that waits for it to send the body, unless it has an answer instead."""
        if self.to_client.state is AnswerState.AWAITED and self.to_backend.invited():
            self.to_client.client.invite()

    def on_head(self, fields: list[Field], ended: bool) -> None:
        """The final head came. Raises BackendFault."""
        up, down = self.to_backend, self.to_client
        if up.is_websocket and fields[0][1][:1] == b"2" and not ended:
            down.open_tunnel(fields)
            up.open_tunnel()
        else:
            down.head(fields, ended and up.method != b"HEAD", up.leaves_much_unread)
        if ended:
            self.grpc_status = grpc_status_in(fields)
        up.body.keep_no_more()

    def on_body(self, data: bytes) -> None:
        """A piece of the body came. Raises BackendFault."""
        if self.to_backend.method == b"HEAD" or self.to_client.status in BODILESS:
            self._drop_body(data)
        else:
            self.to_client.body(data)

    def _drop_body(self, data: bytes) -> None:
        """A body came that must not be (RFC 9110, section 6.4.1): the head stands, and the rest is not wanted."""
        if data and self.to_client.state is AnswerState.BEGUN:
            self.why = "the backend sent a body with an answer that has none"
            self.to_backend.let_go(answered=False)
            self.on_end([])

    def on_end(self, trailers: list[Field]) -> None:
        """The answer is complete. Raises BackendFault."""
        up, was_tunnel = self.to_backend, self.in_tunnel
        self.grpc_status = grpc_status_in(trailers, self.grpc_status)
        self.to_client.end(trailers)
        if was_tunnel or up.is_read or up.leaves_much_unread:
            self.finish(ExchangeEnd.DONE)
        else:
            # What the client still sends is read and dropped, so that another request can follow.
            up.let_go(answered=True)

    def on_reset(self, code: int, processed: Processed) -> None:
        """The backend gave the request up."""
        if self.to_client.state is AnswerState.COMPLETE:
            return  # it only says that the rest of the request is not needed (RFC 9113, section 8.1)
        if not self.to_backend.goes_again(processed):
            self.to_backend.given_up()
            self.fail(502, ExchangeEnd.BACKEND_RESET, f"the backend reset the stream: {code_name(code)}")

    def on_lost(self, why: str, processed: Processed, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        """The connection to the backend can no longer be used."""
        if self.to_client.state is AnswerState.COMPLETE:
            return  # only the rest of the request is still to come, which nobody needs
        if not self.to_backend.goes_again(processed):
            self.fail(502, end, why)

    def _drop_backend(self, why: str) -> None:
        self.on_lost(why, self.to_backend.backend.drop())

    # The end

    def tick(self, now: float) -> bool:
        """Look at deadlines. Whether the client was too slow."""
        up = self.to_backend
        if up.coming is Coming.EXPECTING and up.going is not Going.UNSENT and now - self.started > EXPECT_SECONDS:
            self._invite()
        if up.is_slow(self.started, now):
            return True
        if up.going is Going.UNSENT and now - self.started > FIRST_SETTINGS_SECONDS:
            self.fail(504, ExchangeEnd.ANSWERED, "the backend sent no SETTINGS")
        return False

    def fail(self, status: int, end: ExchangeEnd, why: str) -> None:
        """It can't be completed: answer it if no answer has begun, else break the answer off."""
        if self.to_client.state is AnswerState.AWAITED:
            self.answer_with(status, end, why)
        else:
            self.to_client.break_off()
            self.finish(end, why)

    def answer_with(self, status: int, end: ExchangeEnd, why: str) -> None:
        """Answer it ourselves."""
        self.to_client.own(status, last=not self.to_backend.is_read)
        self.finish(end, why)

    def abandon(self, why: str) -> None:
        """Its client has left."""
        complete = self.to_client.state is AnswerState.COMPLETE
        if self.to_client.state is AnswerState.BEGUN:
            self.to_client.break_off()
        if complete:
            self.finish(ExchangeEnd.DONE)
        else:
            self.finish(ExchangeEnd.CLIENT_GONE, why)

    def finish(self, end: ExchangeEnd, why: str = "") -> None:
        """It is over; `why` is what went wrong, for the log."""
        self.end = end
        self.why = why or self.why
        self.to_backend.let_go(self.to_client.state is AnswerState.COMPLETE)
