"""One HTTP/1.1 client connection: its bytes become exchanges, one after the other.

wire/http1.py reads the requests. One exchange is under way at a time; requests that are pipelined behind it are not
taken yet. Both bodies stream: no part of a message waits for the rest of it.

**What a client can rely on.** An answer that breaks off is never taken for a complete one: its connection is reset, and
no last chunk is sent.

**An idle connection ends** with a FIN, after one more look at what its client has sent: a request that has come by then
is served, and its answer says that it is the last. A drain has a client that was active just now ask once more. Still,
a request may be on its way: it is lost, its client sees an end without an answer, and may send it again (RFC 9112,
section 9.3.1).

**A client that ends its side while it waits** has left: its request is cancelled. A client that goes away and one that
sends nothing more look the same on the wire, and net/http and nginx take both for the first, because otherwise a long
poll that nobody waits for runs on at the backend to its end. As net/http cancels the context of the connection, which
all requests share, pipelined requests behind it are not begun. (There, bytes of the next request may hide the end for a
while: a race that nobody can rely on.) An answer that is complete is delivered, whatever its request still lacks.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from mcproxy.l7.bridge.answer_half import AnswerState
from mcproxy.l7.bridge.answers_http1 import Http1Answers
from mcproxy.l7.bridge.bounds import HEAD_SECONDS, KEEP_ALIVE_SECONDS, NEXT_REQUEST_SECONDS, STEP_COST
from mcproxy.l7.bridge.ends import ClientConnection, NewEnd, Site
from mcproxy.l7.bridge.exchange import Exchange, Finished, finished
from mcproxy.l7.bridge.request_half import Coming
from mcproxy.l7.bridge.request_heads import ReadRequest, RequestHeads
from mcproxy.l7.core import Ending, ExchangeEnd, How, Turn
from mcproxy.l7.meters import ClientMeters, Exceeded
from mcproxy.model import End
from mcproxy.wire.fields import Request
from mcproxy.wire.http1 import begins_head
from mcproxy.wire.http1_framing import BadMessage
from mcproxy.wire.http2 import Piece
from mcproxy.wire.requests import NOT_IMPLEMENTED, OK

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
AWAITED: Final = AnswerState.AWAITED
EXPECTING: Final = Coming.EXPECTING
ANSWERED: Final = ExchangeEnd.ANSWERED
CLIENT_FAULT: Final = ExchangeEnd.CLIENT_FAULT

_HALF_A_HEAD: Final = "a head that doesn't end"


class State(Enum):
    """Whether the connection takes requests, until it has its `ending`."""

    OPEN = "open"
    LAST = "last"  # only the one that is under way, or that comes before it leaves
    GIVEN_UP = "given up"  # the same, because nothing has moved for too long


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
GIVEN_UP: Final = State.GIVEN_UP
LAST: Final = State.LAST
OPEN: Final = State.OPEN


class Http1Client(ClientConnection):
    """One client connection. `now` is seconds of the bridge's clock; calls of it never go back."""

    kept = 0  # HTTP/1.1 knows no windows

    __slots__ = (
        "_answers", "_ended", "_head_begun", "_heads", "_meters", "_new_end", "_since", "_site", "_state", "ending",
        "exchange",
    )  # fmt: skip

    def __init__(self, site: Site, new_end: NewEnd, now: float) -> None:
        self._site = site
        self._new_end = new_end
        self._heads = RequestHeads(site.hostname)
        self._answers = Http1Answers()
        self.exchange: Exchange | None = None  # the one that is under way
        self._ended: list[Finished] = []  # and not taken yet
        self._meters = ClientMeters(now)
        self._since = now  # when the connection became idle, or the next head began
        self._head_begun = False  # some of the next head has come
        self._state = OPEN
        self.fault = ""  # what went wrong last, for the log
        self.ending: Ending | None = None

    def __repr__(self) -> str:
        state = self.ending or self._state.value
        return f"<Http1Client {self._site.hostname} {state} requests={self._meters.requests} {self.exchange!r}>"

    def take(self) -> Sequence[Piece]:
        """Bytes for the client, each once."""
        return self._answers.take()

    def take_ended(self) -> list[Finished]:
        """Exchanges that are over, each once."""
        ended = self._ended
        if ended:
            self._ended = []
        return ended

    @property
    def wants_read(self) -> bool:
        """Whether to read the client."""
        return not self._meters.pace.over and (self.exchange is None or self.exchange.to_backend.has_room)

    @property
    def stirred(self) -> bool:
        """Whether there is something for the client, or an exchange is over."""
        return self._answers.wait or bool(self._ended) or self.ending is not None

    @property
    def leaving(self) -> bool:
        """Whether it ends for want of a request."""
        return self._state is not OPEN and self.exchange is None and not (self._head_begun or self.ending)

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        exchange = self.exchange
        return self._meters.pace.over or (exchange is not None and exchange.to_backend.coming is EXPECTING)

    # What the client sends

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent, up to the end of the request that is under way. Returns how many bytes."""
        if self.exchange is None and not self._head_begun:
            self._since = now
        taken, pace = 0, self._meters.pace
        if pace.over and pace.must_wait(now):
            return 0
        try:
            while taken < len(data) and turn.left > 0 and not (self.ending or pace.over):
                rest = data[taken:] if taken else data
                size = self._take_head(rest, turn, now) if self.exchange is None else self._take_body(rest, turn, now)
                if not size:
                    break
                taken += size
                self.settle(now)
        except BadMessage as bad:
            self._refuse(bad, now)
        self._head_begun = self.exchange is None and begins_head(data[taken:])
        self._meters.offered(len(data), taken, now)
        if pace.over:
            self.fault = self.fault or pace.note
        return taken

    def _take_head(self, data: bytes, turn: Turn, now: float) -> int:
        """Take a head and begin its exchange. Returns its size; 0: it is not complete. Raises BadMessage."""
        found = self._heads.take(data, turn)
        if found is None:
            return 0
        read, size = found
        self._begin(self._next_exchange(now), read)
        return size

    def _next_exchange(self, now: float) -> Exchange:
        self._meters.requests += 1
        self.exchange = exchange = Exchange(self._meters.requests, self._answers, self._new_end, now)
        return exchange

    def _begin(self, exchange: Exchange, read: ReadRequest) -> None:
        """Raises BadMessage."""
        head, neutral = read.head, read.neutral
        if neutral is None:
            self._answers.begin(head)
            exchange.to_backend.read(Request(head.method, head.host or b"", b"", head.target), head.has_body)
            assert read.fault is not None
            raise read.fault
        self._answers.begin(head, neutral.key)
        exchange.to_backend.read(neutral.request, head.has_body)
        exchange.accept(neutral, self._site)

    def _take_body(self, data: bytes, turn: Turn, now: float) -> int:
        """Take more of the body, or of the tunnel. Returns how many bytes; 0: it has to wait. Raises BadMessage.

        Everything that is offered of a tunnel is taken, because its end may be behind it.
        """
        exchange, requests = self.exchange, self._heads.requests
        assert exchange is not None
        if exchange.in_tunnel:
            requests.tunnel()
        elif not requests.in_message or not exchange.to_backend.has_room:
            return 0
        body: list[bytes] = []
        size, steps = requests.next_body(data, -(-turn.left // STEP_COST), body)
        turn.spend(steps * STEP_COST)
        self._meters.pieces(body, now)
        if size:
            exchange.to_backend.add(
                b"".join(body), now
            )  # at once: a frame for each small chunk would cost more than its bytes
            if not requests.in_message:
                exchange.to_backend.end(requests.trailers)
            exchange.send_on()
        return size

    def _refuse(self, bad: BadMessage, now: float) -> None:
        """The client's message is invalid: answer, and end the connection."""
        self._take_no_more()
        end = ANSWERED if bad.status in (OK, NOT_IMPLEMENTED) else CLIENT_FAULT
        (self.exchange or self._next_exchange(now)).fail(bad.status, end, bad.why)
        self.settle(now)
        self._close()

    # How it ends

    def closed(self, now: float) -> None:
        """The client has ended its side: it has left, except from a tunnel, which has two halves."""
        exchange = self.exchange
        if exchange is None:
            self._close()
        elif exchange.in_tunnel:
            exchange.to_backend.end([])
            exchange.send_on()
        else:
            exchange.abandon("the client closed its connection")
            self._close(How.RST if self._answers.broken else How.FIN)
        self.settle(now)

    def cut(self, end: ExchangeEnd, why: str, now: float) -> None:
        """The connection ends where it stands; `end` is how its exchange ends."""
        self._close()
        if self.exchange is not None:
            self.exchange.finish(end, why)
        self.settle(now)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: a request without an answer gets 504, and there is no further one."""
        self._state = GIVEN_UP
        self.drain(now)
        if self.exchange is None and self._head_begun:
            self._refuse(BadMessage(408, _HALF_A_HEAD), now)
        elif self.exchange is not None and self.exchange.to_client.state is AWAITED:
            self.exchange.fail(504, ANSWERED, "the backend doesn't answer")
        self.settle(now)

    def drain(self, now: float) -> None:  # noqa: ARG002 - the ClientConnection's
        """Take no further request; an answer that has not begun says so. One that is idle is `leaving` from now on."""
        self._take_no_more()

    def leave(self, now: float) -> None:
        """End, if no request has come; a client that was answered, or let in, just now has a while for the next one."""
        if self.leaving and now - self._since >= NEXT_REQUEST_SECONDS:
            self._close()

    def lags(self, now: float) -> None:
        """It still takes what it was sent before: it is not idle."""
        if self.exchange is not None:
            self.exchange.to_backend.body.client_lags(now)
        elif not self._head_begun:
            self._since = now

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""
        self._meters.pace.must_wait(now)
        exchange = self.exchange
        if self.ending or (exchange is not None and exchange.in_tunnel):
            return
        if exchange is not None:
            if exchange.tick(now):
                self._take_no_more()
                exchange.fail(408, CLIENT_FAULT, "a body that doesn't come")
            elif exchange.to_client.state is AWAITED and exchange.to_backend.waits(now, idle):
                self.give_up(now)
            self.settle(now)
        elif self._head_begun and now - self._since > HEAD_SECONDS:
            self._refuse(BadMessage(408, _HALF_A_HEAD), now)
        elif now - self._since > KEEP_ALIVE_SECONDS:
            self._take_no_more()

    def _take_no_more(self) -> None:
        self._answers.last = True
        if self._state is OPEN:
            self._state = LAST

    def settle(self, now: float) -> None:
        """If the exchange is over, decide what follows."""
        exchange = self.exchange
        if exchange is None or not exchange.over:
            return
        self.exchange = None
        self._since = now
        self._ended.append(finished(exchange, now))
        self.fault = exchange.why or self.fault
        self._count_ended(exchange, now)
        if self._answers.broken:
            self._close(How.RST, End.BACKEND_RESET)
        elif not exchange.to_backend.is_read or not self._answers.next_message():
            self._close()

    def _count_ended(self, exchange: Exchange, now: float) -> None:
        assert exchange.end is not None
        try:
            self._meters.ended(exchange.end, exchange.to_client.status, now)
        except Exceeded as fault:
            self.fault = str(fault)
            self._close(How.FIN, End.ABUSE)

    def _close(self, how: How = How.FIN, end: End = End.CLOSED) -> None:
        """The connection ends, if it has not ended before."""
        if self.ending is None:
            if how is How.FIN and self._state is GIVEN_UP:
                end = End.IDLE_TIMEOUT
            self.ending = Ending(how, end, self.fault)
