"""The HTTP/2 relay: bytes of a client in, bytes for its backend out, and the other way round. No socket, no clock.

One client connection has one backend connection, and every stream keeps its identifier. So flow control, cancellation,
concurrency and trailers pass end to end, frame by frame, and nothing is buffered here but what must be whole to be
judged (a header block). Between the two stands everything that RFC 9113 and RFC 7541 ask of a server, because the
backend may check nothing.

**End to end:** HEADERS, DATA, RST_STREAM, WINDOW_UPDATE, GOAWAY, the settings that settings.py names. **Ended here:**
PING (each side measures its distance to us; nobody can flood the other), PRIORITY (deprecated), unknown frames (for one
hop), PUSH_PROMISE (switched off), padding of header blocks.

**GOAWAY.** A backend's GOAWAY names the last stream that it processed. The client gets the same one, and every stream
above is refused, whether it was passed before or comes later. So a backend that closes after so many requests costs a
client a retry, never an answer. A backend that vanishes without GOAWAY may have processed anything: its streams get
502, or RST_STREAM where the answer has begun.

core.py says what the owner does, and when.
"""

from collections.abc import Callable

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.core import Ending, ExchangeEnd, Turn
from mcproxy.l7.http2.budgets import (
    BLOCK_SECONDS,
    GRACE_SECONDS,
    MAX_HELD,
    PERIOD,
    PREFACE_SECONDS,
)
from mcproxy.l7.http2.stream import Stream, StreamState
from mcproxy.l7.relay.from_backend import FromBackend
from mcproxy.l7.relay.from_client import DRAIN_PING, FromClient
from mcproxy.l7.relay.pair import BackendState, Pair
from mcproxy.l7.relay.settings import Settings
from mcproxy.model import End
from mcproxy.wire.fields import forwarded
from mcproxy.wire.hpack_block import literal
from mcproxy.wire.http2 import (
    MAX_STREAM_ID,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    goaway,
    ping,
    rst_stream,
)


