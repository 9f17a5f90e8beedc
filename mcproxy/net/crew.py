"""Greenlets that do one job after another.

A new greenlet's first call maps 16 KiB for its frames, faults them in and unmaps them at the end: some 5 us each, and a
connection takes two greenlets. One that rests until it is needed again has all of that already.
"""

from collections.abc import Callable
from typing import Any

from gevent.hub import get_hub
from greenlet import greenlet

MAX_RESTING = 512  # what a burst leaves behind, at most: about 4 MiB


class Crew:
    """Runs jobs in greenlets. A job must not raise. Everything here happens on the hub's thread."""

    def __init__(self, max_resting: int = MAX_RESTING) -> None:
        self._max_resting = max_resting
        self._hub = get_hub()
        self._resting: list[greenlet] = []

    def __repr__(self) -> str:
        return f"<Crew resting={len(self._resting)}>"

    def spawn(self, job: Callable[..., object], *args: Any) -> None:
        """Have `job` run in the loop's next turn."""
        run = self._hub.loop.run_callback
        if self._resting:
            one = self._resting.pop()
        else:
            one = greenlet(self._work, self._hub)
            run(one.switch)  # without the job: what a greenlet is begun with, it keeps for life
        run(one.switch, job, args)

    def close(self) -> None:
        """Send the resting ones home; those at work go when they have done their job."""
        self._max_resting = 0
        for one in self._resting:
            self._hub.loop.run_callback(one.throw)
        self._resting.clear()

    def _work(self) -> None:
        me = greenlet.getcurrent()
        resting, switch = self._resting, self._hub.switch
        while True:
            job, args = switch()
            job(*args)
            del job, args  # or they would live as long as this one rests
            if len(resting) >= self._max_resting:
                return
            resting.append(me)
