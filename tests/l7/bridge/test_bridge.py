"""The bridge, in playbooks: what the client sends, what the backend sees and says, what the client gets."""

import pytest
from h2.settings import SettingCodes

from mcproxy.l7.bounds import MAX_INTERIM
from mcproxy.l7.bridge import bounds
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire import http2
from tests.kit.bridge_playbook import GET, HOST, POST, Book

CHUNKED = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
OK_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def test_a_request_and_its_answer() -> None:
    book = Book()
    book.send(b"GET /a?b HTTP/1.1\r\nHost: ONE.test:8443\r\nAccept: */*\r\n\r\n")
    assert book.backend.heads == [
        (
            1,
            [
                (":method", "GET"), (":scheme", "https"), (":authority", "ONE.test:8443"), (":path", "/a?b"),
                ("accept", "*/*"), ("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https"),
                ("x-real-ip", "192.0.2.7"),
            ],
        )
    ]  # fmt: skip
    assert book.backend.ended == [1]
    book.do(book.backend.answer, 200, [("content-length", "2"), ("x-a", "b")])
    assert book.got() == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\n"
    book.do(book.backend.data, b"hi", end=True)
    assert book.got() == b"hi"
    (record,) = book.records
    assert (record.id, record.method, record.request.authority, record.request.path, record.status) == (
        1, b"GET", b"ONE.test:8443", b"/a?b", 200,
    )  # fmt: skip
    assert (record.received, record.sent, record.end) == (0, 2, ExchangeEnd.DONE)
    assert not book.closing()
    assert "requests=1" in repr(book.bridge)


def test_keep_alive_uses_one_backend_connection() -> None:
    book = Book()
    for i in range(5):
        book.send(GET)
        book.do(book.backend.answer, 200, end=True)
        assert book.got() == OK_EMPTY
        assert book.backend.heads[-1][0] == 2 * i + 1
    assert len(book.backends) == 1


def test_pipelined_requests_are_answered_in_order() -> None:
    book = Book()
    book.send(GET + POST + b"abcde" + GET)
    for body in (b"1", b"2", b"3"):
        book.do(book.backend.answer, 200, [("content-length", "1")])
        book.do(book.backend.data, body, end=True)
        assert book.got().endswith(b"\r\n\r\n" + body)
    assert book.backend.bodies == {3: b"abcde"}
    assert [record.request.path for record in book.records] == [b"/", b"/form", b"/"]


def test_pipelined_requests_are_taken_one_by_one() -> None:
    book = Book()
    book.send(GET)
    assert book.wants_client()
    book.send(GET * 3)
    assert book.from_client.pending == GET * 3, "the drive keeps them, and bounds them"
    for left in (2, 1, 0, 0):
        book.do(book.backend.answer, 200, end=True)
        assert book.from_client.pending == GET * left
    assert len(book.records) == 4


def test_an_answer_of_unknown_length_is_chunked_and_keeps_its_trailers() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200)
    book.do(book.backend.data, b"abc")
    assert book.got() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    book.do(book.backend.trail, [("x-sum", "1"), ("content-length", "7"), ("x-forwarded-for", "a")])
    assert book.got() == b"0\r\nx-sum: 1\r\nx-forwarded-for: a\r\n\r\n", "as over HTTP/2"


def test_trailers_without_a_field_end_the_body() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200)
    book.do(book.backend.data, b"abc")
    book.backend.raw = http2.headers(1, b"", True)  # h2 would not send that
    book.pump()
    assert book.got().endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert book.records[0].end is ExchangeEnd.DONE


def test_trailers_behind_a_counted_body_are_dropped() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, [("content-length", "1")])
    book.do(book.backend.data, b"a")
    book.do(book.backend.trail, [("x-sum", "1")])
    assert book.got().endswith(b"\r\n\r\na")
    assert book.records[0].end is ExchangeEnd.DONE


def test_http_1_0_gets_the_end_of_the_connection_as_the_end_of_the_body() -> None:
    book = Book()
    book.send(b"GET / HTTP/1.0\r\n\r\n")
    assert book.fields()[":authority"] == "one.test"
    book.do(book.backend.answer, 200)
    book.do(book.backend.data, b"abc", end=True)
    assert book.got() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert book.closing()
    assert not book.failed()


