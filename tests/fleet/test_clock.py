"""The database's clock, from what polls have shown."""

import pytest

from mcproxy.fleet.clock import DRIFT, Reading, ServerClock

FAR = 1_000_000.0  # seconds that this machine's clock is off


class Stage:
    """A node whose clocks the test winds."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.set_by = FAR
        self.clock = ServerClock(lambda: self.passed + self.set_by, lambda: self.passed)

    def read(self, ahead: float, error: float = 0.0) -> None:
        """The server's clock shows `ahead` more than the time that has passed."""
        self.clock.take(Reading.between(self.passed + ahead, self.passed - error, self.passed + error))


def test_before_the_first_reading_it_is_this_machines() -> None:
    assert Stage().clock.now() == FAR


def test_afterwards_this_machines_clock_may_be_set_to_anything() -> None:
    stage = Stage()
    stage.read(50.0)
    stage.passed, stage.set_by = 10.0, -FAR
    assert stage.clock.now() == 60.0


def test_a_reading_is_as_good_as_half_of_its_round_trip() -> None:
    assert Reading.between(5.0, 100.0, 101.0) == Reading(5.0, 100.5, 0.5)


def test_a_slow_poll_does_not_replace_a_quick_one_until_drift_has_made_that_worse() -> None:
    stage = Stage()
    stage.read(50.0, error=0.01)
    stage.read(50.5, error=1.0)
    assert stage.clock.now() == 50.0
    stage.passed = 1.0 / DRIFT
    stage.read(50.5, error=1.0)
    assert stage.clock.now() == pytest.approx(stage.passed + 50.5)


def test_a_reading_that_contradicts_is_taken() -> None:
    """The server's clock was set, or a standby with another one has taken over."""
    stage = Stage()
    stage.read(50.0, error=0.01)
    stage.read(80.0, error=1.0)
    assert stage.clock.now() == 80.0
