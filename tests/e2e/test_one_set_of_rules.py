"""One set of rules for requests: what HTTP/1.1 and HTTP/2 can both say comes to the same at the backend.

The table is tests/kit/request_rules.py; each case runs in memory, through both cores, and over TLS through the program.
Two readers of one request that disagree are how requests are smuggled and how a client works with one protocol only.
"""

import socket
import ssl

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import ExchangeEnd, Line, LineState, Turn
from mcproxy.l7.relay.relay import Relay
from mcproxy.model import FinishedExchange
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import PREFACE, Frame
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import l7_listener
from tests.kit.http2_peer import Cutter
from tests.kit.inbox import Inbox
from tests.kit.peers import Authority, connect
from tests.kit.request_rules import (
    HOST,
    ONE_REFUSAL,
    RESET,
    RULES,
    Fields,
    Passed,
    Recorder,
    Rule,
    http2_message,
    message,
    pseudo,
    status_of,
    status_of_http1,
    with_trailers,
)

NOW = 100.0
ADDRESS = "192.0.2.7"
Outcome = tuple[Passed | None, int | None]  # what the backend got, and the status that the client got
TUNNELS = {101, 200}


class Rig:
    """A core in memory, with a recording backend."""

    def __init__(self, core: Relay | Bridge, recorder: Recorder | None = None) -> None:
        self._core = core
        self._client = Inbox(core.receive_from_client)
        self._line: Line | None = None
        self._backend = Inbox(self._receive)
        self.recorder = recorder or Recorder()
        self.got = b""

    def _receive(self, data: bytes, turn: Turn, now: float) -> int:
        if self._line is not None:
            return self._line.receive(data, turn, now)
        return self._core.receive_from_backend(data, turn, now)

    def _take_for_backend(self) -> bytes:
        core = self._core
        if isinstance(core, Relay):
            if core.wants_dial:
                core.dialling()
            return b"".join(core.take_for_backend())
        for line in core.take_lines():
            if line.state is LineState.WANTED:
                self._line = line
                line.connected("h2", False, NOW)
        if self._line is None:
            return b""
        data = b"".join(self._line.take())
        self._line.sent(0, NOW)
        return data

    def taken(self) -> bytes:
        """What waits for the client."""
        return b"".join(self._core.take_for_client())

    def ended(self) -> list[FinishedExchange]:
        """The exchanges that are over."""
        return list(self._core.take_ended())

    def send(self, data: bytes) -> None:
        """Send as the client, and carry everything to its end."""
        self._client.in_turns(data, NOW)
        while True:
            answer = self.recorder.receive(self._take_for_backend())
            self.got += b"".join(self._core.take_for_client())
            if not answer:
                return
            self._backend.in_turns(answer, NOW)


def leads_here(host: bytes) -> bool:
    return host.removesuffix(b".") == HOST


def of_http1(recorder: Recorder | None = None) -> Rig:
    return Rig(Bridge("http/1.1", HOST.decode(), ADDRESS, leads_here, NOW), recorder)


def of_http2(recorder: Recorder | None = None) -> Rig:
    rig = Rig(Relay(HOST.decode(), ADDRESS, leads_here, NOW), recorder)
    rig.send(PREFACE + http2.settings([]))
    rig.send(http2.SETTINGS_ACK)
    return rig


def through_http1(rule: Rule) -> Outcome:
    rig = of_http1()
    rig.send(rule.http1)
    return next(iter(rig.recorder.seen.values()), None), status_of_http1(rig.got)


def through_http2(rule: Rule) -> Outcome:
    rig = of_http2()
    rig.send(http2_message(rule, 1))
    decoder = Decoder()
    statuses = [status_of(frame, decoder) for frame in Cutter().feed(rig.got) if frame.stream_id == 1]
    return rig.recorder.seen.get(1), next((status for status in statuses if status is not None), None)


def is_right(expected: Passed | int, outcome: Outcome) -> bool:
    seen, status = outcome
    if isinstance(expected, Passed):
        return seen == expected and status in (TUNNELS if expected.protocol else {200})
    return seen is None and status in (ONE_REFUSAL if expected in ONE_REFUSAL else {expected})


@pytest.mark.parametrize("name", [rule.name for rule in RULES.values() if rule.http1])
def test_http1(name: str) -> None:
    outcome = through_http1(RULES[name])
    assert is_right(RULES[name].expected, outcome), outcome


@pytest.mark.parametrize("name", [rule.name for rule in RULES.values() if rule.head])
def test_http2(name: str) -> None:
    outcome = through_http2(RULES[name])
    assert is_right(RULES[name].of_http2, outcome), outcome


class Recorders:
    """A recording backend over sockets."""

    def __init__(self) -> None:
        self.made: list[Recorder] = []  # one for each connection

    def __call__(self, connection: socket.socket) -> None:
        recorder = Recorder()
        self.made.append(recorder)
        while data := connection.recv(1 << 16):
            connection.sendall(recorder.receive(data))

    def seen(self, after: int) -> Passed | None:
        """The request that came over the connections made since there were `after`."""
        return next((passed for each in self.made[after:] for passed in each.seen.values()), None)


