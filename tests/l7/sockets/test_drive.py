"""The drive, with a core that keeps its calls: events, dialling, back-pressure, endings."""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
import pytest
from gevent.event import Event

from mcproxy.l7.bounds import BULK_SIZE, MAX_PENDING, MAX_UNSENT, READ_SIZE
from mcproxy.l7.core import Ending, How, Turn
from mcproxy.l7.sockets.channel import Channel, Lost
from mcproxy.l7.sockets.departure import Patience
from mcproxy.l7.sockets.drive import MAX_OWED
from mcproxy.model import End, Reason, Refused
from mcproxy.net.backlog import Backlog
from mcproxy.net.shared import Cut
from tests.kit.drive_stage import EndingStream, Later, Stage, arrival, pour
from tests.kit.hub import pass_rounds
from tests.test_lines import answered

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


def test_both_sides_are_read_and_written(stage: Callable[..., Stage]) -> None:
    on = stage()

    def react(what: tuple[Any, ...]) -> None:
        if what == ("client", b"ask"):
            on.core.wants_dial, on.core.to_backend = True, b"question"
        elif what == ("backend", b"answer"):
            on.core.to_client = b"told"

    on.core.react = react
    on.client.sendall(b"ask")
    on.until(lambda: on.backends)
    assert on.first == [b"question"]
    on.backends[0].sendall(b"answer")
    on.until(lambda: on.core.seen[-1] == ("backend", b"answer"))
    gevent.sleep(0)
    assert (on.client.recv(9), on.drive.received, on.drive.sent) == (b"told", 3, 4)
    assert "Telling" in repr(on.drive)
    on.backends[0].close()
    on.until(lambda: on.core.seen[-1] == ("backend closed",))
    on.core.react = lambda _what: setattr(on.core, "ending", Ending())
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert (on.core.seen[-1], on.end) == (("client closed",), End.CLOSED)


def test_what_only_makes_room_has_its_bytes_sent_and_nothing_else_asked(stage: Callable[..., Stage]) -> None:
    on, passes = stage(), list[int]()
    on.core.react = lambda what: setattr(on.core, "wants_dial", what[0] == "client")
    on.client.sendall(b"ask")
    on.until(lambda: on.backends and on.drive._link.side)
    on.core.take_for_client = lambda: passes.append(1) or ()  # type: ignore[method-assign, func-returns-value]
    on.core.to_backend, on.core.take_express = b"more", lambda _data: 4
    on.backends[0].sendall(b"room")
    on.until(lambda: on.core.seen[-1] == ("express", b"room"))
    assert (on.backends[0].recv(9), passes) == (b"more", []), "the drive did not go on"
    on.backends[0].sendall(b"room, and")
    on.until(lambda: on.core.seen[-2:] == [("express", b"room"), ("backend", b", and")] and passes)


def test_a_backend_that_made_room_in_its_turn_is_read_again(stage: Callable[..., Stage]) -> None:
    """At once, and not when the drive goes on for the next tick."""
    turns = Later()
    on = stage(turns=turns)
    on.core.react = lambda what: setattr(on.core, "wants_dial", what[0] == "client")
    on.client.sendall(b"ask")
    on.until(lambda: on.backends and on.drive._link.side)
    on.core.to_backend, on.core.take_express = b"more", lambda data: 4 if data == b"room" else 0
    on.backends[0].sendall(bytes(READ_SIZE))  # bulk flows, as far as one can know
    on.until(lambda: on.core.seen[-1] == ("backend", bytes(READ_SIZE)))
    on.backends[0].sendall(b"room")
    on.until(lambda: turns.asked)
    turns.asked.pop()()
    assert on.core.seen[-1][1] == b"room"
    side = on.drive._link.side
    assert side is not None
    assert side.reads


def test_what_is_for_a_new_backend_does_not_go_to_the_one_before(stage: Callable[..., Stage]) -> None:
    on = stage()

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            on.core.wants_dial, on.core.to_backend = True, what[1]

    on.core.react = react
    on.client.sendall(b"one")
    on.until(lambda: on.first == [b"one"])
    on.client.sendall(b"two")
    on.until(lambda: len(on.first) == 2)
    assert on.first == [b"one", b"two"]
    assert on.backends[0].recv(9) == b""


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Refused(Reason.BACKEND_REFUSED, "no"), 502), (Lost("bad TLS"), 502), (Refused(Reason.BACKEND_TIMEOUT), 504),
    ],
)  # fmt: skip
def test_a_dial_that_fails_is_told(failure: Exception, status: int, stage: Callable[..., Stage]) -> None:
    def dial(_first: bytes) -> Channel:
        raise failure

    on = stage(dial)
    on.core.react = lambda what: setattr(on.core, "wants_dial", what[0] == "client")
    on.client.sendall(b"a")
    on.until(lambda: on.core.seen[-1:] == [("backend failed", status, str(failure))])


