import struct

import pytest
from hyperframe.frame import Frame as Reference
from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from mcproxy.wire import http2
from mcproxy.wire.http2 import ConnectionFault, ErrorCode, Frame, Setting, StreamFault


def parse(data: bytes) -> Reference:
    frame, length = Reference.parse_frame_header(memoryview(data)[:9])
    frame.parse_body(memoryview(data)[9 : 9 + length])
    assert len(data) == 9 + length
    return frame


def test_our_frames_are_what_another_parser_reads() -> None:
    reset = parse(http2.rst_stream(5, ErrorCode.CANCEL))
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (5, 8)
    away = parse(http2.goaway(7, ErrorCode.ENHANCE_YOUR_CALM, b"why"))
    assert isinstance(away, GoAwayFrame)
    assert (away.last_stream_id, away.error_code, away.additional_data) == (7, 11, b"why")
    update = parse(http2.window_update(3, 2**31 - 1))
    assert isinstance(update, WindowUpdateFrame)
    assert (update.stream_id, update.window_increment) == (3, 2**31 - 1)
    settings = parse(http2.settings([(4, 1), (1, 0)]))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {4: 1, 1: 0}
    assert parse(http2.SETTINGS_ACK).flags.__contains__("ACK")
    assert parse(http2.ping(b"12345678", ack=True)).serialize() == http2.ping(b"12345678", ack=True)
    assert parse(http2.data(1, b"body", end_stream=True)).serialize() == http2.data(1, b"body", end_stream=True)


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 32_768, 50_000])
def test_a_block_is_cut_into_continuations(size: int) -> None:
    data, block, kinds = http2.headers(9, b"b" * size, end_stream=True), b"", []
    while data:
        high, low, kind, flags, stream_id = http2.HEADER.unpack_from(data)
        length = high << 8 | low
        assert length <= http2.MAX_FRAME_SIZE
        assert stream_id == 9
        block += data[9 : 9 + length]
        data = data[9 + length :]
        kinds.append((kind, flags))
    assert block == b"b" * size
    assert kinds[0][0] == Frame.HEADERS
    assert {kind for kind, _ in kinds[1:]} <= {Frame.CONTINUATION}
    assert [flags & 4 for _, flags in kinds] == [0] * (len(kinds) - 1) + [4]
    assert kinds[0][1] & 1


def test_headers_of_one_frame_are_read_by_another_parser() -> None:
    frame = parse(http2.headers(1, b"\x82", end_stream=False))
    assert isinstance(frame, HeadersFrame)
    assert set(frame.flags) == {"END_HEADERS"}


def test_settings_keep_their_order_and_the_unknown() -> None:
    pairs = [(4, 100), (0xFF, 7), (4, 1), (Setting.MAX_FRAME_SIZE, 2**24 - 1)]
    payload = b"".join(struct.pack(">HL", *pair) for pair in pairs)
    assert http2.parse_settings(payload) == pairs
    assert http2.parse_settings(b"") == []


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (Setting.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
        (Setting.ENABLE_CONNECT_PROTOCOL, 2, ErrorCode.PROTOCOL_ERROR),
        (Setting.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**14 - 1, ErrorCode.PROTOCOL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_forbidden_value_is_a_fault(key: int, value: int, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as fault:
        http2.parse_settings(struct.pack(">HL", key, value))
    assert fault.value.code is code
    assert code.name in str(fault.value)


def test_settings_of_a_wrong_size_are_a_fault() -> None:
    with pytest.raises(ConnectionFault) as fault:
        http2.parse_settings(b"\0" * 7)
    assert fault.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_a_stream_fault_names_its_stream() -> None:
    assert str(StreamFault(3, ErrorCode.CANCEL, "why")) == "stream 3: CANCEL: why"
