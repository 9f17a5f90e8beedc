"""One request and its answer, between the two ends of ends.py: what holds for every pairing of a client and a backend.

The exchange joins two halves: the request's (request_half.py) passes to the backend, the answer's (answer_half.py) to
the client, and each keeps its own state. The decisions that need both are here. An exchange always ends by being
`over`; what follows for the client's connection is for that connection to decide.

**A second attempt.** A request that the backend did not process goes once more over another connection, if its body is
at hand; so does an idempotent one whose connection, used before, ended without a word (`RequestHalf.goes_again`).

**100-continue** is the backend's to say (RFC 9110, section 10.1.1); if it says nothing, we do after EXPECT_SECONDS.

**421** answers a request for a host that leads to another route (RFC 9110, section 7.4). For clients of HTTP/2,
l7/http2/admission.py does that before there is an exchange.
"""

from typing import Final, NamedTuple

from mcproxy.l7.bridge.answer_half import AnswerHalf, AnswerState
from mcproxy.l7.bridge.bounds import EXPECT_SECONDS, FIRST_SETTINGS_SECONDS
from mcproxy.l7.bridge.ends import Answered, BackendFault, ClientEnd, NewEnd, Processed, Site, Takes
from mcproxy.l7.bridge.heads import AnswerHead, RequestHead, Upgrade
from mcproxy.l7.bridge.request_half import Coming, Going, RequestHalf
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import BODILESS, Request, grpc_status_in
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece, code_name

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
AWAITED: Final = AnswerState.AWAITED
BEGUN: Final = AnswerState.BEGUN
COMPLETE: Final = AnswerState.COMPLETE
COMPLETE_REQUEST: Final = Coming.COMPLETE
TUNNEL: Final = AnswerState.TUNNEL
EXPECTING: Final = Coming.EXPECTING
ANSWERED: Final = ExchangeEnd.ANSWERED
BACKEND_RESET: Final = ExchangeEnd.BACKEND_RESET
CLIENT_GONE: Final = ExchangeEnd.CLIENT_GONE
DONE: Final = ExchangeEnd.DONE
UNSENT: Final = Going.UNSENT
NOT_PROCESSED: Final = Processed.NO
NEVER: Final = Takes.NEVER
NO_UPGRADE: Final = Upgrade.NONE
WEBSOCKET: Final = Upgrade.WEBSOCKET


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
    backend_protocol: str
    reused: bool
    head_at: float


