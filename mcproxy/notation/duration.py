"""Durations as operators write them: "500ms", "5s", "2m30s", "1h", or a number of seconds."""

import math
import re

from mcproxy.words import quoted

_FORMS = 'write "500ms", "5s", "2m30s", "1h" or a number of seconds'
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
MAX_SECONDS = 10 * 365 * 86400.0  # ten years: beyond it is a slip of the pen, and float clocks stay exact below it


def parse_duration(value: str | float) -> float:
    """Seconds of a duration, at least 0. Raises ValueError if it is malformed, negative or over ten years."""
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, bool):
        raise ValueError(f"{value} is not a duration; {_FORMS}".lower())
    else:
        seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"a duration can't be negative or infinite; {_FORMS}")
    if seconds > MAX_SECONDS:
        raise ValueError(f"a duration can't be longer than ten years; {_FORMS}")
    return seconds


def _parse_text(text: str) -> float:
    if text.replace(".", "", 1).isdecimal() and text.isascii():
        return float(text)
    if not text.isascii() or not _WHOLE.fullmatch(text):
        meant = _meant(text)
        raise ValueError(
            f"{quoted(text)} is not a duration; " + (f"did you mean {quoted(meant)}?" if meant else _FORMS)
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


# Units as people write them, by the unit that each means.
_LONG_UNITS = {
    "ms": ("msec", "msecs", "millisecond", "milliseconds"),
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
}
_UNITS = {word: unit for unit, words in _LONG_UNITS.items() for word in (unit, *words)}
_LOOSE_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*")


def _meant(text: str) -> str:
    """The duration that is written there loosely, as in "5 sec"; "" where none is."""
    loose = text.strip().lower()
    parts = _LOOSE_PART.findall(loose)
    if "".join(_LOOSE_PART.split(loose)[::3]) or not all(unit in _UNITS for _, unit in parts):
        return ""
    return "".join(number + _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest text that parses to this duration, in whole milliseconds."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
