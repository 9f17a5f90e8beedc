"""The relay as its owner sees it: how connections begin, fail, drain and end. And real state machines on both sides."""

import random
import sys

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded

from mcproxy.l7 import bounds
from mcproxy.l7.core import Ending, ExchangeEnd, Turn
from mcproxy.l7.http2 import budgets
from mcproxy.l7.relay.relay import Relay
from mcproxy.model import End
from mcproxy.wire import http2
from mcproxy.wire.http2 import MAX_STREAM_ID, PREFACE, ErrorCode, Frame
from tests.kit.http2_peer import GET, HOST, POST, CarelessBackend, frame
from tests.kit.inbox import Inbox
from tests.kit.relay_playbook import OK, OURS, Book

GRPC = [*POST, ("content-type", "application/grpc")]


@pytest.mark.parametrize("status", [502, 504])
def test_an_unreachable_backend(status: int) -> None:
    book = Book(start=False)
    book.client(PREFACE + http2.settings([]))
    book.request(1, POST, end=False)
    book.request(3, GRPC)
    book.relay.backend_failed(status, "why", book.now)
    book.collect()
    down = book.take_down()
    assert [each[0] for each in down] == [
        "SETTINGS",
        "WINDOW_UPDATE",
        "SETTINGS",
        "HEADERS!",
        "RST_STREAM",
        "HEADERS!",
        "GOAWAY",
    ]
    assert (":status", str(status)) in down[3][2]  # type: ignore[operator]
    assert ("grpc-status", "14") in down[5][2]  # type: ignore[operator]
    assert book.relay.ending
    assert [s.end for s in book.records] == [ExchangeEnd.ANSWERED] * 2


def test_a_backend_that_failed_before_the_first_request() -> None:
    """That request is answered, not refused: else a client would repeat it for ever."""
    book = Book(start=False)
    book.relay.backend_failed(504, "why", book.now)
    book.relay.backend_closed(book.now)
    assert not book.relay.ending
    assert not book.relay.has_backend
    assert book.relay.fault == "why"
    book.client(PREFACE + http2.settings([]) + http2.SETTINGS_ACK)
    book.request(1)
    down = book.take_down()
    assert (":status", "504") in down[3][2]  # type: ignore[operator]
    assert down[-1] == ("GOAWAY", 1, ErrorCode.NO_ERROR)
    assert book.relay.ending


def test_a_backend_that_dies_in_the_middle() -> None:
    book = Book()
    for stream_id in (1, 3, 5):
        book.request(stream_id)
    book.answer(1)
    book.answer(3, end=False)
    book.drop()
    book.relay.backend_closed(book.now)
    book.collect()
    reset, head, away = book.take_down()
    assert reset == ("RST_STREAM", 3, ErrorCode.INTERNAL_ERROR)
    assert (":status", "502") in head[2]  # type: ignore[operator]
    assert away == ("GOAWAY", 5, ErrorCode.NO_ERROR)
    assert [s.end for s in book.records] == [ExchangeEnd.DONE, ExchangeEnd.BACKEND_GONE, ExchangeEnd.BACKEND_GONE]
    assert book.relay.fault == "the backend closed its connection"


def test_draining_finishes_what_is_under_way() -> None:
    book = Book()
    book.request(1)
    book.drop()
    book.relay.drain(book.now)
    book.relay.drain(book.now)
    book.collect()
    notice, ping = book.take_down()
    assert notice == ("GOAWAY", MAX_STREAM_ID, 0)
    book.request(3)
    assert book.take_up() == [("HEADERS!", 3, [*GET, *OURS])], "it was on its way"
    assert isinstance(ping[2], bytes)
    book.client(http2.ping(ping[2], ack=True))
    assert book.take_down() == [("GOAWAY", 3, 0)]
    book.request(5)
    assert book.take_down() == [("RST_STREAM", 5, ErrorCode.REFUSED_STREAM)]
    book.answer(3)
    assert not book.relay.ending
    book.answer(1)
    assert book.relay.ending


def test_draining_does_not_wait_for_a_client_that_says_nothing() -> None:
    book = Book()
    before = book.relay.hurried
    book.relay.drain(book.now)
    assert (before, book.relay.hurried) == (False, True)
    book.tick(budgets.GRACE_SECONDS)
    assert book.take_down()[-1] == ("GOAWAY", 0, 0)
    assert book.relay.ending


def test_a_stalled_body_is_cut_but_not_an_open_stream() -> None:
    book = Book()
    book.request(1, [*POST, ("content-length", "10")], end=False)
    book.request(3, GRPC, end=False)
    book.client(http2.data(1, b"12345"))
    book.drop()
    book.tick(bounds.BODY_STALL_SECONDS - 1)
    assert book.take_down() == []
    book.tick(2)
    assert book.take_down() == [("RST_STREAM", 1, ErrorCode.CANCEL)]
    assert book.take_up() == [("RST_STREAM", 1, ErrorCode.CANCEL)]