def test_bodies_stream_both_ways_at_once() -> None:
    book = Book()
    book.send(CHUNKED + b"3\r\nabc\r\n")
    assert book.backend.bodies == {1: b"abc"}
    book.do(book.backend.answer, 200)
    book.do(book.backend.data, b"x")
    assert book.got().endswith(b"1\r\nx\r\n")
    book.send(b"2\r\nde\r\n0\r\nX-Sum: 9\r\nHost: two.test\r\n\r\n")
    assert book.backend.bodies == {1: b"abcde"}
    assert book.backend.trailers == [("x-sum", "9")]
    assert book.backend.ended == [1]
    book.do(book.backend.data, b"y", end=True)
    assert book.got() == b"1\r\ny\r\n0\r\n\r\n"
    assert not book.closing()
    assert (book.records[0].received, book.records[0].sent) == (5, 2)


def test_head_has_no_body_and_204_and_304_neither() -> None:
    book = Book()
    book.send(GET.replace(b"GET", b"HEAD"))
    book.do(book.backend.answer, 200, [("content-length", "1000")], end=True)
    assert book.got() == b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    for status in (204, 304):
        book.send(GET)
        book.do(book.backend.answer, status, end=True)
        head = book.got()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
    assert not book.closing()


def test_a_304_tells_the_length_that_another_answer_would_have() -> None:
    book = Book()
    for _ in range(2):
        book.send(GET)
        book.do(book.backend.answer, 304, [("content-length", "100")])
        book.do(book.backend.data, b"", end=True)
        assert book.got() == b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n"
    assert len(book.backends) == 1
    assert not book.closing()


@pytest.mark.parametrize("ends_in_data", [False, True])
def test_a_body_shorter_than_was_declared_is_no_answer(ends_in_data: bool) -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, [("content-length", "3")])
    book.do(book.backend.data, b"ab", end=not ends_in_data)
    if ends_in_data:
        book.do(book.backend.data, b"", end=True)
    assert book.closing()
    assert book.failed()
    assert book.records[0].end is ExchangeEnd.BACKEND_FAULT


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: one.test\r\nHost: one.test\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: one.test\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET http://u@one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n", 400),
        (b"CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"\x00", 400),
    ],
)
def test_what_is_no_request_is_told_so_and_ends_the_connection(raw: bytes, status: int) -> None:
    book = Book()
    book.send(raw + b"\r\n\r\n" + GET)
    assert book.got().startswith(b"HTTP/1.1 %d " % status)
    assert book.closing()
    assert not book.failed()
    assert not book.backends
    end = ExchangeEnd.ANSWERED if status == 501 else ExchangeEnd.CLIENT_FAULT
    assert [(record.status, record.end) for record in book.records] == [(status, end)]
    assert book.records[0].why


def test_a_bad_chunk_is_told_before_the_answer_and_cuts_it_afterwards() -> None:
    book = Book()
    book.send(CHUNKED + b"1\r\nab\r\n")
    assert book.got().startswith(b"HTTP/1.1 400 ")
    assert not book.backends, "it was known before there was a connection"
    book = Book()
    book.send(CHUNKED + b"1\r\na\r\n")
    book.do(book.backend.answer, 200)
    book.send(b"x\r\n")
    assert book.closing()
    assert book.failed()
    assert b"0\r\n\r\n" not in book.got()


def test_421_for_every_request_that_leads_elsewhere() -> None:
    book = Book()
    book.send(GET)
    book.do(book.backend.answer, 200, end=True)
    book.got()
    book.send(GET.replace(b"one.test", b"two.test"))
    assert book.got().startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    assert not book.closing()
    book.send(b"GET https://two.test/ HTTP/1.1\r\nHost: two.test\r\n\r\n")
    assert book.got().startswith(b"HTTP/1.1 421 ")
    book.send(POST.replace(b"one.test", b"two.test"))
    assert b"connection: close" in book.got(), "its body is not read"
    assert book.closing()
    assert len(book.backend.heads) == 1


