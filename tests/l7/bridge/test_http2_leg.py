"""What a connection opens with, and how its windows are opened again."""

from mcproxy.l7.bridge.bounds import WINDOW
from mcproxy.l7.bridge.http2_leg import OPENING, Http2Leg, Http2Stream
from mcproxy.wire import http2
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import PREFACE, Frame, Setting, parse_settings
from tests.kit.http2_peer import Cutter


def test_the_opening_has_our_settings_and_windows() -> None:
    assert OPENING.startswith(PREFACE)
    settings, update = Cutter().feed(OPENING[len(PREFACE) :])
    values = dict(parse_settings(settings.payload))
    assert values == {
        Setting.ENABLE_PUSH: 0,
        Setting.INITIAL_WINDOW_SIZE: WINDOW,
        Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
    }
    assert (update.kind, update.stream_id) == (Frame.WINDOW_UPDATE, 0)
    assert int.from_bytes(update.payload, "big") == WINDOW, "no less than a stream's"


def test_windows_are_opened_by_what_they_lack() -> None:
    leg, stream = Http2Leg(), Http2Stream(3, b"GET", False, 100, True)
    leg.out.clear()
    leg.owed, stream.owed = 700, 600
    leg.credit()
    leg.credit_stream(stream)
    assert leg.out == [http2.window_update(0, 700), http2.window_update(3, 600)]
    assert (leg.owed, stream.owed) == (0, 0)


def test_a_goaway_covers_what_is_not_above_its_last_stream() -> None:
    leg = Http2Leg()
    leg.last_id = 3
    assert [leg.covers(Http2Stream(number, b"GET", False, 0, True)) for number in (1, 3, 5)] == [True, True, False]


def test_they_show_what_they_carry() -> None:
    leg = Http2Leg()
    leg.stream = Http2Stream(1, b"GET", False, 0, True)
    leg.leaves = True
    assert repr(leg) == "<Http2Leg <Http2Stream 1 b'GET' 0> leaves>"