def test_a_body_is_late_only_once_its_client_knows_that_it_may_come() -> None:
    """What says so was behind an answer of megabytes, in the kernel."""
    book = Book()
    book.request(1, [*POST, ("content-length", "10")], end=False)
    for _ in range(3):
        book.tick(bounds.BODY_STALL_SECONDS - 1)
        book.relay.client_lags(book.now)
    book.tick(bounds.BODY_STALL_SECONDS)
    assert not book.records
    book.tick(1)
    assert [s.end for s in book.records] == [ExchangeEnd.CLIENT_FAULT]


def test_a_backend_that_still_takes_a_request_is_not_late() -> None:
    """It had 504 for a body that the kernel had taken for it, and that it went on reading."""
    book = Book()
    book.request(1, POST, end=False)
    book.client(http2.data(1, b"a", True))
    book.request(3, [*POST, ("content-length", "10")], end=False)
    for _ in range(3):
        book.tick(book.idle - 1)
        book.relay.backend_lags(book.now)
    book.tick(book.idle - 1)
    assert [s.end for s in book.records] == [ExchangeEnd.CLIENT_FAULT], "whose turn is the client's still is late"
    book.tick(1)
    assert [(s.id, s.status) for s in book.records[1:]] == [(1, 504)]


def test_a_client_that_goes_leaves_a_record_of_each_exchange() -> None:
    book = Book()
    book.request(1)
    book.drop()
    assert book.relay.wants_client
    book.relay.client_lost(book.now + 5)
    assert not book.relay.backend.out
    assert [(s.id, s.end, s.ended - s.started) for s in book.records] == [(1, ExchangeEnd.CLIENT_GONE, 5.0)]
    book.client(http2.ping(b"12345678"))
    assert book.take_up() == []
    assert "<Ending fin closed ''>" in repr(book.relay)


def test_what_was_under_way_when_we_cut_the_connection_says_so() -> None:
    book = Book()
    book.request(1)
    book.relay.cut("closed by an operator", book.now)
    assert [s.end for s in book.records] == [ExchangeEnd.CUT]
    assert book.relay.ending


def test_a_backend_that_never_answers_is_504() -> None:
    book = Book()
    book.request(1)
    book.request(3, POST, end=False)
    book.answer(1, end=False)
    book.drop()
    book.relay.give_up(book.now)
    assert book.relay.fault == "the backend doesn't answer"
    book.collect()
    assert book.take_up() == [("RST_STREAM", 3, ErrorCode.CANCEL)]
    assert [seen[:2] for seen in book.take_down()[:3]] == [
        ("HEADERS!", 3),
        ("RST_STREAM", 3),
        ("GOAWAY", MAX_STREAM_ID),
    ]
    assert [(s.id, s.status, s.end) for s in book.records] == [(3, 504, ExchangeEnd.ANSWERED)]
    assert not book.relay.ending, "the answer that has begun may go on"
    book.relay.client_closed(book.now)
    assert book.relay.ending == Ending(end=End.IDLE_TIMEOUT, why="the backend doesn't answer")


PING = http2.ping(bytes(8))


def test_a_hung_backend_is_504_though_its_connection_lives() -> None:
    """A PING every two seconds, or another busy stream, kept a request waiting for ever: the clock is the request's."""
    book = Book()
    book.request(1)
    book.request(3)
    book.answer(1, end=False)
    book.drop()
    for _ in range(int(book.idle) - 1):
        book.tick(1)
        book.backend(PING + http2.data(1, b"busy"))
        book.client(PING + http2.window_update(0, 4) + http2.window_update(1, 4))
    assert {each[0] for each in book.take_down()} == {"PING", "DATA"}
    book.take_up()
    book.tick(1)
    assert book.take_down()[0][:2] == ("HEADERS!", 3)
    assert book.take_up() == [("RST_STREAM", 3, ErrorCode.CANCEL)]
    assert [(s.id, s.status, s.end, s.why) for s in book.records] == [
        (3, 504, ExchangeEnd.ANSWERED, "the backend doesn't answer")
    ]
    book.tick(3 * book.idle)
    book.request(5)
    book.answer(5)
    book.backend(http2.data(1, b"", end_stream=True))
    assert [s.status for s in book.records[1:]] == [200, 200], "what has begun goes on, and so does the connection"
    assert not book.relay.ending


