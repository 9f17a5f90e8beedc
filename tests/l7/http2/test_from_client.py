"""The client's frames, and the requests that the backend gets. The conformance cases are in tests/e2e."""

from collections.abc import Callable

import pytest

from mcproxy.l7.core import ExchangeEnd, How
from mcproxy.l7.http2 import budgets
from mcproxy.l7.meters import PERIOD, Loop
from mcproxy.model import End
from mcproxy.wire import http2
from mcproxy.wire.fields import MAX_FIELDS
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode, Frame, Setting
from tests.kit.http2_peer import GET, HOST, POST, frame
from tests.kit.relay_playbook import OK, OURS, Book

CALM = ErrorCode.ENHANCE_YOUR_CALM


def test_a_request_gets_our_fields_behind_its_own() -> None:
    book = Book()
    book.request()
    book.request(3)
    assert book.take_up() == [("HEADERS!", 1, [*GET, *OURS]), ("HEADERS!", 3, [*GET, *OURS])]
    assert book.take_down() == []


def test_the_clients_word_on_its_address_is_replaced() -> None:
    book = Book()
    for stream_id, indexed in ((1, False), (3, True), (5, True)):
        book.request(
            stream_id, [*GET, ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=x"), ("x-a", "1")], indexed=indexed
        )
        assert book.take_up() == [("HEADERS!", stream_id, [*GET, ("x-a", "1"), *OURS])]
    assert not book.relay.client.up.in_step
    book.request(7)
    assert book.take_up() == [("HEADERS!", 7, [*GET, *OURS])]


def test_the_clients_word_on_its_address_is_dropped_from_trailers() -> None:
    book = Book()
    for stream_id, indexed in ((1, False), (3, True), (5, True)):
        book.request(stream_id, POST, end=False)
        book.drop()
        book.request(stream_id, [("x-sum", "1"), ("x-forwarded-for", "10.0.0.1")], indexed=indexed)
        assert book.take_up() == [("HEADERS!", stream_id, [("x-sum", "1")])]
    assert not book.relay.client.up.in_step


def test_bodies_and_trailers_pass_as_they_are() -> None:
    book = Book()
    book.request(1, POST, end=False)
    padded = frame(Frame.DATA, 8, 1, b"\x02padded\0\0")
    book.client(http2.data(1, b"plain") + padded)
    book.request(1, [("x-sum", "1")])
    up = book.take_up()
    assert [each[0] for each in up] == ["HEADERS", "DATA", "DATA", "HEADERS!"]
    assert up[2][2] == b"\x02padded\0\0"
    assert up[3][2] == [("x-sum", "1")]
    book.answer()
    assert [(s.received, s.end) for s in book.records] == [(11, ExchangeEnd.DONE)]


def test_trailers_without_a_field_pass_in_both_directions() -> None:
    """An empty block with END_STREAM: some programs end every body with it."""
    book = Book()
    book.request(1, POST, end=False)
    book.client(http2.data(1, b"up") + http2.headers(1, b"", True))
    assert [each[0] for each in book.take_up()] == ["HEADERS", "DATA", "HEADERS!"]
    book.answer(1, end=False)
    book.backend(http2.data(1, b"down") + http2.headers(1, b"", True))
    assert [each[0] for each in book.take_down()] == ["HEADERS", "DATA", "HEADERS!"]
    assert [(s.received, s.sent, s.end) for s in book.records] == [(2, 4, ExchangeEnd.DONE)]


def test_bits_without_meaning_end_here() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.drop()
    book.client(http2.frame_header(2, Frame.DATA, 0xF7, 1 | 1 << 31) + b"ab")
    (seen,) = book.to_backend
    assert (seen.flags, seen.stream_id, seen.payload) == (1, 1, b"ab")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*GET[:3], (":authority", "other.test")], "421"),
        ([*GET[:3]], "400"),
        ([*GET, ("host", "b.test")], "400"),
        ([*GET, ("x-large", "x" * 70_000)], "431"),
        ([*GET, *[("x-many", "x")] * 300], "431"),
    ],
)
def test_answers_of_our_own(fields: list[tuple[str, str]], status: str) -> None:
    book = Book()
    book.request(1, fields)
    assert book.take_up() == []
    assert book.take_down() == [("HEADERS!", 1, [(":status", status), ("content-length", "0")])]
    end = ExchangeEnd.ANSWERED if status == "421" else ExchangeEnd.CLIENT_FAULT
    assert [(s.status, s.end, s.why != "") for s in book.records] == [(int(status), end, True)]
    book.request(3)
    book.answer(3)
    assert book.take_up() == [("HEADERS!", 3, [*GET, *OURS])], "encoded anew, if that was needed"
    assert book.take_down() == [("HEADERS!", 3, OK)]


