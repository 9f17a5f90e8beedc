"""One HTTP/1.1 connection to the backend: what is sent for a request, and what becomes of each answer."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bounds import MAX_UNSENT
from mcproxy.l7.bridge.ends import BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.heads import RequestHead, Upgrade
from mcproxy.l7.bridge.http1_connection import Http1Connection
from mcproxy.l7.bridge.request_heads import RequestHeads
from mcproxy.l7.bridge.translate import accept_key
from mcproxy.l7.core import Turn
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.requests import check_request
from tests.kit.noted_exchange import FORWARDED, NotedExchange, sent

OURS = b"x-forwarded-for: 192.0.2.7\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


class Noted(NotedExchange):
    """An exchange that also notes whether its connection can be used again, as it hears of the end."""

    def __init__(self, connection: Http1Connection, head_only: bool) -> None:
        super().__init__(head_only)
        self.reusable_at_end: bool | None = None
        self.then["end"] = lambda: setattr(self, "reusable_at_end", connection.reusable)

    @property
    def pieces(self) -> list[object]:
        return [each[1] for each in self.told if each[0] == "body"]

    @property
    def steps(self) -> list[tuple[object, ...]]:
        """What was noted but for the body."""
        return [each for each in self.told if each[0] != "body"]

    @property
    def outcome(self) -> tuple[object, ...]:
        return self.steps, self.body


def read_head(raw: bytes) -> RequestHead:
    """A request's head as an HTTP/1.1 client sends it, in neutral form."""
    found = RequestHeads("one.test").take(raw, Turn(10_000))
    assert found is not None
    assert found[0].neutral is not None, found[0].fault
    return found[0].neutral


def request(*lines: bytes, line: bytes = b"GET /a?b HTTP/1.1") -> RequestHead:
    return read_head(b"\r\n".join((line, b"Host: one.test", *lines, b"", b"")))


def from_http2(*fields: Field, chunked: bool = False) -> RequestHead:
    """A request's head as an HTTP/2 client sends it, in neutral form."""
    checked = check_request(list(fields))
    regular = tuple(each for each in fields if each[0][:1] != b":")
    upgrade = Upgrade.WEBSOCKET if checked.protocol else Upgrade.NONE
    return RequestHead(checked, b"https", regular, upgrade, checked.protocol, chunked)


class Asked:
    """A connection on which a request is under way, and its exchange."""

    def __init__(self, head: RequestHead | None = None, ended: bool = True, reused: bool = False) -> None:
        self.connection = Http1Connection(0.0, reused, lambda size: b"k" * size)
        head = head or request()
        self.exchange = Noted(self.connection, head.request.method == b"HEAD")
        self.connection.begin(head, FORWARDED, ended)
        self.sent = self.take()

    def take(self) -> bytes:
        return sent(self.connection)

    def receive(self, *pieces: bytes) -> bytes:
        """The drive: offers what was not taken again. Returns what is left."""
        data = b""
        for piece in pieces:
            data += piece
            while data:
                taken = self.connection.receive(data, Turn(), self.exchange, 0.0)
                data = data[taken:]
                if not taken:
                    break
        return data


def standing(connection: Http1Connection) -> tuple[bool, Processed, bool]:
    return connection.reusable, connection.processed, connection.half_closed


# Requests


def test_a_request_is_written_from_what_was_parsed() -> None:
    head = request(
        b"X-Own:  a\tb ", b"Connection: close, X-Hop", b"X-Hop: a", b"TE: trailers", b"Cookie: a=b", b"COOKIE: c=d",
        b"X-Forwarded-For: 10.0.0.1", b"Keep-Alive: 5", b"Upgrade: h2c", b"HTTP2-Settings: a",
    )  # fmt: skip
    assert Asked(head).sent == (
        b"GET /a?b HTTP/1.1\r\nhost: one.test\r\nx-own: a\tb\r\ncookie: a=b; c=d\r\n" + OURS + b"\r\n"
    )


