"""SETTINGS between a client and us, with no HTTP/2 behind."""

import pytest

from mcproxy.l7.http2.budgets import (
    CONNECTION_WINDOW,
    EARLY_STREAMS,
    PREFACE_SECONDS,
    SETTINGS_SECONDS,
    STREAM_WINDOW,
)
from mcproxy.l7.http2.client_settings import MAX_PENDING
from mcproxy.wire import http2
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import PREFACE, ConnectionFault, ErrorCode, Frame, Setting
from tests.kit.http2_direct import Direct

WINDOW, STREAMS, LIST, CONNECT = 4, 3, 6, 8


def frames(client: Direct) -> list[tuple[int, dict[int, int]]]:
    client.look()
    return [
        (seen.flags, dict(http2.parse_settings(seen.payload)))
        for seen in client.take_inbox()
        if seen.kind == Frame.SETTINGS
    ]


def test_ours_come_first_and_then_the_acknowledgement() -> None:
    client = Direct()
    client.send(PREFACE + http2.settings([(WINDOW, 9), (0xF0, 1)]))
    assert frames(client) == [(0, {STREAMS: EARLY_STREAMS, WINDOW: STREAM_WINDOW, LIST: MAX_HEADER_LIST}), (1, {})]
    assert client.leg.windows.up == CONNECTION_WINDOW
    assert client.take_notes() == [("settings", 0, [(WINDOW, 9)])]
    assert client.leg.windows.down_initial == 9
    assert repr(client.agreed) == "<ClientSettings announced, 1 pending>"


def test_those_of_the_other_side_are_acknowledged_there() -> None:
    client = Direct()
    client.handshake()
    client.take_notes()
    client.agreed.relay({STREAMS: 7, CONNECT: 1})
    assert frames(client) == [(0, {STREAMS: 7, CONNECT: 1})]
    assert client.leg.admission.extended_connect
    assert client.leg.admission.max_streams == EARLY_STREAMS, "fewer hold once they are acknowledged"
    client.send(http2.SETTINGS_ACK)
    assert client.leg.admission.max_streams == 7
    assert client.take_notes() == [("acknowledged", 0, None)]
    client.send(http2.SETTINGS_ACK)
    assert client.take_notes() == [], "one for which nothing was announced"


def test_an_increase_is_in_force_at_once_and_survives_an_older_decrease() -> None:
    client = Direct()
    client.handshake()
    for value in (STREAM_WINDOW - 1, STREAM_WINDOW + 1):
        client.agreed.relay({WINDOW: value})
    assert client.leg.windows.up_initial == STREAM_WINDOW + 1
    client.send(http2.SETTINGS_ACK)
    assert client.leg.windows.up_initial == STREAM_WINDOW + 1
    client.send(http2.SETTINGS_ACK)
    assert client.leg.windows.up_initial == STREAM_WINDOW + 1


def test_announcements_are_bounded() -> None:
    client = Direct()
    for value in range(MAX_PENDING):
        client.agreed.relay({WINDOW: value})
    with pytest.raises(ConnectionFault) as fault:
        client.agreed.relay({WINDOW: MAX_PENDING})
    assert fault.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_an_acknowledgement_that_is_late() -> None:
    client = Direct()
    client.send(PREFACE + http2.settings([]))
    client.leg.now = SETTINGS_SECONDS
    client.agreed.check()
    client.leg.now += 1
    with pytest.raises(ConnectionFault) as fault:
        client.agreed.check()
    assert fault.value.code is ErrorCode.SETTINGS_TIMEOUT


def test_an_acknowledgement_that_waits_behind_what_the_client_still_reads() -> None:
    """A slow reader was sent away 10 s after SETTINGS that were behind its answer."""
    client = Direct()
    client.send(PREFACE + http2.settings([]))
    for _ in range(3):
        client.leg.now += SETTINGS_SECONDS - 1
        client.judge.client_lags(client.leg.now)
        client.agreed.check()
    client.leg.now += SETTINGS_SECONDS
    client.agreed.check()
    client.leg.now += 1
    with pytest.raises(ConnectionFault):
        client.agreed.check()


def test_a_client_waits_for_our_preface_no_longer_than_it_may() -> None:
    client = Direct()
    client.leg.now = 5.0
    assert client.agreed.from_client([(Setting.ENABLE_PUSH, 0)]) == []
    client.agreed.check()
    assert frames(client) == []
    client.leg.now += PREFACE_SECONDS
    client.agreed.check()
    assert [flags for flags, _ in frames(client)] == [0, 1]
