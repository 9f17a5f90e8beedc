"""The steps for answers that aren't HTTP/2, cut anywhere, and for one that is."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcproxy.look.speak import http2
from mcproxy.messages import Step
from mcproxy.wire import http2 as frames
from mcproxy.wire.http2 import Setting
from tests.kit.peers import DEADLINE, read_all

SETTINGS = frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 7), (Setting.ENABLE_CONNECT_PROTOCOL, 1)])


@contextmanager
def answered(answer: bytes, *, ends: bool = False) -> Iterator[Step]:
    """The step for a backend that says this."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE)
    with ours, theirs:
        theirs.sendall(answer)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        yield http2(ours, time.monotonic() + (DEADLINE if ends else 0.05))


def test_settings_are_read_and_answered() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(read_all(theirs)))
    with theirs:
        with ours:
            reader.start()
            for byte in SETTINGS[:-1]:
                theirs.sendall(bytes([byte]))
            threading.Timer(0.0, theirs.sendall, (SETTINGS[-1:],)).start()
            step = http2(ours, time.monotonic() + DEADLINE)
        reader.join(DEADLINE)
    assert step.passed
    assert step.detail.startswith("HTTP/2, SETTINGS in ")
    assert step.detail.endswith(" ms, 7 requests at once, WebSocket")
    assert heard == [frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK + frames.goaway(0, 0)]


def test_few_settings_are_enough() -> None:
    with answered(frames.settings([])) as step:
        assert step.passed
        assert step.detail.endswith(" ms, no WebSocket (RFC 8441)")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP/1 only: switch HTTP/2 on there, or make the route l4"),
        (b"", "closes the connection when HTTP/2 begins"),
        (b"HTT", "closes the connection when HTTP/2 begins"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'doesn\'t answer in HTTP/2 but with "SSH-2.0-O": switch'),
        (frames.SETTINGS_ACK, "doesn't answer in HTTP/2"),
        (frames.ping(b"12345678"), "doesn't answer in HTTP/2"),
        (frames.frame_header(1 << 20, frames.Frame.SETTINGS, 0, 0), "doesn't answer in HTTP/2"),
        (frames.frame_header(5, frames.Frame.SETTINGS, 0, 0) + b"12345", "of SETTINGS is not a multiple of 6"),
        (SETTINGS[:-1], "closes the connection when HTTP/2 begins"),
    ],
)
def test_what_is_no_http2(answer: bytes, says: str) -> None:
    with answered(answer, ends=True) as step:
        assert not step.passed
        assert step.detail.startswith("requests will be answered 502: ")
        assert says in step.detail


@pytest.mark.parametrize("answer", [b"", SETTINGS[:5], SETTINGS[:-1]])
def test_what_does_not_come_in_time(answer: bytes) -> None:
    with answered(answer) as step:
        assert (step.passed, step.detail) == (False, "requests will be answered 502: no answer in time")
