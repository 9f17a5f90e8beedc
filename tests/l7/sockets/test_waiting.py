"""Events and failures that reach a greenlet which waits for them, and none that doesn't."""

import gevent
import pytest

from mcproxy.l7.sockets.side import Event
from mcproxy.l7.sockets.waiting import Rested, Waiting
from tests.kit.hub import pass_rounds

pytestmark = pytest.mark.usefixtures("main_hub")


def test_an_event_ends_the_wait_and_a_failure_too() -> None:
    seen: list[object] = []
    made: list[Waiting] = []

    def session() -> None:
        waiting = Waiting()
        made.append(waiting)
        seen.append(waiting.wait())
        try:
            waiting.wait()
        except ZeroDivisionError as error:
            seen.append(error)

    run = gevent.spawn(session)
    pass_rounds()
    waiting, call = made[0], gevent.get_hub().loop.run_callback
    assert waiting.is_on
    assert repr(waiting) == "<Waiting for an event>"
    call(waiting.end, Event.WOKEN)
    pass_rounds()
    failure = ZeroDivisionError("bug")
    waiting.throw_later(ZeroDivisionError, failure, None)
    waiting.throw_later(ZeroDivisionError, ZeroDivisionError("late"), None)
    run.join()
    pass_rounds()
    assert seen == [Event.WOKEN, failure]
    assert not waiting.is_on


def test_while_it_rests_the_first_event_takes_a_greenlet_and_a_failure_is_reported_at_once() -> None:
    made: list[Waiting] = []
    seen: list[object] = []

    def session() -> None:
        waiting = Waiting()
        made.append(waiting)
        with pytest.raises(Rested):
            waiting.wait()
        seen.append("rested")

    def rest() -> None:
        gevent.spawn(session)
        pass_rounds()
        gevent.get_hub().loop.run_callback(made[-1].rest, lambda: seen.append("stirred"), seen.append)
        pass_rounds()
        assert made[-1].rests

    rest()
    made[0].end(Event.WOKEN)
    made[0].end(Event.CLIENT)  # before a greenlet has come
    assert not made[0].rests
    made[0].resume(None)
    assert not made[0].is_on
    rest()
    failure = ZeroDivisionError("bug")
    made[1].throw_later(ZeroDivisionError, failure, None)
    made[1].throw_later(ZeroDivisionError, ZeroDivisionError("late"), None)
    pass_rounds()
    with pytest.raises(ZeroDivisionError, match="cause"):
        made[1].resume(ZeroDivisionError("cause"))
    assert seen == ["rested", "stirred", "rested", failure]