def test_a_backend_that_is_silent_altogether_is_left() -> None:
    """It may be gone: the client's next connection dials again."""
    book = Book()
    book.request(1)
    for _ in range(int(book.idle)):
        book.tick(1)
        book.client(PING)
    down = [each for each in book.take_down() if each[0] != "PING"]
    assert [each[:2] for each in down] == [("HEADERS!", 1), ("GOAWAY", MAX_STREAM_ID)]
    book.tick(1)
    assert book.relay.ending == Ending(end=End.IDLE_TIMEOUT, why="the backend doesn't answer")


def test_the_clock_of_a_request_begins_when_its_body_last_moved() -> None:
    book = Book()
    book.request(1, POST, end=False)
    for _ in range(int(book.idle) + 50):
        book.tick(1)
        book.client(http2.data(1, b"x"))
    book.client(http2.data(1, b"", end_stream=True))
    book.drop()
    for _ in range(int(book.idle) - 1):
        book.tick(1)
        book.backend(PING)
    assert {each[0] for each in book.take_down()} == set()
    book.tick(1)
    assert book.take_down()[0][:2] == ("HEADERS!", 1)


def test_a_client_that_owes_the_rest_of_its_body_is_not_the_backends_fault() -> None:
    book = Book()
    book.idle = 20.0
    book.request(1, [*POST, ("content-length", "9")], end=False)
    book.drop()
    for _ in range(50):
        book.tick(1)
        book.backend(PING)
    assert book.take_down() == []
    book.tick(11)
    assert [each[:2] for each in book.take_down()] == [("RST_STREAM", 1)]
    assert [s.end for s in book.records] == [ExchangeEnd.CLIENT_FAULT]


def test_a_backend_that_speaks_http_1_is_called_that() -> None:
    book = Book(start=False)
    book.client(PREFACE + http2.settings([]))
    book.request(1)
    book.backend(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert "the backend speaks HTTP/1: an l7 route needs HTTP/2" in book.relay.fault
    assert [s.status for s in book.records] == [502]


def test_a_preface_in_pieces() -> None:
    book = Book(start=False)
    for byte in PREFACE + http2.settings([]):
        book.client(bytes((byte,)))
    book.backend(http2.settings([]))
    assert [each[0] for each in book.take_down()] == ["SETTINGS", "WINDOW_UPDATE", "SETTINGS"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 10, 11, 50])
def test_any_chunking_of_both_sides_is_the_same(size: int) -> None:
    def run(chunk: int) -> tuple[object, object]:
        book = Book()
        client = b"".join(
            http2.headers(i, book.block(book.client_encoder, POST)) + http2.data(i, b"body" * i, end_stream=True)
            for i in (1, 3, 5)
        )
        backend = b"".join(
            http2.headers(i, book.block(book.backend_encoder, OK)) + http2.data(i, b"answer" * i, end_stream=True)
            for i in (5, 1, 3)
        )
        for start in range(0, len(client), chunk):
            book.client(client[start : start + chunk])
        for start in range(0, len(backend), chunk):
            book.backend(backend[start : start + chunk])
        return book.take_up(), book.take_down()

    assert run(size) == run(100_000)


