"""The end of a client's connection: send what is left, have it delivered, then end as the core decided.

Usually that is close_notify and FIN. A connection that is closed answers what the peer still sends with a RST, and the
RST destroys whatever the peer has not read (RFC 9112, section 9.6). So until the peer has acknowledged everything
(net/delivery.py) the connection stays, whatever it sends is read and dropped, and it is cut only when it takes nothing
for idle_timeout. From then on it has a while to end as well (`Patience`). If an answer broke off, the connection ends
with a RST instead, once the client has received the part that came, or takes none of it for half_close_timeout.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mcproxy.l7.core import Ending, How
from mcproxy.l7.sockets.quiet import Quiet
from mcproxy.l7.sockets.receipts import Receipts
from mcproxy.l7.sockets.side import Side
from mcproxy.l7.sockets.waiting import Waiting
from mcproxy.model import End
from mcproxy.net.raw import pauses, reset_on_close
from mcproxy.net.shared import OpenSession

CHECK: Final = 0.05  # seconds between the first two checks for bytes that the peer has not acknowledged
LONGEST_CHECK: Final = 0.4  # seconds between the last ones
GOODBYE: Final = 32  # bytes at most of our close_notify and FIN: a peer that has all but these has everything


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take to leave, once everything has been delivered; seconds, but for `chatter`."""

    farewell: float = 5.0  # without a byte, once it was idle and has been asked to end; a drain takes two
    linger: float = 2.0  # without a byte, to end after us: a few round trips to anywhere
    longest: float = 10.0  # to end after us, if it sends more than `chatter`; idle_timeout if it sends less
    chatter: int = 65_536  # bytes: WINDOW_UPDATEs of a program that reads what its kernel has; far from a body


PATIENCE: Final = Patience()


class State(StrEnum):
    """How far the end is."""

    AHEAD = "ahead"
    SENDING = "sending"  # what is left
    DELIVERING = "delivering"  # all is sent, and the peer has not acknowledged it
    LINGERING = "lingering"  # it has, and has a while to end as well
    OVER = "over"  # and that while is over
    STALLED = "stalled"  # the peer no longer takes anything


class Departure:
    """The end of one connection, in the session's greenlet. The session's deadlines come through `overdue`."""

    __slots__ = (
        "_chatter", "_delivered", "_heard", "_limit", "_patience", "_pauses", "_quiet", "_receipts",
        "_session", "_side", "_waiting", "state",
    )  # fmt: skip

    def __init__(
        self,
        session: OpenSession,
        side: Side,
        waiting: Waiting,
        quiet: Quiet,
        patience: Patience,
        receipts: Receipts | None = None,
    ) -> None:
        """`receipts` are those of a client, None for a backend."""
        self._session = session
        self._side = side
        self._receipts = receipts
        self._waiting = waiting
        self._quiet = quiet
        self._patience = patience
        self._pauses: Iterator[float] | None = None  # between looks for what the peer has acknowledged, once it waits
        self._limit = 0.0  # seconds in which the peer has to take something
        self._chatter = 0  # bytes that the peer sent since we began to end
        self._heard = 0.0  # when the last of them came
        self._delivered = 0.0  # when everything had been acknowledged
        self.state = State.AHEAD

    def __repr__(self) -> str:
        return f"<Departure {self.state.value} {self._side!r}>"

    def run(self, ending: Ending) -> End:
        """End the connection. Return when it may be closed."""
        channel, timeouts = self._side.channel, self._session.shared.timeouts
        broken_off = ending.how is How.RST
        delivered = self._deliver(timeouts.half_close if broken_off else self._quiet.limit(timeouts), broken_off)
        if broken_off:
            reset_on_close(channel.sock)  # also of a connection that the client has half closed
        if channel.lost:
            return End.ABUSE if channel.abuse else End.CLIENT_RESET
        if not (broken_off or delivered):
            return End.IDLE_TIMEOUT
        if not broken_off:
            if self._receipts is not None:
                self._receipts.close(GOODBYE)
            self._linger()
        return End.ABUSE if channel.abuse else ending.end

    def _deliver(self, limit: float, broken_off: bool) -> bool:
        """Send what is left and, unless the answer broke off, our end. Whether the peer has acknowledged it all."""
        channel = self._side.channel
        self._limit = limit
        self.state = State.SENDING
        while channel.wants_write and self.state is State.SENDING:
            self._await_delivery()
            channel.flush()
        if channel.lost or self.state is State.STALLED:
            return False
        if not broken_off:
            channel.end()
        self.state = State.DELIVERING
        while self.state is State.DELIVERING and channel.undelivered > (0 if broken_off else GOODBYE):
            if channel.ended and self._receipts is not None and not self._receipts:
                break  # a client that has left, and has all its answers: the rest is our goodbye
            self._await_delivery()
        return self.state is State.DELIVERING

    def _await_delivery(self) -> None:
        """Wait, and look now and then: nothing happens where a peer acknowledges. Mostly it has."""
        if self._pauses is None:
            self._pauses = pauses(CHECK, LONGEST_CHECK)
            self._session.shared.sweeper.arm(self._session, CHECK)
        self._wait()

    def _linger(self) -> None:
        sweeper = self._session.shared.sweeper
        self.state = State.LINGERING
        if self._side.channel.ended:
            return
        self._delivered = self._heard = sweeper.now()
        self._chatter = 0
        sweeper.arm(self._session, self._until_over(self._heard))
        while not self._side.channel.ended and self.state is State.LINGERING:
            self._wait()

    def _wait(self) -> None:
        """Wait for an event; what the peer sends is read and dropped."""
        self._side.want(read=True)
        if self._waiting.wait() is self._side.event:
            self._chatter += self._side.channel.drop()
            self._heard = self._session.shared.sweeper.now()

    def overdue(self, now: float) -> float | None:
        """A deadline of the session has come: return the next one; None: it is time to go on, as `state` says."""
        channel = self._side.channel
        if self.state is State.LINGERING:
            wait = self._until_over(now)
            if wait > 0:
                return now + wait
            self.state = State.OVER
            return None
        if self.state not in (State.SENDING, State.DELIVERING):
            return None
        progress = self._quiet.progress
        if not progress.moved(channel.sent + self._chatter, now) and progress.stalled(
            self._limit, (channel.sock,), now
        ):
            self.state = State.STALLED
            return None
        return now + (CHECK if self._pauses is None else next(self._pauses))

    def _until_over(self, now: float) -> float:
        """Seconds that the peer still has to end after us."""
        patience = self._patience
        longest = patience.longest if self._chatter > patience.chatter else self._session.shared.timeouts.idle
        over = min(self._heard + patience.linger, self._delivered + max(longest, patience.longest))
        return over - now
