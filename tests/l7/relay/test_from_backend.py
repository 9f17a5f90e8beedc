"""The backend's frames, and the frames that the client gets for them."""

import pytest

from mcproxy.l7.bounds import MAX_INTERIM
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire import http2
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode, Frame
from tests.kit.http2_peer import GET, POST, frame
from tests.kit.relay_playbook import OK, OURS, Book

HEAD = [(":method", "HEAD"), *GET[1:]]
BAD_GATEWAY = [(":status", "502"), ("content-length", "0")]
GRPC = [*POST, ("content-type", "application/grpc"), ("te", "trailers")]


def asked(fields: list[tuple[str, str]] = GET, end: bool = True) -> Book:
    book = Book()
    book.request(1, fields, end)
    book.drop()
    return book


def failed_alone(book: Book, field: tuple[str, str]) -> None:
    """The backend's fault ended one exchange; the next answer, which has `field`, passes as the backend meant it."""
    assert [s.end for s in book.records] == [ExchangeEnd.BACKEND_FAULT]
    book.request(3)
    book.answer(3, [*OK, field])
    assert book.take_down() == [("HEADERS!", 3, [*OK, field])], "the client's table is not disturbed"


def test_a_whole_read_passes_as_the_object_that_was_read() -> None:
    book = asked()
    data = http2.headers(1, book.block(book.backend_encoder, OK)) + http2.data(1, b"x" * 100, end_stream=True)
    book.from_backend.one_turn(data, book.now)
    assert book.relay.client.out == [data]
    (stream,) = book.records
    assert (stream.status, stream.sent, stream.end) == (200, 100, ExchangeEnd.DONE)


def test_interim_answers_and_trailers_pass() -> None:
    book = asked()
    book.answer(1, [(":status", "103"), ("link", "</a>")], end=False)
    book.answer(1, OK, end=False)
    book.backend(http2.data(1, b"body"))
    book.answer(1, [("x-sum", "1")])
    assert book.take_down() == [
        ("HEADERS", 1, [(":status", "103"), ("link", "</a>")]),
        ("HEADERS", 1, OK),
        ("DATA", 1, b"body"),
        ("HEADERS!", 1, [("x-sum", "1")]),
    ]
    assert [s.status for s in book.records] == [200]


def test_interim_answers_are_bounded() -> None:
    """They are under no flow control; with a table out of step, a few bytes of them become 64 KiB."""
    book = asked()
    early = [(":status", "103"), ("x-a", "b")]
    for _ in range(MAX_INTERIM):
        book.answer(1, early, end=False)
    assert book.take_down() == [("HEADERS", 1, early)] * MAX_INTERIM
    book.answer(1, [*early, ("x-b", "c")], end=False)
    assert book.take_down() == [("HEADERS!", 1, BAD_GATEWAY)]
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.ENHANCE_YOUR_CALM)]
    failed_alone(book, ("x-b", "c"))


def test_trailers_only_stays_so() -> None:
    book = asked(GRPC, end=False)
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")]
    book.answer(1, fields)
    assert book.take_down() == [("HEADERS!", 1, fields)]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ([("server", "x")], True),
        ([(":status", "101")], True),
        ([(":status", "103")], True),
        ([*OK, ("connection", "close")], False),
        ([*OK, ("X-Upper", "1")], False),
        ([*OK, ("x-a", "1\n2")], False),
        ([*OK, ("content-length", "5")], True),
        ([*OK, ("x-large", "x" * 70_000)], True),
    ],
)
def test_a_malformed_answer_is_502(fields: list[tuple[str, str]], end: bool) -> None:
    book = asked()
    book.answer(1, fields, end)
    assert book.take_down() == [("HEADERS!", 1, BAD_GATEWAY)]
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.PROTOCOL_ERROR)]
    failed_alone(book, ("x-b", "2"))


