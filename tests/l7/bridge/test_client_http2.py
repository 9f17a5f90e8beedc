"""HTTP/2 clients before backends of HTTP/1.1, in memory: what is announced, deadlines, and how a connection ends."""

from mcproxy.l7.core import LineState
from mcproxy.l7.http2.budgets import CONNECTION_WINDOW, STREAM_WINDOW
from mcproxy.wire import http2
from mcproxy.wire.http2 import Frame, Setting
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
    client.do(client.lanes.send, OK + b"hello")
    assert client.closed
    assert ends(client) == [(200, "done")]
