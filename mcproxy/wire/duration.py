"""Durations as operators write them: "500ms", "5s", "2m30s", "1h", or a number of seconds."""

import math
import re

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
MAX_SECONDS = 10 * 365 * 86400.0  # ten years: beyond it is a slip of the pen, and float clocks stay exact below it


def parse_duration(value: str | float) -> float:
    """Seconds of a duration, at least 0. Raises ValueError for what is none, is negative or is over ten years."""
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, bool):
        raise ValueError(f"{value} is not a duration")
    else:
        seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration can't be negative or infinite")
    if seconds > MAX_SECONDS:
        raise ValueError("a duration can't be longer than ten years")
    return seconds


def _parse_text(text: str) -> float:
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        return float(text)
    if not text.isascii() or not _WHOLE.fullmatch(text):
        raise ValueError(f'{text!r} is not a duration; write "500ms", "5s", "2m30s", "1h" or a number of seconds')
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest text that parses to this duration, in whole milliseconds."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
