"""One application, written for each server of HTTP/1.1 that tests/kit/http1_backends.py runs.

/hello    a short text, two cookies, and in x-host the Host that it was asked for
/echo     the request's body; in x-length its declared length, "-" for none
/cached   an answer with an ETag, or 304
/large    8 MiB
/events   an event stream: its second event comes once there is a file at $GO
/ws       a WebSocket that says everything again, where the server has WebSockets
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

HELLO = b"hello\n"
LARGE = bytes(range(256)) * 32_768
TAG = '"1"'
FIRST, LAST = b"data: first\n\n", b"data: last\n\n"
COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
PAUSE = 0.01  # seconds between two looks for the file


def _may_go() -> bool:
    return Path(os.environ["GO"]).exists()


async def going() -> None:
    """Wait until the second event may come."""
    while not _may_go():  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(PAUSE)


def events() -> Iterator[bytes]:
    """The event stream, for servers that wait for what comes next."""
    yield FIRST
    while not _may_go():
        time.sleep(PAUSE)
    yield LAST
