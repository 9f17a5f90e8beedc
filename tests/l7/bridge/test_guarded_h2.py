"""One HTTP/2 connection to a backend: GOAWAY, windows, and backends that break rules."""

import pytest
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded

from mcproxy.l7.bounds import TURN
from mcproxy.l7.bridge.bounds import H2_FRAME_COST, MAX_GOAWAY
from mcproxy.l7.bridge.ends import BackendFault
from mcproxy.l7.bridge.guarded_h2 import GuardedH2
from mcproxy.l7.core import Turn
from mcproxy.wire.http2 import MAX_STREAM_ID
from tests.kit.bridge_playbook import MemoryBackend

FIELDS = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"one.test"), (b":path", b"/"))


def taken(ours: GuardedH2, data: bytes) -> list[Event]:
    """What it makes of it, in as many turns as it takes."""
    found: list[Event] = []
    while data:
        events, size = ours.receive(data, Turn(), 0.0)
        found += events
        data = data[size:]
    return found


def connected() -> tuple[GuardedH2, MemoryBackend]:
    ours, theirs = GuardedH2(), MemoryBackend()
    theirs.receive(ours.take())
    taken(ours, theirs.h2.data_to_send())
    theirs.receive(ours.take())
    taken(ours, theirs.h2.data_to_send())
    return ours, theirs


def goaway(last: int, debug: bytes = b"") -> bytes:
    size = 8 + len(debug)
    return size.to_bytes(3, "big") + b"\x07\x00" + bytes(4) + last.to_bytes(4, "big") + bytes(4) + debug


def test_goaway_does_not_end_what_it_covers() -> None:
    """In every cut: the frame may come in pieces, between and behind others."""
    template, theirs = connected()
    stream = template.request(FIELDS, end=True)
    theirs.receive(template.take())
    theirs.answer(200)
    theirs.data(b"a")
    before = theirs.h2.data_to_send()
    theirs.data(b"b", end=True)
    flow = before + goaway(stream, b"bye") + theirs.h2.data_to_send() + goaway(stream)
    for cut in range(len(flow) + 1):
        ours, _ = connected()
        assert ours.request(FIELDS, end=True) == stream
        events = taken(ours, flow[:cut]) + taken(ours, flow[cut:])
        assert b"".join(e.data for e in events if isinstance(e, DataReceived)) == b"ab"
        assert not ours.accepts
        assert ours.processed == stream
    assert "going away" in repr(ours)


def test_many_frames_are_taken_in_turns() -> None:
    ours, theirs = connected()
    ours.request(FIELDS, end=True)
    theirs.receive(ours.take())
    theirs.answer(200)
    most = -(-TURN // H2_FRAME_COST)
    for _ in range(3 * most - 1):
        theirs.data(b"x")
    flow = theirs.to_send()
    flow, last, got = flow[:-1], flow[-1:], []
    while flow:
        events, size = ours.receive(flow, Turn(), 0.0)
        flow = flow[size:]
        got.append(len(events))
    assert got == [most, most, most - 1]
    assert len(taken(ours, last)) == 1


def test_a_last_stream_never_rises_again() -> None:
    ours, _ = connected()
    taken(ours, goaway(MAX_STREAM_ID))
    assert (ours.accepts, ours.processed) == (False, MAX_STREAM_ID)
    taken(ours, goaway(3) + goaway(7))
    assert ours.processed == 3


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x00\x00\x07" + goaway(0)[3:],
        goaway(0, bytes(MAX_GOAWAY)),
        b"\x00\x40\x01\x00\x00\x00\x00\x00\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x01\x00\x00\x00\x00\x00\x05a",
        b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x80",
    ],
)
def test_what_breaks_http_2_ends_the_connection(wrong: bytes) -> None:
    ours, theirs = connected()
    ours.request(FIELDS, end=True)
    theirs.receive(ours.take())
    with pytest.raises(BackendFault):
        taken(ours, wrong)
    assert not ours.accepts


def test_the_first_frame_is_settings() -> None:
    with pytest.raises(BackendFault, match="does not begin with SETTINGS"):
        taken(GuardedH2(), b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8))
    with pytest.raises(BackendFault):
        taken(GuardedH2(), b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n")


@pytest.mark.parametrize("cut", range(12))
def test_a_304_may_say_a_length_and_end_in_data(cut: int) -> None:
    """The length is that of another answer (RFC 9110, section 8.6)."""
    ours, theirs = connected()
    ours.request(FIELDS, end=True)
    theirs.receive(ours.take())
    theirs.answer(304, [("content-length", "100")])
    theirs.data(b"", end=True)
    flow = theirs.h2.data_to_send()
    events = taken(ours, flow[: len(flow) - cut]) + taken(ours, flow[len(flow) - cut :])
    assert isinstance(events[-1], StreamEnded)
    assert ours.accepts


def test_the_fields_of_an_answer_stay_as_they_are() -> None:
    ours, theirs = connected()
    ours.request(FIELDS, end=True)
    theirs.receive(ours.take())
    said = [("set-cookie", "a=1"), ("cookie", "b"), ("x-a", ""), ("set-cookie", "c=2"), ("cookie", "d")]
    theirs.answer(200, said, end=True)
    (head,) = (each for each in taken(ours, theirs.h2.data_to_send()) if isinstance(each, ResponseReceived))
    assert head.headers[1:] == [(name.encode(), value.encode()) for name, value in said]


def test_the_window_is_given_back() -> None:
    ours, theirs = connected()
    ours.request(FIELDS, end=True)
    theirs.receive(ours.take())
    theirs.answer(200)
    received = 0
    for _ in range(400):
        theirs.data(bytes(16_000))
        for event in taken(ours, theirs.h2.data_to_send()):
            received += len(event.data) if isinstance(event, DataReceived) else 0
        theirs.receive(ours.take())
    assert received == 400 * 16_000


def test_bodies_trailers_and_cancelling() -> None:
    ours, theirs = connected()
    stream = ours.request(FIELDS, end=False)
    assert ours.room(stream) == 65_535
    ours.send(stream, bytes(40_000))
    ours.end(stream, [(b"x-sum", b"1")])
    theirs.receive(ours.take())
    assert len(theirs.bodies[stream]) == 40_000
    assert theirs.trailers == [("x-sum", "1")]
    theirs.answer(200, end=True)
    assert any(isinstance(event, ResponseReceived) for event in taken(ours, theirs.h2.data_to_send()))
    second = ours.request(FIELDS, end=False)
    ours.end(second, [])
    ours.cancel(second)
    theirs.receive(ours.take())
    assert theirs.reset == [second]
    assert not ours.offers_websocket


def test_what_can_t_be_sent_is_a_fault() -> None:
    ours, _ = connected()
    stream = ours.request(FIELDS, end=True)
    for attempt in (
        lambda: ours.send(stream, b"a"),
        lambda: ours.room(99),
        lambda: ours.end(stream, []),
        lambda: ours.cancel(99),
    ):
        with pytest.raises(BackendFault):
            attempt()
