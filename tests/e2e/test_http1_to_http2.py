"""HTTP/1.1 clients before HTTP/2 backends, in memory: what ends a request, which are sent again, and tunnels."""

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from mcproxy.l7.bridge import bounds
from mcproxy.l7.core import Ending, ExchangeEnd, How
from mcproxy.model import End
from tests.kit.bridge_playbook import GET, HOST, POST, Book

CHUNKED = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
WEBSOCKETS: dict[SettingCodes | int, int] = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}


def goaway(book: Book, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
    """By hand: h2 would end its own state with it."""
    frame = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4, "big") + int(code).to_bytes(4, "big")
    book.from_backend.one_turn(frame, book.now)
    book.pump()


def test_a_backend_that_can_t_be_reached_is_told_and_the_connection_goes_on() -> None:
    book = Book(reachable=False)
    book.send(GET)
    assert book.got().startswith(b"HTTP/1.1 504 Gateway Timeout\r\ncontent-type: text/plain\r\n")
    assert not book.closing()
    assert book.fault() == "no way"
    book.send(GET.replace(b"GET", b"HEAD"))
    assert book.got().endswith(b"\r\n\r\n"), "no body for HEAD"
    book.send(POST)
    assert b"connection: close" in book.got(), "its body will not be read"
    assert book.closing()
    assert [(record.status, record.end) for record in book.records] == [(504, ExchangeEnd.ANSWERED)] * 3


def test_a_backend_that_closes_before_an_answer_is_502() -> None:
    book = Book()
    book.send(GET)
    book.backend_closed()
    assert book.got().startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert not book.closing()
    assert book.records[0].end is ExchangeEnd.BACKEND_GONE


@pytest.mark.parametrize("length", [[], [("content-length", "100")]])
def test_an_answer_that_breaks_off_has_no_clean_end(length: list[tuple[str, str]]) -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, length)
    book.do(book.backend.data, b"abc")
    book.backend_closed()
    assert book.closing()
    assert book.failed()
    assert not book.got().endswith(b"0\r\n\r\n")
    assert (book.records[0].status, book.records[0].end) == (200, ExchangeEnd.BACKEND_GONE)


def test_an_answer_shorter_than_it_said_has_no_clean_end() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, [("content-length", "100")])
    book.do(book.backend.data, b"abc", end=True)
    assert book.failed()


def test_a_reset_stream_is_502_and_its_connection_goes_on() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.h2.reset_stream, 1, ErrorCodes.INTERNAL_ERROR)
    assert book.got().startswith(b"HTTP/1.1 502 ")
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")
    assert len(book.backends) == 1


def test_a_backend_that_breaks_http_is_502_and_replaced() -> None:
    book = Book()
    book.send(GET)
    book.from_backend.one_turn(b"HTTP/1.1 400 Bad Request\r\n\r\n", book.now)
    assert book.got().startswith(b"HTTP/1.1 502 ")
    assert not book.has_backend
    book.send(GET)
    assert len(book.backends) == 2


