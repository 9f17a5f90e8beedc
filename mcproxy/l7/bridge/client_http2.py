"""One HTTP/2 client connection before backends of HTTP/1.1: each of its streams is an exchange.

The client is judged by the code that judges it before an HTTP/2 backend (../http2): its leg, and `FromClient`, whose
outlet this connection is. A stream's request becomes an exchange, and the exchange writes its answer through a
`StreamEnd`. The windows are ours, because the backend has none: a body is taken as far as a window goes, which opens
again as the backend takes it; an answer waits in the leg until the client's window opens (../http2/flow.py), and the
line that it comes from is not read meanwhile.
"""

from weakref import proxy

from mcproxy.l7.bridge.bounds import CONNECTION_WINDOW, CREDIT, STREAM_WINDOW
from mcproxy.l7.bridge.ends import NewEnd, Site
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.l7.bridge.heads import AnswerHead, RequestHead, Upgrade
from mcproxy.l7.bridge.request_half import Coming
from mcproxy.l7.core import Ending, ExchangeEnd, Turn
from mcproxy.l7.http2.budgets import MAX_HELD
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.flow import hold, send
from mcproxy.l7.http2.frames import PADDED, Verdict, unpadded
from mcproxy.l7.http2.from_client import Drain, FromClient
from mcproxy.l7.http2.header_link import HeaderLink, Section
from mcproxy.l7.http2.stream import Held, Stream, StreamState
from mcproxy.model import End, Exchanges
from mcproxy.wire.fields import Request, Trailers
from mcproxy.wire.hpack_block import Field, encode
from mcproxy.wire.http2 import (
    DEFAULT_WINDOW,
    ConnectionFault,
    ErrorCode,
    Piece,
    Setting,
    headers,
    window_update,
)

OPEN = StreamState.OPEN
CONTINUE = encode([(b":status", b"100")])


def neutral(section: Section[Request]) -> RequestHead:
    """Return a request's head in neutral form; made once for each section."""
    head = section.neutral
    if not isinstance(head, RequestHead):
        section.neutral = head = _neutral(section)
    return head


def _neutral(section: Section[Request]) -> RequestHead:
    request = section.value
    assert request is not None
    fields = section.fields if section.may_pass else section.passed(section.fields)
    regular = tuple(field for field in fields if field[0][:1] != b":")
    upgrade = Upgrade.WEBSOCKET if request.protocol else Upgrade.NONE  # others are refused before
    expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in regular)
    return RequestHead(request, b"https", regular, upgrade, request.protocol, expects_continue=expects)


class StreamEnd:
    """The client's end of one exchange (ends.py): one stream.

    A piece of a body waits for what comes next in the same event, so that the last one carries END_STREAM.
    """

    __slots__ = ("_broken", "_client", "_credit", "_last", "_stream")

    must_read_on = False  # RST_STREAM says that the rest is not needed (RFC 9113, section 8.1)

    def __init__(self, client: "Http2Client", stream: Stream) -> None:
        self._client = client
        self._stream = stream
        self._last: Piece = b""  # the piece that waits
        self._credit = 0  # bytes of the request's body that went, and that the client's window lacks
        self._broken = False

    def __repr__(self) -> str:
        return f"<StreamEnd {self._stream!r}>"

    @property
    def has_room(self) -> bool:
        """Whether nothing of the answer waits for the client's window."""
        return not self._stream.held and self._client.leg.windows.held_bytes <= MAX_HELD

    # The answer

    def interim(self, head: AnswerHead) -> None:
        """Write a 1xx head."""
        self._head(head.block)

    def invite(self) -> None:
        """Write our own 100 (Continue)."""
        self._head(CONTINUE)

    def _head(self, block: bytes, ended: bool = False) -> None:
        leg = self._client.leg
        leg.out.append(headers(self._stream.id, leg.down.prefix() + block, ended))

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:  # noqa: ARG002 - the ClientEnd's
        """Write a final head."""
        stream = self._stream
        stream.status = head.status
        stream.head_at = self._client.leg.now
        stream.grpc_status = head.grpc_status if empty else None
        self._head(head.block, empty)
        if empty:
            self._client.leg.answer_ended(stream)

    def tunnel(self, head: AnswerHead) -> int:
        """Write that the tunnel is open (RFC 8441, section 5)."""
        fields = [field for field in head.fields if field[0] not in (b"sec-websocket-accept", b"content-length")]
        self._stream.status = 200
        self._head(encode([(b":status", b"200"), *fields]))
        return 200

    def body(self, data: Piece) -> None:
        """Write a piece, once it is known what follows."""
        if self._last:
            self._send(self._last, last=False)
        else:
            self._client.unsent.append(self)
        self._last = data
        self._stream.sent += len(data)
        self._client.leg.budget.work += 1

    def flush(self) -> None:
        """Nothing followed the piece that waits."""
        data, self._last = self._last, b""
        if data and self._stream.state is not StreamState.CLOSED:
            self._send(data, last=False)

    def _send(self, data: Piece, last: bool) -> None:
        send(self._client.leg, self._stream, data, last)

    def end(self, trailers: list[Field]) -> None:
        """Write the end."""
        stream = self._stream
        data, self._last = self._last, b""
        if stream.state in (StreamState.CLOSED, StreamState.BACKEND_ENDED):
            return  # with its head
        if not trailers:
            self._send(data, last=True)
            return
        if data:
            self._send(data, last=False)
        hold(self._client.leg, stream, Held(encode(trailers), last=True, trailers=True))

    def own(self, status: int, last: bool, why: str) -> int:  # noqa: ARG002 - the ClientEnd's
        """Write a whole answer of our own, which has no body."""
        stream = self._stream
        self._client.leg.answer(stream, status, stream.state is not OPEN, why)
        return 0

    def reset(self) -> None:
        """The answer broke off: `over` says so."""
        self._broken = True
        self._last = b""

    # The request

    def taken(self, size: int) -> None:
        """The backend has taken some of the body: open the windows again, in large steps."""
        self._credit += size
        stream, leg = self._stream, self._client.leg
        if self._credit < CREDIT:
            return
        credit, self._credit = self._credit, 0
        leg.credit(credit)
        if stream.state is OPEN:
            stream.up_window += credit
            leg.out.append(window_update(stream.id, credit))

    def over(self, end: ExchangeEnd, why: str) -> None:
        """The exchange is over, and so is the stream, once its answer has gone."""
        client, stream = self._client, self._stream
        client.forget(stream, self._credit)
        if stream.state is StreamState.CLOSED:
            return
        if self._broken:
            client.leg.reset(stream, ErrorCode.INTERNAL_ERROR, end, why)
        elif stream.held:
            stream.unwanted = True  # the rest of the request; the answer goes on
        elif stream.state is StreamState.BACKEND_ENDED:
            client.leg.reset(stream, ErrorCode.NO_ERROR, end, why)
        else:
            client.leg.finish(stream, end, why)


