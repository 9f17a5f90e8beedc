"""What becomes of an HTTP/2 client's frames before a backend of HTTP/1.1: the outlet (../http2/outlet.py) of its leg.

Each request becomes an exchange, which writes its answer through a `StreamEnd`.
"""

from typing import Final

from mcproxy.l7.bridge.bounds import SHORT_PIECE
from mcproxy.l7.bridge.ends import NewEnd, Site
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.l7.bridge.heads import RequestHead, Upgrade
from mcproxy.l7.bridge.stream_end import OPEN, StreamEnd, Streams
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.frames import PADDED, Verdict, unpadded
from mcproxy.l7.http2.header_link import HeaderLink, Section
from mcproxy.l7.http2.outlet import Outlet
from mcproxy.l7.http2.stream import Stream
from mcproxy.wire.fields import Request, Trailers

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
NO_UPGRADE: Final = Upgrade.NONE
WEBSOCKET: Final = Upgrade.WEBSOCKET


def neutral(section: Section[Request]) -> RequestHead:
    """Return a request's head in neutral form; made once for each section."""
    head = section.neutral
    if not isinstance(head, RequestHead):
        section.neutral = head = _neutral(section)
    return head


def _neutral(section: Section[Request]) -> RequestHead:
    request = section.value
    assert request is not None
    if section.template is not None:
        return neutral(section.template).with_request(request)
    fields = section.fields if section.may_pass else section.passed(section.fields)
    regular = tuple(field for field in fields if field[0][:1] != b":")
    upgrade = WEBSOCKET if request.protocol else NO_UPGRADE  # others are refused before
    expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in regular)
    return RequestHead(request, b"https", regular, upgrade, request.protocol, expects_continue=expects)


class StreamOutlet(Outlet, Streams):
    """The streams of one client that have an exchange under way."""

    __slots__ = ("_grown", "_leg", "_new_end", "_site", "exchanges", "expecting", "over", "unsent")

    suffix: bytes | None = None  # no head of the client's is repeated

    def __init__(self, site: Site, new_end: NewEnd) -> None:
        self._site = site
        self._new_end = new_end
        self.exchanges: dict[int, Exchange] = {}  # by stream
        self.expecting: list[Exchange] = []  # those of them whose client waits for 100, or did
        self._grown: list[Exchange] = []  # with something for the backend that waits for the end of the event
        self.unsent: list[StreamEnd] = []  # with a piece that waits for the end of the event
        self.over = False  # the connection ends
        self._leg: ClientLeg | None = None

    def __repr__(self) -> str:
        return f"<StreamOutlet {len(self.exchanges)} exchanges>"

    @property
    def leg(self) -> ClientLeg:
        """The leg whose outlet this is."""
        leg = self._leg
        assert leg is not None, "nothing is called before it was made, or once this is closed"
        return leg

    def made_leg(self, now: float) -> ClientLeg:
        """Make that leg."""
        up = HeaderLink()
        up.lose_step()  # nobody follows the client's table
        site = self._site
        leg = ClientLeg(site.host, site.leads_here, up, self, now)
        leg.down.lose_step()
        self._leg = leg
        return leg

    def close(self) -> None:
        """Let go of the leg, or the collector would have to find out that nobody needs the two."""
        self._leg = None

    def flush(self) -> None:
        """Send what has come in one event: of each request, and of each answer behind which nothing has come."""
        if self._grown:
            grown, self._grown = self._grown, []
            for exchange in grown:
                exchange.send_on()
                if exchange.to_backend.body.waiting_bytes:
                    exchange.to_backend.body.settle()
        if self.unsent:
            unsent, self.unsent = self.unsent, []
            for end in unsent:
                end.flush()

    def request(self, stream: Stream, block: bytes, section: Section[Request]) -> bytes | None:  # noqa: ARG002
        """Begin an exchange."""
        head = neutral(section)
        exchange = Exchange(stream.id, StreamEnd(self, stream), self._new_end, self.leg.now)
        self.exchanges[stream.id] = exchange
        if head.expects_continue:
            self.expecting.append(exchange)
        exchange.to_backend.read(head.request, stream.state is OPEN)
        exchange.accept(head, self._site)
        return None

    def data(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """More of a request's body."""
        exchange = self.exchanges.get(stream.id)
        size = end - start
        if flags & PADDED:
            start, end = unpadded(buf, start, end)
        if exchange is None:
            self.leg.credit(size)
            return None
        if size > end - start:  # padding goes no further
            exchange.to_client.client.taken(size - (end - start))
        if end > start:
            # A long piece is copied once only, when the event is over.
            piece = buf[start:end] if end - start < SHORT_PIECE else memoryview(buf)[start:end]
            exchange.to_backend.add(piece, self.leg.now)
        if stream.state is not OPEN:
            exchange.to_backend.end([])
        self._grow(exchange)
        return None

    def _grow(self, exchange: Exchange) -> None:
        grown = self._grown
        if not grown or grown[-1] is not exchange:
            grown.append(exchange)

    def holds(self, stream: Stream, size: int) -> bool:  # noqa: ARG002
        """Never: an exchange has its own end of the request."""
        return False

    def trailers(self, stream: Stream, block: bytes, section: Section[Trailers]) -> bytes | None:  # noqa: ARG002
        """The end of a request's body."""
        exchange = self.exchanges.get(stream.id)
        if exchange is not None:
            exchange.to_backend.end(section.fields)
            self._grow(exchange)
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
        exchange = self.exchanges.get(stream.id)
        if exchange is not None:
            exchange.finish(stream.end, stream.why)

    def window(self, stream: Stream | None) -> Verdict:
        """The client takes more: lines that were not read are read again."""
        if stream is None:
            for each in self.exchanges.values():
                each.to_backend.resume()
        elif (exchange := self.exchanges.get(stream.id)) is not None:
            exchange.to_backend.resume()
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
        exchange = self.exchanges.pop(stream.id, None)
        if exchange is not None:
            if self.expecting and exchange in self.expecting:
                self.expecting.remove(exchange)
            up = exchange.to_backend
            credit += up.body.waiting_bytes
            stream.backend_protocol, stream.reused = up.version, up.reused
        if not self.over:
            self.leg.credit(credit)