@pytest.mark.parametrize(
    ("line", "first"),
    [
        (b"GET https://one.test:443/a?b HTTP/1.1", b"GET /a?b HTTP/1.1\r\nhost: one.test:443\r\n"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1\r\nhost: one.test\r\n"),
        (b"OPTIONS https://one.test HTTP/1.1", b"OPTIONS * HTTP/1.1\r\nhost: one.test\r\n"),
        (b"GET / HTTP/1.0", b"GET / HTTP/1.1\r\nhost: one.test\r\n"),
        (b"BREW //a//b HTTP/1.1", b"BREW //a//b HTTP/1.1\r\nhost: one.test\r\n"),
    ],
)
def test_the_target_is_a_path(line: bytes, first: bytes) -> None:
    assert Asked(request(line=line)).sent == first + OURS + b"\r\n"


def test_a_request_of_http2_is_written_the_same() -> None:
    head = from_http2(
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"one.test"), (b":path", b"/a"),
        (b"cookie", b"a=b"), (b"te", b"trailers"), (b"x", b"y"), (b"cookie", b"c=d"), (b"cookie", b"e"),
    )  # fmt: skip
    assert Asked(head).sent == (
        b"GET /a HTTP/1.1\r\nhost: one.test\r\nx: y\r\ncookie: a=b; c=d; e\r\n" + OURS + b"\r\n"
    )


POST = b"POST / HTTP/1.1"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
def test_a_request_without_the_body_that_is_usual_says_so(method: bytes) -> None:
    assert Asked(request(line=method + b" / HTTP/1.1")).sent.endswith(OURS + b"content-length: 0\r\n\r\n")
    assert b"content-length" not in Asked(request(line=b"DELETE / HTTP/1.1")).sent


def test_a_declared_length_frames_the_body() -> None:
    asked = Asked(request(b"Content-Length: 005", line=POST), ended=False)
    assert asked.sent == b"POST / HTTP/1.1\r\nhost: one.test\r\ncontent-length: 5\r\n" + OURS + b"\r\n"
    asked.connection.body(data := b"hel")
    assert asked.connection.out[0] is data, "it is not copied"
    asked.connection.body(b"lo")
    asked.connection.end([(b"x-sum", b"1")])
    assert asked.take() == b"hello", "trailers have no place behind it"


def test_a_body_of_unknown_length_has_chunks() -> None:
    asked = Asked(request(b"Transfer-Encoding: chunked", line=POST), ended=False)
    assert asked.sent.endswith(OURS + b"transfer-encoding: chunked\r\n\r\n")
    asked.connection.body(data := b"hello hello hello")
    assert asked.connection.out[1] is data, "it is not copied"
    asked.connection.body(b"")
    assert asked.take() == b"11\r\nhello hello hello\r\n", "a chunk of no bytes would be the last"
    asked.connection.end([(b"x-sum", b"1")])
    assert asked.take() == b"0\r\nx-sum: 1\r\n\r\n"


def test_a_body_that_is_known_to_be_empty_has_no_chunks() -> None:
    asked = Asked(request(b"Transfer-Encoding: chunked", line=POST), ended=True)
    assert asked.sent.endswith(OURS + b"content-length: 0\r\n\r\n")


def test_no_byte_goes_out_unframed() -> None:
    asked = Asked(request(b"Content-Length: 5", line=POST), ended=False)
    with pytest.raises(BackendFault):
        asked.connection.body(b"hello!")
    asked = Asked(request(b"Content-Length: 5", line=POST), ended=False)
    asked.connection.body(b"hell")
    with pytest.raises(BackendFault):
        asked.connection.end([])
    asked = Asked(request())
    with pytest.raises(BackendFault):
        asked.connection.body(b"x")
    with pytest.raises(BackendFault):
        Asked(request(b"Content-Length: 5", line=POST), ended=True)
    assert asked.take() == b""


def test_grpc_is_not_tried() -> None:
    connection = Http1Connection(0.0, reused=False)
    assert connection.takes(request(b"Content-Type: application/grpc+proto", line=POST)) is Takes.NEVER
    assert connection.takes(request(b"Content-Type: application/json", line=POST)) is Takes.NOW


def test_the_room_is_what_may_still_wait() -> None:
    asked = Asked(request(b"Content-Length: 5", line=POST), ended=False)
    assert asked.connection.room(0) == MAX_UNSENT
    asked.connection.body(b"hello")
    assert asked.connection.room(100) == MAX_UNSENT - 105
    assert asked.connection.room(MAX_UNSENT) < 0