class Program:
    """The program with a route for HOST, reached over TLS."""

    def __init__(self, port: int, authority: Authority, recorders: Recorders) -> None:
        self._port = port
        self._authority = authority
        self._recorders = recorders

    def _connect(self, protocol: str) -> ssl.SSLSocket:
        context = self._authority.client_context()
        context.set_alpn_protocols([protocol])
        return context.wrap_socket(connect(self._port), server_hostname=HOST.decode())

    def through_http1(self, rule: Rule) -> Outcome:
        """Send it over a connection of its own."""
        before, got = len(self._recorders.made), b""
        with self._connect("http/1.1") as client:
            client.sendall(rule.http1)
            while status_of_http1(got) is None:
                part = client.recv(1 << 16)
                assert part, got
                got += part
        return self._recorders.seen(before), status_of_http1(got)

    def through_http2(self, rule: Rule) -> Outcome:
        """The same, once the server has said what it offers."""
        before, cutter, decoder = len(self._recorders.made), Cutter(), Decoder()
        with self._connect("h2") as client:
            client.sendall(PREFACE + http2.settings([]))
            while part := client.recv(1 << 16):
                for frame in cutter.feed(part):
                    if frame.kind == Frame.SETTINGS and not frame.flags & 1:
                        client.sendall(http2.SETTINGS_ACK + http2_message(rule, 1))
                    status = status_of(frame, decoder)
                    if status is not None:
                        return self._recorders.seen(before), status
        raise AssertionError("the connection has ended")


def test_over_tls(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    """The whole table once more, through the program; all that is wrong at once, for each case is a connection."""
    recorders = Recorders()
    running = proxy({"listeners": [l7_listener({HOST.decode(): backend(recorders).address}, authority)]})
    program = Program(running.port, authority, recorders)
    wrong = {}
    for rule in RULES.values():
        for protocol, form, expected, drive in (
            ("HTTP/1.1", rule.http1, rule.expected, program.through_http1),
            ("HTTP/2", rule.head, rule.of_http2, program.through_http2),
        ):
            outcome = drive(rule) if form else None
            if outcome is not None and not is_right(expected, outcome):
                wrong[rule.name, protocol] = outcome
    assert not wrong


BODIES = {
    "HEAD": (b"HEAD", b"200", (b"abc", b"de")),
    "HEAD in many pieces": (b"HEAD", b"200", (b"a" * 10_000,) * 20),
    "204": (b"GET", b"204", (b"abc",)),
    "304": (b"GET", b"304", (b"abc", b"de")),
}


@pytest.mark.parametrize("length", [(), ((b"content-length", b"5"),), ((b"content-length", b"7"),)])
@pytest.mark.parametrize("name", BODIES)
def test_an_answers_body_that_must_not_be_is_dropped(name: str, length: Fields) -> None:
    """Some backends send a body with the answer to HEAD: HTTP/1.1 got 502, HTTP/2 the head and then a reset."""
    method, status, body = BODIES[name]
    head = ((b":status", status), *length, (b"x-a", b"1"))
    for rig, request in (
        (of_http1(Recorder(head, body)), message(method, b"/", ())),
        (of_http2(Recorder(head, body)), http2_message(Rule("", 0, head=pseudo(method)), 1)),
    ):
        rig.send(request)
        if rig.got.startswith(b"HTTP/1.1"):
            assert rig.got.startswith(b"HTTP/1.1 " + status)
            assert b"\r\nx-a: 1\r\n" in rig.got
            assert rig.got.endswith(b"\r\n\r\n"), "no body"
            assert rig.got.count(b"\r\n\r\n") == 1
        else:
            frames = [frame for frame in Cutter().feed(rig.got) if frame.stream_id == 1]
            assert status_of(frames[0], Decoder()) == int(status)
            assert [(frame.kind, frame.payload, frame.ends) for frame in frames[1:]] == [(Frame.DATA, b"", True)]
        assert [end.end for end in rig.ended()] == [ExchangeEnd.DONE]
        rig.send(message(b"GET", b"/next", ()) if rig.got.startswith(b"HTTP") else http2_message(NEXT, 3))
        assert rig.recorder.seen[3].path == b"/next", "the connection goes on, on both sides"


NEXT = Rule("", 0, head=pseudo(path=b"/next"))


def test_an_empty_line_on_an_idle_connection_is_no_head_that_times_out() -> None:
    """Two CRLFs behind the body of a POST made the next request 400, or brought a stray 408 after 10 seconds."""
    for behind in (b"\r\n", b"\r\n\r\n", b"\r\n\r"):
        bridge = Bridge("http/1.1", HOST.decode(), ADDRESS, leads_here, NOW)
        rig = Rig(bridge)
        rig.send(message(b"POST", b"/", ((b"Content-Length", b"3"),)) + b"abc" + behind)
        first = rig.got
        assert status_of_http1(first) == 200
        bridge.tick(NOW + 30, 300.0)
        assert rig.taken() == b"", "no 408"
        assert bridge.ending is None
        rig.send(b"\n" * behind.endswith(b"\r") + message(b"GET", b"/next", ()))
        assert rig.recorder.seen[3].path == b"/next"


def test_values_of_answers_lose_the_blanks_around_them_and_their_http3_in_both() -> None:
    answer = (
        (b":status", b"200"), (b"content-security-policy", b"default-src 'self'; "), (b"x-control", b"a\x01b"),
        (b"alt-svc", b'h3=":443"; ma=86400'),
    )  # fmt: skip
    expected = [(b"content-security-policy", b"default-src 'self';"), (b"x-control", b"a\x01b")]
    one = of_http1(Recorder(answer))
    one.send(message(b"GET", b"/", ()))
    lines = one.got.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert [tuple(line.split(b": ", 1)) for line in lines] == [*expected, (b"content-length", b"0")]
    two = of_http2(Recorder(answer))
    two.send(http2_message(NEXT, 1))
    (head,) = (frame for frame in Cutter().feed(two.got) if frame.stream_id == 1)
    assert [(bytes(n), bytes(v)) for n, v in Decoder().decode(head.payload, raw=True)][1:] == expected


def test_no_length_passes_with_the_answer_that_opens_a_tunnel() -> None:
    """RFC 9110, 9.3.6: a client that heeds it would take the first bytes of the tunnel for a fault."""
    answer = ((b":status", b"200"), (b"content-length", b"0"), (b"sec-websocket-protocol", b"chat"))
    rule = RULES["a WebSocket"]
    one, two = of_http1(Recorder(answer)), of_http2(Recorder(answer))
    one.send(rule.http1)
    two.send(http2_message(rule, 1))
    assert one.got.startswith(b"HTTP/1.1 101 ")
    assert b"content-length" not in one.got.lower()
    (head,) = (frame for frame in Cutter().feed(two.got) if frame.stream_id == 1)
    assert not head.ends
    fields = [(bytes(n), bytes(v)) for n, v in Decoder().decode(head.payload, raw=True)]
    assert fields == [answer[0], answer[2]]


NAMES = st.sampled_from([b"x-a", b"cookie", b"te", b"expect", b"x-forwarded-for", b"content-type", b"range", b"host"])
VALUES = st.one_of(
    st.sampled_from([b"trailers", b"", b" a ", b"a\x01", b"one.test", b"one.test:443", b"two.test"]),
    st.binary(max_size=6).filter(lambda value: not set(value) & set(b"\r\n")),
)
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"get", b"G T", b""])
PATHS = st.one_of(
    st.sampled_from([b"/", b"*", b"/a#b", b"/a b", b"/caf\xc3\xa9", b"a", b"/%00", b"//"]),
    st.binary(min_size=1, max_size=6).map(lambda path: b"/" + path),
).filter(lambda path: not set(path) & set(b"\r\n"))
AUTHORITIES = st.sampled_from(
    [
        HOST,
        b"ONE.test",
        b"one.test:443",
        b"one.test:",
        b"one.test:80",
        b"two.test",
        b"u@one.test",
        b"",
        b"[::1]",
        b"a b",
    ]
)


