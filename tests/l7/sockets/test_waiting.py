"""Events and failures that reach a greenlet which waits for them, and none that doesn't."""

import gevent
import pytest

from mcproxy.l7.sockets.side import Event
from mcproxy.l7.sockets.waiting import Waiting
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
