"""Pages: how long they are, and the token that says where the next one begins.

A token is the key of the last item, so that a list that changes between two pages neither repeats an item nor leaves
out one that was there all the time. Callers may not make sense of it.
"""

import base64
import binascii
import json
from collections.abc import Sequence

from mcproxy.admin.errors import InvalidField

PAGE = 500  # items where the caller doesn't say
MAX_PAGE = 1_000  # items; some 300 kB of routes, so that a page takes some ten milliseconds
MAX_TOKEN = 2_048  # characters; two host names and their wrapping are far below


def size(asked: int) -> int:
    """How many items a page has; more than the most is the most."""
    return min(asked, MAX_PAGE) or PAGE


def token(position: Sequence[str | int] | None) -> str:
    """The token of a position; "" where nothing follows."""
    if position is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


def texts(text: str, count: int) -> tuple[str, ...] | None:
    """The position of `count` texts in a token; None for "". Raises InvalidField."""
    position = _position(text, count)
    if position is not None and not all(isinstance(part, str) for part in position):
        raise _foreign()
    return None if position is None else tuple(map(str, position))


def numbers(text: str, count: int) -> tuple[int, ...] | None:
    """The position of `count` numbers in a token; None for "". Raises InvalidField."""
    position = _position(text, count)
    if position is None:
        return None
    found = [part for part in position if isinstance(part, int) and 0 <= part < 1 << 63]
    if len(found) != count:
        raise _foreign()
    return tuple(found)


def _position(text: str, count: int) -> list[object] | None:
    if not text:
        return None
    try:
        if len(text) > MAX_TOKEN:
            raise _foreign()
        position = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        raise _foreign() from None
    if not isinstance(position, list) or len(position) != count:
        raise _foreign()
    return position


def _foreign() -> InvalidField:
    return InvalidField("page_token", "is not from this server: begin again without one")