class Http2Client:
    """A `ClientConnection` (bridge.py), and the outlet of its streams (../http2/outlet.py)."""

    __slots__ = (
        "__weakref__", "_end_word", "_exchanges", "_judge", "_new_end", "_settings", "_site", "ending", "fault", "leg", "unsent",
    )  # fmt: skip

    suffix = None  # no head of the client's is repeated

    def __init__(self, site: Site, new_end: NewEnd, now: float) -> None:
        self._site = site
        self._new_end = new_end
        up = HeaderLink()
        up.lose_step()  # nobody follows the client's table
        self.leg = leg = ClientLeg(site.host, site.leads_here, up, proxy(self), now)  # or they'd keep each other
        leg.down.lose_step()
        self._settings = ClientSettings(leg)
        self._judge = FromClient(leg, self._settings, now)
        self._exchanges: dict[int, Exchange] = {}  # by stream
        self.unsent: list[StreamEnd] = []  # with a piece that waits for the end of the event
        self.fault = ""  # what went wrong with the connection as a whole, for the log
        self._end_word = End.CLOSED
        self.ending: Ending | None = None
        self._settings.announce({Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW, Setting.ENABLE_CONNECT_PROTOCOL: 1})
        leg.credit(CONNECTION_WINDOW - DEFAULT_WINDOW)

    def __repr__(self) -> str:
        return f"<Http2Client {self.leg!r}{f' {self.ending}' if self.ending else ''}>"

    # ClientConnection

    @property
    def wants_read(self) -> bool:
        """Whether to read the client."""
        return self.ending is None and not self._judge.pace.over

    @property
    def hurried(self) -> bool:
        """Whether something is due sooner than in a second."""
        return (
            self._judge.drain is not Drain.NOT_ASKED
            or self._judge.pace.over
            or any(each.to_backend.coming is Coming.EXPECTING for each in self._exchanges.values())
        )

    def take(self) -> bytes:
        """Bytes for the client, each once."""
        out = self.leg.out
        data = b"".join(out)
        out.clear()
        return data

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
            self._close(ExchangeEnd.CLIENT_FAULT, str(fault), fault)
        if judge.pace.over:
            self.fault = self.fault or judge.pace.note
        self.settle(now)
        return eaten + taken

    def closed(self, now: float) -> None:
        """The client has ended its side: nothing more can be delivered."""
        self.leg.now = now
        self._close(ExchangeEnd.CLIENT_GONE, "the client closed its connection")

    def cut(self, end: ExchangeEnd, why: str, now: float) -> None:
        """The connection ends where it stands."""
        self.leg.now = now
        self._close(end, why)

    def settle(self, now: float) -> None:
        """Send the pieces that wait, and end the connection once it has nothing left to do."""
        self.leg.now = now
        if self.unsent:
            unsent, self.unsent = self.unsent, []
            for end in unsent:
                end.flush()
        if self.ending is None and self._judge.settle():
            self._end()

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""
        if self.ending:
            return
        self.leg.now = now
        try:
            self._judge.check(now)
        except ConnectionFault as fault:
            self._close(ExchangeEnd.CLIENT_FAULT, str(fault), fault)
            return
        self._judge.pace.must_wait(now)
        for exchange in list(self._exchanges.values()):
            if exchange.over or exchange.in_tunnel:
                continue
            if exchange.tick(now):
                exchange.fail(408, ExchangeEnd.CLIENT_FAULT, "a body that doesn't come")
            elif exchange.is_unanswered(now, idle):
                exchange.fail(504, ExchangeEnd.ANSWERED, "the backend doesn't answer")
        for stream in list(self.leg.streams.values()):
            if stream.unwanted and stream.state is StreamState.BACKEND_ENDED:
                self.leg.reset(stream, ErrorCode.NO_ERROR, ExchangeEnd.DONE, "")
        self.settle(now)

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the client is asked to go."""
        self.leg.now = now
        self._end_word = End.IDLE_TIMEOUT
        for exchange in list(self._exchanges.values()):
            if not exchange.over and not self.leg.streams[exchange.id].status:
                exchange.fail(504, ExchangeEnd.ANSWERED, "the backend doesn't answer")
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
            if code is ErrorCode.ENHANCE_YOUR_CALM:
                self._end_word = End.ABUSE
            self._end()
            for exchange in list(self._exchanges.values()):
                exchange.finish(end, why)

    def _end(self) -> None:
        self.ending = Ending(end=self._end_word, why=self.fault)

    # Outlet

    def request(self, stream: Stream, block: bytes, section: Section[Request]) -> bytes | None:  # noqa: ARG002
        """Begin an exchange."""
        head = neutral(section)
        exchange = Exchange(stream.id, StreamEnd(self, stream), self._new_end, self.leg.now)
        self._exchanges[stream.id] = exchange
        stream.exchange = exchange
        exchange.to_backend.read(head.request, stream.state is OPEN)
        exchange.accept(head, self._site)
        return None

    def data(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """More of a request's body."""
        exchange = self._exchanges.get(stream.id)
        size = end - start
        if flags & PADDED:
            start, end = unpadded(buf, start, end)
        if exchange is None:
            self.leg.credit(size)
            return None
        if size > end - start:  # padding goes no further
            exchange.to_client.client.taken(size - (end - start))
        if end > start:
            exchange.receive(buf if end - start == len(buf) else buf[start:end], self.leg.now)
        if stream.state is not OPEN:
            exchange.end_request([])
        exchange.send_on()
        return None

    def trailers(self, stream: Stream, block: bytes, section: Section[Trailers]) -> bytes | None:  # noqa: ARG002
        """The end of a request's body."""
        exchange = self._exchanges.get(stream.id)
        if exchange is not None:
            exchange.end_request(section.fields)
            exchange.send_on()
        return None

    def reset(self, stream: Stream, code: int) -> Verdict:  # noqa: ARG002
        """The client has cancelled the stream, which is over."""
        self._cancel(stream)
        return None

    def abort(self, stream: Stream) -> bytes | None:
        """We have ended the stream for a fault of the client's."""
        self._cancel(stream)
        return None

    def _cancel(self, stream: Stream) -> None:
        exchange = self._exchanges.get(stream.id)
        if exchange is not None:
            exchange.finish(stream.end, stream.why)

    def window(self, stream: Stream | None) -> Verdict:
        """The client takes more: lines that were not read are read again."""
        if stream is None:
            for each in self._exchanges.values():
                each.resume()
        elif (exchange := self._exchanges.get(stream.id)) is not None:
            exchange.resume()
        return None

    def settings(self, pairs: list[tuple[int, int]]) -> bytes | None:  # noqa: ARG002
        """The leg heeds them."""
        self.window(None)
        return None

    def acknowledged(self) -> bytes | None:
        """Nothing of ours was asked for by the backend."""
        return None

    def goaway(self, code: int) -> bytes | None:  # noqa: ARG002
        """The backend need not know."""
        return None

    def dropped(self, size: int) -> None:
        """The backend knows no windows."""

    def forget(self, stream: Stream, credit: int) -> None:
        """The stream's exchange is over; the connection's window still lacks `credit` bytes of its body."""
        exchange = self._exchanges.pop(stream.id, None)
        if exchange is not None:
            credit += exchange.to_backend.body.waiting_bytes
        if self.ending is None:
            self.leg.credit(credit)
