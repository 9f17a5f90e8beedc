"""The table of loops: each row is provoked, in memory, and ends as it says."""

from collections.abc import Callable

import pytest

from mcproxy.l7.bounds import MAX_PENDING
from mcproxy.l7.core import ExchangeEnd, How, Turn
from mcproxy.l7.meters import BARREN, PERIOD, SMALL, Exceeded, Loop, Meter, Outcome, Pace, Per
from mcproxy.model import End
from mcproxy.wire import http2
from mcproxy.wire.http2 import ErrorCode, Frame
from tests.kit import bridge_playbook
from tests.kit.http2_peer import GET, POST, frame
from tests.kit.relay_playbook import Book

CALM = ErrorCode.ENHANCE_YOUR_CALM
PING = http2.ping(bytes(8))


# What counts


def test_a_meter_allows_its_limit_in_each_period() -> None:
    meter = Meter(Loop.TOO_LARGE, now=5.0)
    for _ in range(meter.limit):
        assert not meter.spend(6.0)
    assert meter.spend(5.0 + PERIOD), "a new period"
    for _ in range(meter.limit - 1):
        assert not meter.spend(6.0 + PERIOD)
    with pytest.raises(Exceeded, match="too many: header lists too large") as fault:
        meter.spend(7.0 + PERIOD)
    assert (fault.value.code, fault.value.loop) == (CALM, Loop.TOO_LARGE)
    assert repr(meter) == "<Meter header lists too large 21 of 20>"
    meter.renew(8.0 + PERIOD)
    assert not meter.spend(8.0 + PERIOD)


def test_an_allowance_widens_it() -> None:
    meter = Meter(Loop.TOO_LARGE, now=0.0)
    for _ in range(meter.limit + 5):
        meter.spend(1.0, allowance=5)
    with pytest.raises(Exceeded):
        meter.spend(1.0, allowance=5)


