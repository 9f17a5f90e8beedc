"""Cutting: what passes as one slice, in which order replaced frames leave, and what a frame may look like."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hpack import Encoder

from mcproxy.l7.bounds import BULK_SIZE, TURN
from mcproxy.l7.http2 import from_client
from mcproxy.l7.http2.budgets import BLOCK_SECONDS, EARLY_END_COST, EXPRESS_FRAMES, FRAME_COST, UNPACKED
from mcproxy.l7.http2.frames import SHAPES, UNDEFINED_FLAGS, check_shape, unpadded
from mcproxy.l7.relay import from_backend
from mcproxy.l7.relay.relay import Relay
from mcproxy.native import COMPILED
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import encode
from mcproxy.wire.http2 import MAX_WINDOW, ConnectionFault, ErrorCode, Flag, Frame, Setting, StreamFault
from tests.kit.http2_peer import GET, HOST, POST, Cutter, frame
from tests.kit.inbox import Inbox
from tests.kit.relay_playbook import OK, OURS, Book

interpreted_only = pytest.mark.skipif(COMPILED, reason="a compiled class has no interpreted subclass")


def test_flags_that_mean_something_are_not_undefined() -> None:
    defined = {
        Frame.DATA: Flag.END_STREAM | Flag.PADDED,
        Frame.HEADERS: Flag.END_STREAM | Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY,
        Frame.SETTINGS: Flag.ACK,
        Frame.PING: Flag.ACK,
        Frame.PUSH_PROMISE: Flag.END_HEADERS | Flag.PADDED,
        Frame.CONTINUATION: Flag.END_HEADERS,
    }
    for kind in Frame:
        assert UNDEFINED_FLAGS[kind] == 0xFF & ~int(defined.get(kind, 0))


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x01", ErrorCode.PROTOCOL_ERROR), (b"\x05abcd", ErrorCode.PROTOCOL_ERROR)],
)
def test_padding_that_does_not_fit(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as fault:
        unpadded(payload, 0, len(payload))
    assert fault.value.code is code


def test_padding_of_the_whole_payload_is_right() -> None:
    assert unpadded(b"\x04abcd", 0, 5) == (1, 1)


def test_a_run_stays_one_slice_and_keeps_its_place() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.drop()
    parts = [http2.data(1, b"a"), http2.data(1, b"b"), frame(0xEE), http2.data(1, b"c", end_stream=True)]
    book.from_client.one_turn(b"".join(parts), book.now)
    assert book.relay.backend.out == [parts[0] + parts[1], parts[3]]


def test_what_is_said_about_a_frame_comes_after_the_run_before_it() -> None:
    book = Book()
    book.request(1)
    book.request(3)
    book.answer(3, OK, end=False)
    book.drop()
    first = http2.headers(1, book.block(book.backend_encoder, OK)) + http2.data(1, b"x", end_stream=True)
    book.backend(first + http2.data(3, b"y") + http2.rst_stream(3, ErrorCode.INTERNAL_ERROR) + http2.goaway(3, 0))
    assert [each[0] for each in book.take_down()] == ["HEADERS", "DATA!", "DATA", "RST_STREAM", "GOAWAY"]


def test_what_came_before_a_fault_is_delivered() -> None:
    book = Book()
    book.request(1)
    book.drop()
    book.backend(
        http2.headers(1, book.block(book.backend_encoder, OK), end_stream=True) + frame(Frame.PUSH_PROMISE, 4, 1)
    )
    assert [each[0] for each in book.take_down()] == ["HEADERS!", "GOAWAY"]


def test_headers_too_short_for_their_priority() -> None:
    book = Book()
    book.client(frame(Frame.HEADERS, 0x25, 1, b"\0\0\0"))
    assert book.take_down() == [("GOAWAY", 0, ErrorCode.FRAME_SIZE_ERROR)]


def test_settings_with_ack_are_no_preface() -> None:
    book = Book(start=False)
    book.client(http2.PREFACE + http2.SETTINGS_ACK)
    assert book.take_down()[-1] == ("GOAWAY", 0, ErrorCode.PROTOCOL_ERROR)


class SlowClient(from_client.FromClient):
    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        return pos


class SlowBackend(from_backend.FromBackend):
    def _express(self, buf: bytes, pos: int, size: int, out: list[bytes]) -> int:
        return pos


class SlowRelay(Relay):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._from_client = SlowClient(self.client, self._settings, 0.0)
        self._from_backend = SlowBackend(self.backend, self.client, self._settings, 0.0)


class Lane:
    """A relay with or without its express lanes, and all that can be seen of it."""

    def __init__(self, express: bool) -> None:
        kind = Relay if express else SlowRelay
        self.relay = kind(HOST, "192.0.2.1", lambda host: host == b"b.test", 0.0)

    def take(self, of_client: bool, data: bytes, now: float) -> tuple[object, ...]:
        relay, leg = self.relay, self.relay.client
        Inbox(relay.receive_from_client if of_client else relay.receive_from_backend).in_turns(data, now)
        return (
            b"".join(relay.take_for_backend()), b"".join(relay.take_for_client()), relay.fault, repr(relay),
            leg.closed.last_id,
            repr(leg.budget), repr(leg.windows), leg.up.table.entries, leg.down.table.entries,
            [(s.id, s.state, s.status, s.up_window, s.down_window, s.down_left) for s in leg.streams.values()],
            [(s.id, s.state, s.status, s.received, s.sent, s.ended, s.end) for s in relay.take_ended()],
        )  # fmt: skip


class Script:
    """What a client and a backend say that keep to the rules, repeat themselves, and slip now and then."""

    REQUESTS = (
        GET, POST, [(":method", "HEAD"), *GET[1:]], [*POST, ("content-length", "9")], [*GET, ("te", "x")],
        [*GET[:3], (":authority", "b.test")], [*GET[:3], (":authority", "other.test")],
    )  # fmt: skip
    HEADS = (OK, [*OK, ("content-length", "9")], [(":status", "204")], [(":status", "100")], [("grpc-status", "0")])

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.encoders = Encoder(), Encoder()
        self.next_id = 1
        self.unsent: dict[bool, list[int]] = {True: [], False: []}  # streams whose body the client, the backend owes
        self.unanswered: list[int] = []

    def read(self, of_client: bool) -> bytes:
        """What one read yields."""
        slip = self.dice.random()
        data = b"".join(self.frame(of_client) for _ in range(self.dice.randrange(1, 9)))
        if slip < 0.01:
            at = self.dice.randrange(len(data))
            data = data[:at] + self.dice.randbytes(1) + data[at + 1 :]
        return data[:-1] if slip > 0.99 else data

    def frame(self, of_client: bool) -> bytes:
        dice, ends, unsent = self.dice, self.dice.random() < 0.5, self.unsent[of_client]
        if dice.random() < 0.05:
            stream_id = dice.choice((0, *self.unsent[True], *self.unsent[False], self.next_id))
            return dice.choice((http2.window_update(stream_id, 99_999), http2.rst_stream(stream_id or 1, 8)))
        if unsent and dice.random() < 0.6:
            stream_id = dice.choice(unsent)
            if ends:
                unsent.remove(stream_id)
            return http2.data(stream_id, bytes(dice.choice((0, 4, 9, 9, 9, 9, 9, 9, 2_000, 9_000))), ends)
        if of_client:
            stream_id, self.next_id = self.next_id, self.next_id + dice.choice((2, 2, 2, 2, 2, 2, 2, 2, 2, 4))
            self.unanswered.append(stream_id)
        elif self.unanswered:
            stream_id = self.unanswered.pop(dice.randrange(len(self.unanswered)))
        else:
            return http2.ping(b"no news.")
        if not ends:
            unsent.append(stream_id)
        fields = dice.choices(
            self.REQUESTS if of_client else self.HEADS, (24, 12, 2, 1, 1, 1, 1)[: 7 if of_client else 5]
        )
        block = self.encoders[of_client].encode([*fields[0], ("x", str(dice.choice((0, 0, 0, dice.random()))))])
        if dice.random() < 0.02:  # padded
            return frame(Frame.HEADERS, ends | Flag.END_HEADERS | Flag.PADDED, stream_id, b"\x01" + block + b"\x00")
        flags = ends | Flag.END_HEADERS | (dice.random() < 0.02) * 0x42  # which have no meaning
        return frame(Frame.HEADERS, flags, stream_id, bytes(block))


@pytest.mark.parametrize("seed", range(300))
@interpreted_only
def test_the_express_lane_decides_nothing_otherwise(seed: int) -> None:
    script, slow, fast = Script(seed), Lane(express=False), Lane(express=True)
    greetings = [
        (True, http2.PREFACE + http2.settings([(3, 100)])), (False, http2.settings([(3, 7)]) + http2.SETTINGS_ACK),
        (True, http2.SETTINGS_ACK),
    ]  # fmt: skip
    for step in range(60):
        of_client, data = greetings[step] if step < len(greetings) else (step % 2 == 1, script.read(step % 2 == 1))
        expected = slow.take(of_client, data, float(step))  # which fills the cache that the lane needs
        assert fast.take(of_client, data, float(step)) == expected


def test_a_block_that_begins_like_a_known_one_waits_for_its_end() -> None:
    book = Book()
    for stream_id in (1, 3):
        book.request(stream_id, GET, indexed=False)
    known = book.block(book.client_encoder, GET, indexed=False)
    longer = http2.headers(5, known + b"\x00\x01x\x011", end_stream=True)
    book.drop()
    book.client(longer[:-5])
    assert book.take_up() == []
    book.client(longer[-5:])
    assert [seen[:2] for seen in book.take_up()] == [("HEADERS!", 5)]


@pytest.mark.parametrize("size", [16_384, 8_192, 100])
def test_bulk_is_read_up_to_the_end_of_a_frame(size: int) -> None:
    book = Book()
    book.request(1)
    book.client(http2.window_update(0, 1 << 30) + http2.window_update(1, 1 << 30))
    book.answer(1, end=False)
    bulk = http2.data(1, bytes(size)) * (2 * BULK_SIZE // size)
    first = 65_536
    book.from_backend.in_turns(bulk[:first], book.now)
    book.collect()
    ask = book.relay.bulk_read(BULK_SIZE)
    most = min(BULK_SIZE, EXPRESS_FRAMES * TURN * (size + 9))
    assert most - size - 9 < ask < most + size + 9
    book.from_backend.in_turns(bulk[first : first + ask], book.now)
    book.collect()
    after, ask = first + ask, book.relay.bulk_read(BULK_SIZE)
    whole = bulk[after : after + ask]
    book.from_backend.one_turn(whole, book.now)
    (passed,) = book.relay.client.out
    assert passed is whole, "nothing was copied"


@pytest.mark.parametrize("begun", [1, 8, 9, 10, 100])
@pytest.mark.parametrize("size", [16_384, 200])
def test_bulk_behind_the_beginning_of_a_frame_is_cut_right(size: int, begun: int) -> None:
    book = Book(backend_settings=[(Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW)])
    book.backend(http2.window_update(0, 1 << 30))
    book.request(1, POST, end=False)
    book.drop()
    pieces = [number.to_bytes(2, "big") * (size // 2) for number in range(131_072 // size)]
    bulk = b"".join(http2.data(1, piece) for piece in pieces)
    book.client(bulk[:begun])
    book.client(bulk[begun:])
    assert book.take_up() == [("DATA", 1, piece) for piece in pieces]


def test_a_turn_is_bounded_whatever_comes() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.drop()
    tiny, count = http2.data(1, b"x"), 3 * FRAMES
    assert book.from_client.one_turn(tiny * count + tiny[:-1], book.now)
    assert len(b"".join(book.relay.take_for_backend())) == FRAMES * len(tiny)
    assert book.from_client.in_turns(b"", book.now) == 3, "the last one finds a frame that is not whole"
    assert not book.from_client.pending
    book.from_client.one_turn(tiny[-1:], book.now)
    assert book.relay.client.streams[1].received == count + 1


def test_faults_of_streams_take_more_of_a_turn() -> None:
    book = Book()
    book.from_client.one_turn(
        b"".join(
            http2.headers(i, book.block(book.client_encoder, [*GET, ("te", "x")]), True) for i in range(1, 401, 2)
        ),
        book.now,
    )
    most = -(-TURN // (FRAME_COST + EARLY_END_COST))
    assert most // 2 < len(Cutter().feed(b"".join(book.relay.take_for_client()))) <= most


def test_cancelled_requests_take_more_of_a_turn() -> None:
    book = Book()
    request = book.block(book.client_encoder, GET, indexed=False)
    book.from_client.one_turn(
        b"".join(http2.headers(i, request, True) + http2.rst_stream(i, ErrorCode.CANCEL) for i in range(1, 401, 2)),
        book.now,
    )
    most = -(-TURN // (FRAME_COST + EARLY_END_COST))
    assert most // 2 < len(book.records) <= most


def test_decoding_takes_of_a_turn() -> None:
    book = Book()
    fields = [("x-n", "0123456789"[n % 10] * (3 + n)) for n in range(60)]
    blocks = [
        http2.headers(i, book.block(book.client_encoder, [*GET, *fields[i:]], indexed=False)) for i in range(1, 41, 2)
    ]
    book.from_client.one_turn(b"".join(blocks), book.now)
    assert len(book.relay.client.streams) <= 2, "a block of 60 fields is worth half a turn"
    book.from_client.in_turns(b"", book.now)
    assert len(book.relay.client.streams) == 20


FRAMES = TURN // FRAME_COST  # small ones, of a turn
LARGE = ("x-large", "0" * 15_000)  # 9,375 bytes in Huffman codes, three turns


def pieces(stream_id: int, block: bytes) -> bytes:
    """HEADERS and CONTINUATION."""
    return frame(Frame.HEADERS, Flag.END_STREAM, stream_id, block[:3_000]) + frame(
        Frame.CONTINUATION, Flag.END_HEADERS, stream_id, block[3_000:]
    )


@pytest.mark.parametrize("cut", [lambda i, block: http2.headers(i, block, True), pieces], ids=["one frame", "two"])
def test_a_large_block_is_unpacked_in_turns_and_everything_keeps_its_place(cut: Callable[[int, bytes], bytes]) -> None:
    book = Book()
    first, large = book.block(book.client_encoder, GET), book.block(book.client_encoder, [*GET, LARGE])
    assert len(large) > 2 * UNPACKED
    book.from_client.one_turn(
        http2.headers(1, first, True) + cut(3, large) + http2.headers(5, first, True) + http2.ping(bytes(8)), book.now
    )
    assert list(book.relay.client.streams) == [1]
    assert book.from_client.in_turns(b"", book.now) == 5, "three, one to judge it, one with what came after it"
    book.collect()
    assert [(each[1], each[2]) for each in book.take_up()] == [
        (1, [*GET, *OURS]), (3, [*GET, LARGE, *OURS]), (5, [*GET, *OURS])
    ]  # fmt: skip
    assert book.take_down() == [("PING", 0, bytes(8))]


def test_a_block_of_many_small_fields_has_a_turn_of_its_own() -> None:
    """200 of them fit into 1.5 KB and take 0.5 ms: ten clients with such heads at once held others up for 5 ms."""
    book = Book()
    many = [*GET, *((f"{number:02x}", "ab") for number in range(200))]
    block = book.block(book.client_encoder, many)
    assert len(block) < 1_500
    assert book.from_client.one_turn(http2.headers(1, block, True), book.now)
    assert not book.relay.client.streams
    book.from_client.in_turns(b"", book.now)
    book.collect()
    assert book.take_up() == [("HEADERS!", 1, [*many, *OURS])]


def test_a_large_block_that_is_whole_is_not_waited_for() -> None:
    book = Book()
    assert book.from_client.one_turn(http2.headers(1, book.block(book.client_encoder, [*GET, LARGE]), True), book.now)
    book.now += BLOCK_SECONDS + 1
    book.relay.tick(book.now, book.idle)
    book.from_client.in_turns(b"", book.now)
    book.collect()
    assert book.take_up() == [("HEADERS!", 1, [*GET, LARGE, *OURS])]


def test_a_large_answer_is_unpacked_in_turns() -> None:
    book = Book()
    book.request(1)
    book.drop()
    fields = [*OK, LARGE]
    block = book.block(book.backend_encoder, fields)
    flow = http2.headers(1, block) + http2.data(1, b"x", end_stream=True)
    assert book.from_backend.in_turns(flow, book.now) == 1 + 5
    book.collect()
    assert book.take_down() == [("HEADERS", 1, fields), ("DATA!", 1, b"x")]


def test_what_is_wrong_with_a_large_block_is_said_as_of_any_other() -> None:
    book = Book()
    book.request(1, [*GET, LARGE, ("te", "x")])
    assert book.take_down() == [("RST_STREAM", 1, ErrorCode.PROTOCOL_ERROR)]
    book.request(3, [*GET, *[("x-large", "0" * 66_000)]], indexed=False)
    assert book.take_down()[0][2] == [(":status", "431"), ("content-length", "0")]
    book.client(http2.headers(5, encode([(b":method", b"GET")]) + b"\x00\x01a\xff\x81\x3f" + bytes(8_192), True))
    assert book.take_down() == [("GOAWAY", 3, ErrorCode.COMPRESSION_ERROR)]


@pytest.mark.parametrize(
    ("kind", "stream_id", "size", "fault"),
    [
        (Frame.PING, 0, 8, None),
        (Frame.PING, 1, 8, (ConnectionFault, ErrorCode.PROTOCOL_ERROR)),
        (Frame.PING, 0, 7, (ConnectionFault, ErrorCode.FRAME_SIZE_ERROR)),
        (Frame.GOAWAY, 0, 900, None),
        (Frame.GOAWAY, 0, 7, (ConnectionFault, ErrorCode.FRAME_SIZE_ERROR)),
        (Frame.RST_STREAM, 0, 4, (ConnectionFault, ErrorCode.PROTOCOL_ERROR)),
        (Frame.PRIORITY, 1, 4, (StreamFault, ErrorCode.FRAME_SIZE_ERROR)),
        (Frame.WINDOW_UPDATE, 0, 4, None),
        (Frame.WINDOW_UPDATE, 1, 4, None),
        (Frame.DATA, 1, 0, None),
    ],
)
def test_shapes(kind: Frame, stream_id: int, size: int, fault: tuple[type[Exception], ErrorCode] | None) -> None:
    if fault is None:
        check_shape(kind, stream_id, size)
        return
    with pytest.raises(fault[0], match=kind.name) as found:
        check_shape(kind, stream_id, size)
    assert isinstance(found.value, ConnectionFault | StreamFault)
    assert found.value.code is fault[1]


def test_every_type_has_its_shape() -> None:
    assert len(SHAPES) == len(Frame) == len(from_client.HANDLERS) == len(from_backend.HANDLERS)
