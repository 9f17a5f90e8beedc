"""Senders and readers with a pace of their own. A pause is a test's input here; what a test waits for is `until`."""

import socket
import time
from collections.abc import Callable, Iterator

import gevent

from tests.kit.peers import BLOCK, receive


def within(condition: Callable[[], object], seconds: float) -> bool:
    """True once it holds; False if it doesn't in so long. For what nothing announces: that somebody is held up."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def keep_going(seconds: float) -> Iterator[int]:
    """0, 1, 2 and so on for so long, with pauses that are shorter than every timeout of a test."""
    end, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield turns
        turns += 1
        time.sleep(0.02)


def steps_on_the_hub(count: int, pause: float) -> Iterator[int]:
    """0, 1, 2 and so on, with a pause of so many seconds after each, in which the hub goes on."""
    for step in range(count):
        yield step
        gevent.sleep(pause)


def slowly(parts: Iterator[bytes], pause: float) -> Iterator[bytes]:
    """The same parts, with a pause of so many seconds after every block."""
    left = BLOCK
    for part in parts:
        yield part
        left -= len(part)
        if left <= 0:
            left = BLOCK
            time.sleep(pause)


def receive_slowly(connection: socket.socket, size: int, seconds: float) -> bytes:
    """Exactly that many bytes, in portions over that time at least."""
    parts, pause = [], seconds / 32
    for portion in [size // 32] * 31 + [size - size // 32 * 31]:
        parts.append(receive(connection, portion))
        time.sleep(pause)
    return b"".join(parts)


def pause(seconds: float) -> None:
    """Do nothing for so long: a peer that is slow."""
    time.sleep(seconds)
