"""An exchange that notes what a backend's connection passes to it, and does what a test says."""

from collections.abc import Callable

from mcproxy.l7.bridge.ends import BackendConnection, Processed
from mcproxy.l7.bridge.heads import AnswerHead, Forwarded, RequestHead, Upgrade
from mcproxy.l7.core import ExchangeEnd, Turn
from mcproxy.wire.fields import NO_LENGTH, Request
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece

FORWARDED = Forwarded(((b"x-forwarded-for", b"192.0.2.7"),))


class NotedExchange:
    """An `Answered`."""

    def __init__(self, head_only: bool = False) -> None:
        self.told: list[tuple[object, ...]] = []
        self.heads: list[AnswerHead] = []
        self.over = False
        self.wants_more = True
        self.sent_before = False
        self.wants_head_only = head_only
        self.ends_at = ""  # it is over then
        self.then: dict[str, Callable[[], object]] = {}  # what follows, by the name of what is noted

    def _note(self, *what: object) -> None:
        self.told.append(what)
        self.over = self.over or what[0] == self.ends_at
        self.then.get(str(what[0]), lambda: None)()

    @property
    def body(self) -> bytes:
        """All pieces."""
        return b"".join(bytes(each[1]) for each in self.told if each[0] == "body" and isinstance(each[1], bytes))

    @property
    def names(self) -> list[object]:
        """What was noted, without what it was called with."""
        return [each[0] for each in self.told]

    def on_ready(self) -> None:
        self._note("ready")

    def on_interim(self, head: AnswerHead) -> None:
        self.heads.append(head)
        self._note("interim", head.status)

    def on_head(self, head: AnswerHead, ended: bool) -> None:
        self.heads.append(head)
        self._note("head", head.status, ended)

    def on_whole(self, head: AnswerHead, body: Piece) -> None:
        """The same as its three parts."""
        self.on_head(head, ended=False)
        if not self.over:
            self.on_body(body)
        if not self.over:
            self.on_end([])

    def on_body(self, data: Piece) -> None:
        self._note("body", bytes(data))

    def on_end(self, trailers: list[Field]) -> None:
        self._note("end", trailers)

    def on_reset(self, code: int, processed: Processed) -> None:
        self._note("reset", code, processed)

    def on_lost(self, why: str, processed: Processed, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        self._note("lost", why, processed)

    def on_refused(self, status: int, why: str) -> None:
        self._note("refused", status, why)

    def send_on(self) -> None:
        self._note("send on")


def request_head(
    method: bytes = b"GET", fields: tuple[Field, ...] = (), upgrade: Upgrade = Upgrade.NONE, length: int = NO_LENGTH
) -> RequestHead:
    """A request's head, for /x of one.test."""
    request = Request(method, b"one.test", b"one.test", b"/x", content_length=length)
    return RequestHead(request, b"https", fields, upgrade)


def in_turns(
    connection: BackendConnection, data: bytes, exchange: NotedExchange | None, now: float = 0.0, chunk: int = 0
) -> None:
    """Give it what the backend sent, in as many turns as it takes; at most `chunk` bytes a read, if that isn't 0."""
    chunk = chunk or max(1, len(data))
    pending = b""
    for start in range(0, len(data), chunk):
        pending += data[start : start + chunk]
        while pending:
            taken = connection.receive(pending, Turn(), exchange, now)
            pending = pending[taken:]


def sent(connection: BackendConnection) -> bytes:
    """Take what waits for the backend."""
    data = b"".join(connection.out)
    connection.out.clear()
    return data