def test_a_dial_that_takes_too_long_is_ended(stage: Callable[..., Stage]) -> None:
    def dial(_first: bytes) -> Channel:
        Event().wait()
        raise AssertionError("not reached")

    on = stage(dial, connect=0.1)
    on.core.react = lambda what: setattr(on.core, "wants_dial", what[0] == "client")
    on.client.sendall(b"a")
    on.until(lambda: on.core.seen[-1:] and on.core.seen[-1][:2] == ("backend failed", 504))


def test_what_waits_for_a_dial_is_bounded(stage: Callable[..., Stage]) -> None:
    gate = Event()

    def dial(first: bytes) -> Channel:
        gate.wait()
        return on.connect(first)

    on = stage(dial)

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            on.core.wants_dial = len(on.core.seen) == 1
            on.core.to_backend += what[1]

    on.core.react = react
    poured = pour(on.client)
    taken = on.drive.received
    assert MAX_UNSENT < taken < MAX_UNSENT + (1 << 18)
    gate.set()
    on.until(lambda: on.backends)
    on.until(arrival(on.backends[0], poured - len(on.first[0])))


def passing_answers(on: Stage) -> Callable[[tuple[Any, ...]], None]:
    """A core that dials when its client speaks, and passes what the backend says."""

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            on.core.wants_dial = not on.backends
        elif what[0] == "backend":
            on.core.to_client += what[1]

    return react


