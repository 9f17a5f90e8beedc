"""The turns of one session: asked for once, and no more once it has ended."""

import pytest

from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.its_turns import ItsTurns
from mcproxy.l7.sockets.side import Event, Side
from tests.kit.drive_stage import Later
from tests.kit.socket_pairs import unix_pair

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


def test_what_has_gone_takes_its_turn_with_it() -> None:
    """A turn with nothing to do would be a defect."""
    turns = Later()
    mine = ItsTurns(turns)
    pairs = unix_pair(), unix_pair()
    sides = [Side(Channel(sock), Event.BACKEND, lambda _event: None) for sock, _ in pairs]
    mine.due.extend(sides)
    mine.ask(lambda _event: pytest.fail("nothing is to be done"))
    mine.remove(sides[0])
    mine.remove(sides[0])
    assert (len(turns.asked), list(mine.due)) == (1, sides[1:])
    mine.remove(sides[1])
    assert turns.asked == []
    for side in sides:
        side.close()
        side.channel.close()
    for _, peer in pairs:
        peer.close()
    turns.close()
