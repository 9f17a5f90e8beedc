"""Bodies of requests that are ahead of the backend: what waits, in which order it goes, and how it ends."""

import gc
from collections import deque

import pytest

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import CONNECTION_WINDOW, CREDIT, STREAM_WINDOW
from mcproxy.wire import http2
from mcproxy.wire.http2 import MAX_FRAME_SIZE, MAX_WINDOW, WINDOW_UPDATE_SIZE, ErrorCode, Setting
from tests.kit.http2_peer import POST
from tests.kit.relay_playbook import OK, OURS, Book

WINDOW = Setting.INITIAL_WINDOW_SIZE
TRAILERS = [("grpc-checksum", "1")]


def narrow(window: int = 0, *streams: int, fields: list[tuple[str, str]] = POST) -> Book:
    """The client has begun uploads to a backend with that window for each of them."""
    book = Book(backend_settings=[(WINDOW, window)])
    for stream_id in streams or (1,):
        book.request(stream_id, fields, end=False)
    book.drop()
    return book


def test_what_the_backend_takes_passes_at_once_and_the_rest_as_its_window_opens() -> None:
    book = narrow(3)
    book.client(http2.data(1, b"12345") + http2.data(1, b"678", end_stream=True))
    assert book.take_up() == [("DATA", 1, b"123")]
    book.backend(http2.window_update(1, 4))
    assert book.take_up() == [("DATA", 1, b"4567")]
    book.answer(1)
    assert book.records == [], "the end of the request has not gone"
    book.backend(http2.window_update(1, 4))
    assert book.take_up() == [("DATA!", 1, b"8")]
    assert [(each.end, each.received) for each in book.records] == [(ExchangeEnd.DONE, 8)]
    assert book.take_down() == [("HEADERS!", 1, OK)], "no window of the client's has opened for so little"


def test_the_connections_window_is_shared_by_turns() -> None:
    book = Book()
    for stream_id in (1, 3, 5):
        book.request(stream_id, POST, end=False)
    full = bytes(MAX_FRAME_SIZE)
    book.client(b"".join(http2.data(stream_id, full) for stream_id in (1, 1, 1, 1, 3, 3, 5, 5)))
    book.drop()
    asked = []
    for _ in range(4):
        book.backend(http2.window_update(0, MAX_FRAME_SIZE))
        asked += [(stream_id, len(payload)) for _, stream_id, payload in book.take_up()]  # type: ignore[arg-type]
    assert asked == [(3, MAX_FRAME_SIZE), (5, MAX_FRAME_SIZE)] * 2, "what is left of 1 waits for a window of its own"


def test_what_passes_and_what_waits_of_one_read() -> None:
    book, long = narrow(150, 1, 3), bytes(100)
    book.client(http2.data(1, long) + http2.data(3, long) + http2.data(1, long) + http2.data(3, long[:40]))
    assert book.take_up() == [("DATA", 1, long), ("DATA", 3, long), ("DATA", 3, long[:40]), ("DATA", 1, long[:50])]
    book.backend(http2.window_update(1, 50))
    assert book.take_up() == [("DATA", 1, long[:50])]


def test_windows_that_open_go_no_further_than_here() -> None:
    book, long = narrow(0, 1, 3, 5), bytes(100)
    book.client(http2.data(1, b"12") + http2.data(3, b"34"))
    book.answer(5, end=False)
    book.drop()
    book.backend(
        http2.window_update(0, 1)
        + http2.window_update(1, 1)
        + http2.data(5, long)
        + http2.window_update(3, 2)
        + http2.ping(bytes(8))
        + http2.window_update(1, 1)
    )
    assert book.take_up() == [("PING", 0, bytes(8)), ("DATA", 1, b"12"), ("DATA", 3, b"34")]
    assert book.take_down() == [("DATA", 5, long)]


