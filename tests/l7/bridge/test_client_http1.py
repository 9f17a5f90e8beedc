"""One HTTP/1.1 client connection: turns, pipelining, deadlines, draining, and clients that leave."""

import pytest

from mcproxy.l7.bounds import BODY_STALL_SECONDS, TURN
from mcproxy.l7.bridge import bounds
from mcproxy.l7.bridge.bounds import KNOWN_HEAD_COST, STEP_COST
from mcproxy.l7.core import ExchangeEnd, How, Turn
from mcproxy.model import End
from tests.kit.bridge_playbook import GET, HOST, POST, Book
from tests.kit.http2_peer import Cutter

OK_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
CLOSE_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def test_pipelined_requests_of_our_own_answers_take_turns() -> None:
    book = Book()
    more = book.from_client.one_turn(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n" * 20, book.now)
    turns = [book.got().count(b" 421 ")]
    while more:
        more = book.from_client.one_turn(b"", book.now)
        turns.append(book.got().count(b" 421 "))
    assert sum(turns) == 20
    assert max(turns) == -(-TURN // KNOWN_HEAD_COST)
    assert book.wants_client()


def test_small_chunks_take_turns_and_share_frames() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    more = book.from_client.one_turn(b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", book.now)
    turns, frames = 1, Cutter()
    seen = frames.feed(book.take_for_backend())
    while more:
        more = book.from_client.one_turn(b"", book.now)
        seen += frames.feed(book.take_for_backend())
        turns += 1
    assert b"".join(each.payload for each in seen) == b"x" * 200
    assert turns == -(-602 // -(-TURN // STEP_COST))
    assert len(seen) <= turns + 1


def test_who_has_left_is_asked_for_nothing_more() -> None:
    book = Book()
    mine, other = (b"GET / HTTP/1.1\r\nHost: %s.test\r\n\r\n" % name for name in (b"one", b"other"))
    book.from_client.one_turn(other * 20 + mine, book.now)
    book.bridge.client_closed(book.now)
    book.pump()
    assert book.closing()
    assert not book.backends, "its last request, which nobody waits for, was not begun"


def test_a_window_that_opens_lets_all_of_a_body_go() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    book.backend.gives_room = False
    for _ in range(5):
        book.send((b"3e8\r\n" + b"x" * 1_000 + b"\r\n") * 73)
    book.send(b"0\r\n\r\n")
    assert not book.backend.ended

    def grant() -> None:
        book.backend.h2.increment_flow_control_window(1 << 24)
        book.backend.h2.increment_flow_control_window(1 << 24, 1)

    book.do(grant)
    assert book.backend.ended == [1], "and nothing waits for the next tick"


def test_a_slow_head_a_slow_body_and_an_idle_connection_end() -> None:
    book = Book()
    book.send(b"GET / HT")
    book.wait(bounds.HEAD_SECONDS - 1)
    assert not book.closing()
    book.wait(3)
    assert book.got().startswith(b"HTTP/1.1 408 ")
    assert book.closing()

    book = Book()
    book.send(POST + b"a")
    book.wait(BODY_STALL_SECONDS + 2)
    assert book.got().startswith(b"HTTP/1.1 408 ")
    assert book.backend.reset == [1]

    book = Book()
    book.wait(bounds.KEEP_ALIVE_SECONDS - 1)
    assert not book.closing()
    book.wait(3)
    assert book.closing()
    assert book.got() == b""


def test_a_client_that_still_reads_an_answer_is_not_idle() -> None:
    """Its connection ended 75 s after the kernel had taken the answer, however long the client had to read."""
    book = Book()
    for _ in range(3):
        book.wait(bounds.KEEP_ALIVE_SECONDS - 1)
        book.bridge.client_lags(book.now)
    book.wait(bounds.KEEP_ALIVE_SECONDS)
    assert not book.closing()
    book.wait(1)
    assert book.closing()


def test_a_body_is_late_only_once_its_client_has_read_what_comes_first() -> None:
    book = Book()
    book.send(POST)
    for _ in range(3):
        book.wait(BODY_STALL_SECONDS - 1)
        book.bridge.client_lags(book.now)
    book.wait(BODY_STALL_SECONDS)
    assert not book.closing()
    book.wait(1)
    assert book.got().startswith(b"HTTP/1.1 408 ")


def test_a_backend_that_still_takes_a_request_is_not_late() -> None:
    book = Book()
    book.send(POST + b"hello")
    assert book.line is not None
    for _ in range(3):
        book.wait(book.idle - 1)
        book.line.lags(book.now)
    book.wait(book.idle - 1)
    assert not book.closing()
    book.wait(1)
    assert book.got().startswith(b"HTTP/1.1 504 ")


def test_an_idle_connection_with_half_a_head_is_answered() -> None:
    """It was asked to end, which can't be said without an answer, and was reset when it didn't."""
    book = Book()
    book.send(b"GET / HT")
    book.bridge.give_up(book.now)
    assert book.got().startswith(b"HTTP/1.1 408 ")
    ending = book.bridge.ending
    assert ending is not None
    assert (ending.how, ending.end) == (How.FIN, End.IDLE_TIMEOUT)
    assert [(each.status, each.end) for each in book.records] == [(408, ExchangeEnd.CLIENT_FAULT)]


def test_max_forwards_that_ends_here_is_no_fault() -> None:
    book = Book()
    book.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n\r\n")
    assert book.got().startswith(b"HTTP/1.1 200 ")
    assert [(each.status, each.end) for each in book.records] == [(200, ExchangeEnd.ANSWERED)]


def test_a_dripping_body_ends() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
    for _ in range(10):
        book.send(b"a")
        book.wait(20.0)
        if book.closing():
            break
    assert book.got().startswith(b"HTTP/1.1 408 ")


def test_draining_answers_what_is_under_way_and_says_close() -> None:
    book = Book()
    book.send(GET)
    book.bridge.drain(book.now)
    assert not book.closing()
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == CLOSE_EMPTY
    assert book.closing()


def leave_at(book: Book, ask: str) -> None:
    """The connection is asked to end, in one of three ways."""
    if ask == "tick":
        book.now += bounds.KEEP_ALIVE_SECONDS + 1
        book.bridge.tick(book.now, book.idle)
    else:
        getattr(book.bridge, ask)(book.now)
    assert book.bridge.leaving
    assert not book.closing()


def asked_once() -> Book:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == OK_EMPTY
    book.now += bounds.NEXT_REQUEST_SECONDS
    return book


@pytest.mark.parametrize("ask", ["drain", "give_up", "tick"])
def test_a_request_that_came_before_an_idle_connection_ends_is_served(ask: str) -> None:
    """It waited in the kernel, behind a timer of a busy hub or the signal to stop, and got no answer."""
    book = asked_once()
    leave_at(book, ask)
    book.send(GET)
    assert not book.bridge.leaving
    book.bridge.leave(book.now)
    assert not book.closing()
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == CLOSE_EMPTY
    assert book.closing()

    book = asked_once()
    leave_at(book, ask)
    book.bridge.leave(book.now)
    assert book.closing()
    assert book.got() == b""
    ending = book.bridge.ending
    assert ending is not None
    assert (ending.how, ending.end) == (How.FIN, End.IDLE_TIMEOUT if ask == "give_up" else End.CLOSED)


def test_a_request_behind_an_answer_that_did_not_say_close_is_served() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200)
    book.bridge.drain(book.now)
    book.do(book.backend.data, b"late", end=True)
    assert b"connection: close" not in book.got()
    assert book.bridge.leaving, "the client could not know"
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == CLOSE_EMPTY
    assert book.closing()


@pytest.mark.parametrize("size", [0, 4])
def test_an_answer_that_is_complete_for_the_client_does_not_break_off(size: int) -> None:
    """All of it had come but its END_STREAM: the client's next request met a reset connection."""
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, [("content-length", str(size))])
    if size:
        book.do(book.backend.data, b"body")
    book.backend_closed()
    assert book.got() == b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"body"[:size])
    assert not book.closing()
    assert [each.end for each in book.records] == [ExchangeEnd.BACKEND_GONE]
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == OK_EMPTY


def test_half_a_head_is_waited_for_while_draining() -> None:
    book = asked_once()
    leave_at(book, "drain")
    book.send(GET[:-2])
    book.bridge.leave(book.now)
    assert not book.closing()
    book.send(GET[-2:])
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == CLOSE_EMPTY


@pytest.mark.parametrize("answered", [0, 1])
def test_a_client_that_was_active_just_before_a_drain_may_ask_once_more(answered: int) -> None:
    """Its connection ended behind the handshake or an answer, so that it saw an upgrade as an empty reply."""

    def drained() -> Book:
        book = Book()
        for _ in range(answered):
            book.wait(10.0)
            book.send(GET)
            book.do(book.backend.answer, 200, end=True)
            assert book.got() == OK_EMPTY
        book.bridge.drain(book.now)
        book.bridge.leave(book.now)
        return book

    book = drained()
    assert not book.closing()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == CLOSE_EMPTY
    assert book.closing()

    book = drained()
    book.wait(bounds.NEXT_REQUEST_SECONDS - 1)
    assert not book.closing()
    book.wait(1)
    assert book.closing()


def test_a_client_that_leaves_within_a_head_has_asked_nothing() -> None:
    book = Book()
    book.send(GET[:-2])
    book.bridge.client_closed(book.now)
    assert book.closing()
    assert not book.failed()
    assert not book.records


def test_a_client_that_goes_takes_its_request_along() -> None:
    for ending in ("client_closed", "client_lost"):
        book = Book()
        book.send(POST + b"ab")
        getattr(book.bridge, ending)(book.now)
        book.pump()
        assert book.closing()
        assert book.backend.reset == [1]
        assert book.records[0].end is ExchangeEnd.CLIENT_GONE


def test_the_answers_before_a_bad_request_are_given() -> None:
    book = Book()
    book.send(GET + b"bad\r\n\r\n")
    assert not book.closing()
    book.do(book.backend.answer, 200, end=True)
    got = book.got()
    assert got.startswith(OK_EMPTY)
    assert b"HTTP/1.1 400 Bad Request\r\n" in got
    assert b"connection: close" in got


def test_it_says_what_it_waits_for() -> None:
    book = Book()
    assert repr(book.bridge).startswith("<Bridge <Http1Client one.test open requests=0 None> <Lines None")
    book.send(GET)
    assert "<Exchange 1 b'GET' b'/' 0 complete, sent, awaited>" in repr(book.bridge)
    book.bridge.drain(book.now)
    assert "<Http1Client one.test last requests=1 " in repr(book.bridge)


def with_fields(count: int, size: int = 1) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: one.test\r\n" + b"a: %b\r\n" % (b"x" * size) * count + b"\r\n"


@pytest.mark.parametrize("dear", [with_fields(250), with_fields(1, 60_000)], ids=["fields", "bytes"])
def test_a_head_that_costs_much_has_a_turn_of_its_own(dear: bytes) -> None:
    """Ten clients with 250 fields each had all their heads handled in one round of the hub, 2.8 ms each."""
    book = Book()
    pipelined = dear + GET
    turn = Turn()
    assert book.bridge.receive_from_client(pipelined, turn, book.now) == 0
    assert turn.over, "the drive offers it again in the session's turn"
    assert book.records == []
    turn = Turn()
    assert book.bridge.receive_from_client(pipelined, turn, book.now) == len(dear)
    assert turn.left < -128, "and nothing else happens in that"
    book.pump()
    assert len(book.backend.heads) == 1


def test_a_usual_head_waits_for_nothing() -> None:
    book, usual = Book(), with_fields(25)
    turn = Turn()
    assert book.bridge.receive_from_client(usual, turn, book.now) == len(usual)
