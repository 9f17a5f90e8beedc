"""Jobs that come again and again, run by a clock of the caller."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Job:
    interval: float  # seconds
    due: float
    run: Callable[[], object]


class Jobs:
    """Runs each at its interval. To be used by one thread, but for `every`."""

    def __init__(self) -> None:
        self._jobs: list[_Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __repr__(self) -> str:
        return f"<Jobs {len(self)}>"

    def every(self, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` the next time, and then at this interval. It must not wait or raise."""
        self._jobs.append(_Job(seconds, 0.0, job))

    def step(self, now: float) -> None:
        """Run what is due; `now` is seconds of a clock that only goes forward."""
        for job in self._jobs:
            if now >= job.due:
                job.due = now + job.interval
                job.run()
