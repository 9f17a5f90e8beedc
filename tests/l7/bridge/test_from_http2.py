"""Frames of an HTTP/2 backend, scripted: what the exchange gets of them, and what ends the connection."""

import pytest
from hpack import Encoder

from mcproxy.l7.bounds import TURN
from mcproxy.l7.bridge.bounds import STEP_COST, WINDOW_STEP
from mcproxy.l7.bridge.ends import BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.from_http2 import MAX_WINDOWS, FromHttp2
from mcproxy.l7.bridge.heads import Upgrade
from mcproxy.l7.bridge.http2_connection import Http2Connection
from mcproxy.l7.bridge.http2_leg import Http2Leg
from mcproxy.l7.core import Turn
from mcproxy.l7.http2.budgets import FRAME_COST
from mcproxy.l7.meters import PERIOD, TALK_FOR_WORK, Loop
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import MAX_STREAM_ID, MAX_WINDOW, ErrorCode, Flag, Frame, Setting
from tests.kit.http2_peer import Cutter, frame
from tests.kit.noted_exchange import FORWARDED, NotedExchange, in_turns, request_head, sent

SETTINGS = http2.settings([])
OK = [(":status", "200")]
END_STREAM = Flag.END_STREAM
Fields = list[tuple[str, str]]


def block(fields: Fields) -> bytes:
    """Literals and static entries: any decoder reads it alike after any history."""
    return encode([(name.encode(), value.encode()) for name, value in fields])


def head(fields: Fields | None = None, end: bool = False, stream: int = 1) -> bytes:
    return http2.headers(stream, block(fields or OK), end)


def asked(method: bytes = b"GET", upgrade: Upgrade = Upgrade.NONE, ended: bool = True) -> Http2Connection:
    """A connection with a request under way."""
    connection = Http2Connection(0.0, False)
    in_turns(connection, http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]), None)
    connection.begin(request_head(method, upgrade=upgrade), FORWARDED, ended)
    sent(connection)
    return connection


def told(data: bytes, method: bytes = b"GET", ended: bool = True) -> list[tuple[object, ...]]:
    """What an exchange gets."""
    exchange = NotedExchange(method == b"HEAD")
    in_turns(asked(method, ended=ended), data, exchange)
    return exchange.told


# Answers


@pytest.mark.parametrize("chunk", [0, 1, 2, 7, 9, 10])
def test_an_answer_is_passed_on_in_every_chunking(chunk: int) -> None:
    connection, exchange = asked(), NotedExchange()
    answer = (
        head([(":status", "103"), ("link", "</a>")])
        + head([*OK, ("content-length", "5"), ("connection-id", "7"), ("set-cookie", "a"), ("set-cookie", "b")])
        + http2.data(1, b"hel")
        + frame(Frame.DATA, Flag.PADDED, 1, b"\x03lo\0\0\0")
        + http2.headers(1, block([("x-sum", "1"), ("content-length", "5")]), end_stream=True)
    )
    in_turns(connection, answer, exchange, chunk=chunk)
    assert exchange.told == [
        ("interim", 103),
        ("head", 200, False),
        ("body", b"hel"),
        ("body", b"lo"),
        ("end", [(b"x-sum", b"1")]),
    ]
    interim, final = exchange.heads
    assert interim.fields == ((b"link", b"</a>"),)
    assert final.fields == (
        (b"content-length", b"5"), (b"connection-id", b"7"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
    )  # fmt: skip
    assert final.content_length == 5
    assert connection.reusable


def test_fields_of_a_head_are_cleaned() -> None:
    connection, exchange = asked(), NotedExchange()
    fields = [*OK, ("alt-svc", 'h3=":443"'), ("x-a", " blanks "), ("http2-settings", "x"), ("grpc-status", "3")]
    in_turns(connection, head(fields, end=True), exchange)
    assert exchange.heads[0].fields == ((b"x-a", b"blanks"), (b"grpc-status", b"3"))
    assert exchange.heads[0].grpc_status == 3
    assert exchange.told == [("head", 200, True), ("end", [])]


def test_a_head_is_made_once_for_all_connections() -> None:
    heads = []
    for _ in range(3):
        exchange = NotedExchange()
        in_turns(asked(), head([*OK, ("x-once", "made")]), exchange)
        heads += exchange.heads
    assert heads[1] is heads[2]


def test_a_dynamic_table_is_followed_over_requests_and_late_heads() -> None:
    connection, encoder = asked(), Encoder()
    fields = [*OK, ("x-long-name", "a value that is put into the table")]
    for number in range(4):
        exchange = NotedExchange()
        stream = 2 * number + 1
        if number == 2:
            connection.cancel()
            in_turns(connection, http2.headers(stream, encoder.encode([*fields, ("x-late", "moves it, too")])), None)
        else:
            in_turns(connection, http2.headers(stream, encoder.encode(fields), True), exchange)
            assert exchange.heads[0].fields == ((b"x-long-name", b"a value that is put into the table"),)
        assert connection.reusable
        connection.begin(request_head(), FORWARDED, True)


def test_a_head_in_continuation_frames_and_a_large_one() -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, head([*OK, ("x-big", "y" * 40_000)], end=True), exchange, chunk=9_000)
    assert exchange.heads[0].fields == ((b"x-big", b"y" * 40_000),)
    assert exchange.names == ["head", "end"]


