"""Deadlines strike once, in time, never early; with a clock that the test winds."""

from collections.abc import Iterator

import pytest
from gevent.hub import get_hub

from mcproxy.net.sweep import LATENESS, Sweeper
from tests.kit.clock import Clock


class Entry:
    def __init__(self, again: float | None = None) -> None:
        self.deadline = 0.0
        self.slot = 0
        self.again = again
        self.struck: list[float] = []

    def overdue(self, now: float) -> float | None:
        self.struck.append(now)
        return None if self.again is None else now + self.again


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweeper(clock: Clock) -> Iterator[Sweeper]:
    sweeper = Sweeper(clock)
    yield sweeper
    sweeper.close()
    get_hub().destroy(destroy_loop=True)


def wind(clock: Clock, sweeper: Sweeper, seconds: float) -> None:
    """Let time pass, a tick at a time."""
    end = clock.time + seconds
    while clock.time < end:
        clock.time += LATENESS
        sweeper.sweep()


@pytest.mark.parametrize("seconds", [0.0, LATENESS / 2, LATENESS, 1.0, 10.0])
def test_a_deadline_strikes_once_and_never_early(seconds: float, clock: Clock, sweeper: Sweeper) -> None:
    entry, due = Entry(), clock.time + seconds
    sweeper.arm(entry, seconds)
    wind(clock, sweeper, seconds + 1)
    assert len(entry.struck) == 1
    assert due <= entry.struck[0] <= due + 2 * LATENESS + 1e-6
    assert len(sweeper) == 0


def test_a_later_deadline_forgets_the_earlier(clock: Clock, sweeper: Sweeper) -> None:
    entry = Entry()
    sweeper.arm(entry, 1)
    sweeper.arm(entry, 5)
    wind(clock, sweeper, 4.5)
    assert not entry.struck
    wind(clock, sweeper, 1)
    assert len(entry.struck) == 1


def test_an_earlier_deadline_strikes_early(clock: Clock, sweeper: Sweeper) -> None:
    entry = Entry()
    sweeper.arm(entry, 10)
    sweeper.arm(entry, 1)
    wind(clock, sweeper, 1.2)
    assert len(entry.struck) == 1
    wind(clock, sweeper, 10)
    assert len(entry.struck) == 1


def test_who_is_disarmed_is_left_alone(clock: Clock, sweeper: Sweeper) -> None:
    entry = Entry()
    sweeper.arm(entry, 1)
    sweeper.disarm(entry)
    sweeper.disarm(entry)
    wind(clock, sweeper, 2)
    assert not entry.struck


def test_an_entry_may_ask_for_another_deadline(clock: Clock, sweeper: Sweeper) -> None:
    entry = Entry(again=2.0)
    sweeper.arm(entry, 2)
    wind(clock, sweeper, 9)
    assert len(entry.struck) == 4


def test_an_entry_may_disarm_another_of_its_slot(clock: Clock, sweeper: Sweeper) -> None:
    class Rival(Entry):
        other: Entry

        def overdue(self, now: float) -> float | None:
            sweeper.disarm(self.other)
            return super().overdue(now)

    one, two = Rival(), Rival()
    one.other, two.other = two, one
    sweeper.arm(one, 1)
    sweeper.arm(two, 1)
    wind(clock, sweeper, 2)
    assert len(one.struck) + len(two.struck) == 1


def test_a_clock_that_leaps_skips_nobody(clock: Clock, sweeper: Sweeper) -> None:
    entries = [Entry() for _ in range(100)]
    for i, entry in enumerate(entries):
        sweeper.arm(entry, i / 10)
    clock.time += 60
    sweeper.sweep()
    assert all(len(entry.struck) == 1 for entry in entries)


def test_arming_touches_at_most_two_slots(clock: Clock, sweeper: Sweeper) -> None:
    """A session's deadlines grow: hello, dial, idle. They must not cost more than the first."""
    entry = Entry()
    sweeper.arm(entry, 5)
    slot = entry.slot
    for seconds in (10, 60, 300):
        sweeper.arm(entry, seconds)
    assert entry.slot == slot


def test_the_timer_runs_only_while_something_is_armed(clock: Clock, sweeper: Sweeper) -> None:
    loop = get_hub().loop
    assert loop.activecnt == 0
    sweeper.arm(Entry(), 1)
    assert loop.activecnt == 1
    wind(clock, sweeper, 2)
    assert loop.activecnt == 0


def test_a_bug_of_one_entry_costs_the_others_of_its_slot_nothing(
    clock: Clock, sweeper: Sweeper, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [Entry() for _ in range(9)]
    bad = entries[4]
    bad.struck = None  # type: ignore[assignment]
    for entry in entries:
        sweeper.arm(entry, 1.0)
    clock.time += 1.0 + 2 * LATENESS
    sweeper.sweep()
    assert [len(entry.struck) for entry in entries if entry is not bad] == [1] * 8
    assert "bug in" in caplog.text