def test_a_backend_is_not_read_for_a_client_that_does_not_read(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.core.react = passing_answers(on)
    on.client.sendall(b"a")
    on.until(lambda: on.backends)
    poured = pour(on.backends[0])
    assert MAX_UNSENT < on._stream.unsent < MAX_UNSENT + (1 << 17)
    on.until(arrival(on.client, poured))


def test_many_that_do_not_read_have_little_each(stage: Callable[..., Stage]) -> None:
    """Each had 256 kB: ten thousand slow readers took gigabytes. All of them go on, and nothing is lost."""
    backlog = Backlog(most=100_000)
    stages = [stage(backlog=backlog) for _ in range(3)]
    for on in stages:
        on.core.react = passing_answers(on)
        on.client.sendall(b"a")
        on.until(partial(getattr, on, "backends"))
    poured = [pour(on.backends[0]) for on in stages]
    waiting = [on._stream.unsent for on in stages]
    assert sum(waiting) == backlog.waiting
    assert max(waiting) < 1 << 18, "what there was room for, and a read"
    assert max(waiting[1:]) <= READ_SIZE, "a read"
    for on, size in zip(stages, poured, strict=True):
        on.until(arrival(on.client, size))
    assert backlog.waiting == 0
    stages[0].core.kept = 100_001
    stages[0].client.sendall(b"b")
    stages[0].until(lambda: backlog.is_full)
    stages[0].core.to_client = bytes(1 << 20)
    stages[0].client.sendall(b"b")
    stages[0].until(lambda: backlog.waiting)
    stages[0].close()
    assert backlog.waiting == 0, "and what nobody will take is counted no more"


def test_a_client_that_does_not_read_what_its_own_bytes_cause_is_not_read(stage: Callable[..., Stage]) -> None:
    on = stage()

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            on.core.to_client += what[1]

    on.core.react = react
    poured = pour(on.client)
    assert MAX_OWED < on._stream.unsent < MAX_OWED + (1 << 17)
    on.until(arrival(on.client, poured))


def test_a_core_learns_which_peer_still_takes_what_it_was_sent(stage: Callable[..., Stage]) -> None:
    """Its timers ran from when the kernel had taken the bytes."""
    on = stage()
    on.core.wants_dial, on.core.to_backend = True, b"x"
    on.client.sendall(b"ask")
    on.until(lambda: on.backends and on.drive._link.side)
    on.core.to_client = bytes(1 << 16)
    on.client.sendall(b"more")
    on.until(lambda: ("client lags",) in on.core.told)
    assert ("backend lags",) not in on.core.told
    on.core.to_backend = bytes(1 << 16)
    on.client.sendall(b"more")
    on.until(lambda: ("backend lags",) in on.core.told)
    on.core.told.clear()
    while on.client in select.select([on.client], [], [], 0)[0]:
        on.client.recv(1 << 20)
    while on.backends[0] in select.select([on.backends[0]], [], [], 0)[0]:
        on.backends[0].recv(1 << 20)
    on.until(lambda: on.core.told.count(("tick",)) == 3)
    assert on.core.told[-2:] == [("tick",)] * 2


def test_ticks_idleness_and_draining(stage: Callable[..., Stage]) -> None:
    on = stage(idle=1.5)
    on.until(lambda: ("tick",) in on.core.told)
    on.until(lambda: ("give up",) in on.core.told)
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert on.end is End.IDLE_TIMEOUT
    drained = stage()
    drained.drive.drain()
    drained.client.shutdown(socket.SHUT_WR)
    drained.until(lambda: drained.end)
    assert drained.end is End.CLOSED


def test_an_idle_client_is_read_once_more_before_its_connection_ends(stage: Callable[..., Stage]) -> None:
    """A request that had come, and had not been read, was dropped without an answer."""
    on = stage()
    on.core.drains = False
    on.core.react = lambda what: setattr(on.core, "leaving", on.core.leaving and what[0] != "client")
    on.client.sendall(b"ask")
    on.drive.drain()
    on.until(lambda: ("leave",) in on.core.told)
    assert on.core.seen == [("drain",), ("client", b"ask"), ("leave",)]
    assert on.core.ending is None
    on.drive.drain()
    on.until(lambda: on.core.ending)
    assert on.core.seen[3:] == [("drain",), ("leave",)]


def test_nothing_is_left_behind_bytes_that_wait_for_a_turn(stage: Callable[..., Stage]) -> None:
    turns = Later()
    on = stage(turns=turns)
    on.core.drains = False
    on.client.sendall(bytes(READ_SIZE))  # bulk flows
    on.until(lambda: on.core.seen)
    on.client.sendall(b"ask")
    on.drive.drain()
    on.until(lambda: turns.asked)
    pass_rounds()
    assert ("leave",) not in on.core.told
    turns.asked.pop(0)()
    on.until(lambda: ("client", b"ask") in on.core.told)


def test_an_idle_session_that_draining_does_not_end_is_cut(stage: Callable[..., Stage]) -> None:
    on = stage(idle=0.1, patience=Patience(farewell=0.1))
    on.core.react = lambda _what: setattr(on.core, "hurried", True)
    on.core.gives_up = False
    on.until(lambda: on.end)
    assert on.core.told.count(("give up",)) == 1
    assert isinstance(on.end, Cut) and on.end.end is End.IDLE_TIMEOUT  # noqa: PT018
    assert on.core.seen[-1][0] == "cut", "what was under way is to have its line"


def test_half_a_tunnel_is_cut_when_nothing_comes_any_more(stage: Callable[..., Stage]) -> None:
    on = stage(half_close=0.3, idle=9.0)
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: ("client closed",) in on.core.told)
    on.until(lambda: on.end)
    assert isinstance(on.end, Cut)
    assert on.end.end is End.HALF_CLOSE_TIMEOUT


def test_the_quiet_before_half_a_tunnel_counts_for_nothing(stage: Callable[..., Stage]) -> None:
    on = stage(half_close=60.0, idle=600.0)
    cuts: list[BaseException] = []
    on.session.cut = cuts.append
    now = on.sweeper.now()
    assert on.drive.overdue(now)
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: ("client closed",) in on.core.told)
    assert on.drive.overdue(now + 100.0)
    assert on.drive.overdue(now + 150.0)
    assert not cuts
    assert on.drive.overdue(now + 160.0) is None
    assert len(cuts) == 1


