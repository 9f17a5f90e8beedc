"""A clock that a test winds."""


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time
