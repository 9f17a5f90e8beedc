"""HTTP/2 clients before backends of HTTP/1.1, in memory: what arrives there, and what the client gets."""

import pytest

from mcproxy.l7.bridge.bounds import CONNECTION_WINDOW, CREDIT, STREAM_WINDOW
from mcproxy.l7.core import ExchangeEnd, LineState
from mcproxy.wire import http2
from mcproxy.wire.http2 import ErrorCode, Frame, Setting
from tests.kit.http2_peer import GET
from tests.kit.lanes import Bridged

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
POST = [(":method", "POST"), *GET[1:]]


def ready(answer: bytes | None = None) -> Bridged:
    client = Bridged(answer)
    client.handshake()
    return client


def ends(client: Bridged) -> list[tuple[int, str]]:
    return [(each.status, each.end) for each in client.ended]


def test_what_is_announced_says_what_the_bridge_can_hold() -> None:
    client = Bridged()
    client.look()
    settings = client.find(Frame.SETTINGS)
    assert settings is not None
    pairs = dict(http2.parse_settings(settings.payload))
    assert (pairs[Setting.INITIAL_WINDOW_SIZE], pairs[Setting.ENABLE_CONNECT_PROTOCOL]) == (STREAM_WINDOW, 1)
    window = client.find(Frame.WINDOW_UPDATE, 0)
    assert window is not None
    assert int.from_bytes(window.payload, "big") == CONNECTION_WINDOW - 65_535


def test_a_request_and_its_answer() -> None:
    client = ready()
    client.request()
    got = client.lanes.last.take()
    assert got.startswith(b"GET / HTTP/1.1\r\nhost: a.test:443\r\n"), got
    assert b"x-forwarded-for: 192.0.2.1\r\n" in got
    client.do(client.lanes.send, OK + b"hello")
    head, data = client.find(Frame.HEADERS), client.find(Frame.DATA)
    assert head is not None
    assert data is not None
    assert (data.payload, data.ends) == (b"hello", True), "the last piece says that it is the last"
    (record,) = client.ended
    assert (record.status, record.end, record.sent, record.backend_protocol, record.reused) == (
        200, ExchangeEnd.DONE, 5, "http/1.1", False,
    )  # fmt: skip
    assert client.lanes.last.line.state is LineState.FREE


def test_each_stream_has_a_line_of_its_own_and_answers_come_in_any_order() -> None:
    client = ready()
    for stream_id in (1, 3, 5):
        client.request(stream_id)
    for lane, stream_id in ((2, 5), (0, 1), (1, 3)):
        client.do(client.lanes.send, OK + b"hello", client.lanes.all[lane])
        head = client.find(Frame.HEADERS)
        assert head is not None
        assert head.stream_id == stream_id
    assert ends(client) == [(200, "done")] * 3


