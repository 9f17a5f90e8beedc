"""SETTINGS that pass from one side to the other (RFC 9113, section 6.5). client_settings.py puts them into force.

Relayed, because the other end is the one that acts on them: MAX_HEADER_LIST_SIZE and MAX_CONCURRENT_STREAMS (never more
than our own bounds); the client's INITIAL_WINDOW_SIZE, and its HEADER_TABLE_SIZE (never more than the MAX_TABLE bytes
that we mirror); and from the backend ENABLE_CONNECT_PROTOCOL. The backend's INITIAL_WINDOW_SIZE is heeded here
(uploads.py), for the client's window is ours. Ours only: MAX_FRAME_SIZE stays at its default for everyone, so that a
frame for one side always fits the other; ENABLE_PUSH is off towards the backend. Unknown ones are for one hop and end
here. A backend with a table smaller than the default gets its blocks from our own encoder, which uses none: not every
client heeds a server's HEADER_TABLE_SIZE, and one that doesn't would be cut off for that.

The backend's first ones decide what the server's preface to the client says, so it waits for them. A backend gets the
acknowledgement of its settings when we get the client's.
"""

from mcproxy.l7.http2.budgets import MAX_STREAMS
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import DEFAULT_TABLE_SIZE, Setting

BOUNDS: dict[int, int] = {
    Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}


def relayed(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Return those of a backend's settings that the client is sent, by their last values."""
    values: dict[int, int] = {}
    for key, value in pairs:
        if key in BOUNDS:
            values[key] = min(value, BOUNDS[key])
        elif key == Setting.ENABLE_CONNECT_PROTOCOL and value:  # RFC 8441, section 3: never taken back
            values[key] = value
    return values


def shrinks_table(pairs: list[tuple[int, int]]) -> bool:
    """Return whether a backend has, at any time, a table that is smaller than the client may assume."""
    return any(key == Setting.HEADER_TABLE_SIZE and value < DEFAULT_TABLE_SIZE for key, value in pairs)