def test_another_name_of_the_same_route_is_served() -> None:
    book = Book()
    book.request(1, [*GET[:3], (":authority", "B.test")])
    assert book.take_up()[0][0] == "HEADERS!"


def test_an_answer_of_ours_stops_the_body_and_gives_its_window_back() -> None:
    book = Book()
    book.request(1, [*POST[:3], (":authority", "other.test")], end=False)
    assert book.take_down()[-1] == ("RST_STREAM", 1, ErrorCode.NO_ERROR)
    book.client(http2.data(1, b"x" * 1000))
    assert book.take_down() == [("WINDOW_UPDATE", 0, 1000)]
    assert book.take_up() == []


def test_a_faulty_body_resets_the_stream_both_ways() -> None:
    book = Book()
    book.request(1, [*POST, ("content-length", "3")], end=False)
    book.drop()
    book.client(http2.data(1, b"12") + http2.data(1, b"34"))
    assert book.take_up() == [("DATA", 1, b"12"), ("RST_STREAM", 1, ErrorCode.CANCEL)]
    assert book.take_down() == [("WINDOW_UPDATE", 0, 2), ("RST_STREAM", 1, ErrorCode.PROTOCOL_ERROR)]
    assert [s.end for s in book.records] == [ExchangeEnd.CLIENT_FAULT]


def test_long_pieces_in_one_read_obey_the_same_rules() -> None:
    book, long = Book(), bytes(100)
    for stream_id in (1, 3):
        book.request(stream_id, [*POST, ("content-length", "150")], end=False)
    book.drop()
    book.client(http2.data(3, long) + http2.data(1, long) + http2.data(1, long) + http2.data(3, long[:50], True))
    book.client(http2.data(3, long))
    assert book.take_up() == [
        ("DATA", 3, long),
        ("DATA", 1, long),
        ("RST_STREAM", 1, ErrorCode.CANCEL),
        ("DATA!", 3, long[:50]),
        ("RST_STREAM", 3, ErrorCode.CANCEL),
    ]
    assert book.take_down() == [
        ("WINDOW_UPDATE", 0, 100),
        ("RST_STREAM", 1, ErrorCode.PROTOCOL_ERROR),
        ("WINDOW_UPDATE", 0, 100),
        ("RST_STREAM", 3, ErrorCode.STREAM_CLOSED),
    ]


def test_data_beyond_a_window_is_a_fault_of_its_stream_or_of_all() -> None:
    """Of what the backend takes nothing of."""
    full = http2.MAX_FRAME_SIZE
    book = Book(backend_settings=[(Setting.INITIAL_WINDOW_SIZE, 0)])
    for stream_id in (1, 3, 5, 7):
        book.request(stream_id, POST, end=False)
        for _ in range(budgets.STREAM_WINDOW // full):
            book.client(http2.data(stream_id, bytes(full)))
    book.drop()
    book.client(http2.data(1, b""))
    assert book.take_down() == []
    book.client(http2.data(1, b"x"))
    assert book.take_down()[-1] == ("GOAWAY", 7, ErrorCode.FLOW_CONTROL_ERROR)
    narrow = Book(backend_settings=[(Setting.INITIAL_WINDOW_SIZE, 0)])
    narrow.request(1, POST, end=False)
    for _ in range(budgets.STREAM_WINDOW // full):
        narrow.client(http2.data(1, bytes(full)))
    narrow.client(http2.data(1, b"x"))
    assert ("RST_STREAM", 1, ErrorCode.FLOW_CONTROL_ERROR) in narrow.take_down()


def test_a_cancelled_request_is_cancelled_at_the_backend() -> None:
    book = Book()
    book.request()
    book.drop()
    book.client(http2.rst_stream(1, ErrorCode.CANCEL))
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.CANCEL)]
    assert [s.end for s in book.records] == [ExchangeEnd.CLIENT_RESET]


