"""Log lines: complete, parsable, and not to be forged."""

import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy import lines
from mcproxy.lines import (
    MAX_LOGGED,
    REQUEST_LINES,
    connection_json,
    connection_text,
    protocol_names,
    requests_json,
    requests_text,
    timestamp,
    version_names,
)
from mcproxy.model import Backend, Connection, End, FinishedExchange, Origin, Reason
from mcproxy.wire.fields import Request

STARTED = 1_795_311_188.25  # 2026-11-22T01:33:08.250Z


def ended(**changes: Any) -> Connection:
    """A connection that was routed and has ended."""
    return Connection(
        id=7, started=STARTED, duration=1.5, listener=":443", client=("192.0.2.1", 50000), sni="a.test",
        versions=(0x0304, 0x0303), alpn=(b"h2", b"http/1.1"), ech=False, route="a.test", mode="l4",
        backend=Backend("127.0.0.1", 3000), reason=Reason.OK, detail="", received=10, sent=20, end=End.CLOSED,
    )._replace(**changes)  # fmt: skip


def test_the_text_line() -> None:
    assert connection_text(ended()) == (
        "2026-11-22T01:33:09.750Z info connection id=7 listener=:443 client=192.0.2.1:50000 sni=a.test route=a.test "
        "mode=l4 backend=127.0.0.1:3000 verdict=routed reason=ok end=closed received=10 sent=20 duration=1.500 "
        "tls=1.3,1.2 alpn=h2,http/1.1 ech=no\n"
    )


def test_the_text_line_of_a_refusal() -> None:
    refused = ended(
        sni="", versions=(), alpn=(), route="", mode="", backend=None, reason=Reason.HELLO_MALFORMED,
        detail='a "quote"\nand more', received=0, sent=0, end=End.REFUSED, client=("2001:db8::1", 1),
    )  # fmt: skip
    assert connection_text(refused) == (
        "2026-11-22T01:33:09.750Z info connection id=7 listener=:443 client=[2001:db8::1]:1 sni=- route=- mode=- "
        "backend=- verdict=refused reason=hello_malformed end=refused received=0 sent=0 duration=1.500 "
        "tls=- alpn=- ech=no "
        'detail="a \\"quote\\"\\nand more"\n'
    )


def test_the_json_line_has_the_same_facts() -> None:
    line = connection_json(ended())
    assert line.endswith("}\n")
    assert json.loads(line) == {
        "time": "2026-11-22T01:33:09.750Z", "level": "info", "event": "connection", "id": 7, "listener": ":443",
        "client": "192.0.2.1", "client_port": 50000, "sni": "a.test", "route": "a.test", "mode": "l4",
        "backend": "127.0.0.1:3000", "verdict": "routed", "reason": "ok", "end": "closed", "received_bytes": 10,
        "sent_bytes": 20, "duration": 1.5, "tls_versions": ["1.3", "1.2"], "alpn": ["h2", "http/1.1"], "ech": False,
        "detail": "",
    }  # fmt: skip


@given(alpn=st.lists(st.binary(min_size=1, max_size=40), max_size=5), detail=st.text(max_size=80))
def test_a_client_cannot_forge_a_line_or_a_field(alpn: list[bytes], detail: str) -> None:
    connection = ended(alpn=tuple(alpn), detail=detail, reason=Reason.SNI_INVALID)
    text = connection_text(connection)
    assert text.isascii()
    assert text.count("\n") == 1
    before_detail = text.partition(' detail="')[0]
    assert before_detail.count("=") == 16
    assert len(before_detail.split()) == 19
    assert json.loads(connection_json(connection))["detail"] == detail


@given(value=st.text(max_size=40))
def test_what_is_configured_cannot_forge_a_line_or_a_field(value: str) -> None:
    for line, plain in (
        (connection_text(ended(listener=value, route=value, backend=Backend(path=value))), connection_text(ended())),
        (text(answered(), ORIGIN._replace(listener=value, route=value)), text(answered())),
    ):
        assert line.isascii()
        assert line[:-1].isprintable()
        names = re.findall(r'(?<= )(\w+)=(?:"(?:[^"\\]|\\.)*"|[^"\s]+)(?=\s)', line)
        assert names == re.findall(r"(\w+)=", plain)


def test_a_value_that_is_no_plain_word_is_quoted() -> None:
    line = connection_text(ended(backend=Backend(path="/run/my app\x7f.sock")))
    assert ' backend="unix:/run/my app\\u007f.sock" ' in line


@dataclass(frozen=True)
class Answered:
    """A request that was answered; an `FinishedExchange` for the log."""

    id: int = 3
    method: bytes = b"GET"
    request: Request = field(default_factory=lambda: Request(b"GET", b"a.test", b"a.test", b"/a?b"))
    status: int = 200
    received: int = 1
    sent: int = 2
    started: float = 100.0
    ended: float = 101.5
    end: str = "done"
    why: str = ""
    grpc_status: int | None = None
    backend_protocol: str = "http/1.1"
    reused: bool = True
    head_at: float = 100.25


