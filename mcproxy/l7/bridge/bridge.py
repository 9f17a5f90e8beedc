"""The HTTP/1.1 bridge: bytes of an HTTP/1.1 client in, bytes for its HTTP/2 backend out, and back. No socket, no clock.

A client's requests are read by wire/http1.py, translated by translate.py, and answered by way of h11; they are
carried by a BackendConnection of backend_http2.py; here is what happens when. One request is under way at a time; those
that are pipelined behind it are not taken yet. Both bodies stream: no part of a message waits for the rest of it.

**What a client can rely on.** An answer that breaks off is never taken for a whole one: its connection is reset
(`failed`), and no last chunk is sent. A request that a backend did not process (GOAWAY, REFUSED_STREAM) is sent once
more over a new connection if its body is at hand; so is one with a safe method whose connection, used before, ended
without a word, because a backend may close an idle connection at any moment. Anything else is 502, or 504 where the
time is over.

**100-continue** is the backend's to say (RFC 9110, section 10.1.1); where it says nothing, we do after EXPECT_SECONDS.

What the owner does, and when, core.py says.
"""

from h2 import events
from h11 import LocalProtocolError

from mcproxy.l7.bounds import MAX_INTERIM, READ_SIZE
from mcproxy.l7.bridge import bounds
from mcproxy.l7.bridge.backend_http2 import BackendConnection, BackendFault, checked_head, fields_of
from mcproxy.l7.bridge.course import Course
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.l7.bridge.translate import Upgrade, accept_key, answer_trailers, request_trailers, translate
from mcproxy.l7.core import StreamEnd, Turn
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import BadMessage, Head
from mcproxy.wire.http2 import ErrorCode


