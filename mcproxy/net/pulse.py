"""The hub's pulse: a timer that measures how late the hub is, and runs periodic work.

Anything that blocks the hub (a long computation, a native thread that holds the interpreter, a machine without CPU to
spare) delays every connection by as much. It delays a timer too: the timer's lateness is the hub's lag. Periodic jobs
run on the same timer, also feeding the service manager's watchdog, which a stuck hub stops doing.
"""

import time
from collections.abc import Callable
from typing import Final

from gevent.hub import get_hub

from mcproxy.net.jobs import Jobs
from mcproxy.stats import Histogram

PERIOD: Final = 0.25  # seconds: four samples of the lag a second, and an idle process hardly wakes


class Pulse:
    """Beats from `start` to `close`, on the hub's thread."""

    def __init__(self, lag: Histogram, clock: Callable[[], float] = time.monotonic) -> None:
        """`lag` takes the seconds by which each beat was late."""
        self._lag = lag
        self._clock = clock
        self._timer = get_hub().loop.timer(PERIOD, PERIOD)
        self._expected = 0.0
        self._jobs = Jobs()

    def __repr__(self) -> str:
        return f"<Pulse jobs={len(self._jobs)}>"

    def every(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` at the next beat and then at this interval, at most a `PERIOD` late. It must not wait or raise."""
        self._jobs.every(seconds, job)

    def start(self) -> None:
        """Begin to beat: the next one is a `PERIOD` away."""
        self._expected = self._clock() + PERIOD
        # `again` and not `start`: that goes on with what was left of a timer, which after a beat is nothing.
        self._timer.again(self.beat, update=True)

    def beat(self) -> None:
        """One beat: the timer calls it, and it restarts the timer."""
        now = self._clock()
        self._lag.observe(max(0.0, now - self._expected))
        self._jobs.step(now)
        self.start()

    def close(self) -> None:
        """Stop permanently."""
        self._timer.stop()
        self._timer.close()
