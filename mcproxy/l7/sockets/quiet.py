"""How long no byte has moved on a session, and what follows from that.

An idle session is drained first, so that a client whose next request is on its way at that moment loses nothing (RFC
9113, section 9.1), and cut if it does not leave. Half of a tunnel has a limit of its own.
"""

from enum import Enum

from mcproxy.net.shared import Timeouts


class Due(Enum):
    """What is due after a quiet time."""

    NOTHING = "nothing"
    GIVE_UP = "give up"  # ask the client to leave; what has no answer gets 504
    CUT_IDLE = "cut, idle"  # it did not leave
    CUT_HALF = "cut, half-closed"  # nothing came through the open half of a tunnel


class Quiet:
    """The quiet time of one session. Times are seconds of the sweeper's clock."""

    __slots__ = ("_farewell", "_given_up", "_moved", "_since")

    def __init__(self, farewell: float) -> None:
        """`farewell` is how long a client may take to leave, without a byte, once it has been asked to."""
        self._farewell = farewell
        self._moved: int | None = None  # bytes at the last look; None: the next look begins a quiet time
        self._since = 0.0
        self._given_up = False

    def __repr__(self) -> str:
        return f"<Quiet since={self._since:g}{' given up' if self._given_up else ''}>"

    def restart(self) -> None:
        """Count from the next look on."""
        self._moved = None

    def look(self, moved: int, half_closed: bool, timeouts: Timeouts, now: float) -> Due:
        """Return what is due. `moved` is all bytes so far; `half_closed`: the client has ended its side."""
        if moved != self._moved:
            self._moved, self._since = moved, now
            return Due.NOTHING
        quiet = now - self._since
        if half_closed and quiet >= timeouts.half_close:
            return Due.CUT_HALF
        if self._given_up:
            return Due.CUT_IDLE if quiet >= self._farewell else Due.NOTHING
        if quiet < timeouts.idle:
            return Due.NOTHING
        self._given_up, self._since = True, now
        return Due.GIVE_UP
