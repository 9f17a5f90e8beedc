"""The steps for backends that answer HTTP/2 or something else, cut anywhere."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcproxy.look.speak import http
from mcproxy.messages import Step
from mcproxy.model import BackendProtocol
from mcproxy.wire import http2 as frames
from mcproxy.wire.http2 import Setting
from tests.kit.peers import DEADLINE, read_all

SETTINGS = frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 7), (Setting.ENABLE_CONNECT_PROTOCOL, 1)])
AUTO, H2, HTTP1 = BackendProtocol


@contextmanager
def answered(answer: bytes, wanted: BackendProtocol = AUTO, *, ends: bool = False) -> Iterator[Step]:
    """The step for a backend that says this."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE)
    with ours, theirs:
        theirs.sendall(answer)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        yield http(ours, wanted, time.monotonic() + (DEADLINE if ends else 0.05))


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
            step = http(ours, AUTO, time.monotonic() + DEADLINE)
        reader.join(DEADLINE)
    assert step.passed
    assert step.detail.startswith("HTTP/2, SETTINGS in ")
    assert step.detail.endswith(" ms, 7 requests at once, WebSocket")
    assert heard == [frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK + frames.goaway(0, 0)]


def test_few_settings_are_enough() -> None:
    with answered(frames.settings([])) as step:
        assert step.passed
        assert step.detail.endswith(" ms, no WebSocket (RFC 8441)")


HTTP1_ANSWERS = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "answered 400 to HTTP/2's preface"),
    (b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n", "answered 505 to HTTP/2's preface"),
    (b'<!DOCTYPE HTML>\n<html lang="en">', "answered HTML to HTTP/2's preface"),
    (b"", "closes the connection when HTTP/2 begins"),
]


@pytest.mark.parametrize("wanted", [AUTO, HTTP1])
@pytest.mark.parametrize(("answer", "how"), HTTP1_ANSWERS)
def test_http1_is_found(answer: bytes, how: str, wanted: BackendProtocol) -> None:
    with answered(answer, wanted, ends=True) as step:
        assert (step.passed, step.detail) == (True, f"HTTP/1.1 ({how})")


@pytest.mark.parametrize(("answer", "how"), HTTP1_ANSWERS)
def test_http1_is_a_fault_where_the_route_wants_http2(answer: bytes, how: str) -> None:
    with answered(answer, H2, ends=True) as step:
        assert not step.passed
        assert step.detail == (
            f"requests will be answered 502: the backend speaks HTTP/1.1 ({how}); "
            "switch HTTP/2 on there, or set backend_protocol to auto"
        )


def test_silence_is_http1() -> None:
    """Some servers wait for the rest of what they take for a request."""
    with answered(b"") as step:
        assert (step.passed, step.detail) == (True, "HTTP/1.1 (is silent when HTTP/2 begins)")


def test_http2_is_no_fault_where_the_route_wants_http1() -> None:
    with answered(SETTINGS, HTTP1) as step:
        assert step.passed
        assert step.detail.endswith(" ms, 7 requests at once, WebSocket; asked in HTTP/1.1, as backend_protocol wants")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", 'speaks no HTTP: its answer begins with "SSH-2.0-OpenSSH_9.2\\r\\n"'),
        (b"HTT", 'speaks no HTTP: its answer begins with "HTT"'),
        (frames.ping(b"12345678"), "speaks no HTTP"),
        (frames.SETTINGS_ACK, "doesn't begin HTTP/2 with SETTINGS"),
        (frames.frame_header(1 << 20, frames.Frame.SETTINGS, 0, 0), "doesn't begin HTTP/2 with SETTINGS"),
        (frames.frame_header(5, frames.Frame.SETTINGS, 0, 0) + b"12345", "of SETTINGS is not a multiple of 6"),
        (SETTINGS[:5], "closes the connection within its SETTINGS"),
        (SETTINGS[:-1], "closes the connection within its SETTINGS"),
    ],
)
def test_what_is_neither(answer: bytes, says: str) -> None:
    with answered(answer, ends=True) as step:
        assert not step.passed
        assert step.detail.startswith("requests will be answered 502: ")
        assert says in step.detail


@pytest.mark.parametrize("answer", [SETTINGS[:5], SETTINGS[:-1]])
def test_settings_that_do_not_come_in_time(answer: bytes) -> None:
    with answered(answer) as step:
        assert (step.passed, step.detail) == (False, "requests will be answered 502: no answer in time")
