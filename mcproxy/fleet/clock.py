"""The database's clock, as a node knows it: bans end by it, so nodes' own clocks may show anything.

A reading is the server's time and when this node had it, by a clock that nobody sets; it is true to half of the round
trip that it took. Between readings time passes as this node's oscillator has it, which is off by less than DRIFT. So a
node is as late or early as the best reading allows, some milliseconds, and a slow poll doesn't make it worse. A reading
that contradicts what is known is taken: the server's clock was set, or another server has taken over.

Until the first reading, of a node that starts without its database, it is this machine's clock; then nothing can be
changed, and no ban ends.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

DRIFT = 200e-6  # seconds a second: twice what cheap oscillators are sold as


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server's clock has shown."""

    server: float  # seconds since the epoch
    at: float  # by the monotonic clock of this node
    error: float  # seconds that it may be off, either way

    @classmethod
    def between(cls, server: float, asked: float, answered: float) -> "Reading":
        """One that was asked for and answered at these times of the monotonic clock."""
        return cls(server, (asked + answered) / 2, (answered - asked) / 2)


class ServerClock:
    """The clock. One thread at a time takes readings; any may ask for the time."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`wall` is this machine's clock, `monotonic` one that nobody sets."""
        self._wall = wall
        self._monotonic = monotonic
        self._best: Reading | None = None

    def __repr__(self) -> str:
        return f"<ServerClock {self._best}>"

    def now(self) -> float:
        """The server's time, in seconds since the epoch, as far as it is known."""
        best = self._best
        return self._wall() if best is None else best.server + (self._monotonic() - best.at)

    def take(self, reading: Reading) -> None:
        """Use a reading if it is better than what is known by now, or contradicts it."""
        best = self._best
        if best is not None:
            passed = reading.at - best.at
            known = best.error + DRIFT * passed
            if reading.error > known and abs(reading.server - best.server - passed) <= reading.error + known:
                return
        self._best = reading