def test_grpc_gets_status_14_for_it() -> None:
    book = asked(GRPC, end=False)
    book.answer(1, [(":status", "oops")])
    head, reset = book.take_down()
    assert ("grpc-status", "14") in head[2]  # type: ignore[operator]
    assert reset == ("RST_STREAM", 1, ErrorCode.NO_ERROR)


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        ([*OK, ("content-length", "3")], http2.data(1, b"1234")),
        ([*OK, ("content-length", "3")], http2.data(1, b"12", end_stream=True)),
    ],
)
def test_a_body_of_another_length_never_ends_clean(answer: list[tuple[str, str]], data: bytes) -> None:
    book = asked()
    book.answer(1, answer, end=False)
    book.backend(data)
    assert book.take_down()[-1] == ("RST_STREAM", 1, ErrorCode.INTERNAL_ERROR)
    assert ("WINDOW_UPDATE", 0, len(data) - 9) in book.take_up()


def test_an_answer_that_is_rewritten_leaves_the_clients_table_right() -> None:
    """Its block enters fields into the backend's table that the client must not refer to."""
    book = Book()
    policy = ("content-security-policy", "default-src 'self'")
    for stream in (1, 3, 5):
        book.request(stream)
        book.drop()
        book.answer(stream, [*OK, ("server", "x"), (policy[0], policy[1] + " "), ("alt-svc", 'h3=":443"')])
        assert book.take_down() == [("HEADERS!", stream, [*OK, ("server", "x"), policy])]
    book.request(7)
    book.answer(7, [*OK, ("server", "x"), policy])
    assert book.take_down() == [("HEADERS!", 7, [*OK, ("server", "x"), policy])]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [(HEAD, OK), (HEAD, [*OK, ("content-length", "3")]), (GET, [(":status", "204")]), (GET, [(":status", "304")])],
)
def test_a_body_that_must_not_be_ends_with_the_head(
    request_: list[tuple[str, str]], answer: list[tuple[str, str]]
) -> None:
    """Some backends send one in answer to HEAD; the client got the head and then a reset."""
    book = asked(request_)
    book.answer(1, answer, end=False)
    book.take_down()
    book.backend(http2.data(1, b"123") + http2.data(1, b"456", end_stream=True))
    assert book.take_down() == [("DATA!", 1, b"")]
    assert book.take_up() == [("WINDOW_UPDATE", 0, 3), ("RST_STREAM", 1, ErrorCode.CANCEL), ("WINDOW_UPDATE", 0, 3)]
    assert [(each.status, each.sent, each.end) for each in book.records] == [
        (int(answer[0][1]), 0, ExchangeEnd.DONE),
    ]  # fmt: skip
    book.relay.client_closed(book.now)
    assert book.relay.fault == "the backend sent a body with an answer that has none"


def test_a_body_that_must_not_be_before_the_request_has_ended() -> None:
    book = asked(HEAD, end=False)
    book.answer(1, OK, end=False)
    book.backend(http2.data(1, b"123"))
    book.take_up()
    book.client(http2.data(1, b"rest", end_stream=True))
    assert ("WINDOW_UPDATE", 0, 4) in book.take_down()
    assert book.take_up() == [], "the backend wants no more of it"
    assert [each.end for each in book.records] == [ExchangeEnd.DONE]


def test_head_and_304_may_name_a_length() -> None:
    book = asked(HEAD)
    book.answer(1, [*OK, ("content-length", "5")])
    assert book.take_down()[-1][0] == "HEADERS!"
    other = asked()
    other.answer(1, [(":status", "304"), ("content-length", "5")])
    assert other.take_down()[-1][0] == "HEADERS!"


def test_data_before_a_head_and_after_an_end() -> None:
    book = asked()
    book.backend(http2.data(1, b"early"))
    assert book.take_down() == [("HEADERS!", 1, BAD_GATEWAY)]
    late = asked(POST, end=False)
    late.answer(1, OK)
    late.backend(http2.data(1, b"late"))
    assert late.take_down()[-1] == ("RST_STREAM", 1, ErrorCode.INTERNAL_ERROR)


