"""A line, between a drive and an exchange that are played: what carries a request, and what becomes of it."""

import pytest

from mcproxy.l7.bridge.backend_line import BackendLine, Lines
from mcproxy.l7.bridge.bounds import MAX_UNSENT
from mcproxy.l7.bridge.ends import Processed, Takes
from mcproxy.l7.core import ExchangeEnd, LineState, Turn
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import encode
from tests.kit.exchange_ends import SITE, Between, request_head
from tests.kit.noted_exchange import NotedExchange

GET = request_head()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Desk:
    """The lines of one client."""

    def __init__(self, keeps: bool = True) -> None:
        self.settled = 0
        self.lines = Lines(SITE.forwarded, keeps, self)

    def settle(self, now: float) -> None:
        self.settled += 1

    def exchange(self) -> Between:
        """An exchange whose way to the backend is a line of these."""
        return Between(GET, new_end=self.lines.line_for)


def line_of(on: Between) -> BackendLine:
    line = on.exchange.to_backend.backend
    assert isinstance(line, BackendLine)
    return line


def answered(line: BackendLine, data: bytes = ANSWER) -> None:
    assert line.receive(data, Turn(), 1.0) == len(data)


def test_a_line_asks_for_a_connection_and_the_request_goes_with_it() -> None:
    desk = Desk()
    on = desk.exchange()
    line = line_of(on)
    assert desk.lines.take() == [line]
    assert (line.state, line.takes(GET), line.take(), line.version) == (LineState.WANTED, Takes.LATER, (), "")
    line.connected("http/1.1", False, 1.0)
    assert (line.state, line.version, line.reused) == (LineState.BUSY, "http/1.1", False)
    assert desk.lines.take() == [line], "there is something to send"
    assert b"".join(line.take()).startswith(b"GET / HTTP/1.1\r\n")
    assert not desk.settled, "nothing follows for the client"


def test_a_connection_of_http_1_is_free_behind_a_whole_answer() -> None:
    desk = Desk()
    on = desk.exchange()
    line = line_of(on)
    line.connected("http/1.1", True, 1.0)
    answered(line)
    assert (line.state, on.exchange.end, on.exchange.to_backend.reused) == (LineState.FREE, ExchangeEnd.DONE, True)
    assert desk.lines.take() == [line]


