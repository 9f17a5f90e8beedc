"""The contracts of an exchange with its two ends, in words that belong to no version of HTTP.

A message is a head (heads.py), pieces of a body, and an end with the trailers; or it is reset before its end.

    the client's connection                  Exchange                        the backend's end
      add, send_on, end              ------>   request half   ------>  begin, body, end, let_go    (BackendEnd)
      interim, head, body, end, reset <------  answer half    <------  on_ready, on_interim, on_head, on_body,
      (ClientEnd)                                                      on_end, on_reset, on_lost   (Answered)

Whatever holds for every pairing of a client and a backend is in the exchange: retries, 100-continue, 421, deadlines.
What belongs to one version of HTTP is in the end that speaks it: framing, connections, flow control, the form of a
tunnel.

The backend's end of an exchange is a line (backend_line.py): it finds a connection, and has a `BackendConnection` speak
there, in the version that was found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mcproxy.l7.bridge.heads import AnswerHead, Forwarded, RequestHead
from mcproxy.l7.core import Ending, ExchangeEnd, LineState, Turn
from mcproxy.l7.meters import Pace
from mcproxy.model import Exchanges
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece


class BackendFault(Exception):
    """The backend broke HTTP, or its connection can no longer be used; the message is for the log."""


class OtherVersion(BackendFault):
    """The backend speaks another version of HTTP than was found: the route's is to be found out once more."""


class Takes(Enum):
    """Whether a backend's connection takes a request."""

    NOW = "now"
    LATER = "later"  # unknown until `Answered.on_ready`
    NEVER = "never"  # it asks for what this backend can't do: a tunnel, or gRPC over HTTP/1.1


class Processed(Enum):
    """Whether a backend may have acted on a request that got no complete answer."""

    NO = "no"  # the backend said so, never got the request, or speaks a version of HTTP that can't read it
    UNHEARD = "unheard"  # it went as HTTP/2, and not a byte came: no, if the backend turns out to speak HTTP/1.1
    UNKNOWN = "unknown"  # the connection had served requests before: it may have been closed for being idle
    POSSIBLY = "possibly"  # the connection was made for this request


@dataclass(frozen=True, slots=True)
class Site:
    """What all requests of one client connection have in common."""

    hostname: str  # of the route
    forwarded: Forwarded  # the fields that we add to each request
    leads_here: Callable[[bytes], bool]  # whether another host leads to the connection's route
    host: bytes = b""  # the route's, as requests have it

    def serves(self, host: bytes) -> bool:
        """Whether a request for this host leads to the connection's route."""
        return host == self.host or self.leads_here(host)


class ClientEnd(Protocol):
    """Writes the answer to one request. Raises BackendFault for an answer that can't be written.

    In order: `interim` and `invite` any number of times; then `own`, or `head` or `tunnel`; behind `head`, `body` any
    number of times, then `end`; behind `tunnel`, `body` only, then `end`. `reset` takes the place of what is missing.
    """

    __slots__ = ()

    @property
    def has_room(self) -> bool:
        """Whether more of the answer may be read: false where much waits for the client's window."""

    @property
    def must_read_on(self) -> bool:
        """Whether the rest of a request has to be read, and dropped, behind its complete answer (HTTP/1.1)."""

    def interim(self, head: AnswerHead) -> None:
        """Write a 1xx head that the backend sent."""

    def invite(self) -> None:
        """Write our own 100 (Continue)."""

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:
        """Write a final head. `empty`: no body follows. `last`: the connection takes no further request."""

    def whole(self, head: AnswerHead, body: Piece) -> None:
        """Write a whole answer, whose body is as long as `head` says: in place of `head`, `body` and `end`."""

    def tunnel(self, head: AnswerHead) -> int:
        """Write that the tunnel is open, which the backend's `head` said. Returns the status."""

    def body(self, data: Piece) -> None:
        """Write a piece of the body, or of the tunnel. Always possible; the drive bounds the bytes that are unsent."""

    def end(self, trailers: list[Field]) -> None:
        """Write the end of the answer, or of the backend's half of a tunnel."""

    def own(self, status: int, last: bool, why: str) -> int:
        """Write a whole answer of our own; `why` is for a client of gRPC. Returns the size of its body in bytes."""

    def reset(self) -> None:
        """The answer broke off: the client must not take it for a complete one."""

    def taken(self, size: int) -> None:
        """The backend's end has taken so many bytes of the request's body: the client may send as many more."""

    def over(self, end: ExchangeEnd, why: str) -> None:
        """The exchange is over, and nothing follows."""


