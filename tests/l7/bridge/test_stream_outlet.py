"""What becomes of an HTTP/2 client's frames before backends of HTTP/1.1."""

from mcproxy.l7.core import LineState
from mcproxy.l7.http2.budgets import CREDIT, STREAM_WINDOW
from mcproxy.wire import http2
from mcproxy.wire.http2 import ErrorCode, Frame
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


def test_a_client_that_cancels_ends_the_backends_connection() -> None:
    client = ready()
    client.request()
    client.do(client.lanes.send, OK + b"he")
    client.send(http2.rst_stream(1, ErrorCode.CANCEL))
    assert client.lanes.last.line.state is LineState.SPENT
    assert ends(client) == [(200, "client reset")]
    client.expect_ping()


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


def test_cookie_crumbs_are_joined() -> None:
    client = ready()
    client.request(1, [*GET, ("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")])
    got = client.lanes.last.take()
    assert got.lower().count(b"cookie:") == 1
    assert b"cookie: a=1; b=2\r\n" in got


def test_the_frames_of_one_event_go_as_one_chunk() -> None:
    client = ready()
    client.request(1, POST, end=False)
    client.lanes.last.take()
    client.send(b"".join(http2.data(1, bytes([65 + number]) * 9_000) for number in range(3)) + http2.data(1, b"", True))
    body = b"A" * 9_000 + b"B" * 9_000 + b"C" * 9_000
    assert client.lanes.last.take() == b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def test_the_bodies_of_two_requests_in_one_event_go_apart() -> None:
    client = ready()
    for stream_id in (1, 3):
        client.request(stream_id, POST, end=False)
    for lane in client.lanes.all:
        lane.take()
    client.send(b"".join(http2.data(1 + 2 * (number & 1), b"%d" % number) for number in range(6)))
    assert [lane.take() for lane in client.lanes.all] == [b"3\r\n024\r\n", b"3\r\n135\r\n"]


def test_a_body_behind_which_its_client_cancels_in_the_same_event_is_not_sent() -> None:
    client = ready()
    client.request(1, POST, end=False)
    client.lanes.last.take()
    client.send(http2.data(1, b"late") + http2.rst_stream(1, ErrorCode.CANCEL))
    assert client.lanes.last.take() == b""
    assert ends(client) == [(0, "client reset")]
