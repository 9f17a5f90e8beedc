"""Durations as operators write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.notation.duration import MAX_SECONDS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("2m30s", 150),
        ("1h", 3600),
        ("1d", 86400),
        ("1.5s", 1.5),
        ("0s", 0),
        ("30", 30),
        (7, 7),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5 s", "-5s", "s", "5x", "1h-2m", "ten", "\N{ARABIC-INDIC DIGIT FIVE}s", "1..5s", "5s "]
)
def test_texts_that_are_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), MAX_SECONDS + 1, "99999d", True])
def test_values_out_of_range(value: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=int(MAX_SECONDS) * 1000))
def test_what_is_formatted_is_parsed_again(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)