def test_a_pace_lets_so_many_pass_in_a_second() -> None:
    pace = Pace(Loop.PIECES)
    limit = Loop.PIECES.limit
    assert not any(pace.spend(0.0) for _ in range(limit - 1))
    assert pace.spend(0.0)
    assert pace.over
    assert not pace.must_wait(0.5), "a half of a second's worth has come"
    assert not any(pace.spend(0.5) for _ in range(limit // 2 - 1))
    assert pace.spend(0.5)
    assert not pace.must_wait(3600.0), "but no more than a second's worth"
    assert not any(pace.spend(3600.0) for _ in range(limit - 1))
    assert pace.spend(3600.0)
    assert repr(pace) == f"<Pace small pieces 0 of {limit} left>"
    assert pace.note == "slowed down, too many: small pieces"


@pytest.mark.parametrize("loop", Loop)
def test_what_counts_is_made_of_the_row_that_it_counts(loop: Loop) -> None:
    made: dict[Per, Callable[[], Meter | Pace]] = {
        Per.PERIOD: lambda: Meter(loop, 0.0),
        Per.SECOND: lambda: Pace(loop),
    }
    for per, make in made.items():
        if loop.value.per is per:
            assert make().loop is loop
        else:
            with pytest.raises(KeyError):
                make()


# The table


def asked(fields: list[tuple[str, str]] = POST) -> Book:
    """A relay with a request that has no end, whose answer has begun."""
    book = Book()
    book.request(1, fields, end=False)
    book.answer(1, end=False)
    book.drop()
    return book


Provoked = Callable[[Book, int], None]  # the loop once more, for the nth time


def from_client(data: bytes) -> Provoked:
    return lambda book, _: book.client(data)


def from_backend(data: bytes) -> Provoked:
    return lambda book, _: book.backend(data)


def on_new_streams(what: Callable[[int], bytes], fields: list[tuple[str, str]] = GET) -> Provoked:
    def provoke(book: Book, number: int) -> None:
        book.request(2 * number + 3, fields)
        book.client(what(2 * number + 3))

    return provoke


def late(book: Book, number: int) -> None:
    if not number:
        book.backend(http2.goaway(1, 0))
    book.request(2 * number + 3)


def after_reset(data: bytes) -> Provoked:
    """For a stream that we have reset."""

    def provoke(book: Book, number: int) -> None:
        if not number:
            book.client(http2.window_update(1, 0))
        book.client(data)

    return provoke


def after_cancel(data: bytes) -> Provoked:
    """For a stream that the client has reset."""

    def provoke(book: Book, number: int) -> None:
        if not number:
            book.request(3)
            book.client(http2.rst_stream(3, ErrorCode.CANCEL))
        book.backend(data)

    return provoke


INDEXED = b"\x88"  # :status: 200
# By row: what drives it, in a relay whose stream 1 is open both ways.
IN_RELAYS: dict[Loop, dict[str, Provoked]] = {
    Loop.SETTINGS: {"": from_client(http2.settings([(4, 1)]))},
    Loop.EMPTY: {
        "data": from_client(http2.data(1, b"")),
        "padding only": from_client(frame(Frame.DATA, 8, 1, b"\x01\0")),
    },
    Loop.TALK: {
        "ping": from_client(PING),
        "window": from_client(http2.window_update(0, 1)),
        "priority": from_client(frame(Frame.PRIORITY, 0, 1, bytes(5))),
        "unknown": from_client(frame(0xFA, 0, 0, b"")),
        "trailers, late": after_reset(http2.headers(1, b"", end_stream=True)),
        "resets, late": after_reset(http2.rst_stream(1, ErrorCode.CANCEL)),
        "ends, late": after_reset(http2.data(1, b"", end_stream=True)),
    },
    Loop.RESETS: {
        "rapid reset": on_new_streams(lambda i: http2.rst_stream(i, ErrorCode.CANCEL)),
        "made you reset": on_new_streams(lambda i: http2.window_update(i, 0)),
        "malformed": on_new_streams(lambda _: b"", [*GET, ("X-A", "1")]),
    },
    Loop.OWN_ANSWERS: {
        "421": on_new_streams(lambda _: b"", [*GET[:2], (":authority", "z.test"), (":path", "/")]),
        "501": on_new_streams(lambda _: b"", [(":method", "CONNECT"), (":authority", "a.test:443")]),
    },
    Loop.LATE_REQUESTS: {"": late},
    Loop.TOO_LARGE: {"": on_new_streams(lambda _: b"", [*GET, *[("x", "1")] * 256])},
    Loop.BACKEND_SETTINGS: {"": from_backend(http2.settings([(4, 1)]))},
    Loop.BACKEND_EMPTY: {"data": from_backend(http2.data(1, b""))},
    Loop.BACKEND_TALK: {
        "ping": from_backend(PING),
        "window": from_backend(http2.window_update(0, 1)),
        "priority": from_backend(frame(Frame.PRIORITY, 0, 1, bytes(5))),
        "unknown": from_backend(frame(0xFA, 0, 0, b"")),
        "acknowledgements": from_backend(http2.SETTINGS_ACK),
        "heads, late": after_cancel(http2.headers(3, INDEXED)),
        "resets, late": after_cancel(http2.rst_stream(3, ErrorCode.CANCEL)),
        "ends, late": after_cancel(http2.data(3, b"", end_stream=True)),
    },
}


@pytest.mark.parametrize(
    ("loop", "provoke"),
    [
        pytest.param(loop, each, id=f"{loop.name} {what}")
        for loop, ways in IN_RELAYS.items()
        for what, each in ways.items()
    ],
)
def test_a_loop_between_http2_and_http2(loop: Loop, provoke: Provoked) -> None:
    book = asked()
    row, count = loop.value, 0
    allowed = loop.limit + 10 * book.relay.client.budget.work
    why = f"ENHANCE_YOUR_CALM: too many: {row.name}"
    while count <= allowed + 20 and not book.relay.ending and book.relay.has_backend:
        provoke(book, count)
        count += 1
    assert loop.limit - 3 <= count <= allowed + 20
    if row.outcome is Outcome.ABUSE:
        ending = book.relay.ending
        assert ending
        assert (ending.how, ending.end, ending.why) == (How.FIN, End.ABUSE, why)
        assert book.take_down()[-1][::2] == ("GOAWAY", CALM)
    else:
        assert row.outcome is Outcome.BACKEND_LOST
        assert not book.relay.has_backend
        assert book.relay.fault == why
        assert [each[::2] for each in book.take_down()[-2:]] == [
            ("RST_STREAM", ErrorCode.INTERNAL_ERROR),
            ("GOAWAY", 0),
        ]
        assert book.records[-1].end is ExchangeEnd.BACKEND_FAULT


def waiting(book: Book, piece: bytes) -> int:
    """How many pieces were not taken."""
    return (len(book.from_client.pending) + len(book.from_backend.pending)) // len(http2.data(1, piece))


def pieces_of(book: Book, side: str, piece: bytes, count: int) -> int:
    """How many of a flood of small DATA frames are taken at once."""
    before = waiting(book, piece)
    inbox = book.from_client if side == "client" else book.from_backend
    inbox.in_turns(http2.data(1, piece) * count, book.now)
    book.collect()
    return before + count - waiting(book, piece)


@pytest.mark.parametrize("piece", [b"x", bytes(SMALL - 1)], ids=["one byte", "a few"])
@pytest.mark.parametrize("side", ["client", "backend"])
def test_small_pieces_of_data_are_slowed(side: str, piece: bytes) -> None:
    """One client took all of the core that others left, with DATA of one byte."""
    loop = Loop.PIECES if side == "client" else Loop.BACKEND_PIECES
    book = asked()
    if side == "client":
        book.backend(http2.window_update(0, 1 << 20) + http2.window_update(1, 1 << 20))
    else:
        book.client(http2.window_update(0, 1 << 20) + http2.window_update(1, 1 << 20))
    taken = pieces_of(book, side, piece, 2 * loop.limit)
    assert taken == loop.limit
    assert (book.relay.wants_client, book.relay.wants_backend) == (side != "client", side == "client")
    assert book.relay.hurried
    assert pieces_of(book, side, piece, 0) == 0, "not before it may go on"
    book.tick(0.1)
    assert book.relay.wants_client
    assert book.relay.wants_backend
    assert pieces_of(book, side, piece, 0) in (loop.limit // 10, loop.limit // 10 + 1)
    assert not book.relay.ending
    book.relay.client_closed(book.now)
    assert book.relay.ending
    assert book.relay.ending.why == f"slowed down, too many: {loop.title}"


def test_pieces_that_end_a_body_or_are_large_are_not_slowed() -> None:
    book = asked()
    book.client(http2.window_update(0, 1 << 30) + http2.window_update(1, 1 << 30))
    book.backend(http2.data(1, bytes(SMALL)) * (2 * Loop.PIECES.limit))
    for number in range(Loop.PIECES.limit + 1):
        stream = 2 * number + 3
        book.request(stream, POST, end=False)
        book.client(http2.data(stream, b"1234", end_stream=True))
        book.answer(stream)
    assert book.relay.wants_client
    assert book.relay.wants_backend


@pytest.mark.parametrize("side", ["client", "backend"])
def test_reads_that_complete_nothing_are_slowed(side: str) -> None:
    book = asked()
    receive = book.relay.receive_from_client if side == "client" else book.relay.receive_from_backend
    frames = http2.data(1, bytes(16_000)) * 3
    count = 0
    while receive(frames[count : count + 1], Turn(), book.now):
        count += 1
    loop = Loop.PIECES if side == "client" else Loop.BACKEND_PIECES
    assert count == loop.limit // BARREN
    assert not (book.relay.wants_client and book.relay.wants_backend)


# HTTP/1.1 clients, and their backends


HEAD = b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def begun(settled: bool = True) -> bridge_playbook.Book:
    """A bridge with a request that has no end, and with no answer yet."""
    book = bridge_playbook.Book()
    book.send(HEAD)
    if settled:
        book.backend.h2.increment_flow_control_window(1 << 20)
        book.pump()
    return book


BACKENDS: dict[Loop, dict[str, bytes]] = {
    Loop.BACKEND_SETTINGS: {"": http2.settings([(4, 70_000)])},
    Loop.BACKEND_EMPTY: {
        "data": http2.data(1, b""),
        "padding only": frame(Frame.DATA, 8, 1, b"\x02\0\0"),
    },
    Loop.BACKEND_TALK: {
        "ping": PING,
        "window": http2.window_update(0, 1),
        "window of a stream": http2.window_update(1, 1),
        "priority": frame(Frame.PRIORITY, 0, 1, b"\0\0\0\3\0"),
        "unknown": frame(0xFA, 0, 0, b""),
    },
}


@pytest.mark.parametrize(
    ("loop", "data"),
    [
        pytest.param(loop, each, id=f"{loop.name} {what}")
        for loop, ways in BACKENDS.items()
        for what, each in ways.items()
    ],
)
def test_a_loop_of_the_backend_of_an_http1_client(loop: Loop, data: bytes) -> None:
    """They had no meters at all: only the request's end ended such a flood."""
    book = begun()
    if loop is Loop.BACKEND_EMPTY:
        book.do(book.backend.answer)
    book.got()
    count = 0
    while book.has_backend and count <= loop.limit + 100:
        book.backend.raw += data
        book.pump()
        count += 1
    assert loop.limit - 3 <= count <= loop.limit + 20
    assert [each.end for each in book.records] == [ExchangeEnd.BACKEND_FAULT]
    assert f"too many: {loop.title}" in book.fault()
    if loop is not Loop.BACKEND_EMPTY:
        assert book.got().startswith(b"HTTP/1.1 502 ")


def test_small_pieces_of_the_backend_of_an_http1_client_are_slowed() -> None:
    book = begun()
    book.do(book.backend.answer)
    limit = Loop.BACKEND_PIECES.limit
    flood = http2.data(1, b"x") * (2 * limit)
    book.from_backend.in_turns(flood, book.now)
    assert len(book.from_backend.pending) == len(flood) // 2
    assert (book.wants_backend, book.bridge.hurried) == (False, True)
    book.now += 0.1
    book.bridge.tick(book.now, book.idle)
    assert (book.wants_backend, book.bridge.hurried) == (True, False)
    book.from_backend.in_turns(b"", book.now)
    assert len(book.from_backend.pending) // 10 in (limit - limit // 10, limit - limit // 10 - 1)
    book.bridge.client_lost(book.now)
    assert book.bridge.ending
    assert book.bridge.ending.why == "slowed down, too many: small pieces of the backend"


@pytest.mark.parametrize("piece", [b"x", bytes(SMALL - 1)], ids=["one byte", "a few"])
def test_small_chunks_are_slowed(piece: bytes) -> None:
    """One client took all of the core that others left, with chunks of one byte."""
    book, limit = begun(), Loop.CHUNKS.limit
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
    book.from_client.in_turns(chunk * 2 * limit, book.now)
    left = len(book.from_client.pending) // len(chunk)
    assert limit - 30 <= left <= limit
    assert (book.wants_client(), book.hurried()) == (False, True)
    assert book.bridge.receive_from_client(book.from_client.pending, Turn(), book.now) == 0
    book.now += 0.1
    book.bridge.tick(book.now, book.idle)
    assert book.wants_client()
    book.from_client.in_turns(b"", book.now)
    assert left - len(book.from_client.pending) // len(chunk) in range(limit // 10 - 60, limit // 10 + 30)
    book.bridge.client_lost(book.now)
    assert book.bridge.ending
    assert book.bridge.ending.why == "slowed down, too many: small pieces"


def test_reads_that_complete_no_head_are_slowed() -> None:
    book = bridge_playbook.Book()
    head = b"GET / HTTP/1.1\r\nHost: one.test\r\nX: " + b"x" * 3_000
    for count in range(len(head)):
        if not book.bridge.wants_client:
            break
        book.from_client.in_turns(head[count : count + 1], book.now)
    assert count == Loop.CHUNKS.limit // BARREN


OTHER = b"GET / HTTP/1.1\r\nHost: two.test\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: odd\r\n\r\n"


@pytest.mark.parametrize("request_", [OTHER, UPGRADE], ids=["421", "501"])
def test_a_client_that_only_makes_us_answer_is_cut_off(request_: bytes) -> None:
    """One connection wrote 60,000 lines a second, without end."""
    book, limit = bridge_playbook.Book(), Loop.OWN_ANSWERS_1.limit
    book.send(request_ * limit)
    assert not book.bridge.ending
    book.send(request_)
    ending = book.bridge.ending
    assert ending
    assert (ending.how, ending.end, ending.why) == (
        How.FIN, End.ABUSE, "ENHANCE_YOUR_CALM: too many: requests that we answer ourselves",
    )  # fmt: skip
    assert len(book.records) == limit + 1, "each has its line"


def test_answers_of_our_own_may_keep_pace_with_what_is_completed() -> None:
    book = bridge_playbook.Book()
    for _ in range(3 * Loop.OWN_ANSWERS_1.limit):
        book.send(bridge_playbook.GET)
        book.do(book.backend.answer, end=True)
        book.send(OTHER)
    assert not book.bridge.ending


def test_requests_without_a_backend_are_counted() -> None:
    book, limit = bridge_playbook.Book(reachable=False), Loop.FAILURES.limit
    for _ in range(limit):
        book.send(bridge_playbook.GET)
        assert not book.bridge.ending
    book.send(bridge_playbook.GET)
    assert book.bridge.ending
    assert book.bridge.ending.end is End.ABUSE
    assert book.bridge.ending.why.endswith("too many: requests that no backend answers")


def test_after_a_period_the_client_may_go_on() -> None:
    book, limit = bridge_playbook.Book(), Loop.OWN_ANSWERS_1.limit
    for _ in range(3):
        book.send(OTHER * limit)
        book.now += PERIOD
    assert not book.bridge.ending


# Bounds of one thing


CHUNKED = HEAD + b"1\r\nx\r\n0\r\n"
HUGE = 1 << 20  # bytes; more than any row allows
BOUNDS: dict[Loop, tuple[bytes, bytes]] = {  # what is sent, and the answer
    Loop.FIELDS: (b"GET / HTTP/1.1\r\nHost: one.test\r\n" + b"a: b\r\n" * Loop.FIELDS.limit + b"\r\n", b"431"),
    Loop.CONNECTION_TOKENS: (
        b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: x%b\r\n\r\n" % (b",x" * Loop.CONNECTION_TOKENS.limit), b"431",
    ),
    Loop.TRAILERS: (CHUNKED + b"a: b\r\n" * (Loop.TRAILERS.limit // 6 + 1) + b"\r\n", b"431"),
    Loop.EMPTY_LINES: (b"\r\n" * (Loop.EMPTY_LINES.limit + 1) + bridge_playbook.GET, b"400"),
}  # fmt: skip


@pytest.mark.parametrize("loop", BOUNDS)
def test_a_request_beyond_a_bound_is_answered(loop: Loop) -> None:
    book, (data, status) = bridge_playbook.Book(), BOUNDS[loop]
    assert loop.value.outcome is Outcome.ANSWERED
    book.send(data)
    assert book.got().startswith(b"HTTP/1.1 " + status)
    (record,) = book.records
    assert record.end is ExchangeEnd.CLIENT_FAULT
    assert record.why


def test_interim_answers_of_one_request_are_bounded() -> None:
    relay, bridge = asked(), begun()
    relay.request(3)
    for _ in range(Loop.INTERIM.limit):
        relay.answer(3, [(":status", "103")], end=False)
        bridge.do(bridge.backend.answer, 103)
    assert [*relay.records] == []
    assert [*bridge.records] == []
    relay.answer(3, [(":status", "103")], end=False)
    bridge.do(bridge.backend.answer, 103)
    assert [each.why for each in relay.records] == ["ENHANCE_YOUR_CALM: too many interim answers"]
    assert (relay.records[0].status, bridge.records[0].status) == (502, 502)
    assert "too many interim answers" in bridge.records[0].why


def test_pipelined_requests_wait_unread() -> None:
    """Beyond its limit the drive reads the client no further: test_drive.py."""
    assert Loop.PIPELINED.limit == MAX_PENDING
    book = bridge_playbook.Book()
    book.send(bridge_playbook.GET * 3)
    assert book.from_client.pending == bridge_playbook.GET * 2


def test_each_row_is_provoked_here() -> None:
    paced = {Loop.PIECES, Loop.BACKEND_PIECES, Loop.CHUNKS}
    counted = {Loop.OWN_ANSWERS_1, Loop.FAILURES, Loop.INTERIM, Loop.PIPELINED}
    assert set(Loop) == set(IN_RELAYS) | set(BACKENDS) | paced | counted | set(BOUNDS)


def test_each_row_has_a_reason_and_a_name_of_its_own() -> None:
    rows = [each.value for each in Loop]
    assert all(each.why and each.limit > 0 for each in rows)
    assert len({(each.side, each.name) for each in rows}) == len(rows)
    assert len(Loop.__members__) == len(rows), "no row is another name for one"
