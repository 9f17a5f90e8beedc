"""The contracts of an exchange with its two ends, in words that belong to no version of HTTP.

A message is a head, pieces of a body, and an end with the trailers; or it is reset before its end. A head is a list of
fields that begins with the pseudo-fields of RFC 9113, section 8.3, because those are what RFC 9110, section 6.2 calls
control data, one field each.

    the client's connection                  Exchange                        the backend's end
      receive, send_on, end_request  ------>   request half   ------>  head, body, end, let_go     (BackendEnd)
      interim, head, body, end, reset <------  answer half    <------  on_ready, on_interim, on_head, on_body,
      (ClientEnd)                                                      on_end, on_reset, on_lost   (Answered)

Whatever holds for every pairing of a client and a backend is in the exchange: retries, 100-continue, 421, the fields
that we add, deadlines. What belongs to one version of HTTP is in the end that speaks it: framing, connections, flow
control, the form of a tunnel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import Request
from mcproxy.wire.hpack_block import Field


class BackendFault(Exception):
    """The backend broke HTTP, or its connection can no longer be used; the message is for the log."""


class Upgrade(Enum):
    """The protocol that a request asks its connection to change to."""

    NONE = "none"  # or one that RFC 9110, section 7.8 allows us to ignore
    WEBSOCKET = "websocket"
    UNKNOWN = "unknown"


class Takes(Enum):
    """Whether a backend's connection takes a request."""

    NOW = "now"
    LATER = "later"  # unknown until `Answered.on_ready`
    NEVER = "never"  # it asks for a tunnel, which this backend does not offer


class Processed(Enum):
    """Whether a backend may have acted on a request that got no complete answer."""

    NO = "no"  # the backend said so, or never got the request
    UNKNOWN = "unknown"  # the connection had served requests before: it may have been closed for being idle
    POSSIBLY = "possibly"  # the connection was made for this request


@dataclass(frozen=True, slots=True)
class Site:
    """What all requests of one client connection have in common."""

    hostname: str  # of the route
    forwarded: tuple[Field, ...]  # the fields that we add to each request
    leads_here: Callable[[bytes], bool]  # whether a host leads to the connection's route


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head, as it passes to any backend."""

    request: Request  # for the log and the rules
    fields: tuple[Field, ...]  # without the ones that we add
    upgrade: Upgrade = Upgrade.NONE
    expects_continue: bool = False
    takes_interim: bool = True  # HTTP/1.0 knows no 1xx (RFC 9110, section 15.2)

    @property
    def is_websocket(self) -> bool:
        """Whether the request asks for a tunnel."""
        return self.upgrade is Upgrade.WEBSOCKET


class ClientEnd(Protocol):
    """Writes the answers for a client. Raises BackendFault for an answer that can't be written.

    In order: `interim` and `invite` any number of times; then `own`, or `head` or `tunnel`; behind `head`, `body` any
    number of times, then `end`; behind `tunnel`, `body` only. `reset` takes the place of what is missing.
    """

    def interim(self, fields: list[Field]) -> None:
        """Write a 1xx head that the backend sent."""

    def invite(self) -> None:
        """Write our own 100 (Continue)."""

    def head(self, fields: list[Field], empty: bool, last: bool) -> int:
        """Write a final head. Returns the status.

        `empty`: no body follows. `last`: the connection takes no further request.
        """

    def tunnel(self, fields: list[Field]) -> int:
        """Write that the tunnel is open, which the backend's head `fields` said. Returns the status."""

    def body(self, data: bytes) -> None:
        """Write a piece of the body, or of the tunnel. Always possible; the drive bounds the bytes that are unsent."""

    def end(self, trailers: list[Field]) -> None:
        """Write the end of the answer."""

    def own(self, status: int, last: bool) -> int:
        """Write a whole answer of our own. Returns the size of its body in bytes."""

    def reset(self) -> None:
        """The answer broke off: the client must not take it for a complete one."""


class BackendEnd(Protocol):
    """Carries one request at a time to the backend, over a connection that is replaced where necessary.

    In order: `connect` unless it `accepts`, `takes`, `head`; then `body` and `end` unless `head` said that the request
    ends there; `let_go` at any time. All calls that send raise BackendFault; then the connection can't be used, and
    `drop` follows.
    """

    @property
    def accepts(self) -> bool:
        """Whether there is a connection that takes a request. If not, `connect` comes first."""

    @property
    def room(self) -> int:
        """Bytes of the request's body that may be sent now."""

    def connect(self) -> None:
        """Have a new connection made, in place of the present one."""

    def takes(self, head: RequestHead) -> Takes:
        """Whether the connection takes this request."""

    def head(self, fields: tuple[Field, ...], ended: bool) -> None:
        """Send a request's head; `ended`: nothing follows it. Takes must be NOW."""

    def body(self, data: bytes) -> None:
        """Send a piece of the body, of at most `room` bytes."""

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request."""

    def let_go(self, complete: bool) -> None:
        """Forget the request; further parts of its answer are dropped. Unless it is `complete`, it is cancelled."""

    def retire(self) -> None:
        """Use the present connection for no further request."""

    def drop(self) -> Processed:
        """Forget the connection. Returns whether its request may have been processed."""


class Answered(Protocol):
    """An exchange, for the backend's end: what becomes of the answer. Each call may raise BackendFault."""

    @property
    def over(self) -> bool:
        """Whether the exchange is over; nothing may be called then."""

    def on_ready(self) -> None:
        """The backend has said what it offers."""

    def on_interim(self, fields: list[Field]) -> None:
        """A 1xx head came."""

    def on_head(self, fields: list[Field], ended: bool) -> None:
        """The final head came; `ended`: nothing follows it, and `on_end` is next."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body came."""

    def on_end(self, trailers: list[Field]) -> None:
        """The answer is complete."""

    def on_reset(self, code: int, processed: Processed) -> None:
        """The backend gave the request up; its connection goes on. `code` is for the log."""

    def on_lost(self, why: str, processed: Processed, end: ExchangeEnd = ExchangeEnd.BACKEND_GONE) -> None:
        """The connection under the request can no longer be used; `end` is how the exchange ends if it can't go on."""