def test_what_was_not_processed_is_sent_again() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    book.send(POST + b"abc")
    goaway(book, 1)
    assert len(book.backends) == 2
    assert book.backend.bodies == {1: b"abc"}
    book.send(b"de")
    assert book.backend.bodies == {1: b"abcde"}
    book.do(book.backend.answer, 201, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 201 ")
    assert [record.status for record in book.records] == [200, 201]


def test_a_refused_stream_is_sent_again_once() -> None:
    book = Book()
    book.send(POST + b"abcde")
    book.do(book.backend.h2.reset_stream, 1, ErrorCodes.REFUSED_STREAM)
    assert len(book.backends) == 2
    assert book.backend.bodies == {1: b"abcde"}
    book.do(book.backend.h2.reset_stream, 1, ErrorCodes.REFUSED_STREAM)
    assert book.got().startswith(b"HTTP/1.1 502 ")
    assert len(book.backends) == 2


def test_a_body_too_long_to_keep_is_not_sent_again() -> None:
    book = Book()
    size = bounds.MAX_REPLAY + 1
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
    book.do(book.backend.h2.reset_stream, 1, ErrorCodes.REFUSED_STREAM)
    assert book.got().startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("announced", [False, True])
def test_a_backend_that_closes_behind_a_whole_answer_takes_nothing_from_it(announced: bool, method: bytes) -> None:
    """nginx answers 405 before the body comes, and has had enough requests: the client was reset in mid-body."""
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")
    book.send(method + b" / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
    book.backend.answer(405, end=True)
    if announced:
        goaway(book, 3)
    book.pump()
    book.backend_closed()
    book.pump()
    assert book.got() == b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
    assert not book.closing()
    book.send(b"abcde" + GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")
    assert len(book.backends) == 2
    assert [each.end for each in book.records] == [ExchangeEnd.DONE] * 3


def test_a_request_that_a_goaway_covers_is_answered_and_the_next_one_dials() -> None:
    book = Book()
    book.send(GET)
    goaway(book, 1)
    book.do(book.backend.answer, 200, [("content-length", "2")])
    book.do(book.backend.data, b"hi", end=True)
    assert book.got().endswith(b"hi")
    book.send(GET)
    assert len(book.backends) == 2
    assert book.backend.heads[0][0] == 1


def test_an_idle_connection_that_goes_away_is_let_go() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    goaway(book, 1)
    assert not book.has_backend
    assert book.fault() == ""
    assert not book.closing()


def test_an_idempotent_request_on_a_connection_that_was_used_is_sent_again() -> None:
    """A backend may close an idle connection just as the next request is on its way."""
    for method, again in ((b"GET", True), (b"HEAD", True), (b"POST", False), (b"DELETE", True), (b"PATCH", False)):
        book = Book()
        book.send(GET)
        book.do(book.backend.answer, 200, end=True)
        book.got()
        book.send(method + b" / HTTP/1.1\r\n" + HOST + b"\r\n")
        book.backend_closed()
        book.pump()
        assert (len(book.backends) == 2) is again
        assert book.got().startswith(b"HTTP/1.1 502 ") is not again


def test_pipelined_requests_go_on_after_a_failure() -> None:
    book = Book()
    book.send(GET + GET)
    book.backend_closed()
    book.pump()
    book.do(book.backend.answer, 200, end=True)
    assert book.got().count(b"HTTP/1.1 ") == 2


def test_a_websocket_becomes_a_tunnel() -> None:
    book = Book(WEBSOCKETS)
    book.send(UPGRADE + b"early")
    fields = book.fields()
    assert (fields[":method"], fields[":protocol"], fields[":path"]) == ("CONNECT", "websocket", "/ws")
    assert fields["sec-websocket-version"] == "13"
    assert "sec-websocket-key" not in fields
    assert "upgrade" not in fields
    book.do(book.backend.answer, 200, [("sec-websocket-protocol", "chat")])
    got = book.got()
    assert got.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in got  # RFC 6455, section 1.3
    assert b"sec-websocket-protocol: chat\r\n" in got
    assert book.backend.bodies == {1: b"early"}
    book.send(b"\x81\x02hi")
    assert book.backend.bodies == {1: b"early\x81\x02hi"}
    book.do(book.backend.data, b"\x81\x02ho")
    assert book.got() == b"\x81\x02ho"
    book.wait(500)
    assert not book.closing(), "how long it may be idle is the session's to say"
    book.bridge.client_closed(book.now)
    book.pump()
    assert book.backend.ended == [1]
    assert not book.closing()
    book.do(book.backend.data, b"bye", end=True)
    assert book.got() == b"bye"
    assert book.closing()
    assert not book.failed()
    assert (book.records[0].status, book.records[0].method, book.records[0].received) == (101, b"GET", 9)


def test_a_client_that_leaves_before_it_has_its_tunnel_takes_its_request_along() -> None:
    book = Book(WEBSOCKETS)
    book.send(UPGRADE)
    book.bridge.client_closed(book.now)
    book.pump()
    assert book.backend.reset == [1]
    assert book.closing()
    assert [record.end for record in book.records] == [ExchangeEnd.CLIENT_GONE]


def test_a_tunnel_that_breaks_is_reset() -> None:
    book = Book(WEBSOCKETS)
    book.send(UPGRADE)
    book.do(book.backend.answer, 200)
    book.do(book.backend.h2.reset_stream, 1)
    assert book.closing()
    assert book.failed()


def test_a_websocket_that_is_declined_stays_http() -> None:
    book = Book(WEBSOCKETS)
    book.send(UPGRADE)
    book.do(book.backend.answer, 403, [("content-length", "2")])
    book.do(book.backend.data, b"no", end=True)
    assert book.got() == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")


def test_a_websocket_without_a_backend_for_it_is_501() -> None:
    book = Book()
    book.send(UPGRADE)
    assert book.got().startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert not book.backend.heads
    assert not book.closing()


def test_a_backend_without_settings_keeps_no_websocket_waiting() -> None:
    book = Book()
    book.from_client.one_turn(UPGRADE, book.now)
    book.look()
    assert book.has_backend, "connected, and silent"
    book.now += bounds.FIRST_SETTINGS_SECONDS + 1
    book.bridge.tick(book.now, book.idle)
    assert book.got().startswith(b"HTTP/1.1 504 ")


def test_other_upgrades_are_501_and_h2c_is_ignored() -> None:
    book = Book()
    book.send(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: irc\r\n\r\n")
    assert book.got().startswith(b"HTTP/1.1 501 ")
    book.send(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("answers", [1, 2])
def test_a_message_that_is_none_behind_a_head_request_is_400(answers: int) -> None:
    book = Book()
    for _ in range(answers):
        book.send(GET.replace(b"GET", b"HEAD"))
        book.do(book.backend.answer, 200, [("content-length", "5")], end=True)
    book.got()
    book.send(b"BAD\r\n\r\n")
    assert book.got().startswith(b"HTTP/1.1 400 ")
    assert book.closing()


def test_a_websocket_whose_backends_go_before_they_speak_is_502() -> None:
    book = Book()
    book.from_client.one_turn(UPGRADE, book.now)
    while book.has_backend:
        book.backend_closed()
    assert len(book.backends) == bounds.ATTEMPTS
    assert book.got().startswith(b"HTTP/1.1 502 ")
    assert [record.status for record in book.records] == [502]


@pytest.mark.parametrize("status", ["abc", "", "1x", "2_00", "101"])
def test_an_answer_whose_status_is_none_is_502(status: str) -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.raw_head, [(":status", status)])
    assert book.got().startswith(b"HTTP/1.1 502 ")


def test_a_large_field_is_passed_as_it_is() -> None:
    """Huffman codes, which hpack makes in pure Python, would hold up everybody for a third of a second."""
    book = Book()
    book.from_client.in_turns(GET[:-2] + b"X-Big: " + b"y" * 50_000 + b"\r\n\r\n", book.now)
    book.look()
    assert b"y" * 15_000 in book.take_for_backend(), "in frames of 16 KiB"


def test_a_backend_that_speaks_http_1_is_called_that() -> None:
    book = Book()
    book.from_client.one_turn(GET, book.now)
    for _ in range(bounds.ATTEMPTS):  # what was found is in doubt after the first
        book.look()
        book.take_for_backend()
        book.from_backend.one_turn(b"HTTP/1.1 400 Bad Request\r\n\r\n", book.now)
    assert "it speaks HTTP/1, not HTTP/2" in book.fault()
    assert book.got().startswith(b"HTTP/1.1 502 ")


def test_a_request_under_way_when_we_cut_the_connection_says_so() -> None:
    book = Book()
    book.send(GET)
    book.bridge.cut("closed by an operator", book.now)
    assert [record.end for record in book.records] == [ExchangeEnd.CUT]
    assert book.closing()


def test_a_backend_that_never_answers_is_504() -> None:
    book = Book()
    book.send(GET)
    book.bridge.give_up(book.now)
    book.pump()
    assert book.got().startswith(b"HTTP/1.1 504 ")
    assert book.closing()
    assert not book.failed()
    assert book.backend.reset == [1]
    idle = Book()
    idle.bridge.give_up(idle.now)
    assert idle.bridge.leaving, "when the client has been read once more"
    idle.bridge.leave(idle.now + bounds.NEXT_REQUEST_SECONDS)
    assert [each.bridge.ending for each in (book, idle)] == [
        Ending(end=End.IDLE_TIMEOUT, why="the backend doesn't answer"),
        Ending(end=End.IDLE_TIMEOUT),
    ]


def kept_up(book: Book, seconds: float, doing: Callable[[Book], None]) -> None:
    """Time passes, and each second something shows that the backend's connection lives."""
    for _ in range(int(seconds)):
        book.wait(1)
        if not book.closing():
            doing(book)


def ping(book: Book) -> None:
    book.do(book.backend.h2.ping, bytes(8))


def test_a_hung_backend_is_504_though_its_connection_lives() -> None:
    """A PING every two seconds kept a request waiting for ever: the clock is the request's."""
    book = Book()
    book.send(POST + b"12345")
    kept_up(book, book.idle - 1, ping)
    assert book.got() == b""
    kept_up(book, 2, ping)
    assert book.got().startswith(b"HTTP/1.1 504 ")
    assert [(each.status, each.end, each.why) for each in book.records] == [
        (504, ExchangeEnd.ANSWERED, "the backend doesn't answer")
    ]
    assert book.backend.reset == [1]
    assert book.bridge.ending == Ending(end=End.IDLE_TIMEOUT, why="the backend doesn't answer")


def test_the_clock_of_a_request_begins_when_its_body_last_moved() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 40000\r\n\r\n")
    kept_up(book, book.idle + 50, lambda book: book.send(b"x" * 100))
    book.send(b"x" * (40_000 - 100 * int(book.idle + 50)))
    kept_up(book, book.idle - 1, ping)
    assert not book.closing()
    kept_up(book, 2, ping)
    assert book.got().startswith(b"HTTP/1.1 504 ")


def test_a_body_that_the_backend_does_not_take_is_504_too() -> None:
    book = Book()
    book.send(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
    book.backend.gives_room = False
    book.do(book.backend.answer, end=True)
    book.send(b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 400000\r\n\r\n" + bytes(300_000))
    book.got()
    kept_up(book, book.idle + 1, ping)
    assert book.got().startswith(b"HTTP/1.1 504 ")


def test_an_answer_that_has_begun_may_take_its_time() -> None:
    """Event streams, and long polls that sent their head."""
    book = Book()
    book.send(GET)
    book.do(book.backend.answer)
    kept_up(book, 3 * book.idle, ping)
    assert not book.closing()


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_ends_its_side_has_left(begun: bool) -> None:
    book = Book()
    book.send(GET + GET)
    if begun:
        book.do(book.backend.answer, 200, [("content-length", "2")])
        book.do(book.backend.data, b"a")
    book.bridge.client_closed(book.now)
    book.pump()
    how = How.RST if begun else How.FIN  # what came of an answer is not to be taken for a whole one
    assert book.bridge.ending == Ending(how), "its FIN was first, so the backend broke nothing off"
    assert book.backend.reset == [1]
    assert len(book.backend.heads) == 1, "the one that is pipelined behind is not begun"
    assert [(record.status, record.end) for record in book.records] == [(200 * begun, ExchangeEnd.CLIENT_GONE)]


def test_a_client_that_leaves_before_there_is_a_backend() -> None:
    book = Book()
    book.from_client.one_turn(GET, book.now)
    book.bridge.client_closed(book.now)
    assert book.closing()
    assert [record.end for record in book.records] == [ExchangeEnd.CLIENT_GONE]


def test_an_answer_that_is_complete_is_delivered_to_a_client_that_leaves() -> None:
    book = Book()
    book.send(POST + b"ab")
    book.do(book.backend.answer, 413, end=True)
    book.bridge.client_closed(book.now)
    assert book.closing()
    assert not book.failed()
    assert book.got().startswith(b"HTTP/1.1 413 ")
    assert [record.end for record in book.records] == [ExchangeEnd.DONE]
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    book.bridge.client_closed(book.now)
    assert book.closing()
    assert not book.failed()
    assert book.got() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert [record.end for record in book.records] == [ExchangeEnd.DONE]


def test_a_goaway_behind_a_complete_answer_takes_nothing_from_it() -> None:
    """Even one that does not cover the request: its client was reset, though it had all of the answer."""
    book = Book()
    book.send(POST + b"abc")
    book.do(book.backend.answer, 405, end=True)
    assert book.got().startswith(b"HTTP/1.1 405 ")
    goaway(book, 0)
    assert not book.closing()
    book.send(b"de" + GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got().startswith(b"HTTP/1.1 200 ")
