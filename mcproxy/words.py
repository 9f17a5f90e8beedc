"""How messages quote a user's text, guess the known word that was probably meant, name a moment and a remedy."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

MAX_SHOWN: Final = 80  # characters of a bad text in a message: enough to recognise it, too few to flood a log
LAST_MOMENT: Final = 253_402_300_799.0  # of the year 9999, the last one that a certificate can name (RFC 5280, 4.1.2.5)

# How much of two words must be the same: as difflib and click have it, and for a word out of many.
NEAR, VERY_NEAR = 0.6, 0.8
# Words that are written quite otherwise than they are called.
_CALLED: Final = {"http/2": "h2", "http2": "h2", "http/2.0": "h2", "h1": "http/1.1"}


def quoted(text: str) -> str:
    """`text` in double quotes, shortened, and with everything escaped that isn't printable: it can't forge a line."""
    return f'"{printable(text[:MAX_SHOWN])}"' + ("..." if len(text) > MAX_SHOWN else "")


def printable(text: str) -> str:
    """`text` with everything escaped that isn't printable: it can neither forge a line nor command a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(seconds: float) -> str:
    """A point in time, in UTC to the second, from seconds since the epoch: "2026-11-29 01:44:12Z"."""
    return datetime.fromtimestamp(min(seconds, LAST_MOMENT), UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def meant(text: str, known: Iterable[str], nearness: float = NEAR) -> str:
    """The known word that is nearest to `text`; "" where none is near."""
    by_lower = {each.lower(): each for each in known}
    if (word := _CALLED.get(text.lower(), "")) in by_lower:
        return by_lower[word]
    from difflib import get_close_matches  # noqa: PLC0415 - only for what is misspelt

    nearest = get_close_matches(text.lower()[:MAX_SHOWN], by_lower, n=1, cutoff=nearness)
    return by_lower[nearest[0]] if nearest else ""


def key_remedy(key: str) -> str:
    """How a key of the configuration file is put in force that a running server can't take."""
    if key.startswith(("database", "node")):  # another server, from which this one can't be taken over
        return "restart mcproxy to change that"
    return (
        "it takes a new process: `systemctl reload mcproxy` or a second `mcproxy server` starts one, and refuses nobody"
    )