@pytest.mark.parametrize("chunk", [0, 1, 5])
def test_a_304_may_say_a_length_and_end_in_data(chunk: int) -> None:
    """The length is that of another answer (RFC 9110, section 8.6)."""
    connection, exchange = asked(), NotedExchange()
    data = head([(":status", "304"), ("content-length", "100")]) + http2.data(1, b"", True)
    in_turns(connection, data, exchange, chunk=chunk)
    assert exchange.told == [("head", 304, False), ("end", [])]
    assert connection.reusable


@pytest.mark.parametrize("status", ["200", "304"])
def test_an_answer_to_head_may_say_a_length(status: str) -> None:
    data = head([(":status", status), ("content-length", "100")], end=True)
    assert told(data, b"HEAD") == [("head", int(status), True), ("end", [])]


def test_a_body_that_must_not_be_is_the_exchange_s_to_drop() -> None:
    connection, exchange = asked(b"HEAD"), NotedExchange(head_only=True)

    def drop() -> None:
        connection.cancel()
        exchange.over = True

    exchange.then["body"] = drop
    flow = head([*OK, ("content-length", "1")]) + http2.data(1, b"abc") + http2.data(1, b"def", True)
    in_turns(connection, flow, exchange)
    assert exchange.told == [("head", 200, False), ("body", b"abc")]
    assert connection.reusable
    assert sent(connection) == http2.rst_stream(1, ErrorCode.CANCEL)


def test_an_exchange_that_is_over_is_told_nothing() -> None:
    for what in ("interim", "head", "body"):
        connection, exchange = asked(), NotedExchange()
        exchange.ends_at = what
        flow = head([(":status", "103")]) + head() + http2.data(1, b"a") + http2.data(1, b"b", True)
        in_turns(connection, flow, exchange)
        assert exchange.names[-1] == what
        assert connection.reusable


# Content-length


@pytest.mark.parametrize(
    ("fields", "frames"),
    [
        ([("content-length", "3")], [http2.data(1, b"ab", True)]),
        ([("content-length", "3")], [http2.data(1, b"ab"), http2.data(1, b"cd")]),
        ([("content-length", "0")], [http2.data(1, b"a", True)]),
        ([("content-length", "3")], [http2.data(1, b"ab"), http2.headers(1, block([("x-a", "1")]), True)]),
    ],
)
def test_a_body_is_held_against_its_length(fields: Fields, frames: list[bytes]) -> None:
    exchange = NotedExchange()
    with pytest.raises(BackendFault, match=r"content-length|before the end of the body"):
        in_turns(asked(), head([*OK, *fields]) + b"".join(frames), exchange)
    assert "end" not in exchange.names
    with pytest.raises(BackendFault, match="content-length without a body"):
        in_turns(asked(), head([*OK, ("content-length", "3")], end=True), exchange)


# Ends


def test_a_stream_that_is_reset_leaves_the_connection() -> None:
    for code, processed in ((ErrorCode.REFUSED_STREAM, Processed.NO), (ErrorCode.INTERNAL_ERROR, Processed.POSSIBLY)):
        connection, exchange = asked(), NotedExchange()
        in_turns(connection, head() + http2.data(1, b"a") + http2.rst_stream(1, code), exchange)
        assert exchange.told[-1] == ("reset", code, processed)
        assert connection.reusable


def test_a_reset_behind_a_whole_answer_says_that_the_rest_of_the_request_is_not_needed() -> None:
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    in_turns(connection, head([(":status", "413")], end=True), exchange)
    assert not connection.reusable, "the request goes on"
    in_turns(connection, http2.rst_stream(1, ErrorCode.NO_ERROR), exchange)
    assert exchange.names == ["head", "end"]
    assert connection.reusable


