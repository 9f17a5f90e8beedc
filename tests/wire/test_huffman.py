import subprocess
import sys

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import example, given
from hypothesis import strategies as st

from mcproxy.wire.huffman import EOS, HuffmanFault, decode, decode_in_steps

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def code(value: bytes) -> bytes:
    return ENCODER.encode(value)


def ones(count: int) -> bytes:
    """So many ones, and zeros up to the next byte."""
    return (((1 << count) - 1) << -count % 8).to_bytes((count + 7) // 8, "big")


def hpack_says(raw: bytes) -> bytes | None:
    try:
        return bytes(decode_huffman(raw))
    except HPACKDecodingError:
        return None


def we_say(raw: bytes) -> bytes | None:
    try:
        return decode(raw)
    except HuffmanFault:
        return None


def test_the_examples_of_the_rfc() -> None:  # appendix C.4
    assert decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
    assert decode(bytes.fromhex("a8eb10649cbf")) == b"no-cache"


def test_every_byte_has_its_code() -> None:
    assert [decode(code(bytes((each,)))) for each in range(256)] == [bytes((each,)) for each in range(256)]


@given(st.binary(max_size=200))
def test_what_was_encoded_comes_back_in_steps_of_any_size(value: bytes) -> None:
    raw = code(value)
    assert decode(raw) == value
    for step in (1, 2, 3, 7, 1_000):
        pieces = list(decode_in_steps(raw, step))
        assert b"".join(pieces) == value
        assert len(pieces) == -(-len(raw) // step)


@given(st.binary(max_size=12))
@example(b"\xff")
@example(b"\xff" * 4)
def test_any_bytes_mean_what_they_mean_to_hpack(raw: bytes) -> None:
    assert we_say(raw) == hpack_says(raw)


@given(st.binary(max_size=6), st.integers(0, 16))
def test_any_padding_is_right_or_wrong_as_hpack_says(value: bytes, padding: int) -> None:
    raw = code(value) + ones(padding)
    assert we_say(raw) == hpack_says(raw)


LAST = (REQUEST_CODES[EOS] << 2 | 3).to_bytes(4, "big")  # EOS, padded


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(code(b"a") + b"\xff", id="padding of a whole byte"),
        pytest.param(b"\x00", id="padding that is not all ones"),
        pytest.param(code(b"\x00")[:-1], id="inside a code"),
        pytest.param(LAST, id="EOS"),
        pytest.param(LAST + code(b"aaaaaaaa"), id="more after EOS"),
    ],
)
def test_what_is_no_code(raw: bytes) -> None:
    with pytest.raises(HuffmanFault):
        decode(raw)
    with pytest.raises(HuffmanFault):
        list(decode_in_steps(raw, 2))


def test_rows_are_made_when_they_are_met() -> None:
    """All of them are 12 MB, which every server had from its start."""
    program = (
        "from mcproxy.wire import huffman; made = lambda: sum(map(bool, huffman._ROWS)); first = made(); "
        f"huffman.decode({code(b'www.example.com')!r}); print(first, made())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, then = map(int, done.stdout.split())
    assert first == 0
    assert 0 < then <= len(code(b"www.example.com"))
