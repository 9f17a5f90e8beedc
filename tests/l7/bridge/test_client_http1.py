"""What h11 writes for the bridge."""

import pytest
from h11 import LocalProtocolError

from mcproxy.l7.bounds import TURN
from mcproxy.l7.bridge.bounds import HEAD_COST, STEP_COST
from mcproxy.l7.bridge.client_http1 import ClientEnd
from mcproxy.wire.http1 import Head, Requests
from tests.kit.bridge_playbook import HOST, Book
from tests.kit.http2_peer import Cutter

GET = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"


def head(raw: bytes) -> Head:
    found = Requests().next_head(raw)
    assert found
    return found[0]


def asked(raw: bytes = GET) -> ClientEnd:
    side = ClientEnd()
    side.begin(head(raw))
    return side


def test_own_answers() -> None:
    side = asked()
    assert side.own(404, last=False) == len(b"404 Not Found\n")
    assert (
        side.take()
        == b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\n404 Not Found\n"
    )
    assert side.next_message()
    side.begin(head(GET.replace(b"GET", b"HEAD")))
    assert side.own(502, last=True) == 0
    assert side.take().endswith(b"content-length: 16\r\nconnection: close\r\n\r\n")
    assert not side.next_message()
    fresh = ClientEnd()
    fresh.own(400, last=True)
    assert fresh.take().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "ClientEnd" in repr(fresh)


def test_an_answer_that_h11_refuses_becomes_one_of_our_own() -> None:
    side = asked()
    with pytest.raises(LocalProtocolError):
        side.head([(b":status", b"200"), (b"x", b"a\r\nb")], empty=True, last=False)
    side.own(502, last=False)
    assert side.take().startswith(b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\n")
    assert side.next_message()


def test_an_answer_longer_or_shorter_than_it_says_is_no_answer() -> None:
    fields = [(b":status", b"200"), (b"content-length", b"2")]
    side = asked()
    side.head(fields, empty=False, last=False)
    with pytest.raises(LocalProtocolError):
        side.data(b"abc")
    side = asked()
    side.head(fields, empty=False, last=False)
    side.data(b"a")
    with pytest.raises(LocalProtocolError):
        side.end([])


# In the bridge: what a client sends at once is taken in turns


def test_pipelined_requests_of_our_own_answers_take_turns() -> None:
    book = Book()
    more = book.from_client.one_turn(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n" * 20, book.now)
    turns = [book.got().count(b" 421 ")]
    while more:
        more = book.from_client.one_turn(b"", book.now)
        turns.append(book.got().count(b" 421 "))
    assert sum(turns) == 20
    assert max(turns) == -(-TURN // HEAD_COST)
    assert book.wants_client()


def test_small_chunks_take_turns_and_share_frames() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    more = book.from_client.one_turn(b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", book.now)
    turns, frames = 1, Cutter()
    seen = frames.feed(book.bridge.take_for_backend())
    while more:
        more = book.from_client.one_turn(b"", book.now)
        seen += frames.feed(book.bridge.take_for_backend())
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