def test_goaway_does_not_end_what_it_covers() -> None:
    """In every cut: the frame may come in pieces, between and behind others."""
    goaway = http2.goaway(1, 0, b"bye")
    flow = head() + http2.data(1, b"a") + goaway + http2.data(1, b"b", True) + goaway
    for cut in range(len(flow) + 1):
        connection, exchange = asked(), NotedExchange()
        in_turns(connection, flow[:cut], exchange)
        in_turns(connection, flow[cut:], exchange)
        assert exchange.body == b"ab"
        assert exchange.told[-1] == ("end", [])
        assert not connection.reusable


@pytest.mark.parametrize("last", [0, 1])
def test_goaway_loses_what_it_does_not_cover(last: int) -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, http2.goaway(last, ErrorCode.ENHANCE_YOUR_CALM), exchange)
    if last:
        assert exchange.told == []
        assert connection.processed is Processed.POSSIBLY
    else:
        assert exchange.told == [("lost", "the backend went away (GOAWAY, ENHANCE_YOUR_CALM)", Processed.NO)]
    assert not connection.reusable


def test_a_last_stream_never_rises_again() -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, http2.goaway(MAX_STREAM_ID, 0), exchange)
    assert exchange.told == []
    in_turns(connection, http2.goaway(0, 0) + http2.goaway(7, 0), exchange)
    assert exchange.names == ["lost"]
    assert connection.processed is Processed.NO


def test_goaway_behind_a_whole_answer_takes_nothing_from_it() -> None:
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    in_turns(connection, head(end=True) + http2.goaway(0, 0), exchange)
    assert exchange.names == ["head", "end"]


# Tunnels


@pytest.mark.parametrize("declared", [[], [("content-length", "2")]])
def test_a_tunnel_has_no_length(declared: Fields) -> None:
    connection, exchange = asked(b"GET", Upgrade.WEBSOCKET, ended=False), NotedExchange()
    in_turns(connection, head([*OK, *declared, ("sec-websocket-protocol", "chat")]), exchange)
    assert exchange.heads[0].fields == ((b"sec-websocket-protocol", b"chat"),)
    in_turns(connection, http2.data(1, b"abc") + http2.data(1, b"d", True), exchange)
    assert exchange.body == b"abcd"
    assert exchange.names[-1] == "end"


def test_a_tunnel_that_is_declined_is_an_answer() -> None:
    connection, exchange = asked(b"GET", Upgrade.WEBSOCKET, ended=False), NotedExchange()
    in_turns(connection, head([(":status", "403"), ("content-length", "2")]) + http2.data(1, b"no", True), exchange)
    assert exchange.told == [("head", 403, False), ("body", b"no"), ("end", [])]
    assert exchange.heads[0].content_length == 2


# What breaks HTTP

MALFORMED: list[tuple[str, bytes]] = [
    ("PUSH_PROMISE", frame(Frame.PUSH_PROMISE, 4, 1, bytes(4))),
    ("larger than", b"\x00\x40\x01\x00\x00\x00\x00\x00\x01"),
    ("idle", head(stream=3)),
    ("idle", head(stream=2)),
    ("idle", http2.data(3, b"a")),
    ("idle", http2.window_update(5, 1)),
    ("idle", http2.rst_stream(3, 0)),
    ("before the answer's head", http2.data(1, b"a")),
    ("after END_STREAM|idle", head(end=True) + http2.data(3, b"a")),
    ("invalid trailers", head() + head()),
    ("second head", head() + http2.headers(1, block([("x-a", "1")]))),
    ("invalid trailers", head() + http2.headers(1, block([(":status", "200")]), True)),
    ("interim head with END_STREAM", head([(":status", "103")], end=True)),
    ("a malformed answer", head([("x-a", "1")])),
    ("a malformed answer", head([*OK, ("X-Upper", "1")])),
    ("a malformed answer", head([*OK, ("transfer-encoding", "chunked")])),
    ("a malformed answer", head([*OK, ("content-length", "1"), ("content-length", "1")])),
    ("a malformed answer: a header list", head([*OK, *[("x", "1")] * 256])),
    ("COMPRESSION_ERROR", http2.headers(1, b"\x80")),
    ("CONTINUATION", frame(Frame.CONTINUATION, 4, 1, b"")),
    ("something else came", frame(Frame.HEADERS, 0, 1, b"\x88") + frame(Frame.PING, 0, 0, bytes(8))),
    ("padding", frame(Frame.DATA, Flag.PADDED, 1, b"\x05a")),
    ("GOAWAY of 7 bytes", frame(Frame.GOAWAY, 0, 0, bytes(7))),
    ("SETTINGS is not a multiple", frame(Frame.SETTINGS, 0, 0, bytes(5))),
    ("SETTINGS on a stream", frame(Frame.SETTINGS, 0, 1, b"")),
    ("too many settings", http2.settings([(99, 1)] * 65)),
    ("neither 0 nor 1", http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 2)])),
    ("overflows", http2.window_update(0, MAX_WINDOW)),
    ("overflows", http2.window_update(1, MAX_WINDOW)),
    ("overflows", http2.window_update(1, 1) + http2.settings([(Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW)])),
    ("increment of 0", http2.window_update(0, 0)),
    ("increment of 0", http2.window_update(1, 0)),
]


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize(("why", "data"), MALFORMED, ids=[f"{i} {why}" for i, (why, _) in enumerate(MALFORMED)])
def test_what_breaks_http_2_ends_the_connection(why: str, data: bytes, chunk: int) -> None:
    with pytest.raises(BackendFault, match=why):
        in_turns(asked(), data, NotedExchange(), chunk=chunk)


