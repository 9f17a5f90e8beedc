"""Timeouts after silence, with the test's own clock."""

from mcproxy.l7.sockets.quiet import Due, Quiet
from mcproxy.model import Timeouts

TIMEOUTS = Timeouts(handshake=1.0, connect=1.0, idle=60.0, half_close=20.0)


def look(quiet: Quiet, now: float, moved: int = 0, half_closed: bool = False, timeouts: Timeouts = TIMEOUTS) -> Due:
    return quiet.look(moved, (), half_closed, timeouts, now)


def test_an_idle_session_is_asked_to_leave_and_then_cut() -> None:
    quiet = Quiet(farewell=5.0)
    seen = [look(quiet, now) for now in (100.0, 159.9, 160.0, 164.9, 165.0)]
    assert seen == [Due.NOTHING, Due.NOTHING, Due.GIVE_UP, Due.NOTHING, Due.CUT_IDLE]
    assert repr(quiet) == "<Quiet since=160 given up>"


def test_each_byte_begins_a_quiet_time_and_the_farewell_too() -> None:
    quiet = Quiet(farewell=5.0)
    seen = [
        look(quiet, now, moved) for now, moved in ((0.0, 0), (59.0, 1), (118.0, 1), (119.0, 1), (123.0, 2), (127.0, 2))
    ]
    assert seen == [*[Due.NOTHING] * 3, Due.GIVE_UP, Due.NOTHING, Due.NOTHING]
    assert look(quiet, 128.0, 2) is Due.CUT_IDLE


def test_half_a_connection_has_its_own_limit_from_its_beginning_on() -> None:
    quiet = Quiet(farewell=5.0)
    look(quiet, 0.0)
    assert look(quiet, 50.0) is Due.NOTHING
    quiet.restart()
    assert look(quiet, 51.0, half_closed=True) is Due.NOTHING, "the quiet before does not count"
    assert look(quiet, 70.9, half_closed=True) is Due.NOTHING
    assert look(quiet, 71.0, half_closed=True) is Due.CUT_HALF


def test_limits_that_change_hold_at_once() -> None:
    quiet = Quiet(farewell=5.0)
    look(quiet, 0.0)
    shorter = Timeouts(handshake=1.0, connect=1.0, idle=10.0, half_close=20.0)
    assert look(quiet, 10.0) is Due.NOTHING
    assert look(quiet, 10.0, timeouts=shorter) is Due.GIVE_UP
