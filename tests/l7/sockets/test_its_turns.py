"""The turns of one session: asked for once, and no more once it has ended."""

import pytest

from mcproxy.l7.sockets.its_turns import ItsTurns
from mcproxy.l7.sockets.side import Event
from tests.kit.drive_stage import Later

pytestmark = pytest.mark.usefixtures("main_hub")


def test_one_turn_is_asked_for_at_a_time() -> None:
    turns, seen = Later(), list[Event]()
    mine = ItsTurns(turns)
    assert not mine.take()
    mine.due.append(Event.BACKEND)
    mine.ask(seen.append)
    mine.ask(seen.append)
    assert len(turns.asked) == 1
    assert repr(mine) == "<ItsTurns backend>"
    turns.asked.pop()()
    assert seen == [Event.TURN]
    mine.ask(seen.append)
    assert len(turns.asked) == 1
    turns.close()


def test_a_session_that_has_ended_wants_none() -> None:
    turns = Later()
    mine = ItsTurns(turns)
    mine.forget()
    mine.ask(lambda _event: pytest.fail("it has ended"))
    mine.forget()
    mine.forget()
    assert not turns.asked
    turns.close()