def test_a_reset_passes_and_late_frames_of_the_client_are_dropped() -> None:
    book = asked(POST, end=False)
    book.backend(http2.rst_stream(1, ErrorCode.REFUSED_STREAM))
    assert book.take_down() == [("RST_STREAM", 1, ErrorCode.REFUSED_STREAM)]
    book.client(http2.data(1, b"late", end_stream=True))
    assert book.take_up() == []
    assert book.take_down() == [("WINDOW_UPDATE", 0, 4)]
    assert [s.end for s in book.records] == [ExchangeEnd.BACKEND_RESET]


def test_a_reset_after_the_whole_answer_is_no_failure() -> None:
    book = asked(POST, end=False)
    book.answer()
    book.backend(http2.rst_stream(1, ErrorCode.NO_ERROR))
    book.tick(1)
    assert book.take_down() == [("HEADERS!", 1, OK), ("RST_STREAM", 1, 0)]
    assert [s.end for s in book.records] == [ExchangeEnd.DONE]


def unwanted() -> Book:
    """A request of which the backend has answered all that it wants to see."""
    book = asked([*POST, ("content-length", "9")], end=False)
    book.answer()
    book.backend(http2.rst_stream(1, ErrorCode.NO_ERROR))
    assert book.take_down() == [("HEADERS!", 1, OK)]
    book.drop()
    return book


def test_what_follows_an_early_answer_is_judged_and_goes_nowhere() -> None:
    book = unwanted()
    book.client(http2.data(1, b"more"))
    assert book.take_down() == [("WINDOW_UPDATE", 0, 4)]
    book.client(http2.data(1, b"too much"))
    assert book.take_down() == [("WINDOW_UPDATE", 0, 8), ("RST_STREAM", 1, ErrorCode.PROTOCOL_ERROR)]
    assert book.take_up() == [], "the backend has reset it"
    assert [s.end for s in book.records] == [ExchangeEnd.DONE], "curl ends its body early, too: it has its answer"


def test_a_request_that_ends_after_its_early_answer_is_done() -> None:
    book = unwanted()
    book.client(http2.data(1, b"123456789", end_stream=True))
    other = unwanted()
    other.client(http2.data(1, b"123456789"))
    other.request(1, [("x-trailer", "1")])
    for each in (book, other):
        assert each.take_up() == []
        assert [s.end for s in each.records] == [ExchangeEnd.DONE]
        each.tick(1)
        assert each.take_down() == [("WINDOW_UPDATE", 0, 9)]


def test_a_request_that_is_cancelled_after_its_early_answer() -> None:
    book = unwanted()
    book.client(http2.rst_stream(1, ErrorCode.CANCEL))
    assert (book.take_up(), book.take_down()) == ([], [])
    assert [s.end for s in book.records] == [ExchangeEnd.DONE]


def test_a_backend_that_goes_after_an_early_answer_has_failed_nobody() -> None:
    book = unwanted()
    book.relay.backend_closed(book.now)
    book.collect()
    assert book.take_down()[0] == ("RST_STREAM", 1, ErrorCode.NO_ERROR)
    assert [s.end for s in book.records] == [ExchangeEnd.DONE]


def test_an_answer_to_a_cancelled_request_is_dropped_where_the_tables_are_not_in_step() -> None:
    """Nobody needs it, and encoding it again may make much of little."""
    book = asked()
    book.answer(1, [*OK, ("X-Upper", "1")])  # withheld
    book.request(3)
    book.client(http2.rst_stream(3, ErrorCode.CANCEL))
    book.drop()
    book.answer(3, [*OK, ("x-a", "b")])
    assert book.take_down() == []
    book.request(5)
    book.answer(5, [*OK, ("x-a", "b")])
    assert book.take_down() == [("HEADERS!", 5, [*OK, ("x-a", "b")])]


def test_an_answer_to_a_cancelled_request_keeps_the_tables_in_step() -> None:
    book = asked()
    book.client(http2.rst_stream(1, ErrorCode.CANCEL))
    book.answer(1, [*OK, ("x-new", "1")], end=False)
    book.backend(http2.data(1, b"late", end_stream=True))
    assert ("WINDOW_UPDATE", 0, 4) in book.take_up()
    book.request(3)
    book.answer(3, [*OK, ("x-new", "1")])
    assert book.take_down()[-1] == ("HEADERS!", 3, [*OK, ("x-new", "1")])
    assert book.relay.client.down.in_step


