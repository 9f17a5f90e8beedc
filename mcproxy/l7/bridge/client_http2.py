"""One HTTP/2 client connection before backends of HTTP/1.1: each of its streams is an exchange.

The client is judged by the code that judges it before an HTTP/2 backend (../http2): its leg, and `FromClient`. What
passes becomes exchanges in the outlet (stream_outlet.py). The windows are ours, because the backend has none: a body is
taken as far as a window goes, which opens again as the backend takes it; an answer waits in the leg until the client's
window opens, and the line that it comes from is not read meanwhile.
"""

from collections.abc import Sequence
from typing import Final

from mcproxy.l7.bridge.answer_half import AnswerState
from mcproxy.l7.bridge.ends import ClientConnection, NewEnd, Site
from mcproxy.l7.bridge.request_half import Coming
from mcproxy.l7.bridge.stream_outlet import StreamOutlet
from mcproxy.l7.core import Ending, ExchangeEnd, Turn
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.from_client import Drain, FromClient
from mcproxy.l7.http2.stream import StreamState
from mcproxy.l7.pieces import taken
from mcproxy.model import End, Exchanges
from mcproxy.wire.http2 import ConnectionFault, ErrorCode, Piece, Setting

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
AWAITED: Final = AnswerState.AWAITED
EXPECTING: Final = Coming.EXPECTING
ANSWERED: Final = ExchangeEnd.ANSWERED
CLIENT_FAULT: Final = ExchangeEnd.CLIENT_FAULT
CLIENT_GONE: Final = ExchangeEnd.CLIENT_GONE
DONE: Final = ExchangeEnd.DONE
BACKEND_ENDED: Final = StreamState.BACKEND_ENDED


class Http2Client(ClientConnection):
    """A `ClientConnection` (ends.py)."""

    stirred = True  # perhaps: a backend of HTTP/1.1 sends nothing from which nothing follows

    __slots__ = ("_end_word", "_judge", "_outlet", "_settings", "ending", "leg")

    def __init__(self, site: Site, new_end: NewEnd, now: float) -> None:
        self._outlet = StreamOutlet(site, new_end)
        self.leg = leg = self._outlet.made_leg(now)
        self._settings = ClientSettings(leg)
        self._judge = FromClient(leg, self._settings, now)
        self.fault = ""  # what went wrong with the connection as a whole, for the log
        self._end_word = End.CLOSED
        self.ending: Ending | None = None
        self._settings.announce({Setting.ENABLE_CONNECT_PROTOCOL: 1})

    def __repr__(self) -> str:
        return f"<Http2Client {self.leg!r}{f' {self.ending}' if self.ending else ''}>"

    @property
    def wants_read(self) -> bool:
        """Whether to read the client."""
        return self.ending is None and not self._judge.pace.over

    @property
    def kept(self) -> int:
        """Bytes of answers that its windows don't allow yet."""
        return self.leg.windows.held_bytes

    leaving = False  # GOAWAY says which requests will be served

    def leave(self, now: float) -> None:
        """Never called."""

    @property
    def hurried(self) -> bool:
        """Whether something is due sooner than in a second."""
        return (
            self._judge.drain is not Drain.NOT_ASKED
            or self._judge.pace.over
            or any(each.to_backend.coming is EXPECTING for each in self._outlet.expecting)
        )

    def take(self) -> Sequence[Piece]:
        """Bytes for the client, each once."""
        return taken(self.leg.out)

    def take_ended(self) -> Exchanges:
        """Exchanges that are over, each once."""
        ended = self.leg.ended
        if ended:
            self.leg.ended = []
        return ended

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent. A fault of the client's ends the connection."""
        judge = self._judge
        if self.ending:
            return len(data)
        if judge.pace.over and judge.pace.must_wait(now):
            return 0
        self.leg.now = judge.now = now
        taken = eaten = 0
        try:
            if judge.preface_left:
                eaten = judge.take_preface(data)
                data = data[eaten:]
            taken = judge.receive(data, turn, [])
        except ConnectionFault as fault:
            self._close(CLIENT_FAULT, str(fault), fault)
        if judge.pace.over:
            self.fault = self.fault or judge.pace.note
        self.settle(now)
        return eaten + taken

    def closed(self, now: float) -> None:
        """The client has ended its side: nothing more can be delivered."""
        self.leg.now = now
        self._close(CLIENT_GONE, "the client closed its connection")

    def cut(self, end: ExchangeEnd, why: str, now: float) -> None:
        """The connection ends where it stands."""
        self.leg.now = now
        self._close(end, why)

    def settle(self, now: float) -> None:
        """Send the pieces that wait, and end the connection once it has nothing left to do."""
        self.leg.now = now
        self._outlet.flush()
        if self.ending is None and self._judge.settle():
            self._end()
            self._outlet.close()

    def lags(self, now: float) -> None:
        """It still takes what it was sent before."""
        self._judge.client_lags(now)
        for exchange in self._outlet.exchanges.values():
            exchange.to_backend.body.client_lags(now)

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""
        if self.ending:
            return
        self.leg.now = now
        try:
            self._judge.check(now)
        except ConnectionFault as fault:
            self._close(CLIENT_FAULT, str(fault), fault)
            return
        self._judge.pace.must_wait(now)
        for exchange in list(self._outlet.exchanges.values()):
            if exchange.over or exchange.in_tunnel:
                continue
            if exchange.tick(now):
                exchange.fail(408, CLIENT_FAULT, "a body that doesn't come")
            elif exchange.to_client.state is AWAITED and exchange.to_backend.waits(now, idle):
                exchange.fail(504, ANSWERED, "the backend doesn't answer")
        for stream in list(self.leg.streams.values()):
            if stream.unwanted and stream.state is BACKEND_ENDED:
                self.leg.reset(stream, ErrorCode.NO_ERROR, DONE, "")
        self.settle(now)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the client is asked to go."""
        self.leg.now = now
        self._end_word = End.IDLE_TIMEOUT
        for exchange in list(self._outlet.exchanges.values()):
            if not exchange.over and not self.leg.streams[exchange.id].status:
                exchange.fail(504, ANSWERED, "the backend doesn't answer")
        self.drain(now)
        self.settle(now)

    def drain(self, now: float) -> None:
        """Ask the client to come no more, in two steps (RFC 9113, section 6.8)."""
        if not self.ending:
            self.leg.now = now
            self._judge.ask_to_leave(now)

    def _close(self, end: ExchangeEnd, why: str, fault: ConnectionFault | None = None) -> None:
        """The connection ends now, with GOAWAY, and its exchanges with it; `fault` is the client's."""
        if fault:
            self.fault = why
        if self.ending is None:
            code, debug = (fault.code, fault.why) if fault else (ErrorCode.NO_ERROR, "")
            self.leg.close(code, debug.encode(), end, why)
            if code == ErrorCode.ENHANCE_YOUR_CALM:
                self._end_word = End.ABUSE
            self._end()
            for exchange in list(self._outlet.exchanges.values()):
                exchange.finish(end, why)
            self._outlet.close()

    def _end(self) -> None:
        self._outlet.over = True
        self.ending = Ending(end=self._end_word, why=self.fault)