def test_a_body_goes_as_it_comes_and_the_windows_open_as_it_goes() -> None:
    client = ready()
    client.request(1, POST, end=False)
    for _ in range(CREDIT // 16_384):
        client.send(http2.data(1, bytes(16_384)))
    assert client.lanes.last.take().count(b"\0") == CREDIT
    window = client.find(Frame.WINDOW_UPDATE, 1)
    assert window is not None
    assert int.from_bytes(window.payload, "big") == CREDIT
    client.send(http2.data(1, b"", end_stream=True))
    assert client.lanes.last.take().endswith(b"0\r\n\r\n")


def test_a_body_that_the_backend_does_not_take_is_bounded_by_the_window() -> None:
    client = ready()
    client.lanes.unsent = 1 << 20
    client.request(1, POST, end=False)
    for _ in range(STREAM_WINDOW // 16_384):
        client.send(http2.data(1, bytes(16_384)))
    assert client.find(Frame.WINDOW_UPDATE, 1) is None
    client.send(http2.data(1, b"x"))
    client.expect_stream_error(ErrorCode.FLOW_CONTROL_ERROR)


def test_an_answer_beyond_the_clients_window_stops_the_line() -> None:
    client = ready()
    client.send(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 10)]))
    client.request()
    lane = client.lanes.last
    assert lane.line.wants_read
    client.do(client.lanes.send, b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n" + b"x" * 20)
    data = client.find(Frame.DATA)
    assert data is not None
    assert len(data.payload) == 10
    assert not lane.line.wants_read
    client.send(http2.window_update(1, 100))
    assert lane.line.wants_read
    client.do(client.lanes.send, b"x" * 5)
    assert ends(client) == [(200, "done")]


def test_a_client_that_cancels_ends_the_backends_connection() -> None:
    client = ready()
    client.request()
    client.do(client.lanes.send, OK + b"he")
    client.send(http2.rst_stream(1, ErrorCode.CANCEL))
    assert client.lanes.last.line.state is LineState.SPENT
    assert ends(client) == [(200, "client reset")]
    client.expect_ping()


def test_an_answer_before_the_end_of_a_request_is_passed_and_the_rest_is_not_wanted() -> None:
    client = ready()
    client.request(1, POST, end=False)
    client.do(client.lanes.send, b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    head = client.find(Frame.HEADERS)
    assert head is not None
    reset = client.find(Frame.RST_STREAM, 1)
    assert reset is not None
    assert reset.code == ErrorCode.NO_ERROR
    assert client.lanes.last.line.state is LineState.SPENT
    client.send(http2.data(1, b"late"))
    client.expect_ping()
    assert ends(client) == [(413, "done")]


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 200 OK\r\n"])
def test_an_answer_that_breaks_off_is_reset_or_502(sent: bytes) -> None:
    client = ready()
    client.request()
    client.do(client.lanes.send, sent)
    client.do(client.lanes.close)
    begun = sent.endswith(b"abc")
    if begun:
        client.expect_stream_error(ErrorCode.INTERNAL_ERROR)
    else:
        client.expect_answer()
    assert ends(client) == [(200 if begun else 502, "backend gone")]


def test_a_connection_that_was_idle_and_dies_costs_an_idempotent_request_nothing() -> None:
    client = ready()
    client.lanes.keeps_waiting = True
    client.request()
    client.lanes.connect(reused=True)
    client.do(client.lanes.close)
    client.lanes.connect()
    client.do(client.lanes.send, OK + b"hello")
    assert ends(client) == [(200, "done")]
    assert len(client.lanes.all) == 2


def test_a_failure_to_connect_is_the_requests_status() -> None:
    client = ready()
    client.lanes.failure = (503, "64 connections are busy")
    client.request()
    client.expect_answer()
    (record,) = client.ended
    assert (record.status, record.end, record.why) == (503, "answered", "64 connections are busy")


def test_cookie_crumbs_are_joined() -> None:
    client = ready()
    client.request(1, [*GET, ("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")])
    got = client.lanes.last.take()
    assert got.lower().count(b"cookie:") == 1
    assert b"cookie: a=1; b=2\r\n" in got


def test_grpc_is_answered_and_not_tried() -> None:
    client = ready()
    client.request(1, [*POST, ("content-type", "application/grpc")], end=False)
    client.expect_answer()
    (record,) = client.ended
    assert (record.grpc_status, record.end) == (12, "answered")
    assert not client.lanes.last.got


def test_a_client_that_leaves_frees_every_line() -> None:
    client = ready()
    client.request(1)
    client.request(3, POST, end=False)
    client.bridge.client_closed(1.0)
    client.look()
    assert [each.line.state for each in client.lanes.all] == [LineState.SPENT] * 2
    assert ends(client) == [(0, "client gone")] * 2


def test_deadlines() -> None:
    client = ready()
    client.request(1)
    client.request(3, [*POST, ("content-length", "5")], end=False)
    client.wait_for(62)
    assert ends(client) == [(408, "client fault")]
    client.wait_for(240)
    assert ends(client)[1:] == [(504, "answered")]


def test_a_drained_connection_finishes_what_is_under_way() -> None:
    client = ready()
    client.request(1)
    client.do(client.bridge.drain, 0.0)
    client.send(http2.ping(b"draining", ack=True))
    assert not client.closed
    client.do(client.lanes.send, OK + b"hello")
    assert client.closed
    assert ends(client) == [(200, "done")]
