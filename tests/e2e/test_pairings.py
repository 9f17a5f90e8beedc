"""A request arrives as the same request, whatever its client and its backend speak: any of them, in memory.

What is compared is what the backend understood: `Recorder` of HTTP/2, h11 of HTTP/1.1.
"""

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Line, LineState, Turn
from mcproxy.l7.relay.relay import Relay
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE
from tests.kit.inbox import Inbox
from tests.kit.request_rules import HOST, OURS, Fields, Passed, Recorder, Rule, chunked, http2_message, message

VERSIONS = ("h2", "http/1.1")
PAIRINGS = list(itertools.product(VERSIONS, VERSIONS))
NOW = 100.0
# Of a message, not of a request. "Connection: close" goes with bodies that an HTTP/1.1 backend may overlook.
FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection"}


class Http1Recorder:
    """A backend in HTTP/1.1: h11 reads one request, which is answered once it is whole."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER)
        self.passed: Passed | None = None
        self._body = b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the proxy's; returns the answer."""
        if data:
            self._h11.receive_data(data)
        while (event := self._h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                fields = tuple((bytes(name), bytes(value)) for name, value in event.headers)
                kept = tuple(field for field in fields if field[0] not in FRAMING | OURS)
                self.passed = Passed(bytes(event.method), dict(fields)[b"host"], bytes(event.target), kept)
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert self.passed is not None
                trailers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
                was = self.passed
                self.passed = Passed(was.method, was.authority, was.path, was.fields, self._body, trailers)
                return b"HTTP/1.1 204 No Content\r\n\r\n"
        return b""


class Pairing:
    """A core between a client and a backend of these versions, in memory."""

    def __init__(self, client: str, backend: str) -> None:
        address, name = "192.0.2.7", HOST.decode()
        self._core: Relay | Bridge = (
            Relay(name, address, lambda _host: False, NOW)
            if (client, backend) == ("h2", "h2")
            else Bridge(client, name, address, lambda _host: False, NOW)
        )
        self._version = backend
        self.recorder: Recorder | Http1Recorder = Recorder() if backend == "h2" else Http1Recorder()
        self._line: Line | None = None
        self._client = Inbox(self._core.receive_from_client)
        self._backend = Inbox(self._receive)
        self.got = b""

    def _receive(self, data: bytes, turn: Turn, now: float) -> int:
        return (self._line.receive if self._line else self._core.receive_from_backend)(data, turn, now)

    def _for_backend(self) -> bytes:
        core = self._core
        if isinstance(core, Relay):
            if core.wants_dial:
                core.dialling()
            return b"".join(core.take_for_backend())
        while lines := core.take_lines():
            for line in lines:
                if line.state is LineState.WANTED:
                    self._line = line
                    line.connected(self._version, False, NOW)
        if self._line is None:
            return b""
        data = b"".join(self._line.take())
        self._line.sent(0, NOW)
        return data

    def send(self, data: bytes) -> None:
        """Send as the client, and carry everything to its end."""
        self._client.in_turns(data, NOW)
        moved = True
        while moved:
            up = self._for_backend()
            answer = self.recorder.receive(up)
            if answer:
                self._backend.in_turns(answer, NOW)
            self.got += b"".join(self._core.take_for_client())
            moved = bool(up or answer)

    @property
    def passed(self) -> Passed | None:
        """The request that arrived."""
        if isinstance(self.recorder, Recorder):
            return next(iter(self.recorder.seen.values()), None)
        return self.recorder.passed


def arrived(client: str, backend: str, rule: Rule) -> Passed | None:
    """What the backend gets of a request; its fields in an order of their own, without its length."""
    pairing = Pairing(client, backend)
    if client == "h2":
        pairing.send(PREFACE + http2.settings([]))
        pairing.send(http2.SETTINGS_ACK)
        pairing.send(http2_message(rule, 1))
    else:
        pairing.send(rule.http1)
    passed = pairing.passed
    if passed is None:
        return None
    fields = tuple(sorted(field for field in passed.fields if field[0] not in FRAMING))
    return Passed(passed.method, passed.authority, passed.path, fields, passed.body, tuple(sorted(passed.trailers)))


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
TOKENS = st.text(LETTERS, min_size=1, max_size=12).map(lambda word: b"x-" + word.encode())
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map(str.encode)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"REPORT"])
PATHS = st.text("abc/?&=%20~.-_", max_size=30).map(lambda rest: b"/" + rest.encode())


@given(
    METHODS, PATHS, st.lists(st.tuples(TOKENS, VALUES), max_size=6), st.binary(max_size=40_000), st.booleans(),
    st.lists(st.tuples(TOKENS, VALUES), max_size=2),
)  # fmt: skip
def test_a_request_is_the_same_through_every_pairing(
    method: bytes, path: bytes, given_fields: list[tuple[bytes, bytes]], body: bytes, counted: bool,
    trailers: list[tuple[bytes, bytes]],
) -> None:  # fmt: skip
    fields: Fields = tuple(given_fields)
    ends: Fields = () if counted or not body else tuple(trailers)
    length: Fields = ((b"content-length", b"%d" % len(body)),) if counted else ()
    coding: Fields = () if counted else ((b"transfer-encoding", b"chunked"),)
    pseudo: Fields = ((b":method", method), (b":scheme", b"https"), (b":authority", HOST), (b":path", path))
    raw = message(method, path, fields + (length or coding)) + (body if counted else chunked(body, ends))
    rule = Rule("", 0, raw, pseudo + fields + length, body, ends)
    expected = Passed(method, HOST, path, tuple(sorted(fields)), body, tuple(sorted(ends)))
    for client, backend in PAIRINGS:
        assert arrived(client, backend, rule) == expected, (client, backend)


@pytest.mark.parametrize(("client", "backend"), PAIRINGS)
def test_crumbs_of_a_cookie_are_one_field_where_http_1_has_no_other_form(client: str, backend: str) -> None:
    crumbs: Fields = ((b"cookie", b"a=1"), (b"cookie", b"b=2"))
    pseudo: Fields = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST), (b":path", b"/"))
    passed = arrived(client, backend, Rule("", 0, message(b"GET", b"/", crumbs), pseudo + crumbs))
    assert passed is not None
    assert passed.fields == (((b"cookie", b"a=1; b=2"),) if backend == "http/1.1" else crumbs)
