"""Ends of an exchange that speak no HTTP: they note what they are asked for, and do what a test says."""

from mcproxy.l7.bridge.ends import Answered, BackendFault, NewEnd, Processed, Site, Takes
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.l7.bridge.heads import AnswerHead, Forwarded, RequestHead, Upgrade
from mcproxy.l7.core import ExchangeEnd, LineState
from mcproxy.wire.fields import NO_LENGTH, Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece

SITE = Site("one.test", Forwarded(((b"x-forwarded-for", b"192.0.2.7"),)), lambda host: host == b"one.test")
OK = AnswerHead(200, (), NO_LENGTH)


class NotedClient:
    """A `ClientEnd`."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.has_room = True
        self.must_read_on = True
        self.bytes_taken = 0
        self.ends: list[tuple[ExchangeEnd, str]] = []

    def interim(self, head: AnswerHead) -> None:
        self.told.append(("interim", head))

    def invite(self) -> None:
        self.told.append(("invite",))

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:
        self.told.append(("head", empty, last))

    def whole(self, head: AnswerHead, body: Piece) -> None:
        self.told.append(("whole", body))

    def tunnel(self, head: AnswerHead) -> int:
        self.told.append(("tunnel",))
        return head.status

    def body(self, data: Piece) -> None:
        self.told.append(("body", data))

    def end(self, trailers: list[Field]) -> None:
        self.told.append(("end", trailers))

    def own(self, status: int, last: bool, why: str) -> int:
        assert why
        self.told.append(("own", status, last))
        return 7

    def reset(self) -> None:
        self.told.append(("reset",))

    def taken(self, size: int) -> None:
        self.bytes_taken += size

    def over(self, end: ExchangeEnd, why: str) -> None:
        self.ends.append((end, why))


class NotedBackend:
    """A `BackendEnd`, also one that is opened anew."""

    version = "h2"
    reused = False
    now = lagged = 0.0

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.state = LineState.SPENT
        self.answer = Takes.NOW
        self.room = 1 << 20
        self.breaks = False  # with the next head or piece
        self.processed = Processed.POSSIBLY

    def for_exchange(self, exchange: Answered) -> "NotedBackend":
        """A `NewEnd`."""
        self.state = LineState.BUSY
        self.told.append(("connect",))
        return self

    def takes(self, head: RequestHead) -> Takes:
        return self.answer

    def begin(self, head: RequestHead, ended: bool) -> None:
        self._break()
        self.told.append(("begin", head.request.method, ended))

    def body(self, data: Piece) -> None:
        self._break()
        self.room -= len(data)
        self.told.append(("body", data))

    def _break(self) -> None:
        breaks, self.breaks = self.breaks, False
        if breaks:
            raise BackendFault("it broke")

    def end(self, trailers: list[Field]) -> None:
        self.told.append(("end", trailers))

    def let_go(self, complete: bool) -> None:
        self.told.append(("let go", complete))

    def drop(self) -> Processed:
        self.state = LineState.SPENT
        self.told.append(("drop",))
        return self.processed

    def resume(self) -> None:
        self.told.append(("resume",))


def request_head(
    method: bytes = b"GET", host: bytes = b"one.test", length: int = NO_LENGTH, upgrade: Upgrade = Upgrade.NONE,
    expects_continue: bool = False, takes_interim: bool = True, grpc: bool = False,
) -> RequestHead:  # fmt: skip
    request = Request(method, host, host, b"/", content_length=length, grpc=grpc)
    return RequestHead(request, b"https", (), upgrade, expects_continue=expects_continue, takes_interim=takes_interim)


class Between:
    """An exchange between the two."""

    def __init__(
        self, head: RequestHead | None = None, has_body: bool = False, now: float = 0.0, new_end: NewEnd | None = None
    ) -> None:
        self.client = NotedClient()
        self.backend = NotedBackend()
        self.exchange = Exchange(1, self.client, new_end or self.backend.for_exchange, now)
        if head is not None:
            self.accept(head, has_body)

    def accept(self, head: RequestHead, has_body: bool = False) -> None:
        self.exchange.to_backend.read(head.request, has_body)
        self.exchange.accept(head, SITE)

    def send(self, data: bytes, now: float = 0.0, end: bool = False) -> None:
        """The client sends a piece of the body."""
        self.exchange.to_backend.add(data, now)
        if end:
            self.exchange.to_backend.end([])
        self.exchange.send_on()
