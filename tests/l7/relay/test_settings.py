"""SETTINGS of both sides: which are passed on, when they are in force, and who acknowledges."""

import pytest

from mcproxy.l7.http2 import budgets
from mcproxy.l7.http2.client_settings import MAX_PENDING
from mcproxy.wire import http2
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import DEFAULT_WINDOW, PREFACE, ErrorCode, Setting
from tests.kit.http2_peer import GET
from tests.kit.relay_playbook import OK, OURS, Book

TABLE, PUSH, STREAMS, WINDOW, FRAME, LIST, CONNECT = 1, 2, 3, 4, 5, 6, 8


def greeted(pairs: list[tuple[int, int]]) -> Book:
    """The client has spoken, the backend has not."""
    book = Book(start=False)
    book.client(PREFACE + http2.settings(pairs))
    return book


def test_the_servers_preface_waits_for_the_backends() -> None:
    book = greeted([(WINDOW, 1_000_000)])
    assert book.take_down() == []
    assert book.take_up() == [("SETTINGS", 0, {PUSH: 0, WINDOW: 1_000_000})]
    book.backend(http2.settings([(STREAMS, 7), (WINDOW, 12), (FRAME, 20_000), (0xFF, 1)]))
    assert book.take_down() == [
        ("SETTINGS", 0, {STREAMS: 7, WINDOW: budgets.STREAM_WINDOW, LIST: MAX_HEADER_LIST}),
        ("WINDOW_UPDATE", 0, budgets.CONNECTION_WINDOW - DEFAULT_WINDOW),
        ("SETTINGS", 1, {}),
    ]
    assert book.take_up() == []
    book.client(http2.SETTINGS_ACK)
    assert book.take_up() == [("SETTINGS", 1, {})]


def test_of_a_setting_said_often_the_last_one_counts() -> None:
    book = greeted([(WINDOW, 1), (TABLE, 100), (WINDOW, 70_000), (TABLE, 0), (LIST, 9), (TABLE, 50)])
    assert [frame.payload for frame in book.to_backend] == [
        http2.settings([(PUSH, 0), (WINDOW, 70_000), (TABLE, 0), (TABLE, 50), (LIST, 9)])[9:]
    ]


def test_the_backend_gets_the_preface_before_any_answer_to_it() -> None:
    book = Book(start=False)
    book.from_backend.one_turn(http2.settings([]) + http2.ping(b"are you?"), book.now)
    assert not book.relay.take_for_backend()
    book.client(PREFACE + http2.settings([]))
    assert [seen[0] for seen in book.take_up()] == ["SETTINGS", "PING"]


def test_it_does_not_wait_for_long() -> None:
    book = greeted([])
    before = book.relay.hurried
    book.tick(budgets.PREFACE_SECONDS)
    assert (before, book.relay.hurried) == (True, False), "a client that waits for it had better not wait longer"
    early, _, ack = book.take_down()
    assert early[2] == {STREAMS: budgets.EARLY_STREAMS, WINDOW: budgets.STREAM_WINDOW, LIST: MAX_HEADER_LIST}
    assert ack == ("SETTINGS", 1, {})
    book.take_up()
    book.backend(http2.settings([(STREAMS, 10)]))
    assert book.take_down() == [("SETTINGS", 0, {STREAMS: 10})]
    book.client(http2.SETTINGS_ACK)
    assert book.take_up() == [], "that was for ours"
    book.client(http2.SETTINGS_ACK)
    assert book.take_up() == [("SETTINGS", 1, {})]


def test_it_comes_before_any_answer_of_ours() -> None:
    book = greeted([])
    book.request(1, [*GET[:3], (":authority", "other.test")])
    assert [each[:2] for each in book.take_down()] == [
        ("SETTINGS", 0),
        ("WINDOW_UPDATE", 0),
        ("SETTINGS", 1),
        ("HEADERS!", 1),
    ]


def test_what_is_ours_alone_goes_no_further() -> None:
    book = greeted([(PUSH, 1), (STREAMS, 5), (FRAME, 1_000_000), (CONNECT, 1), (0xF00, 1), (TABLE, 65_536), (LIST, 9)])
    assert book.take_up() == [("SETTINGS", 0, {PUSH: 0, TABLE: budgets.MAX_TABLE, LIST: 9})]


def test_our_bounds_hold() -> None:
    book = greeted([])
    book.backend(http2.settings([(STREAMS, 2**32 - 1), (TABLE, 65_536), (LIST, 2**32 - 1), (CONNECT, 1)]))
    said = book.take_down()[0][2]
    ours = {STREAMS: budgets.MAX_STREAMS, WINDOW: budgets.STREAM_WINDOW, LIST: MAX_HEADER_LIST}
    assert said == {**ours, CONNECT: 1}


