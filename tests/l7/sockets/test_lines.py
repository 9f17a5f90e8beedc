"""The lines of a session on their connections, with a core and lines that keep their calls."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gevent
import pytest
from gevent.hub import get_hub

from mcproxy.l7.bounds import MAX_UNSENT, READ_SIZE
from mcproxy.l7.core import Ending, LineState, Turn
from mcproxy.l7.sockets.channel import Channel, Lost
from mcproxy.l7.sockets.pooled import H2
from mcproxy.model import End, Reason, Refused
from mcproxy.net.shared import Cut
from mcproxy.wire.http2 import Piece
from tests.kit.drive_stage import Later, is_closed, pour
from tests.kit.hub import messages, pass_rounds
from tests.kit.lined_stage import LinedStage, PlayedLine
from tests.kit.pace import steps_on_the_hub

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")

Make = Callable[..., LinedStage]


def far(on: LinedStage, count: int = 1) -> list[socket.socket]:
    """The backend's ends, once there are so many."""
    on.until(lambda: len(on.backends) == count)
    return on.backends


def answers(line: PlayedLine, then: LineState = LineState.FREE) -> None:
    """The line is done once anything has come."""

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "received":
            line.become(then)

    line.react = react


def test_a_line_gets_a_connection_and_its_bytes_pass_both_ways(make: Make) -> None:
    on = make()
    on.client.sendall(b"q")
    (backend,) = far(on)
    (line,) = on.core.lines
    on.until(lambda: line.told[-1:] == [("sent", 0)])
    assert (line.told[0], backend.recv(9)) == (("connected", "http/1.1", False), b"q")
    line.react = lambda what: setattr(on.core, "to_client", b"told") if what[0] == "received" else None
    backend.sendall(b"answer")
    on.until(lambda: line.received == b"answer")
    assert on.client.recv(9) == b"told", "in the very event"
    assert on.reached == [0.25]
    assert repr(on.lines) == "<Lines busy=1 seeking=0>"