def test_a_client_has_a_while_to_end_after_us(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.core.to_client = b"bye"
    on.drive.drain()
    on.until(lambda: on.core.ending)
    pass_rounds()
    assert on.end is None, "it lingers"
    on.client.sendall(b"still talking")
    pass_rounds()
    assert on.client.recv(9) == b"bye"
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert ("client", b"still talking") not in on.core.told


def test_a_client_that_never_stops_sending_is_not_waited_for(stage: Callable[..., Stage]) -> None:
    on = stage(patience=Patience(longest=0.3, chatter=0))
    on.client.setblocking(False)
    on.drive.drain()

    def over() -> bool:
        with suppress(OSError):
            on.client.send(b"x")
        return on.end is not None

    on.until(over)
    assert on.end is End.CLOSED


def test_a_client_that_went_too_far_is_told_and_its_line_says_so(stage: Callable[..., Stage]) -> None:
    on = stage()

    def end(_what: tuple[Any, ...]) -> None:
        on.core.ending = Ending(end=End.ABUSE)
        on.core.to_client = b"calm down"

    on.core.react = end
    on.client.sendall(b"a")
    on.until(lambda: on.core.ending)
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert on.end is End.ABUSE
    assert on.client.recv(20) == b"calm down"


def test_a_failed_core_and_a_lost_client(stage: Callable[..., Stage]) -> None:
    on = stage()

    on.core.react = lambda _what: setattr(on.core, "ending", Ending(How.RST, End.BACKEND_RESET))
    on.client.sendall(b"a")
    on.until(lambda: on.end)
    assert on.end is End.BACKEND_RESET
    lost = stage()
    lost.client.close()
    lost.core.react = lambda _what: setattr(lost.core, "to_client", b"x" * 100)
    lost.until(lambda: lost.end)
    assert lost.end is End.CLIENT_RESET


class Flooded(Channel):
    """Whose first bytes are a flood."""

    def receive(self, most: int = READ_SIZE) -> bytes:
        if super().receive(most):
            self.ended, self.abuse, self.lost = True, True, "too many reads"
        return b""


def test_requests_of_a_client_that_floods_end_for_that_reason(stage: Callable[..., Stage]) -> None:
    """Their lines said "the client's connection broke", which we did ourselves."""
    on = stage(channel=Flooded)
    on.client.sendall(b"a")
    on.until(lambda: on.end)
    assert on.core.seen == [("cut", "too many reads")]
    assert (on.end, on.drive.detail) == (End.ABUSE, "too many reads")


def test_a_bug_of_a_core_ends_its_own_session(stage: Callable[..., Stage]) -> None:
    on = stage()

    def fail(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            raise ZeroDivisionError

    on.core.react = fail
    on.client.sendall(b"a")
    on.until(lambda: on.end)
    assert isinstance(on.end, ZeroDivisionError)
    assert on.core.seen[-1][0] == "cut"


def test_a_client_that_talks_while_an_answer_that_broke_off_is_delivered(stage: Callable[..., Stage]) -> None:
    on = stage()

    def fail(_what: tuple[Any, ...]) -> None:
        on.core.to_client = b"x" * 10_000
        on.core.ending = Ending(How.RST, End.BACKEND_RESET)

    on.core.react = fail
    on.client.sendall(b"a")
    on.until(lambda: on.core.ending)
    on.client.sendall(b"b")
    pass_rounds()
    assert on.end is None
    assert len(on.client.recv(20_000)) == 10_000
    on.until(lambda: on.end)
    assert on.end is End.BACKEND_RESET


def test_exchanges_are_recorded_when_their_answers_have_gone(stage: Callable[..., Stage]) -> None:
    on = stage()

    def answer(what: tuple[Any, ...]) -> None:
        if what[0] == "client":
            on.core.to_client, on.core.over = b"answer", [answered()]

    on.core.react = answer
    on.client.sendall(b"a")
    on.until(lambda: on.drive._receipts)
    on.drive.overdue(on.sweeper.now())
    assert not on.ended, "the client has not taken it"
    assert on.client.recv(9) == b"answer"
    on.until(lambda: on.ended)
    assert on.ended == [answered()]


def one_a_turn(_data: bytes, turn: Turn) -> int:
    """A core for which each byte is a turn's work."""
    turn.spend(turn.left)
    return 1


def test_what_a_core_leaves_is_offered_in_turns_of_their_own(stage: Callable[..., Stage]) -> None:
    turns = Later()
    on = stage(turns=turns)
    on.core.take = one_a_turn
    on.client.sendall(b"abc")
    on.until(lambda: turns.asked)
    on.client.sendall(b"d")
    pass_rounds()
    assert on.core.seen == [("client", b"a")], "and the client is not read meanwhile"
    for seen in (b"b", b"c"):
        turns.asked.pop()()
        assert on.core.seen[-1] == ("client", seen)
    assert not turns.asked
    on.until(lambda: on.core.seen[-1] == ("client", b"d"))


def test_an_end_waits_behind_what_came_before_it(stage: Callable[..., Stage]) -> None:
    """Bytes and their end, read at once, used to be delivered in the wrong order when a turn was over between them."""
    turns = Later()
    on = stage(turns=turns, channel=EndingStream)
    on.core.take = one_a_turn
    on.client.sendall(b"abc")
    for _ in range(2):
        on.until(lambda: turns.asked)
        assert ("client closed",) not in on.core.seen
        turns.asked.pop()()
    assert on.core.seen == [("client", b"a"), ("client", b"b"), ("client", b"c"), ("client closed",)]


def test_a_backend_that_has_ended_is_heard_to_its_end_before_the_client(stage: Callable[..., Stage]) -> None:
    """A request that the client sends meanwhile would go to a backend that has gone."""
    turns = Later()

    def dial(first: bytes) -> Channel:
        return on.connect(first, EndingStream)

    on = stage(dial, turns=turns)
    on.core.wants_dial = True
    on.client.sendall(b"a")
    on.until(lambda: on.backends)
    on.core.take = one_a_turn
    on.backends[0].sendall(b"bc")
    on.until(lambda: turns.asked)
    on.client.sendall(b"d")
    pass_rounds()
    assert on.core.seen == [("client", b"a"), ("backend", b"b")]
    turns.asked.pop()()
    on.until(lambda: on.core.seen[-1] == ("client", b"d"))
    assert on.core.seen[2:] == [("backend", b"c"), ("backend closed",), ("client", b"d")]


def test_what_a_core_can_not_use_yet_is_offered_after_whatever_happens(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.core.wants_dial = True
    on.client.sendall(b"a")
    on.until(lambda: on.backends)
    on.core.take = lambda data, _turn: 0 if data.startswith(b"later") else len(data)
    on.client.sendall(b"later")
    on.until(lambda: on.drive._client.pending == b"later")
    on.client.sendall(b", too")
    on.until(lambda: on.drive._client.pending == b"later, too")
    on.core.take = lambda data, _turn: len(data)
    on.backends[0].sendall(b"now")
    on.until(lambda: on.core.seen[1:] == [("backend", b"now"), ("client", b"later, too")])


def test_what_a_core_can_not_use_hides_no_end(stage: Callable[..., Stage]) -> None:
    """The client that has left is not to be answered, whatever it has asked for behind that."""
    on = stage()
    on.core.take = lambda _data, _turn: 0
    on.client.sendall(b"behind")
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.core.seen == [("client closed",)])


def test_what_is_pending_is_bounded(stage: Callable[..., Stage]) -> None:
    on = stage()
    on.core.take = lambda _data, _turn: 0
    pour(on.client)
    assert MAX_PENDING < len(on.drive._client.pending) <= MAX_PENDING + BULK_SIZE


def test_a_bug_in_a_tick_ends_its_own_session(stage: Callable[..., Stage]) -> None:
    on = stage()

    def fail(what: tuple[Any, ...]) -> None:
        if what == ("tick",):
            raise ZeroDivisionError

    on.core.react = fail
    on.until(lambda: on.end)
    assert isinstance(on.end, ZeroDivisionError)


def rest(on: Stage) -> None:
    """Lay it to rest, as the pulse does."""
    gevent.get_hub().loop.run_callback(on.drive.rest)
    pass_rounds()
    assert on.drive.rests
    assert not on.session.shared.awake


def test_a_session_without_a_greenlet_hears_answers_and_ends(stage: Callable[..., Stage]) -> None:
    on = stage()
    rest(on)

    def react(what: tuple[Any, ...]) -> None:
        if what == ("client", b"ask"):
            on.core.wants_dial, on.core.to_backend = True, b"question"
        elif what == ("backend", b"answer"):
            on.core.to_client = b"told"
        elif what == ("client", b"more"):
            on.core.ending = Ending()

    on.core.react = react
    on.client.sendall(b"ask")
    on.until(lambda: on.backends)
    on.backends[0].sendall(b"answer")
    on.until(arrival(on.client, 4))
    assert on.drive.rests
    on.client.sendall(b"more")
    on.until(lambda: on.drive.received == 7)
    on.client.close()
    on.until(lambda: on.end)
    assert on.end is End.CLOSED
    assert not on.session.shared.awake


def test_a_session_without_a_greenlet_is_cut_where_it_stands(stage: Callable[..., Stage]) -> None:
    on = stage()
    rest(on)
    gevent.get_hub().loop.run_callback(on.session.cut, Cut(End.KILLED))
    pass_rounds()
    assert isinstance(on.end, Cut)
    assert on.core.seen[-1] == ("cut", "closed by an operator")


def test_a_defect_ends_a_session_without_a_greenlet(stage: Callable[..., Stage]) -> None:
    on = stage()
    rest(on)
    failure = ZeroDivisionError("bug")

    def react(_what: tuple[Any, ...]) -> None:
        on.core.react = lambda _what: None
        raise failure

    on.core.react = react
    on.client.sendall(b"a")
    on.until(lambda: on.end)
    assert on.end is failure
