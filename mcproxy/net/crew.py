"""Greenlets that do one job after another.

A new greenlet's first call maps 16 KiB for its frames, faults them in and unmaps them at the end: some 5 us each, and a
connection takes two greenlets. A greenlet that is reused has all of that already.
"""

from collections.abc import Callable
from typing import Final

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

MAX_RESTING: Final = 512  # idle greenlets kept after a burst: about 4 MiB


class Job:
    """A job of `Crew.spawn`, while a greenlet works on it. The same greenlet has another job afterwards."""

    __slots__ = ("worker",)

    def __init__(self) -> None:
        self.worker: greenlet | None = None  # set by the crew

    def __repr__(self) -> str:
        return f"<Job {'at work' if self.worker else 'not at work'}>"

    @property
    def is_at_work(self) -> bool:
        """False before it begins, and after its end."""
        return self.worker is not None

    def throw(self, cause: BaseException) -> None:
        """Raise `cause` where the job waits. Does nothing before the job begins and after it ends.

        To be called on the hub: a greenlet that throws into another one is not resumed.
        """
        if self.worker is not None:
            self.worker.throw(cause)


class Crew:
    """Runs jobs in greenlets. A job must not raise. Everything here happens on the hub's thread."""

    def __init__(self, max_resting: int = MAX_RESTING) -> None:
        self._max_resting = max_resting
        self._hub = get_hub()
        self._resting: list[greenlet] = []

    def __repr__(self) -> str:
        return f"<Crew resting={len(self._resting)}>"

    def spawn(self, work: Callable[[], object]) -> Job:
        """Call `work` in the loop's next round, in a greenlet."""
        run = self._hub.loop.run_callback
        if self._resting:
            worker = self._resting.pop()
        else:
            worker = greenlet(self._work, self._hub)
            run(worker.switch, self)  # without the job: what a greenlet is begun with, it keeps for life
        job = Job()
        run(worker.switch, job, work)
        return job

    def keep(self, most: int) -> None:
        """Have no more rest from now on, once they are done; those that do already go on. Not after `close`."""
        if self._max_resting:
            self._max_resting = most

    def close(self) -> None:
        """End the greenlets that rest; those at work end with their job."""
        self._max_resting = 0
        for worker in self._resting:
            self._hub.loop.run_callback(worker.throw)
        self._resting.clear()

    @staticmethod  # the C stack, which is copied at every switch, has one frame less than with a bound method
    def _work(crew: "Crew") -> None:
        me = getcurrent()
        resting, switch = crew._resting, crew._hub.switch
        while True:
            job, work = switch()
            job.worker = me
            try:
                work()  # nor does a plain call take any of it
            finally:
                job.worker = None
            del job, work  # or they would live as long as this one rests
            if len(resting) >= crew._max_resting:
                return
            resting.append(me)