@pytest.mark.parametrize("status", ["abc", "", "1x", "2_00", "101"])
def test_an_answer_whose_status_is_invalid_breaks_http(status: str) -> None:
    with pytest.raises(BackendFault, match="a malformed answer: no :status"):
        in_turns(asked(), head([(":status", status)]), NotedExchange())


def test_the_first_frame_is_settings() -> None:
    for first in (http2.ping(bytes(8)), http2.SETTINGS_ACK, head()):
        with pytest.raises(BackendFault, match="the first frame is not SETTINGS"):
            in_turns(Http2Connection(0.0, False), first, None)


@pytest.mark.parametrize("chunk", [0, *range(1, 12)])
def test_a_backend_that_speaks_http_1_is_called_that(chunk: int) -> None:
    connection = Http2Connection(0.0, False)
    connection.begin(request_head(), FORWARDED, True)
    with pytest.raises(OtherVersion, match="speaks HTTP/1, not HTTP/2"):
        in_turns(connection, b"HTTP/1.1 400 Bad Request\r\n\r\n", NotedExchange(), chunk=chunk)


def test_a_fault_that_the_exchange_finds_is_passed_through() -> None:
    def refuse() -> None:
        raise BackendFault("can't be written")

    for what in ("head", "body", "end"):
        exchange = NotedExchange()
        exchange.then[what] = refuse
        with pytest.raises(BackendFault, match="can't be written"):
            in_turns(asked(), head() + http2.data(1, b"a", True), exchange)


# Flow control


def test_our_windows_are_given_back_in_large_steps() -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, head(), exchange)
    count, updates = 400, []
    for _ in range(count):
        in_turns(connection, http2.data(1, bytes(16_000)), exchange)
        updates += Cutter().feed(sent(connection))
    assert len(exchange.body) == 16_000 * count
    assert {each.kind for each in updates} == {Frame.WINDOW_UPDATE}
    for stream in (0, 1):
        given = [int.from_bytes(each.payload, "big") for each in updates if each.stream_id == stream]
        assert len(given) == 16_000 * count // (WINDOW_STEP + 16_000 - WINDOW_STEP % 16_000)
        assert 16_000 * count - WINDOW_STEP < sum(given) <= 16_000 * count


