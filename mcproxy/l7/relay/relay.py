"""The HTTP/2 relay: bytes of a client in, bytes for its backend out, and the other way round. No socket, no clock.

One client connection has one backend connection, and every stream keeps its identifier. So cancellation, concurrency,
trailers and the flow control of answers pass end to end, frame by frame. Nothing is buffered here but what must be
whole to be judged (a header block), and bodies of requests that are ahead of the backend (uploads.py). Between the two
stands everything that RFC 9113 and RFC 7541 ask of a server, because the backend may check nothing.

**End to end:** HEADERS, DATA, RST_STREAM, the client's WINDOW_UPDATE, GOAWAY, the settings that settings.py names.
**Ended here:** the backend's WINDOW_UPDATE, PING (each side measures its distance to us, and can't flood the other),
PRIORITY (deprecated), unknown frames (for one hop), PUSH_PROMISE (switched off), padding of header blocks.

**GOAWAY.** A backend's GOAWAY names the last stream that it processed. The client gets the same one, and every stream
above is refused, whether it was passed before or comes later. So a backend that closes after so many requests costs a
client a retry, never an answer. A backend that vanishes without GOAWAY may have processed anything: its streams get
502, or RST_STREAM where the answer has begun.

core.py says what the owner does, and when.
"""

from collections.abc import Callable, Sequence
from typing import Final

from mcproxy.l7.core import Core, Ending, ExchangeEnd, Turn
from mcproxy.l7.http2.budgets import MAX_HELD
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.from_client import Drain, FromClient
from mcproxy.l7.http2.stream import Stream, StreamState
from mcproxy.l7.pieces import taken
from mcproxy.l7.relay.backend_leg import BackendLeg, BackendState
from mcproxy.l7.relay.from_backend import FromBackend
from mcproxy.model import End
from mcproxy.wire.fields import forwarded
from mcproxy.wire.hpack_block import literal
from mcproxy.wire.http2 import WINDOW_UPDATE_START, ConnectionFault, ErrorCode, Piece, goaway

# Named once: CONTRIBUTING says why.
_WANTED: Final = BackendState.WANTED
_UP: Final = BackendState.UP
_GONE: Final = BackendState.GONE
_NOT_ASKED: Final = Drain.NOT_ASKED


