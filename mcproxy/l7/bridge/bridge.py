"""The HTTP/1.1 bridge: bytes of an HTTP/1.1 client in, bytes for its HTTP/2 backend out, and back. No socket, no clock.

A client's requests are read by wire/http1.py and become exchanges (exchange.py), each between the client's end
(client_http1.py) and the backend's (backend_end.py). Here is the connection: which request comes next, and what follows
an exchange that is over. One is under way at a time; requests that are pipelined behind it are not taken yet. Both
bodies stream: no part of a message waits for the rest of it.

**What a client can rely on.** An answer that breaks off is never taken for a whole one: its connection is reset, and no
last chunk is sent. What can't be sent once more (backend_end.py) is 502, or 504 where the time is over.

**A client that ends its side while it waits** has left: what it asked for is cancelled. One that goes away and one that
has asked its last look the same on the wire, and net/http and nginx take both for the first, because otherwise a long
poll that nobody waits for runs on at the backend to its end. As net/http cancels the context of the connection, which
all requests share, those that are pipelined behind are not begun. (There, bytes of the next request may hide the end
for a while: a race that nobody can rely on.) An answer that is complete is delivered, whatever its request still lacks.

core.py says what the owner does, and when.
"""

from collections.abc import Callable
from enum import Enum

from h11 import LocalProtocolError

from mcproxy.l7.bounds import READ_SIZE
from mcproxy.l7.bridge.backend_end import BackendEnd
from mcproxy.l7.bridge.backend_http2 import BackendFault
from mcproxy.l7.bridge.bounds import HEAD_COST, HEAD_SECONDS, KEEP_ALIVE_SECONDS, MAX_WAITING
from mcproxy.l7.bridge.client_http1 import ClientEnd
from mcproxy.l7.bridge.exchange import Answer, Coming, Exchange
from mcproxy.l7.bridge.translate import Upgrade, translate
from mcproxy.l7.core import Ending, ExchangeEnd, How, Turn
from mcproxy.model import End
from mcproxy.wire.fields import forwarded
from mcproxy.wire.http1 import BadMessage, Head, Requests


class State(Enum):
    """Whether the connection takes requests, until it has its `ending`."""

    OPEN = "open"
    LAST = "last"  # none but the one that is under way
    GIVEN_UP = "given up"  # the same, because nothing has moved for too long