@pytest.mark.parametrize("seed", range(200))
def test_mutated_bytes_never_break_the_relay(seed: int) -> None:
    """Whatever comes, the only exceptions are those that are caught here; every exchange ends once."""
    dice = random.Random(seed)
    book = Book()
    script = (
        b"".join(
            http2.headers(i, book.block(book.client_encoder, POST)) + http2.data(i, b"x" * 50, end_stream=True)
            for i in range(1, 21, 2)
        )
        + http2.window_update(0, 5)
        + http2.ping(b"12345678")
        + http2.rst_stream(3, 8)
    )
    data = bytearray(script)
    for _ in range(dice.randrange(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    backend = CarelessBackend()
    backend.greeted = True
    book.from_client.one_turn(bytes(data), book.now)
    answers = bytearray(backend.receive(b"".join(book.relay.take_for_backend())))
    if answers:
        answers[dice.randrange(len(answers))] = dice.randrange(256)
    book.from_backend.one_turn(bytes(answers), book.now)
    book.relay.client_closed(book.now)
    assert len({s.id for s in book.records}) == len(book.records)
    assert not book.relay.client.streams


def test_a_request_among_many_costs_few_calls() -> None:
    """A guard against work that creeps into the path of all of them; time would depend on the machine."""
    book = Book()
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    for first in (1, 21, 41):  # the tables move in the first, the caches learn in the second
        ids = range(first, first + 20, 2)
        asked = b"".join(http2.headers(i, book.block(book.client_encoder, GET), True) for i in ids)
        told = [http2.headers(i, book.block(book.backend_encoder, OK)) + http2.data(i, b"x", True) for i in ids]
        calls = 0
        sys.setprofile(count)
        book.relay.receive_from_client(asked, Turn(), book.now)
        book.relay.receive_from_backend(b"".join(told), Turn(), book.now)
        sys.setprofile(None)
        assert len(book.relay.take_ended()) == 10
    assert calls <= 35, "3 for each of the ten, and a few for the two reads"


class Machines:
    """h2 as the client, the relay, h2 as the backend: bytes carried until nobody says anything."""

    def __init__(self) -> None:
        self.relay = Relay(HOST, "192.0.2.1", lambda _: False, 0.0)
        self.from_client = Inbox(self.relay.receive_from_client)
        self.from_backend = Inbox(self.relay.receive_from_backend)
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.backend = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.client.initiate_connection()
        self.backend.initiate_connection()
        self.got: dict[int, bytes] = {}
        self.heads: dict[int, list[tuple[str, str]]] = {}
        self.uploads: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}

    def carry(self) -> None:
        while True:
            up = self.client.data_to_send()
            if up:
                self.from_client.in_turns(up, 0.0)
            for event in self.backend.receive_data(b"".join(self.relay.take_for_backend())):
                self.serve(event)
            for stream_id in list(self.bodies):
                self.send(self.backend, stream_id)
            down = self.backend.data_to_send()
            if down:
                self.from_backend.in_turns(down, 0.0)
            answers = b"".join(self.relay.take_for_client())
            for event in self.client.receive_data(answers):
                self.take(event)
            if not up and not down and not answers:
                return

    def send(self, side: H2Connection, stream_id: int) -> None:
        body = self.bodies[stream_id]
        while body and (room := min(side.local_flow_control_window(stream_id), side.max_outbound_frame_size)):
            side.send_data(stream_id, body[:room], end_stream=len(body) <= room)
            body = body[room:]
        self.bodies[stream_id] = body
        if not body:
            del self.bodies[stream_id]

    def serve(self, event: object) -> None:
        if isinstance(event, DataReceived):
            self.backend.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.uploads[event.stream_id] += len(event.data)
        if isinstance(event, RequestReceived):
            self.uploads[event.stream_id] = 0
            self.heads[event.stream_id] = [(str(n), str(v)) for n, v in event.headers]
        if isinstance(event, StreamEnded):
            self.backend.send_headers(event.stream_id, [(":status", "200"), ("x-stream", str(event.stream_id))])
            self.bodies[event.stream_id] = b"%d" % event.stream_id * 60_000

    def take(self, event: object) -> None:
        if isinstance(event, DataReceived):
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.got[event.stream_id] = self.got.get(event.stream_id, b"") + event.data
        if isinstance(event, ResponseReceived):
            said = {str(name): str(value) for name, value in event.headers}
            assert said.get("x-stream", str(event.stream_id)) == str(event.stream_id)


def test_two_real_state_machines_agree_through_the_relay() -> None:
    machines = Machines()
    machines.carry()
    for number in range(40):
        stream_id = 2 * number + 1
        extra = [("x-forwarded-for", "10.0.0.1")] if number % 7 == 3 else []
        if number % 5 == 2:
            machines.client.send_headers(
                stream_id, [*GET[:3], (":authority", "other.test"), ("x-n", str(number))], end_stream=True
            )
            machines.carry()
            continue
        machines.client.send_headers(stream_id, [*GET, ("x-n", str(number)), *extra])
        machines.client.send_data(stream_id, b"u" * 100, end_stream=True)
        machines.carry()
        assert machines.heads[stream_id] == [*GET, ("x-n", str(number)), *OURS]
        assert machines.got[stream_id] == b"%d" % stream_id * 60_000
        assert machines.uploads[stream_id] == 100
    records = machines.relay.take_ended()
    assert [s.status for s in records].count(421) == 8
    assert {s.end for s in records} == {ExchangeEnd.DONE, ExchangeEnd.ANSWERED}


def test_the_end_is_said_once() -> None:
    book = Book()
    book.request(1)
    book.drop()
    for _ in range(2):
        book.relay.cut("closed by an operator", book.now)
        book.relay.client_closed(book.now)
    book.collect()
    assert book.take_down() == [("GOAWAY", 1, ErrorCode.NO_ERROR)]
    assert [s.end for s in book.records] == [ExchangeEnd.CUT]


@pytest.mark.parametrize("stream_id", [0, 1])
def test_the_reserved_bit_of_an_increment_is_not_passed(stream_id: int) -> None:
    """It must be unset when sent (RFC 9113, section 6.9): a backend on h2 ended its connection for a client's bit."""
    book = Book()
    book.request(1, POST, end=False)
    book.to_backend.clear()
    book.client(frame(Frame.WINDOW_UPDATE, 0, stream_id, bytes.fromhex("80000064")))
    assert [(each.stream_id, each.payload.hex()) for each in book.to_backend] == [(stream_id, "00000064")]