class Answered(Protocol):
    """An exchange, for the backend's end: what becomes of the answer. Each call may raise BackendFault.

    In order: `on_ready` any number of times; `on_interim` any number of times; `on_head`, `on_body`, `on_end`; or, in
    place of what is missing, `on_reset` or `on_lost`.
    """

    __slots__ = ()

    @property
    def over(self) -> bool:
        """Whether the exchange is over; nothing may be called then."""

    @property
    def sent_before(self) -> bool:
        """Whether the request has been sent, by another way to the backend."""

    @property
    def wants_more(self) -> bool:
        """Whether more of the answer may be read: the client takes what came."""

    def on_ready(self) -> None:
        """The backend has said what it offers, or there is a connection at last."""

    def on_interim(self, head: AnswerHead) -> None:
        """A 1xx head came; never a 101."""

    def on_head(self, head: AnswerHead, ended: bool) -> None:
        """The final head came; `ended`: nothing follows it, and `on_end` is next.

        A head that opens the tunnel which the request asked for is a 101 of HTTP/1.1 or a 2xx of HTTP/2; what follows
        are the tunnel's bytes.
        """

    def on_whole(self, head: AnswerHead, body: Piece) -> None:
        """A whole answer came, whose body is as long as `head` says: in place of `on_head`, `on_body` and `on_end`."""

    def on_body(self, data: Piece) -> None:
        """A piece of the body came."""

    def on_end(self, trailers: list[Field]) -> None:
        """The answer is complete, or the backend has ended its half of the tunnel."""

    def on_reset(self, code: int, processed: Processed) -> None:
        """The backend gave the request up; its connection goes on. `code` is for the log."""

    def on_lost(self, why: str, processed: Processed, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        """The connection under the request can no longer be used; `end` is how the exchange ends if it can't go on."""

    def on_refused(self, status: int, why: str) -> None:
        """There is no connection, and there will be none: answer with `status`."""

    def send_on(self) -> None:
        """There is room for more of the request."""


class BackendEnd(Protocol):
    """Carries one request to the backend.

    In order: `takes` until that is not LATER, `begin`; then `body` and `end` unless `begin` said that nothing follows;
    `let_go` at any time. All calls that send raise BackendFault; then the connection can't be used, and `drop` follows.
    An exchange that goes on after `drop` needs another one.
    """

    __slots__ = ()

    @property
    def state(self) -> LineState:
        """WANTED: there is no connection yet. BUSY: there is one. Else this end is of no more use."""

    @property
    def version(self) -> str:
        """The version of HTTP that is spoken there; "" while that is unknown."""

    @property
    def reused(self) -> bool:
        """Whether the connection had carried other requests before."""

    @property
    def lagged(self) -> float:
        """When the backend still had older bytes of ours to take: it is not late before (core.Line.lags)."""

    @property
    def now(self) -> float:
        """When it last heard of the backend: seconds of the clock that the core is given."""

    @property
    def room(self) -> int:
        """Bytes of the request's body that may be sent now."""

    def takes(self, head: RequestHead) -> Takes:
        """Whether the connection takes this request. LATER while there is none."""

    def begin(self, head: RequestHead, ended: bool) -> None:
        """Send a request's head, with the fields that we add; `ended`: nothing follows it. Takes must be NOW."""

    def body(self, data: Piece) -> None:
        """Send a piece of the body, of at most `room` bytes."""

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request, or of the client's half of a tunnel."""

    def let_go(self, complete: bool) -> None:
        """Forget the request; further parts of its answer are dropped. Unless it is `complete`, it is cancelled."""

    def drop(self) -> Processed:
        """Forget the connection. Returns whether its request may have been processed."""

    def resume(self) -> None:
        """The client takes more of the answer again: `Answered.wants_more` has changed."""


NewEnd = Callable[[Answered], BackendEnd]  # a way to the backend for an exchange: one that lasts, or a new one


class BackendConnection(Protocol):
    """HTTP in one version on one connection to the backend, one request at a time. Frames and parses; decides nothing.

    Made as `(now, reused)`: whether the connection has carried requests of others before. Raises BackendFault where the
    backend breaks HTTP, or where `Answered` raises it; the connection is of no use then. OtherVersion is one of them.
    """

    __slots__ = ()

    version: str  # "h2" or "http/1.1"
    out: list[Piece]  # for the backend; the line takes them
    requests: int  # begun here

    @property
    def pace(self) -> Pace:
        """What the backend's small pieces are counted by."""

    @property
    def reusable(self) -> bool:
        """Whether another request may begin here: none is under way, and nothing came that belongs to none."""

    @property
    def processed(self) -> Processed:
        """Whether the request that is under way may have been processed. UNKNOWN: others were before it here."""

    @property
    def half_closed(self) -> bool:
        """Whether our side of the connection ends once `out` is sent (a tunnel of HTTP/1.1)."""

    def room(self, unsent: int) -> int:
        """Bytes of the body that may be sent now; `unsent` bytes wait for the backend, those in `out` not counted."""

    def takes(self, head: RequestHead) -> Takes:
        """Whether this request may begin here."""

    def begin(self, head: RequestHead, forwarded: Forwarded, ended: bool) -> None:
        """Send a head. `ended`: the request is complete with it."""

    def body(self, data: Piece) -> None:
        """Send a piece of the body, or of the client's half of a tunnel."""

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request, or of the client's half of a tunnel."""

    def express(self, data: bytes, now: float) -> bool:
        """Take a read that only makes more `room`; `Answered.send_on` follows. False: `receive` is to have it."""

    def receive(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Judge what came, and pass it to the exchange, while it has one that is not over. Returns how many bytes.

        Less than all of `data`: the turn is over, or the rest is incomplete. The rest is offered again, with more.
        """

    def closed(self, exchange: Answered | None, clean: bool) -> None:
        """The connection is over; `clean`: by a FIN of the backend (`Line.closed`).

        That ends an answer which is delimited by it; else `on_lost`, if a request is under way.
        """

    def cancel(self) -> None:
        """The request under way is no longer wanted. `reusable` says whether the connection still is."""


class ClientConnection(Protocol):
    """One client connection, in one version of HTTP. Its methods are those of core.py."""

    __slots__ = ("fault",)

    fault: str  # what went wrong, for the log

    def __init__(self, site: Site, new_end: NewEnd, now: float) -> None:
        """`new_end` makes an exchange's way to the backend."""

    @property
    def ending(self) -> Ending | None:
        """How it ends."""

    @property
    def wants_read(self) -> bool:
        """Whether to read it."""

    @property
    def kept(self) -> int:
        """Bytes of answers that its windows don't allow yet."""

    @property
    def stirred(self) -> bool:
        """Whether anything is to be asked or taken: as `LinedCore.stirred`."""

    @property
    def leaving(self) -> bool:
        """Whether it ends for want of a request."""

    def leave(self, now: float) -> None:
        """End, if it is still `leaving`."""

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed sooner than in a second."""

    def receive(self, data: bytes, turn: Turn, now: float) -> int:
        """Take what the client sent. Returns how many bytes."""

    def closed(self, now: float) -> None:
        """The client has ended its side."""

    def cut(self, end: ExchangeEnd, why: str, now: float) -> None:
        """The connection ends where it stands; `end` is how its exchanges end."""

    def settle(self, now: float) -> None:
        """An event has been handled: do what follows for the connection."""

    def lags(self, now: float) -> None:
        """It still takes what it was sent before: as `Core.client_lags`."""

    def tick(self, now: float, idle: float) -> None:
        """Look at deadlines."""

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long."""

    def drain(self, now: float) -> None:
        """Take no further request."""

    def take(self) -> Sequence[Piece]:
        """Bytes for the client, each once."""

    def take_ended(self) -> Exchanges:
        """Exchanges that are over, each once."""
