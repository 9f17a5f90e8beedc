"""Requests to an HTTP/2 backend, and whole exchanges with h2 as the server."""

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bounds import MAX_UNSENT, SHORT_PIECE
from mcproxy.l7.bridge.ends import BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.heads import Upgrade
from mcproxy.l7.bridge.http2_connection import Http2Connection
from mcproxy.l7.bridge.http2_leg import OPENING
from mcproxy.wire import http2
from mcproxy.wire.http2 import DEFAULT_WINDOW, MAX_FRAME_SIZE, MAX_STREAM_ID, MAX_WINDOW, ErrorCode, Frame, Setting
from tests.kit.bridge_playbook import MemoryBackend
from tests.kit.http2_peer import Cutter, Seen
from tests.kit.noted_exchange import FORWARDED, NotedExchange, in_turns, request_head, sent
from tests.kit.relay_playbook import fields_of

HEAD_200 = http2.headers(1, b"\x88")
OURS = ("x-forwarded-for", "192.0.2.7")


def seen(connection: Http2Connection) -> list[Seen]:
    return Cutter().feed(sent(connection))


def open_to(window: int = MAX_WINDOW, ended: bool = False) -> tuple[Http2Connection, NotedExchange]:
    """A connection with a POST under way, whose windows allow so much."""
    connection, exchange = Http2Connection(0.0, False), NotedExchange()
    in_turns(connection, http2.settings([(Setting.INITIAL_WINDOW_SIZE, window)]), exchange)
    in_turns(connection, http2.window_update(0, MAX_WINDOW - DEFAULT_WINDOW), exchange)
    connection.begin(request_head(b"POST"), FORWARDED, ended)
    sent(connection)
    return connection, exchange


# Heads


def test_a_request_s_head() -> None:
    connection = Http2Connection(0.0, False)
    assert sent(connection) == OPENING
    decoder = Decoder()
    fields = ((b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x-empty", b""))
    for number in range(3):
        connection.begin(request_head(fields=fields), FORWARDED, True)
        (head,) = seen(connection)
        assert (head.kind, head.stream_id, head.ends) == (Frame.HEADERS, 2 * number + 1, True)
        assert head.payload.startswith(b"\x20") is (number == 0), "our table is empty, and stays so"
        assert [tuple(map(bytes, each)) for each in decoder.decode(head.payload, raw=True)] == [
            (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"one.test"), (b":path", b"/x"),
            *fields, (b"x-forwarded-for", b"192.0.2.7"),
        ]  # fmt: skip
        in_turns(connection, (b"" if number else http2.settings([])), None)
        in_turns(connection, http2.headers(2 * number + 1, b"\x88", True), NotedExchange())
        sent(connection)
    assert connection.requests == 3


def test_a_websocket_is_an_extended_connect() -> None:
    """RFC 8441, section 5, whatever the client's handshake was."""
    connection = Http2Connection(0.0, False)
    sent(connection)
    fields = (
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"sec-websocket-version", b"13"),
        (b"content-length", b"0"),
    )  # fmt: skip
    connection.begin(request_head(fields=fields, upgrade=Upgrade.WEBSOCKET), FORWARDED, False)
    (head,) = seen(connection)
    assert not head.ends
    assert fields_of(head, Decoder()) == [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "one.test"),
        (":path", "/x"), ("sec-websocket-version", "13"), OURS,
    ]  # fmt: skip


def test_a_large_head_is_cut_and_passes_as_it_is() -> None:
    connection = Http2Connection(0.0, False)
    sent(connection)
    connection.begin(request_head(fields=((b"x-big", b"y" * 50_000),)), FORWARDED, True)
    frames = seen(connection)
    assert [each.kind for each in frames] == [Frame.HEADERS, *[Frame.CONTINUATION] * 3]
    assert all(len(each.payload) <= MAX_FRAME_SIZE for each in frames)
    assert b"y" * 50_000 in b"".join(each.payload for each in frames), "no Huffman codes, which take long to make"


