"""How long nothing has moved on a session (net/delivery.py says what moves it), and what follows from that.

An idle session is drained first, so that a client whose next request is on its way at that moment loses nothing (RFC
9113, section 9.1), and cut if it does not leave. Half of a tunnel has a limit of its own.
"""

from collections.abc import Sequence
from enum import Enum

from mcproxy.model import Timeouts
from mcproxy.net.delivery import Progress
from mcproxy.net.raw import RawSocket


class Due(Enum):
    """What is due after a quiet time."""

    NOTHING = "nothing"
    GIVE_UP = "give up"  # ask the client to leave; what has no answer gets 504
    CUT_IDLE = "cut, idle"  # it did not leave
    CUT_HALF = "cut, half-closed"  # nothing came through the open half of a tunnel


class Quiet:
    """The quiet time of one session. Times are seconds of the sweeper's clock."""

    __slots__ = ("_farewell", "_given_up", "progress")

    def __init__(self, farewell: float) -> None:
        """`farewell` is how long a client may take to leave, without a byte, once it has been asked to."""
        self._farewell = farewell
        self.progress = Progress()
        self._given_up = False

    def __repr__(self) -> str:
        return f"<Quiet since={self.progress.since:g}{' given up' if self._given_up else ''}>"

    def restart(self) -> None:
        """Count from the next look on."""
        self.progress.restart()

    def look(self, moved: int, peers: Sequence[RawSocket], half_closed: bool, timeouts: Timeouts, now: float) -> Due:
        """Return what is due. `moved` is all bytes so far; `half_closed`: the client has ended its side."""
        progress = self.progress
        if progress.moved(moved, now):
            return Due.NOTHING
        if half_closed and progress.stalled(timeouts.half_close, peers, now):
            return Due.CUT_HALF
        if not progress.stalled(self.limit(timeouts), peers, now):
            return Due.NOTHING
        if self._given_up:
            return Due.CUT_IDLE
        self._given_up = True
        progress.begin(now)
        return Due.GIVE_UP

    def limit(self, timeouts: Timeouts) -> float:
        """Seconds that may pass now without a byte: less once the client has been asked to leave for that."""
        return self._farewell if self._given_up else timeouts.idle