def test_1xx_pass_and_the_backend_says_100() -> None:
    book = Book()
    book.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert book.fields()["expect"] == "100-continue"
    assert book.hurried()
    book.do(book.backend.answer, 103, [("link", "</a>")])
    assert book.got() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    book.do(book.backend.answer, 100)
    assert book.got() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not book.hurried()
    book.send(b"abcde")
    assert book.backend.bodies == {1: b"abcde"}
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == OK_EMPTY


def test_100_is_said_for_a_backend_that_does_not() -> None:
    book = Book()
    book.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert book.got() == b""
    book.wait(1.0)
    assert book.got() == b"HTTP/1.1 100 Continue\r\n\r\n"
    book.do(book.backend.answer, 100)
    assert book.got() == b"", "once is enough"


def test_an_answer_instead_of_100_ends_the_connection() -> None:
    book = Book()
    book.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    book.do(book.backend.answer, 417, end=True)
    assert book.got() == b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert book.closing()


def test_1xx_are_nothing_for_http_1_0_and_bounded() -> None:
    book = Book()
    book.send(b"GET / HTTP/1.0\r\n\r\n")
    book.do(book.backend.answer, 103)
    assert book.got() == b""
    for _ in range(MAX_INTERIM):
        book.backend.answer(103)
    book.pump()
    assert book.got().startswith(b"HTTP/1.1 502 ")


def test_an_early_answer_leaves_the_rest_of_the_body_unheard() -> None:
    book = Book()
    book.send(CHUNKED + b"3\r\nabc\r\n")
    book.do(book.backend.answer, 413, end=True)
    assert book.got() == b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n"
    assert book.backend.reset == [1]
    book.send(b"3\r\ndef\r\n0\r\n\r\n" + GET)
    assert book.backend.bodies == {1: b"abc"}
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == OK_EMPTY
    assert (book.records[0].received, book.records[0].end) == (6, ExchangeEnd.DONE)


def test_a_reset_behind_a_whole_answer_takes_nothing_from_it() -> None:
    """RFC 9113, section 8.1: a server that needs no more of the request says so with RST_STREAM and NO_ERROR."""
    book = Book()
    book.send(POST + b"abc")
    book.backend.answer(405, end=True)
    book.do(book.backend.h2.reset_stream, 1)
    assert book.got() == b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
    book.send(b"de" + GET)
    book.do(book.backend.answer, 200, end=True)
    assert book.got() == OK_EMPTY
    assert len(book.backends) == 1


def test_an_early_answer_to_a_long_body_ends_the_connection() -> None:
    book = Book()
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (bounds.MAX_UNREAD + 1))
    book.do(book.backend.answer, 413, end=True)
    assert b"connection: close" in book.got()
    assert book.closing()
    assert not book.failed()
    book = Book()
    book.send(CHUNKED)
    book.do(book.backend.answer, 413, end=True)
    chunk = bytes(65_536)
    for _ in range(bounds.MAX_UNREAD // len(chunk) + 1):
        assert not book.closing()
        book.send(b"10000\r\n" + chunk + b"\r\n")
    assert book.closing()


def test_a_body_waits_for_the_backends_window_and_the_client_for_the_body() -> None:
    book = Book({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    book.send(GET)  # so that its SETTINGS are known
    book.do(book.backend.answer, 200, end=True)
    book.backend.gives_room = False
    body = bytes(range(256)) * 2048
    book.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert book.backend.bodies[3] == body[:10]
    assert not book.wants_client()
    while len(book.backend.bodies[3]) < len(body):
        book.do(book.backend.h2.increment_flow_control_window, 60_000, 3)
        book.do(book.backend.h2.increment_flow_control_window, 60_000)
    assert book.backend.bodies[3] == body
    assert book.wants_client()
    assert book.backend.ended == [1, 3]


def test_no_100_follows_an_answer_that_has_begun() -> None:
    """The session ended with a bug in the log when a backend began its answer before the client's body was invited."""
    book = Book()
    book.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    book.do(book.backend.answer, 200)
    assert book.got().startswith(b"HTTP/1.1 200 ")
    book.wait(2.0)
    assert book.got() == b""
    book.do(book.backend.data, b"abc", end=True)
    assert b"abc" in book.got()
    assert book.closing(), "nobody knows whether the body comes"
    assert not book.failed()