def test_extended_connect_where_the_backend_offers_it() -> None:
    fields = [(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")]
    book = Book(backend_settings=[(Setting.ENABLE_CONNECT_PROTOCOL, 1)])
    book.request(1, fields, end=False)
    assert book.take_up() == [("HEADERS", 1, [*fields, *OURS])]
    book.answer(end=False)
    book.client(http2.data(1, b"up"))
    book.backend(http2.data(1, b"down"))
    assert book.take_up() == [("DATA", 1, b"up")]
    assert book.take_down()[-1] == ("DATA", 1, b"down")


def test_a_block_too_long_for_one_frame_goes_on_in_several() -> None:
    book = Book()
    book.request(1, [*GET, ("x-long", "a" * 34_000)], indexed=False)  # two frames in Huffman codes
    assert [seen.kind for seen in book.to_backend] == [Frame.HEADERS, Frame.CONTINUATION, Frame.CONTINUATION]


def test_goaway_of_the_client_passes_and_ends_the_connection_with_its_last_stream() -> None:
    book = Book()
    book.request()
    book.drop()
    book.client(http2.goaway(0, ErrorCode.NO_ERROR, b"bye"))
    assert book.take_up() == [("GOAWAY", 0, 0)]
    assert not book.relay.ending
    book.answer()
    assert book.take_down() == [("HEADERS!", 1, OK), ("GOAWAY", 1, 0)]
    assert book.relay.ending


# Budgets: each as many as are allowed, and one more


def flood(send: Callable[[Book, int], None], count: int) -> Book:
    book = Book()
    for number in range(count):
        assert not book.relay.ending, number
        send(book, number)
    return book


def reset(book: Book, number: int) -> None:
    book.request(2 * number + 1)
    book.client(http2.rst_stream(2 * number + 1, ErrorCode.CANCEL))


def provoke(book: Book, number: int) -> None:
    """MadeYouReset: the server resets on account of the client."""
    book.request(2 * number + 1)
    book.client(http2.window_update(2 * number + 1, 0))


def malformed(book: Book, number: int) -> None:
    book.request(2 * number + 1, [*GET, ("X-A", "1")])


def empty(book: Book, number: int) -> None:
    if not number:
        book.request(1, POST, end=False)
    book.client(http2.data(1, b""))


@pytest.mark.parametrize(
    ("send", "limit"),
    [
        (reset, Loop.RESETS.limit),
        (provoke, Loop.RESETS.limit),
        (malformed, Loop.RESETS.limit),
        (empty, Loop.EMPTY.limit),
        (lambda book, _: book.client(http2.settings([(4, 1)])), Loop.SETTINGS.limit - 2),
        (lambda book, _: book.client(http2.ping(b"12345678")), Loop.TALK.limit),
        (lambda book, _: book.client(http2.window_update(0, 1)), Loop.TALK.limit),
        (lambda book, _: book.client(frame(Frame.PRIORITY, 0, 1, b"\0\0\0\0\0")), Loop.TALK.limit),
        (lambda book, _: book.client(frame(0xFA, 0, 0, b"")), Loop.TALK.limit),
    ],
    ids=["resets", "provoked resets", "malformed", "empty data", "settings", "ping", "window", "priority", "unknown"],
)
def test_a_flood_ends_with_enhance_your_calm(send: Callable[[Book, int], None], limit: int) -> None:
    book = flood(send, limit)
    send(book, limit)
    assert book.take_down()[-1][2] == CALM
    ending = book.relay.ending
    assert ending
    assert (ending.how, ending.end) == (How.FIN, End.ABUSE)
    assert ending.why.startswith("ENHANCE_YOUR_CALM: too many")


def test_cancelling_may_keep_pace_with_what_is_completed() -> None:
    """A busy gRPC client whose deadlines pass is no attacker."""

    def work(book: Book, number: int) -> None:
        book.request(4 * number + 1)
        book.answer(4 * number + 1)
        book.request(4 * number + 3)
        book.client(http2.rst_stream(4 * number + 3, ErrorCode.CANCEL))

    assert not flood(work, 3 * Loop.RESETS.limit).relay.ending


def test_a_stream_is_not_ended_early_once_its_answer_has_begun() -> None:
    """gRPC clients cancel a watch after its first message: 60 a second ended the connection after 8 s."""

    def watch(book: Book, number: int) -> None:
        book.request(2 * number + 3)
        book.answer(2 * number + 3, end=False)
        book.backend(http2.data(2 * number + 3, b"first"))
        book.client(http2.rst_stream(2 * number + 3, ErrorCode.CANCEL))

    book = Book()
    book.request(1)
    for number in range(3 * Loop.RESETS.limit):
        watch(book, number)
    assert not book.relay.ending
    book.drop()
    book.answer(1)
    assert book.take_down() == [("HEADERS!", 1, OK)]


def test_an_interim_answer_begins_none() -> None:
    """The backend's work is still wanted by nobody."""
    book = Book()
    for number in range(Loop.RESETS.limit + 1):
        assert not book.relay.ending
        book.request(2 * number + 1)
        book.answer(2 * number + 1, [(":status", "103")], end=False)
        book.client(http2.rst_stream(2 * number + 1, ErrorCode.CANCEL))
    assert book.relay.ending


def test_ping_may_keep_pace_with_work() -> None:
    def work(book: Book, number: int) -> None:
        book.request(2 * number + 1)
        book.answer(2 * number + 1)
        for _ in range(4):
            book.client(http2.ping(b"12345678"))

    assert not flood(work, Loop.TALK.limit).relay.ending


def test_work_of_long_ago_pays_for_no_flood() -> None:
    book = Book()
    for number in range(1_000):
        book.request(2 * number + 1)
        book.answer(2 * number + 1)
    book.tick(PERIOD)
    for _ in range(Loop.TALK.limit):
        book.client(http2.ping(b"12345678"))
    assert not book.relay.ending
    book.client(http2.ping(b"12345678"))
    assert book.take_down()[-1][2] == CALM


@pytest.mark.parametrize(
    ("fields", "most"),
    [(GET[:3], Loop.RESETS.limit), ([*GET, *[("x", "1")] * MAX_FIELDS], Loop.TOO_LARGE.limit)],
)
def test_requests_that_can_t_be_read_are_counted(fields: list[tuple[str, str]], most: int) -> None:
    book = Book()
    for number in range(most):
        book.request(2 * number + 1, fields)
    assert {each[0] for each in book.take_down()} == {"HEADERS!"}
    book.request(2 * most + 1, fields)
    assert book.take_down()[-1][::2] == ("GOAWAY", ErrorCode.ENHANCE_YOUR_CALM)


def test_a_frame_of_very_many_settings_is_an_attack() -> None:
    book = Book()
    book.client(http2.settings([(4, 70_000)] * budgets.MAX_SETTINGS))
    assert book.take_down() == [("SETTINGS", 1, {})]
    book.client(http2.settings([(4, 70_000)] * (budgets.MAX_SETTINGS + 1)))
    assert book.take_down()[-1] == ("GOAWAY", 0, ErrorCode.ENHANCE_YOUR_CALM)


def test_a_header_list_without_end_is_an_attack() -> None:
    book = Book()
    book.client(http2.headers(1, b"\x82" * (4 * MAX_FIELDS + 1)))
    assert book.take_down()[-1] == ("GOAWAY", 0, ErrorCode.ENHANCE_YOUR_CALM)


def test_a_block_of_many_frames_or_bytes_is_an_attack() -> None:
    many = Book()
    many.client(frame(Frame.HEADERS, 1, 1, b""))
    for _ in range(budgets.MAX_FRAGMENTS):
        many.client(frame(Frame.CONTINUATION, 0, 1, b"\x82"))
    assert many.take_down()[-1] == ("GOAWAY", 0, CALM)
    long = Book()
    long.client(frame(Frame.HEADERS, 1, 1, b"x" * 16_384))
    for _ in range(budgets.MAX_BLOCK // 16_384):
        long.client(frame(Frame.CONTINUATION, 0, 1, b"x" * 16_384))
    assert long.take_down()[-1] == ("GOAWAY", 0, CALM)


def test_a_block_of_the_backends_has_to_end_in_time_too() -> None:
    book = Book()
    book.request()
    book.drop()
    book.backend(frame(Frame.HEADERS, 1, 1, b"\x88"))
    book.tick(budgets.BLOCK_SECONDS + 1)
    assert [each[0] for each in book.take_down()] == ["HEADERS!", "GOAWAY"]


def test_a_block_has_to_end_in_time() -> None:
    book = Book()
    book.client(frame(Frame.HEADERS, 1, 1, b"\x82"))
    book.tick(budgets.BLOCK_SECONDS - 1)
    assert not book.relay.ending
    book.tick(2)
    assert book.take_down()[-1] == ("GOAWAY", 0, CALM)


def test_identifiers_come_to_an_end() -> None:
    """Two more than the last one has the reserved bit set, and would be stream 1 to the backend."""
    book = Book()
    for stream_id in (1, 3, MAX_STREAM_ID):
        book.request(stream_id, indexed=False)
    book.drop()
    book.client(frame(Frame.HEADERS, 5, 1 << 31 | 1, book.block(book.client_encoder, GET, indexed=False)))
    assert not [seen for seen in book.take_up() if seen[0].startswith("HEADERS")]


def test_a_request_that_is_rewritten_leaves_the_backends_table_right() -> None:
    """Its block enters fields into the client's table that the backend must not refer to."""
    book = Book()
    authority = (":authority", f"{HOST}:443")
    for stream in (1, 3, 5):
        book.request(stream, [GET[0], (":scheme", "http"), GET[2], ("x-a", "1 "), ("host", authority[1])])
        passed = [*GET[:3], authority, ("x-a", "1"), *OURS]
        assert book.take_up() == [("HEADERS!", stream, passed)]
    book.request(7, [*GET, ("x-a", "1")])
    assert book.take_up() == [("HEADERS!", 7, [*GET, ("x-a", "1"), *OURS])]