def test_a_connection_goes_back_and_is_had_at_once(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    answers(on.core.lines[0])
    backend.sendall(b"1")
    on.until(lambda: on.pool.tally.idle == 1)
    assert on.core.lines[0].told[-1] == ("received", b"1")
    on.client.sendall(b"b")
    on.until(lambda: len(on.core.lines) == 2)
    assert on.core.lines[1].told == [("connected", "http/1.1", True), ("sent", 0)], "in the event of the client"
    assert (on.reached, on.pool.tally.reused, backend.recv(9)) == ([0.25, None], 1, b"ab")


def test_a_retry_is_counted(make: Make) -> None:
    on = make()
    on.core.react = lambda what: setattr(on.core.line(), "again", True) if what[0] == "client" else None
    on.client.sendall(b"a")
    far(on)
    on.until(lambda: on.pool.tally.retries == 1)


def test_answers_of_one_round_leave_in_one_write(make: Make) -> None:
    on = make()
    on.client.sendall(b"abc")
    backends = far(on, 3)
    writes: list[bytes] = []

    def take() -> Sequence[Piece]:
        data, on.core.to_client = on.core.to_client, b""
        if data:
            writes.append(data)
        return (data,) if data else ()

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "received":
            on.core.to_client += what[1]

    on.core.take_for_client = take  # type: ignore[method-assign]
    for line in on.core.lines:
        line.react = react
    on.until(lambda: all(line.told[-1:] == [("sent", 0)] for line in on.core.lines))
    for number, backend in enumerate(backends):
        backend.sendall(str(number).encode())
    on.until(lambda: writes)
    assert [sorted(data) for data in writes] == [sorted(b"012")]


@pytest.mark.parametrize("state", [LineState.FREE, LineState.SPENT])
def test_a_connection_with_more_than_its_answer_is_closed(state: LineState, make: Make) -> None:
    """The rest would be taken for the answer to the next request: another client's."""
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    line.use = lambda _data, _turn: 6
    answers(line, state)
    backend.sendall(b"answerand more")
    on.until(lambda: is_closed(backend))
    assert (line.received, on.pool.tally.idle) == (b"answer", 0)
    assert on.pool.tally.poisoned == (state is LineState.FREE), "a line that is spent may leave anything"


def test_a_connection_whose_end_came_with_the_answer_is_closed(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    answers(on.core.lines[0])
    backend.sendall(b"answer")
    backend.shutdown(socket.SHUT_WR)
    on.until(lambda: is_closed(backend))
    assert (on.pool.tally.idle, on.pool.tally.poisoned) == (0, 0)


def test_last_bytes_of_a_line_are_sent(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "received":
            line.out = b"bye"
            line.become(LineState.SPENT)

    line.react = react
    backend.sendall(b"x")
    on.until(lambda: line.state is LineState.SPENT)
    assert (backend.recv(9), backend.recv(9)) == (b"abye", b"")


@pytest.mark.parametrize("clean", [True, False])
def test_an_end_is_delivered_behind_what_came_before_it(clean: bool, make: Make) -> None:
    class Ragged(Channel):
        def receive(self, most: int = 65_536) -> bytes:
            data = super().receive(most)
            self.ragged = not clean
            return data

    on = make()
    on.channel = Ragged
    on.client.sendall(b"a")
    (backend,) = far(on)
    backend.sendall(b"all")
    backend.shutdown(socket.SHUT_WR)
    (line,) = on.core.lines
    on.until(lambda: line.told[-2:] == [("received", b"all"), ("closed", clean)])
    assert (on.pool.tally.idle, repr(on.pool)) == (0, "<Pool a.test count=0 <Idle 0> queued=0>")


def test_half_of_a_connection_is_ended_once_all_is_sent(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    poured = 1 << 20

    def react(what: tuple[Any, ...]) -> None:
        if what == ("received", b"go"):
            line.half_closed = True
            line.send(bytes(poured))

    line.react = react
    backend.sendall(b"go")
    on.until(lambda: any(what[0] == "sent" and what[1] > 0 for what in line.told))
    got = 0

    def all_of_it() -> bool:
        nonlocal got
        with suppress(BlockingIOError):
            data = backend.recv(1 << 20)
            got += len(data)
            return not data
        return False

    backend.setblocking(False)
    on.until(all_of_it)
    assert got == 1 + poured
    backend.setblocking(True)
    backend.sendall(b"late")
    on.until(lambda: line.received == b"golate")


def test_a_line_learns_that_its_backend_still_takes_what_it_was_sent(make: Make) -> None:
    on = make()
    on.client.sendall(b"q")
    far(on)
    (line,) = on.core.lines
    line.send(bytes(1 << 16))
    on.drive._wake()
    on.until(lambda: ("lags",) in line.told)


def test_a_line_learns_what_is_unsent_and_when_it_has_gone(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    line.react = lambda what: line.send(bytes(1 << 20)) if what == ("received", b"go") else None
    backend.sendall(b"go")
    on.until(lambda: line.told[-1][0] == "sent" and line.told[-1][1] > 0)
    on.until(lambda: is_closed(backend) or line.told[-1] == ("sent", 0))
    assert line.told[-1] == ("sent", 0)


# --- back-pressure and turns ------------------------------------------------------------------------------------------


def test_a_backend_is_not_read_for_a_client_that_does_not_read(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "received":
            on.core.to_client += what[1]

    line.react = react
    poured = pour(backend)
    waiting = len(line.received)
    assert MAX_UNSENT < waiting < poured
    got = 0
    on.client.setblocking(False)

    def all_came() -> bool:
        nonlocal got
        with suppress(BlockingIOError):
            got += len(on.client.recv(1 << 20))
        return got == poured

    on.until(all_came)


def test_a_line_that_wants_no_bytes_is_not_read(make: Make) -> None:
    on = make()
    on.client.sendall(b"ab")
    backends = far(on, 2)
    first, second = on.core.lines
    on.until(lambda: second.told[-1:] == [("sent", 0)])
    first.wants_read = False
    on.core.stir(first)
    second.react = lambda what: on.core.stir(first) if what[0] == "received" else None
    backends[1].sendall(b"x")
    on.until(lambda: second.received == b"x")
    backends[0].sendall(b"held")
    pass_rounds()
    assert first.received == b""
    first.wants_read = True
    backends[1].sendall(b"y")
    on.until(lambda: first.received == b"held")


def test_bytes_that_can_not_be_used_yet_are_offered_again_with_more(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    line.use = lambda data, _turn: len(data) if data.endswith(b"\n") else 0
    backend.sendall(b"a li")
    pass_rounds()
    assert line.received == b""
    backend.sendall(b"ne\n")
    on.until(lambda: line.received == b"a line\n")


def test_what_the_turn_was_too_short_for_waits_for_another(make: Make) -> None:
    turns = Later()
    on = make(turns=turns)
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines

    def use(data: bytes, turn: Turn) -> int:
        turn.spend(1_000)
        return 1

    line.use = use
    backend.sendall(b"123")
    backend.shutdown(socket.SHUT_WR)
    for count in (1, 2):
        on.until(lambda: turns.asked)
        assert len(line.received) == count, "and the end waits behind it"
        turns.asked.pop()()
    on.until(lambda: line.told[-1] == ("closed", True))
    assert line.received == b"123"


def test_bulk_waits_for_its_turn(make: Make) -> None:
    turns = Later()
    on = make(turns=turns)
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    backend.setblocking(False)
    sent = 0
    while True:
        try:
            sent += backend.send(bytes(1 << 16))
        except BlockingIOError:
            if turns.asked:
                break
            gevent.sleep(0)
    before = len(line.received)
    pass_rounds()
    assert len(line.received) == before, "nothing is read without a turn"
    while len(line.received) < sent:
        on.until(lambda: turns.asked or len(line.received) == sent)
        if turns.asked:
            turns.asked.pop()()
        pass_rounds()


def test_a_connection_that_goes_takes_its_turn_with_it(make: Make) -> None:
    turns = Later()
    on = make(turns=turns)
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines

    def use(data: bytes, turn: Turn) -> int:
        turn.spend(1_000)
        return 1

    line.use = use
    backend.sendall(b"123")
    on.until(lambda: turns.asked)
    on.core.react = lambda what: line.become(LineState.SPENT) if what[0] == "client" else None
    on.client.sendall(b"b")
    on.until(lambda: line not in on.core.take_lines() and is_closed(backend))
    assert turns.asked == []


def test_what_only_makes_room_has_its_bytes_sent_and_nothing_else_asked(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,), passes, got, size = on.core.lines, [0], [0], 16 << 20
    backend.sendall(b"hello")
    on.until(lambda: line.received)
    on.core.take_for_client = lambda: passes.append(1) or ()  # type: ignore[method-assign, func-returns-value]

    def is_express(data: bytes) -> bool:
        line.out = bytes(size)
        return data == b"room"

    line.is_express = is_express
    backend.sendall(b"room")
    on.until(lambda: line.told[-2:][0] == ("express", b"room") and line.told[-1][1] > 0)
    assert passes == [0], "the drive did not go on"
    on.until(lambda: got.append(len(backend.recv(1 << 20))) or line.told[-1] == ("sent", 0))  # type: ignore[func-returns-value]
    while sum(got) < size + 1:
        got.append(len(backend.recv(1 << 20)))
    on.core.wants_client, before = False, len(passes)
    backend.sendall(b"room")
    on.until(lambda: len(passes) > before)


def test_a_connection_that_made_room_in_its_turn_is_read_again(make: Make) -> None:
    turns = Later()
    on = make(turns=turns)
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    backend.sendall(bytes(READ_SIZE))  # bulk flows, as far as one can know
    on.until(lambda: len(line.received) == READ_SIZE)
    line.is_express = lambda data: data == b"room"
    backend.sendall(b"room")
    on.until(lambda: turns.asked)
    turns.asked.pop()()
    backend.sendall(b"an answer")
    on.until(lambda: line.received.endswith(b"an answer"))


# --- connections that don't come --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "status"),
    [(Refused(Reason.BACKEND_REFUSED, "no"), 502), (Lost("no TLS"), 502), (Refused(Reason.BACKEND_TIMEOUT), 504)],
)
def test_a_dial_that_fails_is_told_to_the_line(failure: Exception, status: int, make: Make) -> None:
    on = make()
    on.failure = failure
    on.client.sendall(b"a")
    on.until(lambda: on.core.lines and on.core.lines[0].told == [("failed", status, str(failure))])


def test_a_line_that_waits_too_long_gets_503(make: Make) -> None:
    on = make(bound=1, connect=0.2)
    on.client.sendall(b"ab")
    far(on)
    second = on.core.lines[1]
    on.until(lambda: second.told)
    assert second.told[0][:2] == ("failed", 503)


def test_a_line_may_be_gone_before_there_is_a_connection(make: Make) -> None:
    on = make()
    on.gate.clear()
    on.client.sendall(b"a")
    on.until(lambda: on.core.lines)
    (line,) = on.core.lines
    on.core.react = lambda what: line.become(LineState.SPENT) if what[0] == "client" else None
    on.client.sendall(b"b")
    on.until(lambda: repr(on.lines) == "<Lines busy=0 seeking=0>")
    on.gate.set()
    on.until(lambda: on.pool.tally.idle == 1)
    assert line.told == []


def test_a_defect_in_a_dial_ends_the_session(make: Make) -> None:
    on = make()
    on.failure = ZeroDivisionError("defect")
    on.client.sendall(b"a")
    on.until(lambda: on.end)
    assert on.end is on.failure


@pytest.mark.parametrize("what", ["connected", "received", "sent", "failed", "closed"])
def test_a_defect_in_a_line_ends_its_session_and_nothing_else(what: str, make: Make) -> None:
    on = make()
    if what == "failed":
        on.failure = Refused(Reason.BACKEND_REFUSED, "no")
    defect = ZeroDivisionError("defect")

    def react(told: tuple[Any, ...]) -> None:
        if told[0] == what:
            raise defect

    def begin(told: tuple[Any, ...]) -> None:
        if told[0] == "client":
            line = on.core.line()
            line.out, line.react = b"x", react

    on.core.react = begin
    on.client.sendall(b"a")
    on.until(lambda: on.backends or on.end)
    if on.backends:
        with suppress(BrokenPipeError):
            on.backends[0].sendall(b"x")
        on.backends[0].shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert on.end is defect


# --- the end of the session -------------------------------------------------------------------------------------------


def test_the_end_of_a_session_lets_all_its_connections_go(make: Make) -> None:
    on = make(bound=3)
    on.client.sendall(b"abc")
    backends = far(on, 3)
    answers(on.core.lines[0])
    backends[0].sendall(b"x")
    on.until(lambda: on.pool.tally.idle == 1)
    on.core.react = lambda what: setattr(on.core, "ending", Ending())
    on.client.shutdown(socket.SHUT_WR)
    on.until(lambda: on.end)
    assert on.end is End.CLOSED
    assert [is_closed(each) for each in backends] == [False, True, True], "what is idle is the route's"
    assert repr(on.pool) == "<Pool a.test count=1 <Idle 1> queued=0>"


def test_a_session_may_end_while_it_waits_and_dials(make: Make) -> None:
    on = make(bound=1)
    on.gate.clear()
    on.client.sendall(b"ab")
    on.until(lambda: len(on.core.lines) == 2)
    get_hub().loop.run_callback(on.session.cut, Cut(End.KILLED))
    on.until(lambda: on.end)
    assert [line.told for line in on.core.lines] == [[], []]
    assert repr(on.pool) == "<Pool a.test count=1 <Idle 0> queued=0>"
    on.gate.set()
    on.until(lambda: on.pool.tally.idle == 1)


def test_an_event_may_end_the_session_and_its_last_bytes_are_sent(make: Make) -> None:
    on = make()
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines

    def react(what: tuple[Any, ...]) -> None:
        if what[0] == "received":
            on.core.to_client = b"last"
            line.send(b"goodbye")
            on.core.ending = Ending()

    line.react = react
    backend.sendall(b"x")
    on.until(lambda: on.core.to_client == b"" and is_closed(backend))
    assert on.client.recv(9) == b"last"
    on.client.close()
    on.until(lambda: on.end)


def test_bytes_of_a_line_keep_an_upload_from_being_idle(make: Make) -> None:
    """A backend that takes an upload slowly moves, though nothing comes from the client: it has sent all."""
    on = make(idle=0.4)
    on.core.gives_up = False
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    line.react = lambda what: line.send(bytes(1 << 20)) if what == ("received", b"go") else None
    backend.sendall(b"go")
    on.until(lambda: line.told[-1][0] == "sent" and line.told[-1][1] > 0)
    for _ in steps_on_the_hub(6, 0.1):
        backend.recv(1 << 15)
    assert ("give up",) not in on.core.told


# --- what is spoken ---------------------------------------------------------------------------------------------------


def test_http2_stays_with_its_line_and_is_not_kept(make: Make) -> None:
    on = make(version=H2)
    on.client.sendall(b"a")
    (backend,) = far(on)
    (line,) = on.core.lines
    assert line.told[0] == ("connected", "h2", False)
    answers(line)
    backend.sendall(b"x")
    on.until(lambda: is_closed(backend))
    assert on.pool.tally.idle == 0


@pytest.mark.parametrize(
    ("version", "says", "doubts"),
    [
        ("http/1.1", b"HTTP/1.1 200 OK", 0), ("http/1.1", b"\0\0\0\4\0\0\0\0\0", 1), ("h2", b"HTTP/1.1 400", 1),
        ("h2", b"\0\0\0\4\0\0\0\0\0", 0), ("h2", b"", 1), ("http/1.1", b"", 1),
    ],
)  # fmt: skip
def test_a_backend_that_answers_otherwise_than_was_found_is_doubted(
    version: str, says: bytes, doubts: int, make: Make
) -> None:
    on = make(version=version, known=False)
    on.client.sendall(b"a")
    (backend,) = far(on)
    if says:
        backend.sendall(says)
        backend.sendall(b"more")
    backend.shutdown(socket.SHUT_WR)
    on.until(lambda: on.core.lines[0].told[-1:] in ([("closed", True)], [("closed", False)]))
    assert on.doubts == doubts


def test_what_tls_has_agreed_on_is_never_doubted(make: Make) -> None:
    on = make(version=H2, known=True)
    on.client.sendall(b"a")
    (backend,) = far(on)
    backend.sendall(b"HTTP/1.1 400")
    on.until(lambda: on.core.lines[0].received)
    assert on.doubts == 0


def test_a_backend_that_floods_is_named_in_the_log(make: Make) -> None:
    class Flooding(Channel):
        def receive(self, most: int = 65_536) -> bytes:
            self.ended = self.abuse = True
            self.lost = "too much"
            return b""

    on = make()
    on.channel = Flooding
    on.client.sendall(b"a")
    (backend,) = far(on)
    with messages() as logged:
        backend.sendall(b"x")
        on.until(lambda: on.core.lines[0].told[-1] == ("closed", False))
    assert logged == ["warning the backend of a.test floods the proxy: too much"]