class Exchange(Answered):
    """Times are seconds of the bridge's clock."""

    __slots__ = ("end", "grpc_status", "id", "over", "started", "to_backend", "to_client", "why")
    over: bool

    def __init__(self, number: int, client: ClientEnd, new_end: NewEnd, now: float) -> None:
        """`number` is its position among the connection's requests, from 1; `new_end` makes its way to the backend."""
        self.id = number
        self.started = now
        self.to_backend = RequestHalf(new_end, client, now)
        self.to_client = AnswerHalf(client)
        self.over = False  # nothing more happens
        self.end: ExchangeEnd | None = None  # None: it is under way
        self.why = ""  # what went wrong, for the log
        self.grpc_status: int | None = None  # of the answer; None: it is not gRPC's

    def __repr__(self) -> str:
        up, down = self.to_backend, self.to_client
        states = f"{up.coming.value}, {up.going.value}, {down.state.value}"
        return f"<Exchange {self.id} {up.request.method!r} {up.request.path!r} {down.status} {states}>"

    @property
    def sent_before(self) -> bool:
        """Whether its request was sent already."""
        return self.to_backend.attempts > 0

    @property
    def wants_more(self) -> bool:
        """Whether the client takes what comes."""
        return self.to_client.client.has_room

    @property
    def in_tunnel(self) -> bool:
        """Whether it is a two-way stream of bytes now."""
        return self.to_client.state is TUNNEL

    # The request

    def accept(self, head: RequestHead, site: Site) -> None:
        """The head is valid: send it to the backend, or answer it."""
        self.to_client.takes_interim = head.takes_interim
        self.to_backend.accept(head)
        if site.serves(head.request.host):
            self._dispatch()
        else:
            self.answer_with(421, ANSWERED, "the host leads to another route, or to none")

    def _dispatch(self) -> None:
        """Send the request to the backend."""
        up = self.to_backend
        try:
            takes = up.begin(self)
        except BackendFault as fault:
            self._drop_backend(str(fault))
        else:
            if takes is NEVER:
                self.answer_with(501, ANSWERED, not_offered(up))

    def send_on(self) -> None:
        """Send what came to the backend, over another connection if need be; drop it behind a complete answer."""
        up = self.to_backend
        if self.to_client.state is COMPLETE and not self.over:
            up.body.drop()
            if up.is_read or up.leaves_much_unread:
                self.finish(DONE)
        while not self.over:
            try:
                up.send()
            except BackendFault as fault:
                self._drop_backend(str(fault))
            else:
                return

    # The answer: Answered

    def on_ready(self) -> None:
        """There is a connection, or the backend has said what it offers: a request that waited for that goes now."""
        if self.to_backend.going is UNSENT:
            self._dispatch()
            self.send_on()

    def on_refused(self, status: int, why: str) -> None:
        """There will be no connection."""
        self.fail(status, ANSWERED, why)

    def on_interim(self, head: AnswerHead) -> None:
        """A 1xx head came. Raises BackendFault."""
        self.to_client.count_interim()
        if head.status == 100:
            self._invite()
        else:
            self.to_client.interim(head)

    def _invite(self) -> None:
        """Tell a client that waits for it to send the body, unless it has an answer instead."""
        if self.to_client.state is AWAITED and self.to_backend.invited():
            self.to_client.client.invite()

    def on_head(self, head: AnswerHead, ended: bool) -> None:
        """The final head came. Raises BackendFault."""
        up, down = self.to_backend, self.to_client
        if up.upgrade is not NO_UPGRADE and not ended and opens_tunnel(up, head.status):
            down.open_tunnel(head)
            up.open_tunnel()
            self.send_on()
        else:
            down.head(head, ended, up.leaves_much_unread)
        down.head_at = up.backend.now if up.backend is not None else 0.0
        if ended:
            self.grpc_status = head.grpc_status
        up.body.keep_no_more()
        up.head = None  # up to 64 KiB, and a client may leave its answer waiting for long

    def on_whole(self, head: AnswerHead, body: Piece) -> None:
        """A whole answer came. Raises BackendFault."""
        up, down = self.to_backend, self.to_client
        if up.coming is COMPLETE_REQUEST and up.backend is not None and head.status not in BODILESS:
            down.whole(head, body)  # nearly all are like this
            down.head_at = up.backend.now
            self.finish(DONE)
            return
        self.on_head(head, ended=False)
        if not self.over:
            self.on_body(body)
        if not self.over:
            self.on_end([])

    def on_body(self, data: Piece) -> None:
        """A piece of the body came. Raises BackendFault."""
        down = self.to_client
        if down.status in BODILESS or self.to_backend.request.method == b"HEAD":
            self._drop_body(data)
        else:
            down.body(data)

    def _drop_body(self, data: Piece) -> None:
        """A body came that must not be (RFC 9110, section 6.4.1): the head stands, and the rest is not wanted."""
        if data and self.to_client.state is BEGUN:
            self.why = "the backend sent a body with an answer that has none"
            self.to_backend.let_go(answered=False)
            self.on_end([])

    def on_end(self, trailers: list[Field]) -> None:
        """The answer is complete. Raises BackendFault."""
        up, was_tunnel = self.to_backend, self.in_tunnel
        if trailers:
            self.grpc_status = grpc_status_in(trailers, self.grpc_status)
        self.to_client.end(trailers)
        if was_tunnel or up.is_read or up.leaves_much_unread or not self.to_client.client.must_read_on:
            self.finish(DONE)
        else:
            # What the client still sends is read and dropped, so that another request can follow.
            up.let_go(answered=True)

    def on_reset(self, code: int, processed: Processed) -> None:
        """The backend gave the request up."""
        if self.to_client.state is COMPLETE:
            return  # it only says that the rest of the request is not needed (RFC 9113, section 8.1)
        if not self.to_backend.goes_again(processed, self):
            self.to_backend.given_up()
            self.fail(502, BACKEND_RESET, f"the backend reset the stream: {code_name(code)}")

    def on_lost(self, why: str, processed: Processed, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        """The connection to the backend can no longer be used."""
        if self.to_client.state is COMPLETE:
            return  # only the rest of the request is still to come, which nobody needs
        if not self.to_backend.goes_again(processed, self):
            self.fail(502, end, why)

    def _drop_backend(self, why: str) -> None:
        backend = self.to_backend.backend
        self.on_lost(why, backend.drop() if backend is not None else NOT_PROCESSED)

    # The end

    def tick(self, now: float) -> bool:
        """Look at deadlines. Whether the client was too slow."""
        up = self.to_backend
        if up.coming is EXPECTING and up.going is not UNSENT and now - self.started > EXPECT_SECONDS:
            self._invite()
        if up.is_slow(self.started, now):
            return True
        if up.waits_for_settings and now - self.started > FIRST_SETTINGS_SECONDS:
            self.fail(504, ANSWERED, "the backend sent no SETTINGS")
        return False

    def fail(self, status: int, end: ExchangeEnd, why: str) -> None:
        """It can't be completed: answer it if no answer has begun, else break the answer off."""
        if self.to_client.state is AWAITED:
            self.answer_with(status, end, why)
        else:
            self.to_client.break_off()
            self.finish(end, why)

    def answer_with(self, status: int, end: ExchangeEnd, why: str) -> None:
        """Answer it ourselves."""
        self.to_client.own(status, not self.to_backend.is_read, why)
        self.finish(end, why)

    def abandon(self, why: str) -> None:
        """Its client has left."""
        complete = self.to_client.state is COMPLETE
        if self.to_client.state is BEGUN:
            self.to_client.break_off()
        if complete:
            self.finish(DONE)
        else:
            self.finish(CLIENT_GONE, why)

    def finish(self, end: ExchangeEnd, why: str = "") -> None:
        """It is over; `why` is what went wrong, for the log."""
        self.over = True
        self.end = end
        self.why = why or self.why
        down = self.to_client
        self.to_backend.let_go(down.state is COMPLETE)
        down.client.over(end, self.why)


def not_offered(up: RequestHalf) -> str:
    """What the request asks for that its backend can't do."""
    if up.request.grpc and up.upgrade is NO_UPGRADE:
        return "the backend speaks HTTP/1.1, which carries no gRPC"
    if up.upgrade is WEBSOCKET:
        return "the backend takes no WebSocket (RFC 8441)"
    return "an Upgrade to another protocol than WebSocket, and the backend speaks HTTP/2"


def opens_tunnel(up: RequestHalf, status: int) -> bool:
    """Whether an answer opens the tunnel that was asked for (RFC 9110, section 15.2.2; RFC 8441, section 5)."""
    return 200 <= status < 300 if up.version == "h2" else status == 101


def finished(exchange: Exchange, now: float) -> Finished:
    """What remains of an exchange that is over."""
    assert exchange.end is not None
    up, down = exchange.to_backend, exchange.to_client
    return Finished(
        exchange.id, up.request.method, up.request, down.status, up.body.received, down.sent, exchange.started, now,
        exchange.end, exchange.why, exchange.grpc_status, up.version, up.reused, down.head_at,
    )  # fmt: skip