# Answers

ANSWERS = {
    "counted": OK + b"Content-Length: 5\r\n\r\nhello",
    "empty": EMPTY,
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
    "none": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_in_every_cut(name: str) -> None:
    raw = ANSWERS[name]
    whole = Asked()
    assert whole.receive(raw) == b""
    assert whole.exchange.steps[-1] == ("end", [(b"x-sum", b"1")] if name == "chunked" else [])
    assert whole.connection.reusable
    assert whole.exchange.reusable_at_end
    for at in range(1, len(raw)):
        cut = Asked()
        assert cut.receive(raw[:at], raw[at:]) == b""
        assert cut.exchange.outcome == whole.exchange.outcome
        assert cut.connection.reusable
    drip = Asked()
    drip.receive(*[raw[i : i + 1] for i in range(len(raw))])
    assert drip.exchange.outcome == whole.exchange.outcome


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 120), max_size=5))
def test_answers_in_any_cuts(name: str, cuts: list[int]) -> None:
    raw = ANSWERS[name]
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    whole, cut = Asked(), Asked()
    whole.receive(raw)
    cut.receive(*[raw[a:b] for a, b in itertools.pairwise(edges)])
    assert cut.exchange.outcome == whole.exchange.outcome


def test_fields_that_are_the_hops_don_t_pass() -> None:
    asked = Asked()
    asked.receive(
        OK + b"Connection: X-Hop, Content-Length\r\nX-Hop: a\r\nKeep-Alive: 5\r\nServer: b\r\nContent-Length: 0\r\n"
        b'Alt-Svc: h3=":443"\r\n\r\n'
    )
    head = asked.exchange.heads[0]
    assert head.fields == ((b"server", b"b"), (b"content-length", b"0"))
    assert head.content_length == 0
    assert asked.connection.reusable


def test_a_known_head_is_read_once() -> None:
    """Also from another connection, and behind a part of it that came before the rest."""
    raw = OK + b"X-Known: a\r\nContent-Length: 0\r\n\r\n"
    first, second, third = Asked(), Asked(), Asked()
    first.receive(raw)
    second.receive(raw)
    third.receive(raw[:9], raw[9:])
    assert first.exchange.heads[0] is second.exchange.heads[0]
    assert first.exchange.heads[0] is third.exchange.heads[0]


WHOLE = OK + b"Content-Length: 3\r\nX-Whole: yes\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("data", [WHOLE, WHOLE + b"ab", WHOLE + b"abc", WHOLE + b"abcd", WHOLE + b"abc" + WHOLE])
def test_an_answer_whose_head_is_known_has_the_same_outcome(data: bytes, method: bytes) -> None:
    """It is taken in one step; too much still poisons the connection."""
    slow, on = (Asked(request(line=method + b" / HTTP/1.1")) for _ in range(2))
    slow.receive(*[data[i : i + 1] for i in range(len(data))])
    on.receive(data)
    assert on.exchange.outcome == slow.exchange.outcome
    assert on.connection.reusable is (data == WHOLE + b"abc" if method == b"GET" else data == WHOLE)


def test_another_line_finds_nothing_of_the_requests_before() -> None:
    on = Asked()
    on.receive(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"0\r\n\r\n")
    before = on.connection.pace
    on.connection.go_on()
    assert (before.has_counted, on.connection.pace.has_counted) == (True, False)
    assert standing(on.connection) == (True, Processed.NO, False)
    on.connection.begin(request(), FORWARDED, True)
    assert on.connection.processed is Processed.UNKNOWN, "it may be ended for having been idle"


def test_a_read_that_is_all_body_is_passed_as_it_is() -> None:
    asked = Asked()
    asked.receive(OK + b"Content-Length: 131072\r\n\r\n")
    for data in (b"x" * 65_536, b"y" * 65_536):
        asked.receive(data)
        assert asked.exchange.pieces[-1] is data
    assert asked.connection.reusable