@given(METHODS, PATHS, AUTHORITIES, st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_both_protocols_agree(method: bytes, path: bytes, authority: bytes, fields: list[Field]) -> None:
    """Whatever the parts of a request are: it comes to the same at the backend, or is refused by both."""
    lines = tuple(fields)
    target = authority if method == b"CONNECT" else path
    head = (
        ((b":method", method), (b":authority", authority)) if method == b"CONNECT" else pseudo(method, path, authority)
    )
    rule = Rule("", 0, message(method, target, lines, authority), (*head, *lines))
    (one, status), (two, other) = through_http1(rule), through_http2(rule)
    if differs_by_rfc(lines):
        return
    assert one == two
    assert status == other or {status, other} <= ONE_REFUSAL


TRAILER_NAMES = st.sampled_from(
    [b"x-sum", b"grpc-status", b"host", b"te", b"content-length", b"cookie", b"x-real-ip", b"http2-settings", b"expect"]
)


@given(st.lists(st.tuples(TRAILER_NAMES, VALUES), min_size=1, max_size=4), st.binary(max_size=5))
def test_both_protocols_agree_on_trailers(trailers: list[Field], body: bytes) -> None:
    """Whatever ends a body: the same of it passes, or both refuse it."""
    (one, status), (two, other) = (
        drive(with_trailers("", trailers, body=body)) for drive in (through_http1, through_http2)
    )
    refused = any(value.strip(b" \t").translate(None, b"\0\x0b\x0c") != value.strip(b" \t") for _, value in trailers)
    assert status == (400 if refused else 200)
    assert other == (RESET if refused else 200)
    assert refused or one == two


def differs_by_rfc(fields: Fields) -> bool:
    """Host beside the authority, and te: see the table of wire/requests.py."""
    return any(name in (b"host", b"te") for name, _ in fields)
