"""Ends of an exchange that speak no HTTP: they note what they are asked for, and do what a test says."""

from mcproxy.l7.bridge.ends import BackendFault, Processed, RequestHead, Site, Takes, Upgrade
from mcproxy.l7.bridge.exchange import Exchange
from mcproxy.wire.fields import NO_LENGTH, Request
from mcproxy.wire.hpack_block import Field

OURS = ((b"x-forwarded-for", b"192.0.2.7"),)
SITE = Site("one.test", OURS, lambda host: host == b"one.test")
OK: list[Field] = [(b":status", b"200")]


class NotedClient:
    """A `ClientEnd`."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def interim(self, fields: list[Field]) -> None:
        self.told.append(("interim", fields))

    def invite(self) -> None:
        self.told.append(("invite",))

    def head(self, fields: list[Field], empty: bool, last: bool) -> int:
        self.told.append(("head", empty, last))
        return int(fields[0][1])

    def tunnel(self, fields: list[Field]) -> int:
        self.told.append(("tunnel",))
        return int(fields[0][1])

    def body(self, data: bytes) -> None:
        self.told.append(("body", data))

    def end(self, trailers: list[Field]) -> None:
        self.told.append(("end", trailers))

    def own(self, status: int, last: bool) -> int:
        self.told.append(("own", status, last))
        return 7

    def reset(self) -> None:
        self.told.append(("reset",))


class NotedBackend:
    """A `BackendEnd`."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.accepts = False
        self.answer = Takes.NOW
        self.room = 1 << 20
        self.breaks = False  # with the next head or piece
        self.processed = Processed.POSSIBLY

    def connect(self) -> None:
        self.accepts = True
        self.told.append(("connect",))

    def takes(self, head: RequestHead) -> Takes:
        return self.answer

    def head(self, fields: tuple[Field, ...], ended: bool) -> None:
        self._break()
        self.told.append(("head", fields, ended))

    def body(self, data: bytes) -> None:
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

    def retire(self) -> None:
        self.accepts = False

    def drop(self) -> Processed:
        self.accepts = False
        self.told.append(("drop",))
        return self.processed


def request_head(
    method: bytes = b"GET", host: bytes = b"one.test", length: int = NO_LENGTH, upgrade: Upgrade = Upgrade.NONE,
    expects_continue: bool = False, takes_interim: bool = True,
) -> RequestHead:  # fmt: skip
    request = Request(method, host, host, b"/", content_length=length)
    return RequestHead(request, ((b":method", method),), upgrade, expects_continue, takes_interim)


class Between:
    """An exchange between the two."""

    def __init__(self, head: RequestHead | None = None, has_body: bool = False, now: float = 0.0) -> None:
        self.client = NotedClient()
        self.backend = NotedBackend()
        self.exchange = Exchange(1, self.client, self.backend, now)
        if head is not None:
            self.accept(head, has_body)

    def accept(self, head: RequestHead, has_body: bool = False) -> None:
        self.exchange.to_backend.read(head.request.method, head.request, has_body)
        self.exchange.accept(head, SITE)

    def send(self, data: bytes, now: float = 0.0, end: bool = False) -> None:
        """The client sends a piece of the body."""
        self.exchange.receive(data, now)
        if end:
            self.exchange.end_request([])
        self.exchange.send_on()