def test_the_clients_are_acknowledged_at_once() -> None:
    book = Book()
    book.client(http2.settings([(WINDOW, 5)]))
    assert book.take_down() == [("SETTINGS", 1, {})]
    assert book.take_up() == [("SETTINGS", 0, {WINDOW: 5})]
    book.client(http2.settings([(PUSH, 0)]))
    assert book.take_down() == [("SETTINGS", 1, {})]
    assert book.take_up() == []


def test_fewer_streams_hold_when_acknowledged() -> None:
    book = Book(backend_settings=[(STREAMS, 2)])
    book.request(1)
    book.request(3)
    book.drop()
    book.request(5)
    assert book.take_down() == [("RST_STREAM", 5, ErrorCode.REFUSED_STREAM)]
    book.answer(1)
    book.drop()
    book.request(7)
    assert book.take_up()[0][0] == "HEADERS!"


@pytest.mark.parametrize("size", [0, 100])
def test_a_backend_with_a_smaller_table_gets_blocks_that_need_none(size: int) -> None:
    book = greeted([])
    book.backend(http2.settings([(TABLE, size), (STREAMS, 7)]) + http2.SETTINGS_ACK)
    ours = {WINDOW: budgets.STREAM_WINDOW, LIST: MAX_HEADER_LIST}
    assert book.take_down()[0] == ("SETTINGS", 0, {STREAMS: 7, **ours}), "the client hears nothing"
    book.client(http2.SETTINGS_ACK)
    book.drop()
    book.backend_decoder.max_allowed_table_size = size
    for stream_id in (1, 3):
        book.request(stream_id)
        assert book.take_up() == [("HEADERS!", stream_id, [*GET, *OURS])]


def test_all_that_one_read_announces_comes_before_its_acknowledgement() -> None:
    book = greeted([])
    book.backend(http2.settings([(STREAMS, 7)]) + http2.settings([(CONNECT, 1)]))
    assert [each[1] for each in book.take_down() if each[0] == "SETTINGS"] == [0, 0, 1]


def test_a_table_that_the_client_wants_smaller_from_the_start() -> None:
    book = Book(client_settings=[(TABLE, 100)])
    book.request(1, [*GET[:3], (":authority", "other.test")])
    assert book.to_client[0].payload.startswith(b"\x3f\x45"), "our own answer says the size update"
    book.drop()
    book.request(3)
    book.backend_encoder.header_table_size = 100
    book.answer(3)
    assert book.take_down() == [("HEADERS!", 3, OK)]


def test_a_table_that_the_client_wants_smaller_later() -> None:
    book = Book()
    book.request(1)
    book.answer(1, [*OK, ("x-a", "1")])
    book.drop()
    book.client(http2.settings([(TABLE, 0)]))
    book.request(3)
    book.request(5)
    book.answer(3, [*OK, ("x-a", "1")])
    book.backend_encoder.header_table_size = 0
    book.answer(5, [*OK, ("x-a", "1")])
    assert book.to_client[1].payload.startswith(b"\x20")
    assert book.take_down()[1:] == [("HEADERS!", 3, [*OK, ("x-a", "1")]), ("HEADERS!", 5, [*OK, ("x-a", "1")])]


def test_a_window_that_overflows_by_settings() -> None:
    book = Book()
    book.request()
    book.client(http2.window_update(1, 2**31 - 1 - 65_535))
    assert not book.relay.ending
    book.client(http2.settings([(WINDOW, 65_536)]))
    assert book.take_down()[-1] == ("GOAWAY", 1, ErrorCode.FLOW_CONTROL_ERROR)


def test_a_client_that_never_acknowledges() -> None:
    book = greeted([])
    book.backend(http2.settings([]))
    book.tick(budgets.SETTINGS_SECONDS - 1)
    assert not book.relay.ending
    book.tick(2)
    assert book.take_down()[-1] == ("GOAWAY", 0, ErrorCode.SETTINGS_TIMEOUT)


def test_a_backend_that_changes_its_mind_without_end_is_lost() -> None:
    book = Book()
    for number in range(MAX_PENDING + 1):
        book.backend(http2.settings([(WINDOW, number)]))
    assert book.take_down()[-1] == ("GOAWAY", 0, ErrorCode.NO_ERROR)
    assert book.take_up()[-1] == ("GOAWAY", 0, ErrorCode.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("value", [0, 1])
def test_extended_connect_is_never_taken_back(value: int) -> None:
    book = Book(backend_settings=[(Setting.ENABLE_CONNECT_PROTOCOL, 1)])
    book.backend(http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, value)]))
    assert book.take_down() == [("SETTINGS", 0, {})]
    assert book.relay.client.admission.extended_connect
