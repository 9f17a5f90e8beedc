"""Whether a peer lags: it still has older bytes of ours to take, and goes on taking them (net/delivery.py).

Timers that wait for a peer's next step must not run meanwhile, for it can't answer what it doesn't have: a client that
reads 20 MB at 20 kB/s is neither idle between two requests nor late with its SETTINGS, and a backend that reads an
upload so slowly does not hang.

*Older* means that we had it before the last look, a second ago. So a connection that is busy never lags for what is on
its way just now: a request that hangs beside others has its 504.
"""

from socket import AF_UNIX
from typing import Final

from mcproxy.l7.sockets.channel import Channel
from mcproxy.net.delivery import Progress

# What a kernel may count beyond the bytes of HTTP that are new since the last look: what TLS adds; over a UNIX socket,
# what it keeps of its own with each piece, as if they were so many times more.
IN_TLS: Final = 4_096
IN_UNIX: Final = 4
BETWEEN: Final = 0.9  # seconds at least between two looks; a drive looks once a second, or ten times


class Lag:
    """That of one peer. Times are seconds of the sweeper's clock."""

    __slots__ = ("_acknowledged", "_at", "_handed", "_progress")

    def __init__(self) -> None:
        self._at = -BETWEEN  # when it was looked at
        self._handed = 0  # bytes of HTTP that there had been for the peer at the last look
        self._acknowledged = True  # it had them: nothing is asked again until there are more
        self._progress = Progress()

    def __repr__(self) -> str:
        return f"<Lag {'none' if self._acknowledged else self._progress}>"

    def look(self, channel: Channel, limit: float, now: float) -> bool:
        """Whether it lags, as far as that is looked at now. One that takes nothing for `limit` has stopped."""
        if now - self._at < BETWEEN:
            return False
        self._at = now
        before, self._handed = self._handed, channel.sent + channel.unsent
        newer = self._handed - before
        if self._acknowledged and not newer:
            return False
        undelivered = channel.undelivered + channel.unsent
        self._acknowledged = not undelivered
        self._progress.moved(channel.sent, now)
        if newer:
            newer = newer * (IN_UNIX if channel.sock.family == AF_UNIX else 1) + IN_TLS
        return undelivered > newer and not self._progress.stalled(limit, (channel.sock,), now)
