"""Cutting: what passes as one slice, in which order replaced frames leave, and what a frame may look like."""

import pytest

from mcproxy.l7.frames import UNDEFINED_FLAGS, Frames
from mcproxy.wire import http2
from mcproxy.wire.http2 import ConnectionFault, ErrorCode, Flag, Frame
from tests.l7.book import OK, Book
from tests.l7.peer import POST, frame


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
        Frames.unpadded(payload, 0, len(payload))
    assert fault.value.code is code


def test_padding_of_the_whole_payload_is_right() -> None:
    assert Frames.unpadded(b"\x04abcd", 0, 5) == (1, 1)


def test_a_run_stays_one_slice_and_keeps_its_place() -> None:
    book = Book()
    book.request(1, POST, end=False)
    book.drop()
    parts = [http2.data(1, b"a"), http2.data(1, b"b"), frame(0xEE), http2.data(1, b"c", end_stream=True)]
    book.relay.receive_from_client(b"".join(parts), book.now)
    assert book.relay.pair.to_backend == [parts[0] + parts[1], parts[3]]


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
