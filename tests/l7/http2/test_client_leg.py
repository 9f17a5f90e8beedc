import pytest

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.admission import Refusal
from mcproxy.l7.http2.stream import StreamState
from mcproxy.wire import http2
from mcproxy.wire.fields import NO_REQUEST
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode, Frame
from tests.kit.http2_direct import Direct
from tests.kit.http2_peer import POST


@pytest.fixture
def client() -> Direct:
    made = Direct(answers=False)
    made.handshake()
    return made


def test_goaway_never_takes_back_a_refusal(client: Direct) -> None:
    assert client.leg.admission.last_offered == MAX_STREAM_ID
    client.leg.goaway(9, ErrorCode.NO_ERROR)
    client.leg.goaway(11, ErrorCode.NO_ERROR)
    client.look()
    assert [int.from_bytes(seen.payload[:4], "big") for seen in client.take_inbox()] == [9, 9]


@pytest.mark.parametrize("answer_first", [True, False])
def test_a_stream_is_recorded_once_whoever_ends_it_first(client: Direct, answer_first: bool) -> None:
    client.request(1, POST, end=False)
    leg = client.leg
    stream = leg.streams[1]
    for ends in (leg.answer_ended, leg.request_ended)[:: 1 if answer_first else -1]:
        assert stream.state is not StreamState.CLOSED
        ends(stream)
    assert stream.state is StreamState.CLOSED
    assert leg.ended == [stream]
    assert not leg.streams
    assert repr(leg) == "<ClientLeg b'a.test' 0 streams>"


@pytest.mark.parametrize(
    ("status", "frames"),
    [
        (0, [(Frame.HEADERS, 1), (Frame.RST_STREAM, ErrorCode.NO_ERROR)]),
        (200, [(Frame.RST_STREAM, ErrorCode.INTERNAL_ERROR)]),
    ],
    ids=["before the answer", "within it"],
)
def test_a_stream_that_fails_never_ends_cleanly(client: Direct, status: int, frames: list[tuple[int, int]]) -> None:
    client.request(1, POST, end=False)
    stream = client.leg.streams[1]
    stream.status = status
    client.leg.fail(stream, 502, ExchangeEnd.BACKEND_GONE, "it is gone")
    client.look()
    seen = client.take_inbox()
    assert [(each.kind, each.flags & 1 if each.kind == Frame.HEADERS else each.code) for each in seen] == frames
    assert (stream.status, stream.end, stream.why) == (status or 502, ExchangeEnd.BACKEND_GONE, "it is gone")


def test_a_request_that_we_answer_or_turn_away_did_not_go_to_the_backend(client: Direct) -> None:
    client.request(1, POST, end=False)
    leg = client.leg
    leg.fail(leg.streams[1], 502, ExchangeEnd.ANSWERED, "the backend was not there")
    leg.turn_away(3, True, NO_REQUEST, Refusal(ErrorCode.REFUSED_STREAM, "too many"))
    assert [each.backend_protocol for each in leg.ended] == ["", ""]


def test_a_body_that_may_come_and_does_not_stalls(client: Direct) -> None:
    client.request(1, [*POST, ("content-length", "9")], end=False)
    client.request(3, POST, end=False)
    leg = client.leg
    declared, endless = leg.streams[1], leg.streams[3]
    leg.now += BODY_STALL_SECONDS
    assert not leg.stalls(declared)
    leg.now += 1
    assert leg.stalls(declared)
    assert not leg.stalls(endless), "an event stream of the client's is never late"
    declared.up_window = 0
    assert not leg.stalls(declared), "it waits for us"


def test_dropped_data_is_credited(client: Direct) -> None:
    before = client.leg.windows.up
    client.leg.credit(0)
    client.leg.credit(7)
    assert client.leg.windows.up == before + 7
    assert client.leg.out == [http2.window_update(0, 7)]
