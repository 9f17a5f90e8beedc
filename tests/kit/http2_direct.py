"""A client end of HTTP/2 with no HTTP/2 behind it: requests are noted, and answered by a test or at once."""

from mcproxy.l7.core import ExchangeEnd, Turn
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.client_settings import ClientSettings
from mcproxy.l7.http2.flow import hold
from mcproxy.l7.http2.from_client import FromClient
from mcproxy.l7.http2.header_link import HeaderLink, Section
from mcproxy.l7.http2.stream import Held, Stream
from mcproxy.wire import http2
from mcproxy.wire.fields import Request, Trailers
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import ConnectionFault
from tests.kit.http2_peer import HOST, MemoryClient, Seen

Note = tuple[str, int, object]


class Notes:
    """An outlet that takes notes."""

    suffix = None

    def __init__(self) -> None:
        self.seen: list[Note] = []
        self.asked: list[Stream] = []

    def request(self, stream: Stream, block: bytes, section: Section[Request]) -> None:
        self.seen.append(("request", stream.id, section.fields))
        self.asked.append(stream)

    def data(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> None:
        self.seen.append(("data", stream.id, (flags, buf[start:end])))

    def holds(self, stream: Stream, size: int) -> bool:
        return False

    def trailers(self, stream: Stream, block: bytes, section: Section[Trailers]) -> None:
        self.seen.append(("trailers", stream.id, section.fields))

    def reset(self, stream: Stream, code: int) -> None:
        self.seen.append(("reset", stream.id, code))

    def abort(self, stream: Stream) -> None:
        self.seen.append(("abort", stream.id, None))

    def window(self, stream: Stream | None) -> None:
        self.seen.append(("window", stream.id if stream else 0, None))

    def settings(self, pairs: list[tuple[int, int]]) -> None:
        self.seen.append(("settings", 0, pairs))

    def acknowledged(self) -> None:
        self.seen.append(("acknowledged", 0, None))

    def goaway(self, code: int) -> None:
        self.seen.append(("goaway", 0, code))

    def dropped(self, size: int) -> None:
        self.seen.append(("dropped", 0, size))


class Direct(MemoryClient):
    """A raw client whose connection ends in a `FromClient`, and whose requests are all answered at once."""

    def __init__(self, answers: bool = True) -> None:
        super().__init__()
        self.notes = Notes()
        up = HeaderLink()
        up.lose_step()  # nobody follows the client's table
        self.leg = ClientLeg(HOST.encode(), lambda host: host == b"b.test", up, self.notes, 0.0)
        self.agreed = ClientSettings(self.leg)
        self.judge = FromClient(self.leg, self.agreed, 0.0)
        self.over = False
        self.fault: ConnectionFault | None = None
        self._answers = answers
        self._left = b""

    @property
    def closed(self) -> bool:
        return self.fault is not None or self.over

    def send(self, data: bytes) -> None:
        if not self.fault:
            try:
                self._judge(data)
            except ConnectionFault as fault:
                self.fault = fault
                self.agreed.announce_early()
                self.leg.close(fault.code, b"", ExchangeEnd.CLIENT_FAULT, str(fault))
        self.look()

    def _judge(self, data: bytes) -> None:
        self.agreed.announce_early()
        self._left += data[self.judge.take_preface(data) if self.judge.preface_left else 0 :]
        over = True
        while over:
            passed: list[http2.Piece] = []
            turn = Turn()
            self._left = self._left[self.judge.receive(self._left, turn, passed) :]
            assert not passed, "an outlet that speaks something else is not handed any frames"
            over = turn.over
        if self._answers:
            for stream in [each for each in self.notes.asked if each.id in self.leg.streams]:
                self.answer(stream)
            self.notes.asked.clear()

    def answer(self, stream: Stream, body: bytes = b"hello world") -> None:
        head = encode([(b":status", b"200"), (b"content-length", b"%d" % len(body))])
        stream.status = 200
        self.leg.out.append(http2.headers(stream.id, self.leg.down.prefix() + head))
        hold(self.leg, stream, Held(body, last=True))
        self.look()

    def look(self) -> None:
        self.over = self.over or (self.fault is None and self.judge.settle())
        self.inbox += self.cutter.feed(b"".join(self.leg.out))
        self.leg.out.clear()

    def take_notes(self) -> list[Note]:
        seen, self.notes.seen = self.notes.seen, []
        return seen

    def take_inbox(self) -> list[Seen]:
        seen, self.inbox = self.inbox, []
        return seen