class Bridge:
    """One client connection."""

    def __init__(self, hostname: str, address: str, leads_here: Callable[[bytes], bool], now: float) -> None:
        """`leads_here` says of a host whether it leads to the connection's route."""
        self._hostname = hostname
        self._ours = forwarded(address)
        self._leads_here = leads_here
        self._requests = Requests()
        self._client = ClientEnd()
        self._backend = BackendEnd()
        self._exchange: Exchange | None = None
        self._ended: list[Exchange] = []  # and not taken yet
        self._count = 0
        self._now = now
        self._since = now  # when it became idle, or the next head began
        self._head_begun = False  # some of the next head has come
        self._state = State.OPEN
        self.fault = ""  # what went wrong last, for the log
        self.ending: Ending | None = None

    def __repr__(self) -> str:
        state = self.ending or self._state.value
        return f"<Bridge {self._hostname} {state} requests={self._count} {self._exchange!r}>"

    # What the owner asks

    @property
    def wants_client(self) -> bool:
        """Whether the client is to be read."""
        return self._exchange is None or self._exchange.outgoing.waiting_bytes <= MAX_WAITING

    @property
    def wants_backend(self) -> bool:
        """Always; the drive bounds what is unsent to the client."""
        return True

    @property
    def has_backend(self) -> bool:
        """Whether the backend connection is of use any more."""
        return self._backend.is_there

    @property
    def wants_dial(self) -> bool:
        """Whether there is to be a new backend connection."""
        return self._backend.wants_dial

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        return self._exchange is not None and self._exchange.coming is Coming.EXPECTING

    def take_for_client(self) -> bytes:
        """Bytes for the client."""
        return self._client.take()

    def take_for_backend(self) -> bytes:
        """Bytes for the backend."""
        return self._backend.take()

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk: no more than a turn is for, for h2 copies it all."""
        return min(most, READ_SIZE)

    def take_ended(self) -> list[Exchange]:
        """Exchanges that are over, each once."""
        ended = self._ended
        if ended:
            self._ended = []
        return ended

    # What happens to the client

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent, up to the end of the request that is under way."""
        self._now = now
        if self._exchange is None and not self._head_begun:
            self._since = now
        taken = 0
        try:
            while taken < len(data) and not (turn.over or self.ending):
                size = self._take(data[taken:] if taken else data, turn)
                if not size:
                    break
                taken += size
                self._settle()
        except BadMessage as bad:
            self._refuse(bad)
        self._head_begun = self._exchange is None and taken < len(data)
        return taken

    def _take(self, data: bytes, turn: Turn) -> int:
        """Take a head, or a piece of the body; 0: something has to be waited for. Raises BadMessage."""
        if self._exchange is not None:
            return self._exchange.take(self._requests, data, turn, self._now)
        found = self._requests.next_head(data)
        if found is None:
            return 0
        turn.spend(HEAD_COST)
        head, size = found
        self._begin(self._next_exchange(), head)
        return size

    def _next_exchange(self) -> Exchange:
        self._count += 1
        self._exchange = exchange = Exchange(self._count, self._client, self._backend, self._now)
        return exchange

    def _begin(self, exchange: Exchange, head: Head) -> None:
        """Raises BadMessage."""
        exchange.read(head)
        translated = translate(head, self._hostname, self._ours)
        exchange.accept(translated)
        if not self._leads_here(translated.request.host):
            exchange.answer_with(421, ExchangeEnd.ANSWERED)
        elif translated.upgrade is Upgrade.UNKNOWN:
            exchange.answer_with(501, ExchangeEnd.ANSWERED)
        else:
            exchange.dispatch()

    def _refuse(self, bad: BadMessage) -> None:
        """The client's message is invalid: answer, and end the connection."""
        self._take_no_more()
        (self._exchange or self._next_exchange()).fail(bad.status, ExchangeEnd.CLIENT_FAULT, bad.why)
        self._settle()
        self._close()

    def client_closed(self, now: float) -> None:
        """The client has ended its side: it has left, but for a tunnel, which has two halves."""
        self._now = now
        exchange = self._exchange
        if exchange is None:
            self._close()
        elif exchange.in_tunnel:
            exchange.end_tunnel()
        else:
            exchange.abandon()
            self._close(How.RST if exchange.answer is Answer.BROKEN else How.FIN)
        self._settle()

    def client_lost(self, now: float) -> None:
        """The client's connection is broken."""
        self._cut(ExchangeEnd.CLIENT_GONE, now)

    def cut(self, now: float) -> None:
        """We end the client's connection where it stands."""
        self._cut(ExchangeEnd.CUT, now)

    def _cut(self, end: ExchangeEnd, now: float) -> None:
        self._now = now
        self._close()
        if self._exchange is not None:
            self._exchange.finish(end)
        self._settle()

    # What happens to the backend

    def dialling(self) -> None:
        """The owner makes a new connection."""
        self._backend.wants_dial = False

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent."""
        self._now = now
        taken = len(data)
        if self.ending:
            return taken
        try:
            taken = self._backend.receive(data, turn, self._exchange)
        except (BackendFault, LocalProtocolError) as fault:
            self._lose(f"the backend broke HTTP: {fault}")
        self._settle()
        exchange = self._exchange
        if self._backend.left_behind(exchange.outgoing if exchange else None) and exchange:
            exchange.fail(502, ExchangeEnd.BACKEND_GONE, "the backend went away")
        self._pass_on()
        return taken

    def backend_closed(self, now: float) -> None:
        """The backend's connection has ended."""
        self._now = now
        if self._backend.is_there:
            self._lose("the backend closed its connection")
        self._pass_on()

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """It could not be reached."""
        self._now = now
        self._backend.drop()
        if self._exchange is not None:
            self._exchange.fail(status, ExchangeEnd.ANSWERED, why)
        self._settle()

    def _lose(self, why: str) -> None:
        if self._exchange is None:
            self._backend.drop()
        else:
            self._exchange.lose(why)

    def _pass_on(self) -> None:
        """A window may have opened, or there is another connection."""
        if self._exchange is not None:
            self._exchange.send()
        self._settle()

    # Time

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: a request without an answer gets 504, and there is no further one."""
        self._state = State.GIVEN_UP
        self.drain(now)
        if self._exchange is not None and self._exchange.answer is Answer.AWAITED:
            self._exchange.fail(504, ExchangeEnd.ANSWERED, "the backend doesn't answer")
        self._settle()

    def drain(self, now: float) -> None:
        """Take no further request; an answer that has not begun says so."""
        self._now = now
        self._take_no_more()
        if self._exchange is None and not self._head_begun:
            self._close()

    def tick(self, now: float) -> None:
        """Look at what may not take for ever."""
        self._now = now
        exchange = self._exchange
        if self.ending or (exchange is not None and exchange.in_tunnel):
            return
        if exchange is not None:
            if exchange.tick(now):
                self._take_no_more()
                exchange.fail(408, ExchangeEnd.CLIENT_FAULT, "a body that doesn't come")
            self._settle()
        elif self._head_begun and now - self._since > HEAD_SECONDS:
            self._refuse(BadMessage(408, "a head that doesn't end"))
        elif now - self._since > KEEP_ALIVE_SECONDS:
            self._close()

    # What follows

    def _take_no_more(self) -> None:
        self._client.last = True
        if self._state is State.OPEN:
            self._state = State.LAST

    def _settle(self) -> None:
        """See what follows an exchange that is over."""
        exchange = self._exchange
        if exchange is None or not exchange.over:
            return
        self._exchange = None
        exchange.ended = self._since = self._now
        self._ended.append(exchange)
        self.fault = exchange.why or self.fault
        complete = exchange.coming is Coming.COMPLETE and not exchange.in_tunnel
        if exchange.answer is Answer.BROKEN:
            self._close(How.RST, End.BACKEND_RESET)
        elif self._state is not State.OPEN or not complete or not self._client.next_message():
            self._close()

    def _close(self, how: How = How.FIN, end: End = End.CLOSED) -> None:
        """The connection ends, if it has not ended before."""
        if self.ending is None:
            if how is How.FIN and self._state is State.GIVEN_UP:
                end = End.IDLE_TIMEOUT
            self.ending = Ending(how, end, self.fault)
