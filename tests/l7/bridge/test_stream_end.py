"""The client's end over HTTP/2: answers of a backend of HTTP/1.1, as frames of one stream."""

import pytest

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


def test_an_answer_beyond_the_clients_window_stops_the_line() -> None:
    client = ready()
    client.send(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 10)]))
    client.request()
    lane = client.lanes.last
    client.do(client.lanes.send, b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n" + b"x" * 20)
    data = client.find(Frame.DATA)
    assert data is not None
    assert len(data.payload) == 10
    reads = [lane.line.wants_read]
    client.send(http2.window_update(1, 100))
    assert [*reads, lane.line.wants_read] == [False, True]
    client.do(client.lanes.send, b"x" * 5)
    assert ends(client) == [(200, "done")]


def test_an_answer_before_the_end_of_a_request_is_passed_and_the_rest_is_not_wanted() -> None:
    """curl takes RST_STREAM right behind the answer for a failure of both."""
    client = ready()
    client.request(1, POST, end=False)
    client.do(client.lanes.send, b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    head = client.find(Frame.HEADERS)
    assert head is not None
    assert head.ends
    assert client.find(Frame.RST_STREAM) is None
    assert client.lanes.last.line.state is LineState.SPENT
    client.send(http2.data(1, b"late"))
    assert not client.lanes.last.take().endswith(b"late")
    client.wait_for(1)
    reset = client.find(Frame.RST_STREAM, 1)
    assert reset is not None
    assert reset.code == ErrorCode.NO_ERROR
    client.expect_ping()
    assert ends(client) == [(413, "done")]


@pytest.mark.parametrize("leave", [http2.rst_stream(1, ErrorCode.CANCEL), http2.data(1, b"short", end_stream=True)])
def test_who_stops_sending_behind_a_complete_answer_is_done(leave: bytes) -> None:
    client = ready()
    client.request(1, [*POST, ("content-length", "100")], end=False)
    client.do(client.lanes.send, b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    client.send(leave)
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


def test_a_failure_to_connect_is_the_requests_status() -> None:
    client = ready()
    client.lanes.failure = (503, "64 connections are busy")
    client.request()
    client.expect_answer()
    (record,) = client.ended
    assert (record.status, record.end, record.why) == (503, "answered", "64 connections are busy")


def test_grpc_is_answered_and_not_tried() -> None:
    client = ready()
    client.request(1, [*POST, ("content-type", "application/grpc")], end=False)
    client.expect_answer()
    (record,) = client.ended
    assert (record.grpc_status, record.end) == (12, "answered")
    assert not client.lanes.last.got