class Relay(Core):
    """One client connection and its backend connection."""

    ending: Ending | None = None  # by FIN always: HTTP/2 itself says that an answer broke off

    def __init__(
        self,
        host: str,
        client_address: str,
        leads_here: Callable[[bytes], bool],
        now: float,
    ) -> None:
        """`host` is the connection's name; `leads_here` returns whether another host leads to the same route."""
        ours = b"".join(literal(name, value) for name, value in forwarded(client_address))
        self.backend = BackendLeg(ours)
        self.client = ClientLeg(host.encode(), leads_here, self.backend.up, self.backend, now)
        self._settings = ClientSettings(self.client)
        self._from_client = FromClient(self.client, self._settings, now)
        self._from_backend = FromBackend(self.backend, self.client, self._settings, now)
        self.fault = ""  # what went wrong with a connection as a whole, for the log
        self._heard = now  # when the backend last sent anything
        self._end_word = End.CLOSED  # of the connection, for the log

    def __repr__(self) -> str:
        return f"<Relay {self.client!r} {self.backend!r}{f' {self.ending}' if self.ending else ''}>"

    @property
    def wants_dial(self) -> bool:
        """The backend is to be dialled."""
        return self.backend.state is _WANTED

    def dialling(self) -> None:
        """The owner dials."""
        self.backend.state = BackendState.DIALLING

    @property
    def wants_client(self) -> bool:
        """The client is to be read."""
        return self.ending is None and not self._from_client.pace.over

    @property
    def wants_backend(self) -> bool:
        """The backend is to be read: not while it has sent far beyond the client's windows, nor while it is slowed."""
        return self.client.windows.held_bytes <= MAX_HELD and not self._from_backend.pace.over

    leaving = False  # GOAWAY says which requests will be served

    def leave(self, now: float) -> None:
        """Never called."""

    @property
    def has_backend(self) -> bool:
        """There is a backend to send to."""
        return self.backend.state is not _GONE

    @property
    def kept(self) -> int:
        """Bytes that the client's windows don't allow yet."""
        return self.client.windows.held_bytes

    @property
    def hurried(self) -> bool:
        """Something is due sooner than a second from now: a step of draining, the server's preface, the next pieces."""
        judge = self._from_client
        return (
            judge.drain is not _NOT_ASKED
            or not self._settings.announced
            or judge.pace.over
            or self._from_backend.pace.over
        )

    # Bytes in

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent. A fault of the client's ends the connection."""
        if self.ending:
            return len(data)
        judge = self._from_client
        if judge.pace.over and judge.pace.must_wait(now):
            return 0
        self.client.now = judge.now = now
        taken = eaten = 0
        try:
            if judge.preface_left:
                eaten = judge.take_preface(data)
                data = data[eaten:]
            taken = judge.receive(data, turn, self.backend.out)
        except ConnectionFault as fault:
            self._settings.announce_early()
            self._close(ExchangeEnd.CLIENT_FAULT, str(fault), fault)
        if judge.pace.over:
            self.fault = self.fault or judge.pace.note
        if self.ending is None:
            if self.backend.uploads.stirred:
                self.backend.uploads.settle(self.client)
            if judge.settle():
                self._end()
        return eaten + taken

    def _close(self, exchanges: ExchangeEnd, why: str, fault: ConnectionFault | None = None) -> None:
        """The connection ends now, with GOAWAY, and its exchanges with it; `fault` is the client's."""
        if fault:
            self.fault = why
        if self.ending is None:
            code, debug = (fault.code, fault.why) if fault else (ErrorCode.NO_ERROR, "")
            self.client.close(code, debug.encode(), exchanges, why)
            if code == ErrorCode.ENHANCE_YOUR_CALM:
                self._end_word = End.ABUSE
            self._end()

    def _end(self) -> None:
        self.ending = Ending(end=self._end_word, why=self.fault)

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the backend sent. A fault of the backend's loses it, and nothing else."""
        backend = self.backend
        taken = len(data)
        if self.ending or backend.state is _GONE:
            return taken
        judge = self._from_backend
        if judge.pace.over and judge.pace.must_wait(now):
            return 0
        self.client.now = judge.now = self._heard = now
        try:
            if backend.state is not _UP and data.startswith(b"HTTP/1."):
                raise ConnectionFault(
                    ErrorCode.HTTP_1_1_REQUIRED, "the backend speaks HTTP/1: an l7 route needs HTTP/2"
                )
            taken = judge.receive(data, turn, self.client.out)
            self.fault = self.fault or judge.note or (judge.pace.note if judge.pace.over else "")
        except ConnectionFault as fault:
            self.fault = str(fault)
            self._lose_backend(502, ExchangeEnd.BACKEND_FAULT, self.fault)
            backend.out.append(goaway(0, fault.code, fault.why.encode()))
        if self._settings.acks_due:
            self._settings.acknowledge()
        if backend.uploads.stirred:
            backend.uploads.settle(self.client)
        if self._from_client.settle():
            self._end()
        return taken

    def express(self, data: bytes, now: float) -> int:
        """Take WINDOW_UPDATEs, of which an upload brings two for each 32 KiB to many backends."""
        if data[: len(WINDOW_UPDATE_START)] != WINDOW_UPDATE_START or self.ending:
            return 0  # nearly all reads are of answers
        judge = self._from_backend
        taken = judge.opens_windows(data, now)
        if taken == len(data):  # else what follows settles it
            self.client.now = judge.now = self._heard = now
            self.backend.uploads.settle(self.client)
            self._settle()
        return taken

    @property
    def stirred(self) -> bool:
        """Whether there is anything for the client, or any exchange is over."""
        client = self.client
        return bool(client.out or client.ended) or self.ending is not None

    # Events

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """It could not be reached: requests are answered with `status`, 502 or 504."""
        self.client.now = now
        self.fault = why
        self._lose_backend(status, ExchangeEnd.ANSWERED, why)
        self._settle()

    def backend_closed(self, now: float) -> None:
        """Its connection has ended, cleanly or not; all that it sent before has been judged."""
        self.client.now = now
        why = "the backend closed its connection"
        if self.client.streams and not self.fault:
            self.fault = why
        self._lose_backend(502, ExchangeEnd.BACKEND_GONE, why)
        self._settle()

    def _lose_backend(self, status: int, end: ExchangeEnd, why: str) -> None:
        """Every stream fails, and the client is asked to come again."""
        client = self.client
        before = self.backend.state
        if before is _GONE:
            return
        self._settings.announce_early()
        self.backend.lose()
        client.fail_all(status, end, why)
        if before is _UP or client.closed.last_id:
            client.goaway(client.closed.last_id, ErrorCode.NO_ERROR)  # the next connection dials again

    def client_closed(self, now: float) -> None:
        """Its connection has ended: nothing more can be delivered."""
        self.client.now = now
        self._close(ExchangeEnd.CLIENT_GONE, "the client closed its connection")

    def client_lost(self, now: float) -> None:
        """Its connection broke."""
        self.client.now = now
        self._close(ExchangeEnd.CLIENT_GONE, "the client's connection broke")

    def cut(self, why: str, now: float) -> None:
        """We end the client's connection where it stands."""
        self.client.now = now
        self._close(ExchangeEnd.CUT, why)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the client is asked to go."""
        client = self.client
        client.now = now
        self._leave_backend([each for each in client.streams.values() if not each.status])
        self._settle()

    def _leave_backend(self, unanswered: list[Stream]) -> None:
        """It may be gone: the client's next connection dials again."""
        self._end_word = End.IDLE_TIMEOUT
        self._answer_504(unanswered)
        self.drain(self.client.now)

    def _answer_504(self, unanswered: list[Stream]) -> None:
        for stream in unanswered:
            self.fault = "the backend doesn't answer"
            self.backend.cancel(stream)
            self.client.fail(stream, 504, ExchangeEnd.ANSWERED, self.fault)

    def drain(self, now: float) -> None:
        """Ask the client to come no more, in two steps (section 6.8); what is under way is finished."""
        if not self.ending:
            self.client.now = now
            self._from_client.ask_to_leave(now)

    def client_lags(self, now: float) -> None:
        """It still takes what it was sent before."""
        self._from_client.client_lags(now)

    def backend_lags(self, now: float) -> None:
        """It still takes what it was sent before: whose turn is the backend's has not begun to wait."""
        client = self.client
        for stream in client.streams.values():
            if not client.owes_body(stream):
                stream.progress = now

    def tick(self, now: float, idle: float) -> None:
        """Look at what may not take for ever; about once a second."""
        if self.ending:
            return
        self.client.now = now
        try:
            self._from_client.check(now)
        except ConnectionFault as fault:
            self._close(ExchangeEnd.CLIENT_FAULT, str(fault), fault)
            return
        if self._from_backend.block_stalls(now):
            self.fault = "a header block of the backend's that doesn't end"
            self._lose_backend(502, ExchangeEnd.BACKEND_FAULT, self.fault)
        self._from_backend.renew(now)
        self._from_client.pace.must_wait(now)
        self._from_backend.pace.must_wait(now)
        if unanswered := self.client.unanswered(idle):
            silent = now - self._heard >= idle
            self._leave_backend(unanswered) if silent else self._answer_504(unanswered)
        self._cut_overdue()
        self._settle()

    def _cut_overdue(self) -> None:
        """End bodies that nobody wants, or that are of a declared length and don't come, though they may."""
        client = self.client
        for stream in list(client.streams.values()):
            if stream.unwanted and stream.state is StreamState.BACKEND_ENDED:
                client.reset(stream, ErrorCode.NO_ERROR, ExchangeEnd.DONE, "")
            elif stream.state is StreamState.BACKEND_ENDED and stream.client_ended and client.is_stuck(stream):
                self.backend.cancel(stream)
                client.finish(stream)  # its answer is complete
            elif client.stalls(stream):
                self.backend.cancel(stream)
                client.reset(stream, ErrorCode.CANCEL, ExchangeEnd.CLIENT_FAULT, "a body that doesn't come")

    def _settle(self) -> None:
        """End the connection once it has nothing left to do."""
        if self.ending is None and self._from_client.settle():
            self._end()

    # Bytes out

    def bulk_read(self, most: int) -> int:
        """Return how many bytes to read of a backend that sends in bulk."""
        return self._from_backend.bulk_read(most)

    def take_for_client(self) -> Sequence[Piece]:
        """Return what waits for the client; the caller sends it."""
        return taken(self.client.out)

    def take_ended(self) -> list[Stream]:
        """Return exchanges that are over, each once; their lines and counters are the caller's."""
        ended = self.client.ended
        if ended:
            self.client.ended = []
        return ended

    def take_for_backend(self) -> Sequence[Piece]:
        """Return what waits for the backend; the caller sends it."""
        if not self.backend.greeted:
            return ()  # the preface comes first (section 3.4)
        return taken(self.backend.out)