def test_small_chunks_of_one_read_are_one_piece() -> None:
    asked = Asked()
    asked.receive(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    asked.receive(b"1\r\na\r\n" * 10)
    assert asked.exchange.pieces == [b"a" * 10]
    large = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    asked.receive(large * 2)
    assert asked.exchange.pieces == [b"a" * 10, b"x" * 0x4000, b"x" * 0x4000]


def test_a_head_answer_has_no_body() -> None:
    asked = Asked(request(line=b"HEAD / HTTP/1.1"))
    asked.receive(OK + b"Content-Length: 5\r\n\r\n")
    assert asked.exchange.steps == [("head", 200, True), ("end", [])]
    assert asked.connection.reusable


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
def test_a_backend_that_closes_is_not_used_again(head: bytes) -> None:
    asked = Asked()
    asked.receive(head + b"hello" + (b"\r\n0\r\n\r\n" if b"chunked" in head else b""))
    assert asked.exchange.steps[-1] == ("end", [])
    assert asked.exchange.reusable_at_end is False
    assert not asked.connection.reusable
    assert "last" in repr(asked.connection)


def test_http_1_0_may_keep_its_connection() -> None:
    asked = Asked()
    asked.receive(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
    assert asked.connection.reusable


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", OK + b"\r\n"])
@pytest.mark.parametrize("clean", [True, False])
def test_an_answer_that_ends_with_its_connection(head: bytes, clean: bool) -> None:
    """Only a FIN ends it: after a reset, it has broken off."""
    asked = Asked()
    asked.receive(head + b"hel", b"lo")
    assert not asked.connection.reusable
    asked.connection.closed(asked.exchange, clean)
    assert asked.exchange.pieces == [b"hel", b"lo"]
    lost = ("lost", "the backend's answer broke off", Processed.POSSIBLY)
    assert asked.exchange.steps[-1] == (("end", []) if clean else lost)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_breaks_off_never_ends(name: str, clean: bool) -> None:
    raw = ANSWERS[name]
    for size in range(len(raw)):
        asked = Asked(reused=size > 0)
        asked.receive(raw[:size])
        asked.connection.closed(asked.exchange, clean)
        told = asked.exchange.steps[-1]
        assert isinstance(told, tuple)
        assert (told[0], told[2]) == ("lost", Processed.POSSIBLY)
        assert not asked.connection.reusable


def test_a_request_that_was_not_answered_at_all_may_have_met_an_idle_end() -> None:
    """Only then may it go again: not once a byte of an answer came, were it an invalid one."""
    for came, processed in ((b"", Processed.UNKNOWN), (b"H", Processed.POSSIBLY)):
        asked = Asked(reused=True)
        asked.receive(came)
        asked.connection.closed(asked.exchange, clean=True)
        assert asked.exchange.steps == [("lost", "the backend closed its connection before it answered", processed)]
    for raw in (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", b"H2"):
        asked = Asked(reused=True)
        with pytest.raises(BackendFault):
            asked.receive(raw)
        assert asked.connection.processed is Processed.POSSIBLY


def test_what_comes_behind_an_answer_poisons_the_connection() -> None:
    """And reaches nobody, whether it comes with the answer or later; the exchange knows when it hears of the end."""
    for name, raw in ANSWERS.items():
        asked = Asked()
        assert asked.receive(raw + EMPTY) == b"", name
        assert asked.exchange.steps.count(("end", [])) + asked.exchange.steps.count(("end", [(b"x-sum", b"1")])) == 1
        assert asked.exchange.reusable_at_end is False
        assert not asked.connection.reusable
        later = Asked()
        later.receive(raw)
        assert later.connection.receive(b"x", Turn(), None, 0.0) == 1
        assert not later.connection.reusable


def test_what_comes_before_a_request_poisons_the_connection() -> None:
    connection = Http1Connection(0.0, reused=True)
    assert standing(connection) == (True, Processed.NO, False)
    assert connection.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n", Turn(), None, 0.0) == 32
    assert standing(connection) == (False, Processed.NO, False)
    with pytest.raises(BackendFault):
        connection.begin(request(), FORWARDED, ended=True)


SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"


def test_a_backend_that_speaks_http2_is_recognised() -> None:
    for size in range(1, len(SETTINGS)):
        asked = Asked()
        with pytest.raises(OtherVersion, match="HTTP/2"):
            asked.receive(SETTINGS[:size])
        assert standing(asked.connection) == (False, Processed.NO, False), "so that it may go again"
        with pytest.raises(OtherVersion):
            Http1Connection(0.0, reused=False).receive(SETTINGS[:size], Turn(), None, 0.0)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "content-length twice"),
        (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding beside Content-Length"),
        (OK + b"X-A: b\r\n c\r\n\r\n", "a folded line behind X-A"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", "a transfer coding other than chunked"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "a malformed chunk size"),
        (b"SSH-2.0-OpenSSH\r\n", "a malformed status line"),
    ],
)
def test_a_broken_answer_is_the_backends_fault(raw: bytes, why: str) -> None:
    asked = Asked()
    with pytest.raises(BackendFault, match=why):
        asked.receive(raw)
    assert not asked.connection.reusable


def test_an_answer_before_the_end_of_its_request() -> None:
    """It passes; the connection can be used again only once the request is complete."""
    early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    asked = Asked(request(b"Content-Length: 5", line=POST), ended=False)
    asked.connection.body(b"hel")
    asked.receive(early)
    assert asked.exchange.steps == [("head", 413, True), ("end", [])]
    assert standing(asked.connection)[0] is False
    asked.connection.body(b"lo")
    asked.connection.end([])
    assert asked.connection.reusable

    asked = Asked(request(b"Content-Length: 5", line=POST), ended=False)
    asked.receive(early)
    asked.connection.cancel()
    assert not asked.connection.reusable


def test_a_cancelled_request_takes_its_connection_with_it() -> None:
    asked = Asked()
    asked.connection.cancel()
    assert not asked.connection.reusable
    asked.exchange.over = True
    assert asked.receive(EMPTY) == b""
    assert asked.exchange.steps == []
    asked.connection.closed(None, clean=True)
    done = Asked()
    done.receive(EMPTY)
    done.connection.cancel()
    assert done.connection.reusable, "there was nothing to cancel"


def test_a_connection_carries_one_request_after_the_other() -> None:
    asked = Asked()
    assert standing(asked.connection) == (False, Processed.POSSIBLY, False)
    asked.receive(EMPTY)
    asked.connection.begin(request(), FORWARDED, ended=True)
    assert asked.connection.requests == 2
    assert asked.connection.processed is Processed.UNKNOWN
    asked.receive(EMPTY)
    assert asked.connection.reusable


def test_a_turn_ends_between_two_pieces() -> None:
    asked = Asked()
    asked.receive(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    data = b"1\r\nx\r\n" * 500
    turn = Turn(60)
    taken = asked.connection.receive(data, turn, asked.exchange, 0.0)
    assert 0 < taken < 200
    assert turn.over


def test_a_backend_that_drips_is_slowed() -> None:
    """10,000 small pieces a second; what completes an answer is none."""
    asked = Asked()
    asked.receive(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        asked.connection.receive(b"1\r\nx\r\n" * 600, Turn(10_000), asked.exchange, 0.0)
    assert asked.connection.pace.over
    assert asked.connection.receive(b"1\r\nx\r\n", Turn(), asked.exchange, 0.0) == 0
    assert asked.connection.receive(b"1\r\nx\r\n", Turn(), asked.exchange, 1.0) == 6

    one = Asked()
    for size in range(1, 2_100):
        one.connection.receive((OK + b"X: " + b"a" * 4_000)[:size], Turn(), one.exchange, 0.0)
    assert one.connection.pace.over, "a head in single bytes"

    many = Asked()
    for _ in range(11_000):
        many.receive(ANSWERS["counted"])
        many.connection.begin(request(), FORWARDED, ended=True)
    assert not many.connection.pace.over


# Tunnels

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"


def websocket() -> RequestHead:
    return request(
        b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13", line=b"GET /chat HTTP/1.1",
    )  # fmt: skip


def extended_connect() -> RequestHead:
    return from_http2(
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"one.test"),
        (b":path", b"/chat"), (b"sec-websocket-version", b"13"),
    )  # fmt: skip


def test_a_websocket_of_http1_keeps_its_key() -> None:
    asked = Asked(websocket(), ended=False)
    assert asked.sent == (
        b"GET /chat HTTP/1.1\r\nhost: one.test\r\nsec-websocket-version: 13\r\n" + OURS +
        b"connection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-key: " + KEY + b"\r\n\r\n"
    )  # fmt: skip
    asked.receive(SWITCH + b"Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x02hi")
    head = asked.exchange.heads[0]
    assert (head.status, head.upgrade_to) == (101, b"websocket")
    assert (b"sec-websocket-accept", b"x") in head.fields, "the client checks it"
    assert asked.exchange.outcome == ([("head", 101, False)], b"\x81\x02hi")


def test_a_websocket_of_http2_gets_a_key_and_its_accept_is_checked() -> None:
    key = b"a2tra2tra2tra2tra2traw=="  # of sixteen times "k"
    asked = Asked(extended_connect(), ended=False)
    assert asked.sent == (
        b"GET /chat HTTP/1.1\r\nhost: one.test\r\nsec-websocket-version: 13\r\n" + OURS +
        b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: " + key + b"\r\n\r\n"
    )  # fmt: skip
    asked.receive(SWITCH + b"Upgrade: websocket\r\nSec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n")
    assert asked.exchange.steps == [("head", 101, False)]
    for accept in (b"", b"Sec-WebSocket-Accept: " + accept_key(KEY) + b"\r\n"):
        with pytest.raises(BackendFault, match="Sec-WebSocket-Accept"):
            Asked(extended_connect(), ended=False).receive(SWITCH + b"Upgrade: websocket\r\n" + accept + b"\r\n")


def test_another_upgrade_passes_with_its_name() -> None:
    head = request(b"Connection: Upgrade", b"Upgrade: Foo/2, h2c, bar")
    assert head.upgrade is Upgrade.OTHER
    asked = Asked(head, ended=False)
    assert asked.sent.endswith(OURS + b"connection: Upgrade\r\nupgrade: Foo/2, bar\r\n\r\n"), "no h2c"
    asked.receive(SWITCH + b"Upgrade: foo/2\r\n\r\nraw")
    assert asked.exchange.outcome == ([("head", 101, False)], b"raw")


@pytest.mark.parametrize("to", [b"", b"Upgrade: h2c\r\n", b"Upgrade: websocket, foo\r\n", b"Upgrade:\r\n"])
def test_a_101_to_what_was_not_asked_for_is_a_fault(to: bytes) -> None:
    with pytest.raises(BackendFault, match="101 with an Upgrade"):
        Asked(websocket(), ended=False).receive(SWITCH + to + b"\r\n")


def test_a_101_without_an_upgrade_is_a_fault() -> None:
    with pytest.raises(BackendFault, match="101 for a request without Upgrade"):
        Asked().receive(SWITCH + b"Upgrade: websocket\r\n\r\n")


def test_an_upgrade_may_be_answered_otherwise() -> None:
    asked = Asked(websocket(), ended=False)
    asked.receive(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
    assert asked.exchange.outcome == ([("head", 426, False), ("end", [])], b"no")
    asked.connection.end([])
    assert asked.connection.reusable


def test_a_tunnel_passes_bytes_and_halves_both_ways() -> None:
    asked = Asked(websocket(), ended=False)
    asked.receive(SWITCH + b"Upgrade: websocket\r\n\r\n")
    asked.connection.body(data := b"0\r\n\r\n")
    assert asked.connection.out == [data]
    assert asked.connection.out[0] is data
    assert standing(asked.connection) == (False, Processed.POSSIBLY, False)
    asked.connection.end([])
    assert standing(asked.connection) == (False, Processed.POSSIBLY, True)
    asked.receive(b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n")
    assert asked.exchange.pieces == [b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"]
    assert not asked.connection.reusable
    asked.connection.closed(asked.exchange, clean=True)
    assert asked.exchange.steps == [("head", 101, False), ("end", [])]


def test_a_tunnel_that_is_reset_is_lost() -> None:
    asked = Asked(websocket(), ended=False)
    asked.receive(SWITCH + b"Upgrade: websocket\r\n\r\nx")
    asked.connection.closed(asked.exchange, clean=False)
    assert asked.exchange.steps[-1] == ("lost", "the backend's answer broke off", Processed.POSSIBLY)