class Relay:
    """One client connection and its backend connection."""

    def __init__(
        self,
        host: str,
        client_address: str,
        leads_here: Callable[[bytes], bool],
        now: float,
    ) -> None:
        """`host` is the connection's name; `leads_here` says of another host whether it leads to the same route."""
        ours = b"".join(literal(*field) for field in forwarded(client_address))
        self.pair = Pair(host.encode(), ours, leads_here, now)
        self._settings = Settings(self.pair)
        self._client = FromClient(self.pair, self._settings, now)
        self._backend = FromBackend(self.pair, self._settings, now)
        self._preface = 0  # bytes of the client's that have come
        self._greeted = False
        self._draining_since: float | None = None
        self._period_since = now  # of the budgets
        self.fault = ""  # what went wrong with a connection as a whole, for the log
        self._given_up = False
        self.ending: Ending | None = None  # by FIN always: HTTP/2 itself says that an answer broke off

    def __repr__(self) -> str:
        return f"<Relay {self.pair!r}{f' {self.ending}' if self.ending else ''}>"

    @property
    def wants_dial(self) -> bool:
        """Whether the backend is to be dialled."""
        return self.pair.backend is BackendState.WANTED

    def dialling(self) -> None:
        """The owner dials."""
        self.pair.backend = BackendState.DIALLING

    @property
    def wants_client(self) -> bool:
        """Whether to read the client."""
        return self.ending is None

    @property
    def wants_backend(self) -> bool:
        """Whether to read the backend: not while it has sent far beyond the client's windows."""
        return self.pair.held_bytes <= MAX_HELD

    @property
    def has_backend(self) -> bool:
        """Whether there is a backend to send to."""
        return self.pair.backend is not BackendState.GONE

    @property
    def hurried(self) -> bool:
        """Whether something is due sooner than a second from now: a step of draining, the server's preface."""
        return self._draining_since is not None or not self._settings.announced

    # Bytes in

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent. A fault of the client's ends the connection."""
        pair = self.pair
        if self.ending:
            return len(data)
        pair.now = self._client.now = now
        taken = eaten = 0
        try:
            if not self._greeted:
                eaten = self._greeting(data)
                data = data[eaten:]
            taken = self._client.receive(data, turn, pair.to_backend)
        except ConnectionFault as fault:
            self._settings.announce_early()
            self._end_by(fault)
        self._settle()
        return eaten + taken

    def _end_by(self, fault: ConnectionFault) -> None:
        """It is the client's."""
        self.fault = str(fault)
        end = End.ABUSE if fault.code is ErrorCode.ENHANCE_YOUR_CALM else None
        self._close(ExchangeEnd.CLIENT_FAULT, fault.code, fault.why.encode(), end)

    def _close(
        self,
        exchanges: ExchangeEnd,
        code: int = ErrorCode.NO_ERROR,
        debug: bytes = b"",
        end: End | None = None,
    ) -> None:
        """The connection ends now, with GOAWAY, and its exchanges with it."""
        if self.ending is None:
            self.pair.close(code, debug, exchanges)
            self._end(end)

    def _end(self, end: End | None = None) -> None:
        self.ending = Ending(end=end or (End.IDLE_TIMEOUT if self._given_up else End.CLOSED), why=self.fault)

    def _greeting(self, data: bytes) -> int:
        """Take the client's preface (section 3.4); returns how many bytes of `data` belong to it."""
        missing = len(PREFACE) - self._preface
        if not PREFACE[self._preface :].startswith(data[:missing]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        size = min(missing, len(data))
        self._preface += size
        self._greeted = size == missing
        return size

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent. A fault of the backend's loses it, and nothing else."""
        pair = self.pair
        taken = len(data)
        if self.ending or pair.backend is BackendState.GONE:
            return taken
        pair.now = self._backend.now = now
        try:
            if pair.backend is not BackendState.UP and data.startswith(b"HTTP/1."):
                raise ConnectionFault(
                    ErrorCode.HTTP_1_1_REQUIRED, "the backend speaks HTTP/1: an l7 route needs HTTP/2"
                )
            taken = self._backend.receive(data, turn, pair.to_client)
        except ConnectionFault as fault:
            self.fault = str(fault)
            self._lose_backend(502, ExchangeEnd.BACKEND_FAULT)
            pair.to_backend.append(goaway(0, fault.code, fault.why.encode()))
        self._settings.acknowledge()
        self._settle()
        return taken

    # What else happens

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """It could not be reached: requests are answered with `status`, 502 or 504."""
        self.pair.now = now
        self.fault = why
        self._lose_backend(status, ExchangeEnd.ANSWERED)
        self._settle()

    def backend_closed(self, now: float) -> None:
        """Its connection has ended, cleanly or not; all that it sent before has been judged."""
        self.pair.now = now
        if self.pair.streams and not self.fault:
            self.fault = "the backend closed its connection"
        self._lose_backend(502, ExchangeEnd.BACKEND_GONE)
        self._settle()

    def _lose_backend(self, status: int, end: ExchangeEnd) -> None:
        pair = self.pair
        if pair.backend is BackendState.GONE:
            return
        unheard = pair.backend is not BackendState.UP
        self._settings.announce_early()
        pair.lose_backend(status, end)
        if not unheard or pair.closed.last_id:
            pair.goaway(pair.closed.last_id, ErrorCode.NO_ERROR)  # the next connection dials again

    def client_closed(self, now: float) -> None:
        """Its connection has ended: nothing can be delivered any more."""
        self.pair.now = now
        self._close(ExchangeEnd.CLIENT_GONE)

    def client_lost(self, now: float) -> None:
        """Its connection broke."""
        self.client_closed(now)

    def cut(self, now: float) -> None:
        """We end the client's connection where it stands."""
        self.pair.now = now
        self._close(ExchangeEnd.CUT)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the client is asked to go."""
        pair = self.pair
        pair.now = now
        self._given_up = True
        for stream in [each for each in pair.streams.values() if not each.status]:
            self.fault = "the backend doesn't answer"
            pair.to_backend.append(rst_stream(stream.id, ErrorCode.CANCEL))
            pair.fail(stream, 504, ExchangeEnd.ANSWERED)
        self.drain(now)
        self._settle()

    def drain(self, now: float) -> None:
        """Ask the client to come no more, in two steps (section 6.8); what is under way is finished."""
        if self._draining_since is None and not self.ending:
            self.pair.now = now
            self._settings.announce_early()
            self._draining_since = now
            self.pair.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR)
            self.pair.to_client.append(ping(DRAIN_PING))

    def tick(self, now: float) -> None:
        """Look at what may not take for ever; about once a second."""
        pair = self.pair
        if self.ending:
            return
        pair.now = now
        settings = self._settings
        if settings.waiting_since and now - settings.waiting_since >= PREFACE_SECONDS:
            settings.announce_early()
        try:
            settings.check(now)
            if self._client.in_block and now - self._client.block_since > BLOCK_SECONDS:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block that doesn't end")
            if self._backend.in_block and now - self._backend.block_since > BLOCK_SECONDS:
                self._lose_backend(502, ExchangeEnd.BACKEND_FAULT)
        except ConnectionFault as fault:
            self._end_by(fault)
            return
        if now - self._period_since >= PERIOD:
            self._period_since = now
            for side in (pair, self._client, self._backend):
                side.renew(now)
        self._cut_overdue(now)
        if self._draining_since is not None and now - self._draining_since >= GRACE_SECONDS:
            self._client.drained = True
        self._settle()

    def _cut_overdue(self, now: float) -> None:
        """A body that nobody wants any more, or that is of a declared length and doesn't come, though it may."""
        pair = self.pair
        for stream in list(pair.streams.values()):
            if stream.unwanted and stream.state is StreamState.BACKEND_ENDED:
                pair.reset(stream, ErrorCode.NO_ERROR, ExchangeEnd.DONE)
            elif (
                stream.up_left > 0
                and stream.state is StreamState.OPEN
                and min(stream.up_window, pair.up_window) > 0
                and now - stream.progress > BODY_STALL_SECONDS
            ):
                pair.to_backend.append(rst_stream(stream.id, ErrorCode.CANCEL))
                pair.reset(stream, ErrorCode.CANCEL, ExchangeEnd.CLIENT_FAULT)

    def _settle(self) -> None:
        """End the connection once it has nothing left to do."""
        pair = self.pair
        if pair.to_client and not self._settings.announced:
            self._settings.announce_early()  # the server's preface comes first (section 3.4)
        if self._client.drained and pair.last_offered == MAX_STREAM_ID:
            pair.goaway(pair.closed.last_id, ErrorCode.NO_ERROR)
        if not pair.streams and self.ending is None:
            if self._client.leaving:
                self._close(ExchangeEnd.CLIENT_FAULT)
            elif pair.last_offered != MAX_STREAM_ID:
                self._end()

    # Bytes out

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk."""
        return self._backend.bulk_read(most)

    def take_for_client(self) -> bytes:
        """What waits for the client; the caller sends it."""
        out = self.pair.to_client
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def take_ended(self) -> list[Stream]:
        """Exchanges that are over, each once; their lines and counters are the caller's."""
        ended = self.pair.ended
        if ended:
            self.pair.ended = []
        return ended

    def take_for_backend(self) -> bytes:
        """What waits for the backend; the caller sends it."""
        if not self._settings.heard_client:
            return b""  # the preface comes first (section 3.4)
        out = self.pair.to_backend
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data
