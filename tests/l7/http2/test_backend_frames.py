"""What the relay and the bridge have in common in judging a backend. The frames themselves: test_from_backend.py."""

import pytest

from mcproxy.l7.http2.backend_frames import ANY_LENGTH, body_length, data_fault
from mcproxy.wire.fields import NO_LENGTH, Answer


@pytest.mark.parametrize(
    ("method", "status", "declared", "follows"),
    [
        (b"GET", 200, 7, 7),
        (b"GET", 200, NO_LENGTH, ANY_LENGTH),
        (b"HEAD", 200, 7, 0),  # the length is that of another answer (RFC 9110, section 8.6)
        (b"GET", 304, 7, 0),
        (b"GET", 204, NO_LENGTH, 0),
        (b"CONNECT", 200, 7, ANY_LENGTH),
        (b"CONNECT", 304, 7, 0),
    ],
)
def test_how_long_a_body_has_to_be(method: bytes, status: int, declared: int, follows: int) -> None:
    assert body_length(method, Answer(status, declared)) == follows


def test_what_is_wrong_with_data_is_named() -> None:
    faults = [data_fault(False, False), data_fault(True, True), data_fault(True, False)]
    assert faults == ["DATA before the answer's head", "DATA after END_STREAM", "the body is not of content-length"]
