"""One worker through its processes: when the next one begins, when it is stuck, and its connections' serials."""

import signal

from mcproxy.messages import WorkerState
from mcproxy.workers.remote import Remote
from mcproxy.workers.slot import FIRST_PAUSE, LAST_PAUSE, QUICK_DEATH, SERIALS_PER_BEAT, STARTING_SECONDS, Slot


def test_one_that_has_lived_is_replaced_at_once() -> None:
    slot = Slot(2)
    slot.begin(100.0, 1e9)
    slot.ready(101.0)
    slot.beat(100.0 + QUICK_DEATH + 1, 7, 40)
    assert repr(slot) == "<Slot 2 serving pid=0 connections=7>"
    slot.ended(200.0)
    assert (slot.due, slot.state, slot.restarts) == (200.0, WorkerState.STARTING, 1)
    assert slot.info(200.0).connections == 0
    assert slot.serial == 40 + SERIALS_PER_BEAT, "no id comes twice"


def test_the_pauses_of_one_that_dies_as_it_starts_double_and_end() -> None:
    slot, now, pauses = Slot(1), 0.0, []
    for _ in range(12):
        slot.begin(now, 0.0)
        slot.ended(now + 0.5)
        pauses.append(round(slot.due - now - 0.5, 6))
        now = slot.due
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LAST_PAUSE
    assert slot.state is WorkerState.FAILING
    slot.begin(now, 0.0)
    slot.ended(now + QUICK_DEATH + 1)
    assert slot.due == now + QUICK_DEATH + 1, "one that has lived ends the row"


def test_it_is_late_without_beats() -> None:
    slot = Slot(1)
    slot.begin(0.0, 0.0)
    assert not slot.is_late(1e6, 10.0), "nobody is there"
    slot.process.remote = Remote.__new__(Remote)
    assert not slot.is_late(STARTING_SECONDS - 1, 10.0)
    assert slot.is_late(STARTING_SECONDS + 1, 10.0)
    slot.ready(50.0)
    slot.beat(51.0, 0, 1)
    assert (slot.is_late(60.9, 10.0), slot.is_late(61.1, 10.0)) == (False, True)
    assert (slot.info(51.9).silence, slot.info(60.0).silence) == (0.0, 9.0), "its LAG in the status"
    slot.forgive(5.0, 61.0)
    assert (slot.is_late(65.9, 10.0), slot.is_late(66.1, 10.0)) == (False, True)


def test_one_that_was_killed_while_it_served_is_replaced_at_once_however_often() -> None:
    """It did not die of itself."""
    slot = Slot(1)
    for now in range(10):
        slot.begin(float(now), 0.0)
        slot.ready(now + 0.1)
        slot.process.status = signal.SIGKILL
        slot.ended(now + 0.2)
        assert slot.due == now + 0.2


def test_one_that_could_not_be_born_is_due_after_a_pause_and_was_not_replaced() -> None:
    slot = Slot(1)
    slot.begin(5.0, 0.0)
    slot.not_started(5.0)
    assert (slot.due, slot.restarts) == (5.0 + FIRST_PAUSE, 0)