def test_windows_alone_are_taken_in_an_express_lane() -> None:
    book = narrow(1, 1, 3)
    book.client(http2.data(1, bytes(9)) + http2.data(3, b"abc"))
    book.drop()
    assert not book.expressed
    opens = http2.window_update(1, 1) + http2.window_update(3, 1)
    book.backend(opens)
    assert (book.expressed, book.relay.stirred) == (len(opens), False)
    assert book.take_up() == [("DATA", 1, b"\0"), ("DATA", 3, b"b")]
    ping = http2.ping(bytes(8))
    book.backend(http2.window_update(3, 1) + ping)
    assert book.expressed == len(opens) + WINDOW_UPDATE_SIZE, "what follows is judged behind it"
    assert book.take_up() == [("PING", 0, bytes(8)), ("DATA", 3, b"c")]
    book.backend(http2.window_update(1, 1)[:5])
    book.backend(http2.window_update(1, 1)[5:])
    assert book.expressed == len(opens) + WINDOW_UPDATE_SIZE, "it was not whole"
    assert book.take_up() == [("DATA", 1, b"\0")]


def test_what_follows_from_a_window_for_the_client_is_to_be_asked() -> None:
    book = narrow(0)
    book.client(http2.data(1, bytes(MAX_FRAME_SIZE)) * (CREDIT // MAX_FRAME_SIZE))
    book.drop()
    taken = book.relay.express(http2.window_update(1, CREDIT) + http2.window_update(0, CREDIT), 1.0)
    assert (taken, book.relay.stirred) == (2 * WINDOW_UPDATE_SIZE, True), "its window opens"
    book.collect()
    assert not book.relay.stirred
    book = narrow(0)
    book.client(http2.data(1, b"x", end_stream=True))
    book.answer(1)
    assert book.relay.express(http2.window_update(1, 1), 1.0)
    assert book.relay.stirred, "an exchange is over"
    assert book.records


def test_windows_in_the_express_lane_are_counted() -> None:
    book, opens = narrow(0), http2.window_update(0, 1) * 100
    for _ in range(100):
        book.backend(opens)
    assert 2_000 <= book.expressed // WINDOW_UPDATE_SIZE <= 2_100
    assert "frames without work of the backend" in book.relay.fault
    assert not book.relay.express(opens, 1.0), "the backend is lost"


def test_its_windows_follow_settings() -> None:
    book = narrow(5)
    book.client(http2.data(1, b"1234"))
    book.backend(http2.settings([(WINDOW, 2)]))
    book.client(http2.data(1, b"567"))
    book.backend(http2.window_update(1, 2))
    assert [each for each in book.take_up() if each[0] == "DATA"] == [("DATA", 1, b"1234")]
    book.backend(http2.settings([(WINDOW, 4)]))
    assert book.take_up() == [("DATA", 1, b"56")]


def test_trailers_wait_behind_the_body() -> None:
    book = narrow(1)
    book.client(http2.data(1, b"12"))
    book.request(1, TRAILERS)
    assert book.take_up() == [("DATA", 1, b"1")]
    book.request(3, POST)
    assert book.take_up() == [("HEADERS!", 3, [*POST, *OURS])], "a head that the table is needed for"
    book.backend(http2.window_update(1, 1))
    assert book.take_up() == [("DATA", 1, b"2"), ("HEADERS!", 1, TRAILERS)]


def test_the_clients_windows_open_in_large_steps() -> None:
    book = Book(backend_settings=[(WINDOW, MAX_WINDOW)])
    book.backend(http2.window_update(0, MAX_WINDOW - 65_535))
    book.request(1, POST, end=False)
    book.drop()
    frames = CREDIT // MAX_FRAME_SIZE
    for _ in range(frames - 1):
        book.client(http2.data(1, bytes(MAX_FRAME_SIZE)))
    assert book.take_down() == []
    book.client(http2.data(1, bytes(MAX_FRAME_SIZE)))
    assert book.take_down() == [("WINDOW_UPDATE", 0, CREDIT), ("WINDOW_UPDATE", 1, CREDIT)]
    assert len(book.take_up()) == frames


def test_windows_of_uploads_that_keep_pace_open_together() -> None:
    book = Book(backend_settings=[(WINDOW, MAX_WINDOW)])
    book.backend(http2.window_update(0, MAX_WINDOW - 65_535))
    frames = CREDIT // MAX_FRAME_SIZE
    for stream_id, count in ((1, frames // 2 - 1), (3, frames // 2), (5, frames)):
        book.request(stream_id, POST, end=False)
        book.client(http2.data(stream_id, bytes(MAX_FRAME_SIZE)) * count)
    updates = [each for each in book.take_down() if each[0] == "WINDOW_UPDATE"]
    assert updates == [
        ("WINDOW_UPDATE", 0, (2 * frames - 1) * MAX_FRAME_SIZE),
        ("WINDOW_UPDATE", 3, CREDIT // 2),
        ("WINDOW_UPDATE", 5, CREDIT),
    ]


def test_many_short_uploads_open_the_connections_window_too() -> None:
    book = Book(backend_settings=[(WINDOW, MAX_WINDOW)])
    book.backend(http2.window_update(0, MAX_WINDOW - 65_535))
    for stream_id in range(1, 1 + 2 * CONNECTION_WINDOW // MAX_FRAME_SIZE, 2):
        book.request(stream_id, POST, end=False)
        book.client(http2.data(stream_id, bytes(MAX_FRAME_SIZE), end_stream=True))
        book.answer(stream_id)
    assert not book.relay.ending
    assert [each for each in book.take_down() if each[0] == "WINDOW_UPDATE"] == [
        ("WINDOW_UPDATE", 0, CONNECTION_WINDOW // 2)
    ] * 2


def test_padding_goes_no_further_with_what_waits() -> None:
    book = narrow(0)
    padded = b"\x02" + b"12" + bytes(2)
    book.client(http2.frame_header(len(padded), 0, 0x08 | 0x01, 1) + padded)
    assert book.take_up() == []
    book.backend(http2.window_update(1, 2))
    assert book.take_up() == [("DATA!", 1, b"12")]


def test_an_end_without_bytes_needs_no_window() -> None:
    book = narrow(0)
    book.client(http2.data(1, b"", end_stream=True))
    assert book.take_up() == [("DATA!", 1, b"")]


def test_an_end_whose_padding_has_no_room_goes_without_it() -> None:
    book = Book()
    for stream_id in (1, 3):
        book.request(stream_id, POST, end=False)
    book.drop()
    book.client(b"".join(http2.data(1, bytes(MAX_FRAME_SIZE)) for _ in range(5)))
    book.drop()
    book.client(http2.frame_header(3, 0, 0x08 | 0x01, 3) + b"\x02" + bytes(2))
    assert book.take_up() == [("DATA!", 3, b"")], "the connection's window is spent"


def test_an_end_without_bytes_waits_behind_what_waits() -> None:
    book = narrow(0)
    book.client(http2.data(1, b"12") + http2.data(1, b"", end_stream=True))
    assert book.take_up() == []
    book.backend(http2.window_update(1, 9))
    assert book.take_up() == [("DATA!", 1, b"12")]


def test_small_pieces_that_wait_are_joined() -> None:
    book = narrow(0)
    book.client(b"".join(http2.data(1, b"x") for _ in range(100)))
    book.backend(http2.window_update(1, 100))
    assert book.take_up() == [("DATA", 1, b"x" * 100)]


def test_data_behind_an_end_that_waits_is_a_fault() -> None:
    book = narrow(0)
    book.client(http2.data(1, b"12", end_stream=True) + http2.data(1, b"3"))
    assert ("RST_STREAM", 1, ErrorCode.STREAM_CLOSED) in book.take_down()
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.CANCEL)]


def test_a_cancelled_upload_gives_the_connections_window_back() -> None:
    book = narrow(0)
    book.client(http2.data(1, bytes(100)) + http2.rst_stream(1, ErrorCode.CANCEL))
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.CANCEL)]
    assert book.take_down() == [("WINDOW_UPDATE", 0, 100)]
    assert book.relay.client.windows.up == CONNECTION_WINDOW
    book.backend(http2.window_update(0, 100))
    assert book.take_up() == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_backend_that_answers_and_resets_wants_no_more_of_it(ended: bool) -> None:
    book = narrow(0)
    book.client(http2.data(1, bytes(100), end_stream=ended))
    book.answer(1)
    book.backend(http2.rst_stream(1, ErrorCode.NO_ERROR))
    assert ("WINDOW_UPDATE", 0, 100) in book.take_down()
    assert [each.end for each in book.records] == [ExchangeEnd.DONE] * ended
    book.tick(1)
    assert [each.end for each in book.records] == [ExchangeEnd.DONE]


def test_windows_of_a_body_that_is_no_longer_wanted_bring_nothing_forth() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.client(b"".join(http2.data(1, bytes(MAX_FRAME_SIZE)) for _ in range(5)))
    book.answer(1)
    book.backend(http2.rst_stream(1, ErrorCode.NO_ERROR))
    book.drop()
    book.backend(http2.window_update(1, MAX_FRAME_SIZE) + http2.window_update(0, MAX_FRAME_SIZE))
    assert book.take_up() == []


def test_streams_that_are_cancelled_while_they_wait_are_not_kept() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.client(b"".join(http2.data(1, bytes(MAX_FRAME_SIZE)) for _ in range(5)))
    for stream_id in range(3, 43, 2):
        book.request(stream_id, POST, end=False)
        book.client(http2.data(stream_id, b"34") + http2.rst_stream(stream_id, ErrorCode.CANCEL))
    book.drop()
    ended = book.records.copy()
    book.records.clear()
    book.request(43, POST, end=False)
    book.client(http2.data(43, b"56"))
    assert len(ended) == 20
    assert not [each for each in gc.get_referrers(ended[0]) if isinstance(each, deque)]


def test_a_backend_that_takes_nothing_has_to_answer() -> None:
    book = narrow(0, fields=[*POST, ("content-length", "9")])
    book.client(http2.data(1, bytes(3)))
    book.tick(book.idle)
    assert (":status", "504") in book.take_down()[0][2]  # type: ignore[operator]


def test_an_answered_upload_that_is_never_taken_ends() -> None:
    book = narrow(0)
    book.client(http2.data(1, bytes(3), end_stream=True))
    book.answer(1)
    book.drop()
    book.tick(BODY_STALL_SECONDS + 1)
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.CANCEL)]
    assert [each.end for each in book.records] == [ExchangeEnd.DONE]


@pytest.mark.parametrize("stream_id", [0, 1])
def test_a_window_that_overflows(stream_id: int) -> None:
    book = narrow(0)
    book.backend(http2.window_update(stream_id, MAX_WINDOW) * 2)
    assert [(each.end, each.status) for each in book.records] == [(ExchangeEnd.BACKEND_FAULT, 502)]


def test_a_window_that_settings_make_overflow() -> None:
    book = narrow(0)
    book.backend(http2.window_update(1, MAX_WINDOW) + http2.settings([(WINDOW, 1)]))
    assert [(each.end, each.status) for each in book.records] == [(ExchangeEnd.BACKEND_FAULT, 502)]
    assert book.take_up()[-1] == ("GOAWAY", 0, ErrorCode.FLOW_CONTROL_ERROR)


def test_what_waits_is_bounded_by_the_clients_windows() -> None:
    """And what it keeps alive by that: a piece that is a small part of what was read is copied."""
    book = narrow(0)
    frames = STREAM_WINDOW // MAX_FRAME_SIZE
    book.client(b"".join(http2.data(1, bytes(MAX_FRAME_SIZE)) for _ in range(frames)))
    upload = book.relay.client.streams[1].upload
    assert upload is not None
    assert (upload.held, len(upload.waiting)) == (STREAM_WINDOW, frames)
    assert {type(piece) for piece in upload.waiting} == {bytes}
