"""How the requests of an HTTP/1.1 connection begin and end; the other half of bridge.py, which reads what comes.

Here is which backend connection carries a request, whether it may be sent once more, which answer is ours, and what
becomes of the client's connection afterwards.

**A client that ends its side while it waits** has left: what it asked for is cancelled. One that goes away and one that
has asked its last look the same on the wire, and net/http and nginx take both for the first, because otherwise a long
poll that nobody waits for runs on at the backend to its end. As net/http cancels the context of the connection, which
all requests share, those that are pipelined behind are not begun. (There, bytes of the next request may hide the end
for a while: a race that nobody can rely on.) An answer that is complete is delivered, whatever its request still lacks.
"""

from collections.abc import Callable

from mcproxy.l7.bridge.backend_http2 import BackendConnection, BackendFault
from mcproxy.l7.bridge.bounds import ATTEMPTS
from mcproxy.l7.bridge.client_http1 import ClientSide
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.l7.core import StreamEnd
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import BadMessage, Requests

_NO_REQUEST = Request(b"", b"", b"", b"")  # of a message that could not be read: the log shows it empty
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))  # RFC 9110, section 9.2.1


class Course:
    """The state of one client connection, and what ends things in it."""

    def __init__(self, hostname: str, address: str, leads_here: Callable[[bytes], bool], now: float) -> None:
        """`leads_here` says of a host whether it leads to the connection's route."""
        raw = address.encode()
        self._hostname = hostname
        self._ours: tuple[Field, ...] = (
            (b"x-forwarded-for", raw),
            (b"x-forwarded-proto", b"https"),
            (b"x-real-ip", raw),
        )
        self._leads_here = leads_here
        self._ended: list[Exchange] = []  # and not taken yet
        self._requests = Requests()
        self._client = ClientSide()
        self._backend: BackendConnection | None = None
        self._exchange: Exchange | None = None
        self._count = 0
        self._now = now
        self._since = now  # when it became idle, or the next head began
        self._head_begun = False  # some of the next head has come
        self._tunnel = False
        self._last = False  # no further request, by our own choice
        self._client_ended = False
        self.wants_dial = False  # a new backend connection, please
        self.closing = False
        self.failed = False  # with `closing`: the client must not take this for a clean end
        self.abused = False  # one request at a time is never too many
        self.fault = ""  # what went wrong last, for the log

    def __repr__(self) -> str:
        state = "closing" if self.closing else "tunnel" if self._tunnel else "open"
        return f"<Bridge {self._hostname} {state} requests={self._count} {self._exchange!r}>"

    def _dispatch(self, exchange: Exchange) -> None:
        """Send the request, over a new connection if there is none that takes it. Raises BackendFault."""
        if self._backend is None or not self._backend.accepts:
            if exchange.dials >= ATTEMPTS:
                raise BackendFault("it takes no request")
            exchange.dials += 1
            self._backend = BackendConnection()
            self.wants_dial = True
        backend = self._backend
        if exchange.is_websocket:
            if not backend.heard:
                return  # whether it takes one, only its SETTINGS tell
            if not backend.offers_websocket:
                self._answer(exchange, 501, StreamEnd.ANSWERED)
                return
        exchange.attempts += 1
        exchange.sent_end = exchange.request_ended and not exchange.has_more
        exchange.stream = backend.request(exchange.fields, exchange.sent_end)

    def _lose(self, why: str) -> None:
        """The backend's connection is of no use any more."""
        backend, self._backend = self._backend, None
        exchange = self._exchange
        if exchange is None:
            return
        processed = bool(exchange.stream) and backend is not None and exchange.stream <= backend.processed
        used_before = backend is not None and backend.requests > 1
        if (processed and not (used_before and exchange.method in _SAFE and not exchange.bytes_up)) or not self._again(
            exchange
        ):
            self._fail(exchange, 502, StreamEnd.BACKEND_GONE, why)

    def _again(self, exchange: Exchange) -> bool:
        """Send a request once more over a new connection, if that is possible."""
        if exchange.answered or exchange.attempts >= ATTEMPTS or not exchange.replayable:
            return False
        if self._backend is not None:
            self._backend.accepts = False
        exchange.again()
        try:
            self._dispatch(exchange)
        except BackendFault:
            self._backend = None
            return False
        return True

    def _fail(self, exchange: Exchange, status: int, end: StreamEnd, why: str) -> None:
        """The exchange can't be completed: an answer of ours where none has begun, else no clean end."""
        self.fault = why
        if exchange.answered:
            self.closing = self.failed = True
            self._finish(exchange, end)
        else:
            self._answer(exchange, status, end)

    def _answer(self, exchange: Exchange, status: int, end: StreamEnd) -> None:
        exchange.status = status
        exchange.bytes_down = self._client.own(status, self._last or not exchange.request_ended)
        exchange.answered = True
        self._finish(exchange, end)

    def _refuse(self, bad: BadMessage) -> None:
        """The client's message is none: say so, and end the connection."""
        self._last = True
        exchange = self._exchange
        if exchange is None:
            self._count += 1
            exchange = self._exchange = Exchange(self._count, b"", _NO_REQUEST, self._now)
        self._fail(exchange, bad.status, StreamEnd.CLIENT_FAULT, bad.why)
        self.closing = True

    def _abandon(self, exchange: Exchange) -> None:
        """Its client has left."""
        self.closing = True
        self.failed = exchange.answered and not exchange.answer_ended
        self._finish(exchange, StreamEnd.DONE if exchange.answer_ended else StreamEnd.CLIENT_GONE)

    def _finish(self, exchange: Exchange, end: StreamEnd) -> None:
        """It is over: have it recorded, and see whether there can be another."""
        self._exchange = None
        exchange.ended = self._now
        exchange.end = end
        self._let_go(exchange)
        self._ended.append(exchange)
        self._since = self._now
        if self._last or not exchange.request_ended or not self._client.next_message():
            self.closing = True

    def _let_go(self, exchange: Exchange) -> None:
        """Nothing more is to come or to go on its stream."""
        backend = self._backend
        if backend is not None and exchange.stream and not (exchange.answer_ended and exchange.sent_end):
            try:
                backend.cancel(exchange.stream)
            except BackendFault:
                self._backend = None
        exchange.sent_end = True