def test_padding_and_late_bodies_count_against_our_windows_too() -> None:
    connection = asked()
    in_turns(connection, head(), None)
    padded = frame(Frame.DATA, Flag.PADDED, 1, b"\xff" + bytes(255))
    in_turns(connection, padded, None)
    assert connection.leg.owed == 256
    connection.cancel()
    sent(connection)
    in_turns(connection, http2.data(1, bytes(16_000)) * (WINDOW_STEP // 16_000 + 1), None)
    (update,) = Cutter().feed(sent(connection))
    assert (update.kind, update.stream_id) == (Frame.WINDOW_UPDATE, 0)


def test_room_that_has_grown_is_told_once_a_read() -> None:
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    in_turns(connection, http2.window_update(0, 1) + http2.window_update(1, 5), exchange)
    assert exchange.told == [("send on",)]
    in_turns(connection, http2.settings([(Setting.INITIAL_WINDOW_SIZE, 70_000)]), exchange)
    assert exchange.told == [("send on",), ("ready",), ("send on",)]
    connection.end([])
    in_turns(connection, http2.window_update(0, 1), exchange)
    assert exchange.names.count("send on") == 2, "there is nothing to send"


# SETTINGS, PING


def test_a_read_of_windows_alone_is_taken_at_once() -> None:
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    before = connection.room(0)
    assert connection.express(http2.window_update(0, 7) + http2.window_update(1, 5) + http2.window_update(1, 1), 0.0)
    assert (connection.room(0), exchange.told) == (before + 6, [])
    assert connection.express(http2.window_update(1, 9), 0.0)
    assert connection.room(0) == before + 7, "of the connection"


@pytest.mark.parametrize(
    "data",
    [
        http2.window_update(0, 7)[:-1],
        http2.window_update(0, 7) + b"\0",
        http2.window_update(0, 7) * (MAX_WINDOWS + 1),
        http2.window_update(0, 7) + http2.ping(b"12345678") + bytes(9),
        http2.window_update(0, 7) + http2.window_update(3, 7),
        http2.window_update(0, 7) + http2.window_update(0, 0),
        http2.window_update(0, 7) + http2.window_update(1, MAX_WINDOW),
        http2.window_update(1, 7) + http2.window_update(0, MAX_WINDOW),
        frame(Frame.WINDOW_UPDATE, 0, 1, b"\x80\0\0\1"),
        frame(Frame.WINDOW_UPDATE, 1, 1, b"\0\0\0\1"),
    ],
)
def test_any_other_read_is_judged_frame_by_frame(data: bytes) -> None:
    connection = asked(b"POST", ended=False)
    before = connection.room(0)
    assert not connection.express(data, 0.0)
    assert connection.room(0) == before, "nothing of it was taken"


def test_windows_behind_a_part_of_a_frame_are_not_taken_by_themselves() -> None:
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    ping = http2.ping(bytes(8))
    in_turns(connection, ping[:3], exchange)
    assert not connection.express(http2.window_update(1, 1), 0.0)
    assert not asked(ended=True).express(http2.window_update(3, 1), 0.0)


def test_windows_are_counted_however_they_are_taken() -> None:
    connection, limit = asked(b"POST", ended=False), Loop.BACKEND_TALK.limit
    taken = 0
    while connection.express(http2.window_update(0, 1), 0.0):
        taken += 1
    assert limit - 10 <= taken <= limit + 10 + TALK_FOR_WORK, "the request is work"
    with pytest.raises(BackendFault, match="frames without work"):
        in_turns(connection, http2.window_update(0, 1), NotedExchange())
    connection = asked(b"POST", ended=False)
    assert not connection.express(http2.window_update(0, 1), PERIOD), "a new period begins with `judge`"


def test_settings_are_acknowledged_and_heeded() -> None:
    connection, exchange = Http2Connection(0.0, False), NotedExchange()
    websocket = request_head(upgrade=Upgrade.WEBSOCKET)
    assert connection.takes(websocket) is Takes.LATER
    sent(connection)
    in_turns(connection, http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]), exchange)
    assert sent(connection) == http2.SETTINGS_ACK
    assert exchange.told == [("ready",)]
    assert connection.takes(websocket) is Takes.NOW
    in_turns(connection, http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 0)]), exchange)
    assert connection.takes(websocket) is Takes.NOW, "never taken back (RFC 8441, section 3)"
    in_turns(connection, http2.settings([(Setting.MAX_CONCURRENT_STREAMS, 0)]), exchange)
    assert connection.takes(request_head()) is Takes.LATER
    in_turns(connection, http2.settings([(Setting.MAX_CONCURRENT_STREAMS, 1)]), exchange)
    assert connection.takes(request_head()) is Takes.NOW


def test_an_offer_may_come_in_a_second_frame_of_the_same_read() -> None:
    """A request that waits for it was answered 501 between the two."""
    connection, exchange = Http2Connection(0.0, False), NotedExchange()
    in_turns(connection, SETTINGS + http2.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]), exchange)
    assert exchange.told == [("ready",)]
    assert connection.takes(request_head(upgrade=Upgrade.WEBSOCKET)) is Takes.NOW


def test_without_an_offer_there_are_no_tunnels() -> None:
    connection = Http2Connection(0.0, False)
    in_turns(connection, SETTINGS, None)
    assert connection.takes(request_head(upgrade=Upgrade.WEBSOCKET)) is Takes.NEVER
    assert connection.takes(request_head(upgrade=Upgrade.OTHER)) is Takes.NEVER