def test_an_answer_to_a_stream_that_we_reset_is_not_passed() -> None:
    book = asked(POST, end=False)
    book.client(http2.window_update(1, 0))
    book.drop()
    book.answer(1, [*OK, ("x-new", "1")])
    assert book.take_down() == []
    book.request(3)
    book.answer(3, [*OK, ("x-new", "1")])
    assert book.take_down() == [("HEADERS!", 3, [*OK, ("x-new", "1")])]


def test_goaway_refuses_what_was_not_processed() -> None:
    """nginx at keepalive_requests: the last request is answered, the ones behind it can be repeated."""
    book = Book()
    for stream_id in (1, 3, 5):
        book.request(stream_id)
    book.drop()
    book.backend(http2.goaway(3, ErrorCode.NO_ERROR, b"internal detail"))
    assert book.take_down() == [("GOAWAY", 3, 0), ("RST_STREAM", 5, ErrorCode.REFUSED_STREAM)]
    book.request(7)
    assert book.take_up() == []
    assert book.take_down() == [("RST_STREAM", 7, ErrorCode.REFUSED_STREAM)]
    book.answer(1)
    book.answer(3)
    assert [each[0] for each in book.take_down()] == ["HEADERS!", "HEADERS!"]
    assert book.relay.ending
    assert [(s.id, s.end) for s in book.records] == [
        (5, ExchangeEnd.REFUSED),
        (7, ExchangeEnd.REFUSED),  # it had no line: a stream that was refused at once is a request, too
        (1, ExchangeEnd.DONE),
        (3, ExchangeEnd.DONE),
    ]


def test_a_first_notice_of_goaway_refuses_nothing() -> None:
    book = asked()
    book.backend(http2.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))
    book.request(3)
    assert book.take_up() == [("HEADERS!", 3, [*GET, *OURS])]
    assert not book.relay.ending


def test_ping_ends_here() -> None:
    book = asked()
    book.backend(http2.ping(b"12345678") + http2.ping(b"87654321", ack=True))
    assert book.take_up() == [("PING", 0, b"12345678")]
    assert book.take_down() == []


@pytest.mark.parametrize(
    "data",
    [
        frame(Frame.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"),
        frame(Frame.HEADERS, 4, 1, b"\x80"),
        frame(Frame.HEADERS, 4, 7, b"\x88"),
        frame(Frame.DATA, 0, 2, b""),
        frame(Frame.PING, 0, 0, b""),
        frame(Frame.GOAWAY, 0, 0, b""),
        frame(Frame.RST_STREAM, 0, 1, b""),
        frame(Frame.SETTINGS, 0, 1, b""),
        http2.window_update(0, 0),
        http2.window_update(0, 2**31 - 1),
        frame(Frame.CONTINUATION, 4, 1, b""),
        http2.frame_header(16_385, Frame.DATA, 0, 1),
    ],
)
def test_a_fault_of_its_connection_loses_the_backend_and_nothing_else(data: bytes) -> None:
    book = asked()
    book.backend(data)
    head, away = book.take_down()
    assert head == ("HEADERS!", 1, BAD_GATEWAY)
    assert away == ("GOAWAY", 1, ErrorCode.NO_ERROR)
    assert book.take_up()[-1][0] == "GOAWAY"
    assert book.relay.ending


def test_what_only_one_hop_understands_ends_here() -> None:
    book = asked()
    book.backend(frame(0xC, 0, 0, b"origin") + frame(Frame.PRIORITY, 0, 1, b"\0\0\0\0\0"))
    assert book.take_down() == []


def test_padding_is_not_counted_as_body() -> None:
    book = asked()
    book.answer(1, [*OK, ("content-length", "3")], end=False)
    book.backend(frame(Frame.DATA, 9, 1, b"\x02abc\0\0"))
    assert book.take_down()[-1] == ("DATA!", 1, b"\x02abc\0\0")
    assert [s.sent for s in book.records] == [3]