ORIGIN = Origin(connection=7, protocol="h2", listener=":443", client=("192.0.2.1", 50000), route="a.test")


def answered(**changes: Any) -> FinishedExchange:
    return Answered(**changes)


def asked(method: bytes = b"GET", authority: bytes = b"a.test", path: bytes = b"/a?b") -> FinishedExchange:
    return Answered(method=method, request=Request(method, authority, b"a.test", path))


def text(exchange: FinishedExchange, origin: Origin = ORIGIN) -> str:
    (line,) = requests_text(origin)([exchange], STARTED + 1.5)
    return line


def as_json(exchange: FinishedExchange) -> str:
    (line,) = requests_json(ORIGIN)([exchange], STARTED + 1.5)
    return line


def test_the_text_line_of_a_request() -> None:
    assert text(answered()) == (
        "2026-11-22T01:33:09.750Z info request id=7 stream=3 protocol=h2 listener=:443 client=192.0.2.1:50000 "
        'route=a.test method="GET" authority="a.test" path="/a?b" status=200 end="done" received=1 sent=2 '
        "duration=1.500 backend_protocol=http/1.1 reused=true\n"
    )
    assert "client=[2001:db8::1]:5 " in text(answered(), ORIGIN._replace(client=("2001:db8::1", 5)))


def test_the_json_line_of_a_request_has_the_same_facts() -> None:
    assert json.loads(as_json(answered())) == {
        "time": "2026-11-22T01:33:09.750Z", "level": "info", "event": "request", "id": 7, "stream": 3,
        "protocol": "h2", "listener": ":443", "client": "192.0.2.1", "client_port": 50000, "route": "a.test",
        "method": "GET", "authority": "a.test", "path": "/a?b", "status": 200, "end": "done", "received_bytes": 1,
        "sent_bytes": 2, "duration": 1.5, "backend_protocol": "http/1.1", "reused": True, "grpc_status": None,
        "detail": "",
    }  # fmt: skip


def test_a_request_that_failed_says_why() -> None:
    """A backend's fault was a 502 without a reason, and gRPC's status was nowhere."""
    failed = answered(status=502, end="backend fault", why='the field "X"\n', grpc_status=14)
    assert text(failed).partition(" status=")[2] == (
        '502 end="backend fault" received=1 sent=2 duration=1.500 backend_protocol=http/1.1 reused=true '
        'grpc_status=14 detail="the field \\"X\\"\\n"\n'
    )
    found = json.loads(as_json(failed))
    assert (found["grpc_status"], found["detail"]) == (14, 'the field "X"\n')


def test_a_request_that_reached_no_backend_names_no_protocol() -> None:
    answered_by_us = answered(status=503, end="answered", backend_protocol="", reused=True)
    assert " backend_protocol=- reused=false\n" in text(answered_by_us)
    found = json.loads(as_json(answered_by_us))
    assert (found["backend_protocol"], found["reused"]) == ("", False)


@pytest.mark.parametrize("style", ["text", "json"])
def test_requests_that_end_together_have_a_line_each(style: lines.Format) -> None:
    lines = REQUEST_LINES[style](ORIGIN)([answered(id=number) for number in (1, 3, 5)], STARTED)
    assert [re.findall(r'"?stream"?[=:] ?(\d)', line) for line in lines] == [["1"], ["3"], ["5"]]
    assert all(line.endswith("\n") for line in lines)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_a_request_cannot_forge_a_line_or_a_field(method: bytes, authority: bytes, path: bytes) -> None:
    exchange = asked(method, authority, path)
    line = text(exchange)
    assert line.count("\n") == 1
    assert line.isascii()
    assert line[:-1].isprintable()
    names = re.findall(r'(\w+)=(?:"(?:[^"\\]|\\.)*"|\S*)', line)
    assert names == re.findall(r"(\w+)=", text(asked(path=b"/a")))
    assert as_json(exchange).count("\n") == 1


def test_long_paths_are_cut() -> None:
    assert len(text(asked(path=b"/" * 60_000))) < MAX_LOGGED + 350
    assert len(as_json(asked(path=b"/" * 60_000))) < MAX_LOGGED + 500


@pytest.mark.parametrize("part", ["method", "authority", "path"])
def test_no_cache_keeps_what_is_long(part: str) -> None:
    """A client that asked for a thousand long paths had 64 MB of them kept, for each format."""
    long = b"/" * 60_000
    before = sys.getrefcount(long)
    text(asked(**{part: long}))
    as_json(asked(**{part: long}))
    assert sys.getrefcount(long) == before


def test_unknown_versions_and_protocols_are_shown_as_what_they_are() -> None:
    assert version_names((0x0305, 0x0300)) == ("0x0305", "ssl3")
    assert protocol_names((b"h2", b"\x00\xff x,y=")) == ("h2", "\\x00\\xff\\x20x\\x2cy\\x3d")


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(STARTED) == "2026-11-22T01:33:08.250Z"