class Bridge(Course):
    """One client connection."""

    # What the owner asks

    @property
    def wants_client(self) -> bool:
        """Whether the client is to be read."""
        return self._exchange is None or self._exchange.waiting_bytes <= bounds.MAX_WAITING

    @property
    def wants_backend(self) -> bool:
        """Always; how much waits for the client is the owner's to see."""
        return True

    @property
    def has_backend(self) -> bool:
        """Whether the backend connection is of use any more."""
        return self._backend is not None

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""
        return self._exchange is not None and self._exchange.expecting

    def take_for_client(self) -> bytes:
        """What waits for the client."""
        return self._client.take()

    def take_for_backend(self) -> bytes:
        """What waits for the backend."""
        return self._backend.take() if self._backend else b""

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk: no more than a turn is for, for h2 copies it all."""
        return min(most, READ_SIZE)

    def take_ended(self) -> list[Exchange]:
        """Exchanges that are over, each once."""
        ended, self._ended = self._ended, []
        return ended

    # What the owner tells

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent, up to the end of the request that is under way."""
        self._now = now
        if self._exchange is None and not self._head_begun:
            self._since = now
        taken = 0
        try:
            while taken < len(data) and not (turn.over or self.closing):
                size = self._take(data[taken:] if taken else data, turn)
                if not size:
                    break
                taken += size
                self._pass_on()
        except BadMessage as bad:
            self._refuse(bad)
        self._head_begun = self._exchange is None and taken < len(data)
        return taken

    def client_closed(self, now: float) -> None:
        """The client has ended its side: it has left, but for a tunnel, which has two halves."""
        self._now = now
        self._client_ended = True
        if self._tunnel:
            self._pass_on()
        elif self._exchange is not None:
            self._abandon(self._exchange)
        else:
            self.closing = True

    def client_lost(self, now: float) -> None:
        """The client's connection is broken."""
        self._over(StreamEnd.CLIENT_GONE, now)

    def cut(self, now: float) -> None:
        """We end the client's connection where it stands."""
        self._over(StreamEnd.CUT, now)

    def _over(self, end: StreamEnd, now: float) -> None:
        self._now = now
        self.closing = True
        if self._exchange is not None:
            self._finish(self._exchange, end)

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent."""
        self._now = now
        backend = self._backend
        taken = len(data)
        if backend is None or self.closing:
            return taken
        try:
            events, taken = backend.receive(data, turn)
            for event in events:
                self._on_event(event)
        except (BackendFault, LocalProtocolError) as fault:
            self._lose(f"the backend broke HTTP: {fault}")
        if not backend.accepts and self._backend is backend:
            self._on_goaway(backend)
        self._pass_on()
        return taken

    def backend_closed(self, now: float) -> None:
        """The backend's connection has ended."""
        self._now = now
        if self._backend is not None:
            self._lose("the backend closed its connection")
        self._pass_on()

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """It could not be reached."""
        self._now = now
        self._backend = None
        if self._exchange is not None:
            self._fail(self._exchange, status, StreamEnd.ANSWERED, why)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: a request without an answer gets 504, and there is no further one."""
        self.drain(now)
        if self._exchange is not None and not self._exchange.answered:
            self._fail(self._exchange, 504, StreamEnd.ANSWERED, "the backend doesn't answer")

    def drain(self, now: float) -> None:
        """Take no further request; an answer that has not begun says so."""
        self._now = now
        self._last = True
        if self._exchange is None and not self._head_begun:
            self.closing = True

    def tick(self, now: float) -> None:
        """Look at what may not take for ever."""
        self._now = now
        exchange = self._exchange
        if self.closing or self._tunnel:
            return
        if exchange is None:
            if self._head_begun and now - self._since > bounds.HEAD_SECONDS:
                self._refuse(BadMessage(408, "a head that doesn't end"))
            elif now - self._since > bounds.KEEP_ALIVE_SECONDS:
                self.closing = True
            return
        if exchange.expecting and exchange.stream and now - exchange.started > bounds.EXPECT_SECONDS:
            self._invite(exchange)
        if not exchange.request_ended and exchange.is_slow(now):
            self._last = True
            self._fail(exchange, 408, StreamEnd.CLIENT_FAULT, "a body that doesn't come")
        elif not exchange.stream and now - exchange.started > bounds.SETTINGS_SECONDS:
            self._fail(exchange, 504, StreamEnd.ANSWERED, "the backend sent no SETTINGS")

    # Requests

    def _take(self, data: bytes, turn: Turn) -> int:
        """Take a head, or a piece of the body; 0: something has to be waited for. Raises BadMessage."""
        exchange = self._exchange
        if exchange is not None:
            return self._take_body(exchange, data, turn)
        found = self._requests.next_head(data)
        if found is None:
            return 0
        turn.spend(bounds.HEAD_COST)
        head, size = found
        self._begin(head)
        return size

    def _begin(self, head: Head) -> None:
        self._count += 1
        self._exchange = exchange = Exchange(
            self._count, head.method, Request(head.method, head.host or b"", b"", head.target), self._now
        )
        self._client.begin(head)
        exchange.request_ended = not head.has_body
        translated = translate(head, self._hostname, self._ours)
        exchange.accept(translated)
        if not self._leads_here(translated.request.host):
            self._answer(exchange, 421, StreamEnd.ANSWERED)
        elif translated.upgrade is Upgrade.UNKNOWN:
            self._answer(exchange, 501, StreamEnd.ANSWERED)
        else:
            try:
                self._dispatch(exchange)
            except BackendFault as fault:
                self._lose(str(fault))

    def _pass_on(self) -> None:
        """Pass on what there is of the request's body, or of the tunnel, over another connection if need be."""
        while (exchange := self._exchange) is not None:
            try:
                self._upload(exchange)
            except BackendFault as fault:
                self._lose(str(fault))
            else:
                return

    def _upload(self, exchange: Exchange) -> None:
        """Raises BackendFault."""
        backend = self._backend
        if backend is None or not self._send_body(exchange, backend):
            return
        if self._client_ended if exchange.is_websocket else exchange.request_ended:
            exchange.sent_end = True
            backend.end(exchange.stream, exchange.trailers)

    def _take_body(self, exchange: Exchange, data: bytes, turn: Turn) -> int:
        """What is offered of a tunnel is taken whole: its end may be behind it."""
        requests = self._requests
        if not requests.in_message or (exchange.waiting_bytes > bounds.MAX_WAITING and not self._tunnel):
            return 0
        body: list[bytes] = []
        size, steps = requests.next_body(data, -(-turn.left // bounds.STEP_COST), body)
        turn.spend(steps * bounds.STEP_COST)
        if body:
            exchange.wait(b"".join(body))  # a frame for each small chunk would cost more than its bytes
        if size:
            exchange.progress = self._now
            exchange.expecting = False  # it did not wait
        if not self._requests.in_message:
            exchange.request_ended = True
            exchange.trailers = request_trailers(self._requests.trailers)
        if exchange.answer_ended:
            self._drop(exchange)
        return size

    @staticmethod
    def _send_body(exchange: Exchange, backend: BackendConnection) -> bool:
        """Send what waits; False: not all of it may go, or none any more."""
        if not exchange.stream or exchange.sent_end:
            return False
        while exchange.waiting:
            room = backend.room(exchange.stream)
            if room <= 0:
                return False
            backend.send(exchange.stream, exchange.next_piece(room))
        return True

    def _drop(self, exchange: Exchange) -> None:
        """The answer is complete: nobody needs what the client still sends, but that it ends."""
        exchange.drop()
        if exchange.request_ended or exchange.leaves_much_unread:
            self._finish(exchange, StreamEnd.DONE)

    # Answers

    def _on_event(self, event: events.Event) -> None:
        """Raises BackendFault, LocalProtocolError."""
        exchange = self._exchange
        if exchange is None:
            return
        if isinstance(event, events.RemoteSettingsChanged) and not exchange.stream:
            self._dispatch(exchange)
        elif getattr(event, "stream_id", 0) == exchange.stream:  # else late, of a request that is over
            self._on_stream(exchange, event)

    def _on_stream(self, exchange: Exchange, event: events.Event) -> None:
        if isinstance(event, events.DataReceived):
            exchange.bytes_down += len(event.data)
            (self._client.raw if self._tunnel else self._client.data)(bytes(event.data))
        elif isinstance(event, events.InformationalResponseReceived):
            self._on_interim(exchange, checked_head(event.headers))
        elif isinstance(event, events.ResponseReceived):
            self._on_head(exchange, checked_head(event.headers), event.stream_ended is not None)
        elif isinstance(event, events.TrailersReceived):
            exchange.answer_trailers = answer_trailers(fields_of(event.headers))
        elif isinstance(event, events.StreamEnded):
            self._on_end(exchange)
        elif isinstance(event, events.StreamReset):
            self._on_reset(exchange, int(event.error_code))

    def _on_interim(self, exchange: Exchange, fields: list[Field]) -> None:
        exchange.interim += 1
        if exchange.interim > MAX_INTERIM:
            raise BackendFault("too many interim answers")
        if fields[0][1] == b"100":
            self._invite(exchange)
        elif exchange.takes_interim:
            self._client.interim(fields)

    def _invite(self, exchange: Exchange) -> None:
        if exchange.expecting:
            exchange.expecting = False
            self._client.invite()

    def _on_head(self, exchange: Exchange, fields: list[Field], ended: bool) -> None:
        if exchange.is_websocket and fields[0][1][:1] == b"2" and not ended:
            self._client.switch(fields, accept_key(exchange.key))
            self._requests.tunnel()
            self._tunnel = True
            exchange.status = 101
        else:
            last = self._last or exchange.leaves_much_unread
            empty = ended and exchange.method != b"HEAD"
            exchange.status = self._client.head(fields, empty, last)
        exchange.answered = True
        exchange.keep_no_more()

    def _on_end(self, exchange: Exchange) -> None:
        exchange.answer_ended = True
        if self._tunnel:
            self.closing = True
        else:
            self._client.end(exchange.answer_trailers)
            if not exchange.request_ended and not exchange.leaves_much_unread:
                self._let_go(exchange)  # what it still sends is read and dropped, so that another request can follow
                return
        self._finish(exchange, StreamEnd.DONE)

    def _on_reset(self, exchange: Exchange, code: int) -> None:
        if exchange.answer_ended:
            return  # it only says that the rest of the request is not needed (RFC 9113, section 8.1)
        exchange.answer_ended = exchange.sent_end = True  # nothing is left to cancel
        if code == ErrorCode.REFUSED_STREAM and self._again(exchange):
            return
        self._fail(exchange, 502, StreamEnd.BACKEND_RESET, f"the backend reset the stream: {code}")

    def _on_goaway(self, backend: BackendConnection) -> None:
        exchange = self._exchange
        if exchange is None:
            self._backend = None
        elif exchange.stream and exchange.stream <= backend.processed:
            return  # it is answered yet
        elif not self._again(exchange):
            self._fail(exchange, 502, StreamEnd.BACKEND_GONE, "the backend went away")
