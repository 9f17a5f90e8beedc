"""Exchanges wait here for their last bytes to be delivered; `done` is said of none before (net/delivery.py).

An exchange is over for HTTP once its last byte has been handed on. It is recorded when the client has acknowledged
that byte, which is asked for once a second, once for every MAX_HELD exchanges, and at the end of the connection. If the
connection breaks first, its end is `client gone`, for the client may lack the end of the answer.

Exact: no exchange that is `done` lacks a byte. Not exact: exchanges that ended in one event share their fate, and for a
few bytes before the unacknowledged ones it is not known whether the client has them (the kernel counts bytes of TLS,
which are more than those of HTTP); both count as not delivered. Beyond MOST_HELD the oldest are recorded as they
ended: a client that reads so little makes room for none by what it asks for.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from mcproxy.l7.core import ExchangeEnd, Record
from mcproxy.l7.sockets.channel import Channel
from mcproxy.model import Exchanges, FinishedExchange, RequestTarget

MAX_HELD: Final = 64  # exchanges held before the kernel is asked about them: a system call is 1 % of their cost then
MOST_HELD: Final = 4_096  # held in all, some 2 MB: more answers than the buffers of a client that reads at all


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An exchange that was complete, but not for its client. The fields are those of `FinishedExchange`."""

    id: int
    method: bytes
    request: RequestTarget
    status: int
    received: int
    sent: int
    started: float
    ended: float
    end: str
    why: str
    grpc_status: int | None
    backend_protocol: str
    reused: bool
    head_at: float

    @classmethod
    def of(cls, each: FinishedExchange, why: str) -> FinishedExchange:
        """The record of an exchange whose client is gone; only an end that claims delivery changes."""
        if each.end != ExchangeEnd.DONE:
            return each
        return cls(
            each.id, each.method, each.request, each.status, each.received, each.sent, each.started, each.ended,
            ExchangeEnd.CLIENT_GONE, why, None, each.backend_protocol, each.reused, each.head_at,
        )  # fmt: skip


class Receipts:
    """The exchanges of one client connection that have ended, on their way to the log and the counters."""

    __slots__ = ("_channel", "_count", "_held", "_record", "lost")

    def __init__(self, channel: Channel, record: Record) -> None:
        self._channel = channel
        self._record = record
        self._held: deque[tuple[int, Exchanges]] = deque()  # with where in the channel's bytes they ended
        self._count = 0  # of exchanges in that
        self.lost = 0  # bytes that the client never acknowledged

    def __repr__(self) -> str:
        return f"<Receipts held={self._count}{f' lost={self.lost}' if self.lost else ''}>"

    @property
    def loss(self) -> str:
        """What the client never acknowledged, in words for the log; "" if that is nothing."""
        return f"the client never acknowledged the last {self.lost} bytes" if self.lost else ""

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._held)

    def add(self, ended: Exchanges) -> None:
        """Exchanges have ended, if any, and their last bytes are in the channel."""
        if not ended:
            return
        channel = self._channel
        self._held.append((channel.sent + channel.unsent, ended))
        self._count += len(ended)
        if self._count >= MAX_HELD:
            self.look()

    def look(self) -> None:
        """Record those that have been delivered."""
        if self._held:
            self._record_up_to(self._channel.sent - self._channel.unacknowledged)

    def close(self, goodbye: int) -> None:
        """The connection is over: record all. `goodbye` is how many bytes of our own end may be unacknowledged."""
        if self._held:
            channel = self._channel
            unacknowledged = channel.unacknowledged
            if unacknowledged <= goodbye:
                unacknowledged = 0
            self._record_up_to(channel.sent - unacknowledged)
            if self._held:
                self.lost = unacknowledged + channel.unsent
        while self._held:
            _, ended = self._held.popleft()
            self._record([Undelivered.of(each, self.loss) for each in ended])

    def _record_up_to(self, delivered: int) -> None:
        """Record what had ended by this byte, and the oldest beyond MOST_HELD.

        In one call: to call costs more than to record one exchange, and most events end only one.
        """
        held = self._held
        due: list[FinishedExchange] = []
        while held and (held[0][0] <= delivered or self._count > MOST_HELD):
            _, ended = held.popleft()
            self._count -= len(ended)
            due += ended
        if due:
            self._record(due)
