"""The end of a client's connection: send what is left, then end as the core decided.

Usually that is close_notify and FIN. Then the client has a while to end as well (`Patience`), because closing with
unread bytes sends a RST, which would destroy an answer on its way (RFC 9112, section 9.6). If an answer broke off, the
connection ends with a RST instead, once the client has received the part that came.
"""

import time
from dataclasses import dataclass
from enum import StrEnum

from gevent import sleep

from mcproxy.l7.core import Ending, How
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.l7.sockets.waiting import Waiting
from mcproxy.model import End
from mcproxy.net.raw import pauses, reset_on_close
from mcproxy.net.shared import OpenSession

FLUSH_CHECK = 0.005  # seconds between the first two checks for bytes that the client has not acknowledged
FLUSH_LONGEST = 0.32  # seconds between the last ones


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take to leave; seconds."""

    farewell: float = 5.0  # without a byte, once it was idle and has been asked to end; a drain takes two
    linger: float = 2.0  # without a byte, to end after us: a few round trips to anywhere
    longest: float = 10.0  # to end after us, however much it still sends


PATIENCE = Patience()


class State(StrEnum):
    """How far the end is."""

    SENDING = "sending"  # what is left
    LINGERING = "lingering"  # we have ended, and the client has a while to end as well
    OVER = "over"  # and that while is over


class Departure:
    """The end of one client's connection, in the session's greenlet. The session's deadlines come through `overdue`."""

    __slots__ = ("_client", "_patience", "_session", "_waiting", "state")

    def __init__(self, session: OpenSession, client: Side, waiting: Waiting, patience: Patience) -> None:
        self._session = session
        self._client = client
        self._waiting = waiting
        self._patience = patience
        self.state = State.SENDING

    def __repr__(self) -> str:
        return f"<Departure {self.state.value} {self._client!r}>"

    def run(self, ending: Ending) -> End:
        """Return when the connection may be closed."""
        channel = self._client.channel
        while channel.wants_write:
            self._wait(read=False)
            channel.flush()
        if channel.lost:
            return End.ABUSE if channel.abuse else End.CLIENT_RESET
        if ending.how is How.RST:
            self._reset_once_delivered()
        else:
            channel.end()
            self._linger()
        return End.ABUSE if channel.abuse else ending.end

    def _reset_once_delivered(self) -> None:
        channel = self._client.channel
        self._client.want(read=False)
        end = time.monotonic() + self._session.shared.timeouts.half_close
        for pause in pauses(FLUSH_CHECK, FLUSH_LONGEST):
            if not channel.undelivered or time.monotonic() > end:
                break
            sleep(pause)
        reset_on_close(channel.sock)

    def _linger(self) -> None:
        channel, sweeper = self._client.channel, self._session.shared.sweeper
        self.state = State.LINGERING
        end = sweeper.now() + self._patience.longest
        while not channel.ended and self.state is State.LINGERING:
            sweeper.arm(self._session, max(0.0, min(self._patience.linger, end - sweeper.now())))
            if self._wait(read=True) is Event.CLIENT:
                channel.receive()

    def _wait(self, read: bool) -> Event:
        self._client.want(read)
        return self._waiting.wait()

    def overdue(self) -> bool:
        """A deadline of the session has come. Whether the client's time to end is over; then wake the session."""
        if self.state is State.LINGERING:
            self.state = State.OVER
        return self.state is State.OVER