@pytest.mark.parametrize(
    "answer",
    [ANSWER + b"more", ANSWER.replace(b"OK", b"OK\r\nConnection: close"), ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0")],
)
def test_a_connection_that_can_carry_no_other_request_is_spent(answer: bytes) -> None:
    on = Desk().exchange()
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    answered(line, answer)
    assert (line.state, on.exchange.end) == (LineState.SPENT, ExchangeEnd.DONE), "nobody's request is poisoned"


def test_who_gives_up_before_there_is_a_connection_ends_the_search() -> None:
    on = Desk().exchange()
    on.exchange.abandon("it left")
    assert line_of(on).state is LineState.SPENT


def test_a_request_that_is_cancelled_ends_a_connection_of_http_1() -> None:
    on = Desk().exchange()
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    on.exchange.abandon("it left")
    assert line.state is LineState.SPENT
    assert line.receive(b"late", Turn(), 2.0) == 4


def test_a_failure_is_the_requests_answer() -> None:
    on = Desk().exchange()
    line_of(on).failed(503, "64 connections are busy", 1.0)
    assert on.client.told == [("own", 503, False)]
    assert line_of(on).state is LineState.SPENT


@pytest.mark.parametrize(("reused", "again"), [(True, True), (False, False)])
def test_a_connection_that_ends_without_a_word_costs_a_request_nothing_if_it_had_been_idle(
    reused: bool, again: bool
) -> None:
    desk = Desk()
    on = desk.exchange()
    first = line_of(on)
    first.connected("http/1.1", reused, 1.0)
    first.closed(True, 2.0)
    assert first.state is LineState.SPENT
    assert (line_of(on) is not first) is again
    assert on.client.told == ([] if again else [("own", 502, False)])
    if again:
        line_of(on).connected("http/1.1", True, 3.0)
        line_of(on).closed(True, 4.0)
        assert on.client.told == [("own", 502, False)], "once"


def test_a_fault_of_the_backends_loses_the_connection_and_names_it() -> None:
    on = Desk().exchange()
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    answered(line, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
    assert (line.state, on.exchange.end) == (LineState.SPENT, ExchangeEnd.BACKEND_FAULT)
    assert "content-length" in on.exchange.why


def test_a_client_that_takes_no_more_stops_the_line_and_starts_it_again() -> None:
    desk = Desk()
    on = desk.exchange()
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    desk.lines.take()
    line.resume()
    assert not desk.lines.take(), "it was never stopped"
    on.client.has_room = False
    assert not line.wants_read
    on.client.has_room = True
    line.resume()
    assert desk.lines.take() == [line]
    assert line.wants_read


def test_what_the_drive_has_not_sent_bounds_what_it_is_given() -> None:
    desk = Desk()
    on = Between(request_head(b"POST", length=1 << 20), has_body=True, new_end=desk.lines.line_for)
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    on.send(bytes(1 << 20), end=True)
    first = len(b"".join(line.take()))
    assert first < 1 << 19
    line.sent(first, 2.0)
    assert not line.take()
    line.sent(0, 3.0)
    assert line.take(), "there is room again"


def test_what_fills_the_line_may_be_sent_at_once_and_the_rest_follows() -> None:
    """An upload stood still that had grown beyond the bound while there was no connection: nothing said "room"."""
    desk = Desk()
    size = MAX_UNSENT + 100_000
    on = Between(request_head(b"POST", length=size), has_body=True, new_end=desk.lines.line_for)
    line = line_of(on)
    on.send(bytes(size), end=True)
    line.connected("http/1.1", False, 1.0)
    desk.lines.take()
    first = len(b"".join(line.take()))
    assert first <= MAX_UNSENT
    line.sent(0, 2.0)
    assert desk.lines.take() == [line]
    head_size = first + len(b"".join(line.take())) - size
    assert 0 < head_size < 1_000, "all of the body has gone"


def upload(desk: Desk, size: int) -> tuple[Between, BackendLine]:
    """A request with a body, under way in HTTP/2, whose windows are full."""
    on = Between(request_head(b"POST", length=size), has_body=True, new_end=desk.lines.line_for)
    line = line_of(on)
    line.connected("h2", False, 1.0)
    answered(line, http2.settings([]))
    on.send(bytes(size), end=True)
    line.take()
    line.sent(0, 1.0)
    desk.lines.take()
    desk.settled = 0
    return on, line


def test_a_window_that_opens_lets_more_of_a_body_go_and_asks_for_nothing_else() -> None:
    desk = Desk()
    _, line = upload(desk, 100_000)
    opens = http2.window_update(0, 1_000) + http2.window_update(1, 1_000)
    assert line.express(opens, 2.0)
    assert b"".join(line.take()) == http2.data(1, bytes(1_000))
    assert (desk.lines.stirred, desk.settled, line.now) == (False, 0, 2.0)
    assert not line.express(http2.ping(bytes(8)), 3.0), "it is to be answered"
    line.sent(0, 3.0)
    desk.lines.stir(line)
    assert not line.express(opens, 3.0), "the drive is to look at it anyway"


def test_an_exchange_that_is_over_as_a_window_opens_is_for_the_drive_to_see() -> None:
    desk, exchange = Desk(), NotedExchange()
    exchange.ends_at = "send on"
    line = desk.lines.line_for(exchange)
    line.connected("h2", False, 1.0)
    answered(line, http2.settings([]))
    exchange.over = False
    line.begin(request_head(b"POST", length=9), ended=False)
    desk.lines.take()
    desk.settled = 0
    assert line.express(http2.window_update(0, 1), 2.0)
    assert (desk.lines.stirred, desk.settled) == (True, 1)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_line_of_http_2_lasts_for_a_client_that_asks_one_thing_at_a_time(keeps: bool) -> None:
    desk = Desk(keeps)
    line = line_of(desk.exchange())
    line.connected("h2", False, 1.0)
    answered(line, http2.settings([]) + http2.headers(1, encode([(b":status", b"204")]), end_stream=True))
    assert line.state is (LineState.BUSY if keeps else LineState.FREE)
    second = line_of(desk.exchange())
    assert (second is line) is keeps
    assert second.reused is keeps


def test_a_dropped_line_says_whether_its_request_may_have_been_processed() -> None:
    waiting = line_of(Desk().exchange())
    assert waiting.drop() is Processed.NO
    sent = line_of(Desk().exchange())
    sent.connected("http/1.1", False, 1.0)
    assert sent.drop() is Processed.POSSIBLY
    assert repr(sent).startswith("<BackendLine spent <Http1Connection")


def test_a_large_piece_of_an_upload_is_not_copied() -> None:
    desk = Desk()
    body = bytes(2 * MAX_UNSENT)
    on = Between(request_head(b"POST", length=len(body)), has_body=True, new_end=desk.lines.line_for)
    line = line_of(on)
    line.connected("http/1.1", False, 1.0)
    line.take()  # the head
    line.sent(0, 1.0)
    on.send(body, end=True)
    (piece,) = line.take()
    assert isinstance(piece, memoryview)
    assert (piece.obj is body, len(piece)) == (True, MAX_UNSENT)
