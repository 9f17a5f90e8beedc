"""Clients of HTTP/2 are held to the same rules where nothing behind speaks it."""

import pytest

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.meters import Loop
from mcproxy.wire import http2
from mcproxy.wire.http2 import ErrorCode, Flag, Frame, Setting
from tests.kit.conformance_messages import CASES  # with those of conformance_frames
from tests.kit.http2_direct import Direct
from tests.kit.http2_peer import GET, POST, frame

RAW = [(name.encode(), value.encode()) for name, value in POST]


@pytest.mark.parametrize("name", CASES)
def test_every_rule_of_a_server_holds(name: str) -> None:
    CASES[name](Direct())


def greeted() -> Direct:
    client = Direct(answers=False)
    client.handshake()
    client.take_notes()
    client.inbox.clear()
    return client


def test_the_outlet_takes_each_frame_that_passed_in_its_order() -> None:
    client = greeted()
    client.request(1, POST, end=False)
    client.send(http2.data(1, b"plain") + frame(Frame.DATA, Flag.PADDED, 1, b"\x02padded\0\0"))
    client.request(1, [("x-sum", "1")])
    client.send(
        http2.window_update(0, 5) + http2.window_update(1, 6) + http2.settings([(Setting.HEADER_TABLE_SIZE, 9)])
    )
    client.request(3)
    client.send(http2.rst_stream(3, ErrorCode.CANCEL) + http2.goaway(0, ErrorCode.NO_ERROR))
    seen = client.take_notes()
    assert seen[:4] == [
        ("request", 1, RAW), ("data", 1, (0, b"plain")), ("data", 1, (Flag.PADDED, b"\x02padded\0\0")),
        ("trailers", 1, [(b"x-sum", b"1")]),
    ]  # fmt: skip
    assert seen[4:7] == [("window", 0, None), ("window", 1, None), ("settings", 0, [(Setting.HEADER_TABLE_SIZE, 9)])]
    assert seen[7:] == [
        ("request", 3, [(n.encode(), v.encode()) for n, v in GET]), ("reset", 3, ErrorCode.CANCEL), ("goaway", 0, 0)
    ]  # fmt: skip


def test_a_request_that_is_refused_never_reaches_it() -> None:
    client = greeted()
    client.request(1, [*GET[:3], (":authority", "other.test")])
    client.request(3, [*GET, ("te", "x")])
    assert client.take_notes() == []
    assert [(seen.kind, seen.stream_id) for seen in client.inbox] == [(Frame.HEADERS, 1), (Frame.RST_STREAM, 3)]


def test_a_fault_of_the_clients_ends_the_request_there_too() -> None:
    client = greeted()
    client.request(1, [*POST, ("content-length", "3")], end=False)
    client.take_notes()
    client.send(http2.data(1, b"1234"))
    assert client.take_notes() == [("abort", 1, None)]


def test_requests_of_known_blocks_reach_it_one_by_one() -> None:
    client = greeted()
    for number in range(3):
        client.send(b"".join(http2.headers(20 * number + i, client.block(GET), True) for i in range(1, 21, 2)))
        assert [note[:2] for note in client.take_notes()] == [("request", 20 * number + i) for i in range(1, 21, 2)]
        for stream in list(client.leg.streams.values()):
            client.answer(stream)


def test_rapid_reset_is_an_attack_whatever_is_behind() -> None:
    client = greeted()
    for number in range(Loop.RESETS.limit + 1):
        client.send(http2.headers(2 * number + 1, client.block(GET), True) + http2.rst_stream(2 * number + 1, 8))
    assert client.fault is not None
    assert client.fault.code is ErrorCode.ENHANCE_YOUR_CALM


def test_an_answer_waits_for_the_windows_and_what_waits_is_dropped_with_its_stream() -> None:
    client = greeted()
    client.settings((Setting.INITIAL_WINDOW_SIZE, 3))
    client.request(1)
    client.take_inbox()
    client.answer(client.leg.streams[1])
    assert [(seen.kind, seen.payload) for seen in client.take_inbox()][1:] == [(Frame.DATA, b"hel")]
    client.send(http2.window_update(1, 3))
    assert [(seen.kind, seen.payload) for seen in client.take_inbox()] == [(Frame.DATA, b"lo ")]
    client.take_notes()
    client.send(http2.rst_stream(1, ErrorCode.CANCEL))
    assert client.take_notes() == [("dropped", 0, 5), ("reset", 1, ErrorCode.CANCEL)]
    assert [stream.end for stream in client.leg.ended] == [ExchangeEnd.CLIENT_RESET]


def test_without_a_backend_every_request_gets_its_status() -> None:
    client = greeted()
    client.request(1)
    client.leg.fail_all(503, ExchangeEnd.ANSWERED, "it is gone")
    client.request(3)
    client.look()
    assert [(seen.kind, seen.stream_id) for seen in client.inbox] == [
        (Frame.HEADERS, 1), (Frame.HEADERS, 3), (Frame.GOAWAY, 0)
    ]  # fmt: skip
    assert [(stream.status, stream.why) for stream in client.leg.ended] == [(503, "it is gone")] * 2