def test_ping_is_answered() -> None:
    connection = asked()
    in_turns(connection, http2.ping(b"12345678") + http2.ping(bytes(8), ack=True), None)
    assert sent(connection) == http2.ping(b"12345678", ack=True)


# Turns, and what is counted


def test_many_frames_are_taken_in_turns() -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, head(), exchange)
    most = -(-TURN // (FRAME_COST + STEP_COST))
    flow, got = http2.data(1, bytes(40)) * (3 * most - 1), []
    while flow:
        before = len(exchange.told)
        flow = flow[connection.receive(flow, Turn(), exchange, 0.0) :]
        got.append(len(exchange.told) - before)
    assert got == [most, most, most - 1]


FLOODS: dict[str, tuple[Loop, bytes]] = {
    "ping": (Loop.BACKEND_TALK, http2.ping(bytes(8))),
    "acknowledgements": (Loop.BACKEND_TALK, http2.SETTINGS_ACK),
    "windows": (Loop.BACKEND_TALK, http2.window_update(0, 1)),
    "windows of a stream": (Loop.BACKEND_TALK, http2.window_update(1, 1)),
    "priority": (Loop.BACKEND_TALK, frame(Frame.PRIORITY, 0, 1, b"\0\0\0\3\0")),
    "unknown": (Loop.BACKEND_TALK, frame(0xFA, 0, 0, b"")),
    "goaway": (Loop.BACKEND_TALK, http2.goaway(1, 0)),
    "settings": (Loop.BACKEND_SETTINGS, http2.settings([(4, 70_000)])),
    "empty": (Loop.BACKEND_EMPTY, http2.data(1, b"")),
    "padding only": (Loop.BACKEND_EMPTY, frame(Frame.DATA, Flag.PADDED, 1, b"\x02\0\0")),
}
LATE: dict[str, tuple[Loop, bytes]] = {
    "heads": (Loop.BACKEND_TALK, http2.headers(1, b"\x88")),
    "resets": (Loop.BACKEND_TALK, http2.rst_stream(1, 0)),
    "ends": (Loop.BACKEND_TALK, http2.data(1, b"", True)),
    "empty": (Loop.BACKEND_EMPTY, http2.data(1, b"")),
}


def flooded(connection: Http2Connection, data: bytes, loop: Loop) -> int:
    """How many are taken before the connection ends."""
    count = 0

    def flood() -> None:
        nonlocal count
        while count <= loop.limit + 100:
            in_turns(connection, data, NotedExchange())
            count += 1

    with pytest.raises(BackendFault, match=f"too many: {loop.title}$"):
        flood()
    return count


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_ends_the_connection(what: str) -> None:
    loop, data = FLOODS[what]
    connection = asked()
    in_turns(connection, head(), NotedExchange())
    assert loop.limit - 3 <= flooded(connection, data, loop) <= loop.limit + 20


@pytest.mark.parametrize("what", LATE)
def test_a_flood_of_late_frames_ends_the_connection(what: str) -> None:
    loop, data = LATE[what]
    connection = asked()
    connection.cancel()
    assert loop.limit - 3 <= flooded(connection, data, loop) <= loop.limit + 20


def test_work_pays_for_windows() -> None:
    """A backend may say what it has read of a large body after each frame; only answers paid for that."""
    connection, exchange = asked(b"POST", ended=False), NotedExchange()
    for _ in range(3 * Loop.BACKEND_TALK.limit):
        connection.body(bytes(100))
        in_turns(connection, http2.window_update(0, 100) + http2.window_update(1, 100), exchange)
        connection.out.clear()


def test_what_was_counted_long_ago_is_forgotten() -> None:
    connection = asked()
    for period in range(3):
        for _ in range(Loop.BACKEND_TALK.limit - 10):
            in_turns(connection, http2.ping(bytes(8)), None, now=PERIOD * 1.1 * period)


def test_small_pieces_slow_the_backend_down() -> None:
    connection, exchange = asked(), NotedExchange()
    in_turns(connection, head(), exchange)
    limit = Loop.BACKEND_PIECES.limit
    flood = http2.data(1, b"x") * (limit + 5)
    while not connection.pace.over:
        flood = flood[connection.receive(flood, Turn(), exchange, 0.0) :]
    assert len(flood) == 5 * len(http2.data(1, b"x"))


def test_it_shows_what_it_judges() -> None:
    assert repr(FromHttp2(Http2Leg(), 0.0)) == "<FromHttp2 <Http2Leg None>>"