def test_a_head_s_block_is_made_once() -> None:
    head = request_head()
    assert head.block is head.block


# Bodies


@pytest.mark.parametrize("size", [1, SHORT_PIECE - 1, SHORT_PIECE, MAX_FRAME_SIZE, MAX_FRAME_SIZE + 1, 100_000])
def test_a_body_is_cut_into_frames(size: int) -> None:
    connection, _ = open_to()
    body = bytes(range(256)) * (size // 256 + 1)
    connection.body(body[:size])
    connection.end([])
    *frames, last = seen(connection)
    assert b"".join(each.payload for each in frames) == body[:size]
    assert all(0 < len(each.payload) <= MAX_FRAME_SIZE and not each.ends for each in frames)
    assert (last.kind, last.payload, last.ends) == (Frame.DATA, b"", True)
    assert connection.leg.window == MAX_WINDOW - size


def test_trailers_end_a_request() -> None:
    connection, _ = open_to()
    connection.body(b"abc")
    connection.end([(b"x-sum", b"1")])
    _, last = seen(connection)
    assert (last.kind, last.ends) == (Frame.HEADERS, True)
    assert fields_of(last, Decoder()) == [("x-sum", "1")]


def test_room_is_what_windows_and_the_socket_allow() -> None:
    connection, exchange = open_to(1_000)
    assert connection.room(0) == 1_000
    connection.body(bytes(400))
    assert connection.room(0) == 600
    assert connection.room(MAX_UNSENT - 10) == 10
    assert connection.room(MAX_UNSENT + 10) == 0
    in_turns(connection, http2.settings([(Setting.INITIAL_WINDOW_SIZE, 300)]), exchange)
    assert connection.room(0) == 0, "section 6.9.2: it may be below 0"
    in_turns(connection, http2.window_update(1, 101), exchange)
    assert connection.room(0) == 1
    connection.leg.window = 0
    assert connection.room(0) == 0
    connection.leg.window = 100
    connection.end([])
    assert connection.room(0) == 0


def test_a_new_stream_begins_with_the_window_that_settings_say() -> None:
    connection, exchange = open_to(70_000, ended=True)
    in_turns(connection, http2.headers(1, b"\x88", True) + http2.settings([(4, 5)]), exchange)
    connection.begin(request_head(b"POST"), FORWARDED, False)
    assert connection.room(0) == 5


def test_what_can_t_be_sent_is_a_fault() -> None:
    connection, _ = open_to()
    with pytest.raises(BackendFault, match="takes no request"):
        connection.begin(request_head(), FORWARDED, True)
    connection.end([])
    with pytest.raises(BackendFault, match="no more of the request"):
        connection.body(b"a")
    with pytest.raises(BackendFault, match="no more of the request"):
        connection.end([])


# The connection


def test_it_is_reusable_once_both_halves_have_ended() -> None:
    connection, exchange = open_to()
    assert not connection.reusable
    in_turns(connection, http2.headers(1, b"\x88", True), exchange)
    assert not connection.reusable
    connection.end([])
    assert connection.reusable


@pytest.mark.parametrize("answered", [False, True])
def test_a_request_that_is_not_wanted_is_cancelled(answered: bool) -> None:
    connection, exchange = open_to()
    if answered:
        in_turns(connection, http2.headers(1, b"\x88", True), exchange)
    connection.cancel()
    assert sent(connection) == http2.rst_stream(1, ErrorCode.CANCEL)
    assert connection.reusable
    connection.cancel()
    assert sent(connection) == b"", "once"
    in_turns(connection, http2.data(1, b"late") if not answered else b"", exchange)
    assert "body" not in exchange.names


@pytest.mark.parametrize("reused", [False, True])
def test_whether_a_request_may_have_been_processed(reused: bool) -> None:
    connection = Http2Connection(0.0, reused)
    in_turns(connection, http2.settings([]), None)
    found = [connection.processed]
    connection.begin(request_head(), FORWARDED, True)
    found.append(connection.processed)
    in_turns(connection, http2.headers(1, b"\x88", True), NotedExchange())
    connection.begin(request_head(), FORWARDED, True)
    found.append(connection.processed)
    in_turns(connection, http2.goaway(1, 0), None)
    found.append(connection.processed)
    first = Processed.UNKNOWN if reused else Processed.POSSIBLY
    assert found == [Processed.NO, first, Processed.UNKNOWN, Processed.NO]


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<", b""])
def test_a_backend_that_refuses_the_preface_has_processed_nothing(said: bytes) -> None:
    """Its request was answered 502. Where not a byte comes, what the backend speaks decides (test_request_half.py)."""
    connection, exchange = Http2Connection(0.0, False), NotedExchange()
    connection.begin(request_head(), FORWARDED, True)
    if said:
        with pytest.raises(OtherVersion):
            in_turns(connection, said, exchange)
        assert connection.processed is Processed.NO
    else:
        connection.closed(exchange, True)
        assert exchange.told == [("lost", "the backend closed its connection", Processed.UNHEARD)]


@pytest.mark.parametrize("clean", [False, True])
def test_the_end_of_the_connection_is_no_end_of_an_answer(clean: bool) -> None:
    connection, exchange = open_to(ended=True)
    in_turns(connection, HEAD_200 + http2.data(1, b"a"), exchange)
    connection.closed(exchange, clean)
    assert exchange.told[-1] == ("lost", "the backend closed its connection", Processed.POSSIBLY)
    assert not connection.reusable


@pytest.mark.parametrize("end", ["closed", "goaway"])
def test_a_request_that_waits_for_settings_is_lost_with_its_connection(end: str) -> None:
    """It learned nothing, and waited for ten seconds."""
    connection, exchange = Http2Connection(0.0, False), NotedExchange()
    if end == "closed":
        connection.closed(exchange, True)
    else:
        in_turns(connection, http2.settings([(Setting.MAX_CONCURRENT_STREAMS, 0)]), exchange)
        in_turns(connection, http2.goaway(0, 0), exchange)
    assert exchange.told[-1][0] == "lost"
    assert exchange.told[-1][2] is Processed.NO


def test_the_end_of_an_idle_connection_loses_nothing() -> None:
    connection, exchange = open_to()
    in_turns(connection, http2.headers(1, b"\x88", True), exchange)
    connection.closed(exchange, True)
    assert exchange.names == ["ready", "head", "end"], "only the rest of the request was to come"
    other = Http2Connection(0.0, False)
    other.closed(None, True)
    assert not other.reusable


def test_identifiers_run_out() -> None:
    connection = Http2Connection(0.0, False)
    connection.leg.next_id = MAX_STREAM_ID + 2
    assert not connection.reusable


def test_it_says_what_it_is() -> None:
    connection = Http2Connection(0.0, False)
    assert (connection.version, connection.half_closed, connection.requests) == ("h2", False, 0)
    assert connection.takes(request_head()) is Takes.NOW, "before its SETTINGS, too"
    assert repr(connection) == "<Http2Connection requests=0 <Http2Leg None>>"


# Whole exchanges, with h2 as the server


class Meeting:
    """A connection, and h2."""

    def __init__(self, chunk: int = 0) -> None:
        self.ours, self.theirs = Http2Connection(0.0, False), MemoryBackend()
        self.chunk = chunk
        self.exchange = NotedExchange()

    def pump(self) -> None:
        """Carry what waits, both ways, until nothing does."""
        while True:
            up = sent(self.ours)
            self.theirs.receive(up)
            down = self.theirs.to_send()
            in_turns(self.ours, down, self.exchange, chunk=self.chunk)
            if not up and not down:
                return

    def send(self, body: bytes) -> None:
        """Send a body as far as there is room, again and again."""
        while body:
            room = self.ours.room(0)
            assert room > 0
            self.ours.body(body[:room])
            body = body[room:]
            self.pump()


names = st.sampled_from(["x-a", "x-b", "set-cookie", "accept", "etag"])
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
fields = st.lists(st.tuples(names, values), max_size=6)
pieces = st.lists(st.binary(min_size=1, max_size=300), max_size=5)
exchanges = st.lists(
    st.tuples(fields, pieces, fields, st.integers(200, 599), fields, pieces, fields, st.booleans()), max_size=4
)


def raw(found: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in found]


@given(exchanges, st.integers(0, 30))
def test_requests_and_answers_arrive_as_they_were_sent(
    script: list[tuple[list[tuple[str, str]], list[bytes], list[tuple[str, str]], int, list[tuple[str, str]],
                       list[bytes], list[tuple[str, str]], bool]], chunk: int,
) -> None:  # fmt: skip
    meeting = Meeting(chunk)
    for number, (asks, up, up_end, status, says, down, last, whole) in enumerate(script):
        stream, exchange = 2 * number + 1, NotedExchange()
        meeting.exchange, ours, theirs = exchange, meeting.ours, meeting.theirs
        ended = not up and not up_end
        ours.begin(request_head(b"PUT", tuple(raw(asks))), FORWARDED, ended)
        meeting.pump()
        for piece in up:
            meeting.send(piece)
        if not ended:
            ours.end(raw(up_end))
        meeting.pump()
        assert theirs.heads[-1][1][4:] == [*asks, OURS]
        assert theirs.bodies.get(stream, b"") == b"".join(up)
        assert theirs.ended[-1] == stream
        assert not up_end or theirs.trailers == up_end
        bodiless = status in (204, 304)
        body, down_end = [] if bodiless else down, [] if bodiless else last
        declared = [("content-length", str(sum(map(len, body))))] if whole and not bodiless else []
        theirs.answer(status, [*says, *declared])
        for piece in body:
            theirs.data(piece)
        if down_end:
            theirs.trail(down_end)
        else:
            theirs.data(b"", end=True)
        meeting.pump()
        assert exchange.heads[0].fields == tuple(raw([*says, *declared]))
        assert exchange.body == b"".join(body)
        assert [each for each in exchange.told if each[0] != "ready"][-1] == (
            "end", [field for field in raw(down_end) if field[0] != b"set-cookie"],
        )  # fmt: skip
        assert ours.reusable


@pytest.mark.parametrize("chunk", [0, 5_000])
def test_large_bodies_pass_within_the_windows_of_both(chunk: int) -> None:
    """h2 refuses what exceeds a window."""
    meeting = Meeting(chunk)
    body = bytes(range(256)) * 20_000  # 5 MB
    meeting.ours.begin(request_head(b"PUT"), FORWARDED, False)
    meeting.pump()
    meeting.send(body)
    meeting.ours.end([])
    meeting.pump()
    assert meeting.theirs.bodies[1] == body
    meeting.theirs.answer()
    left = body
    while left:
        size = min(len(left), meeting.theirs.h2.local_flow_control_window(1), MAX_FRAME_SIZE)
        assert size
        meeting.theirs.data(left[:size], end=size == len(left))
        left = left[size:]
        meeting.pump()
    assert meeting.exchange.body == body


def test_h2_agrees_about_cancelling() -> None:
    meeting = Meeting()
    meeting.ours.begin(request_head(b"PUT"), FORWARDED, False)
    meeting.pump()
    meeting.ours.cancel()
    meeting.pump()
    assert meeting.theirs.reset == [1]
    meeting.ours.begin(request_head(), FORWARDED, True)
    meeting.pump()
    meeting.theirs.answer(end=True)
    meeting.pump()
    assert meeting.exchange.names[-2:] == ["head", "end"]
