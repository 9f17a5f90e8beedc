"""A case of the differential harness, and what its bytes are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcproxy.wire.http2 import Flag, Frame
from tests.kit.differ_client import Slowly, Step, block
from tests.kit.differ_peers import LIMIT, NAME
from tests.kit.http2_peer import frame

END, DONE = Flag.END_STREAM, Flag.END_HEADERS
HOST = f"Host: {NAME}\r\n"
LATE = Slowly(pause=LIMIT)  # the reader begins when every lingering of two seconds is over
STEADY = Slowly(trickle=4.0 * LIMIT)  # longer than a lingering of ten seconds


@dataclass(frozen=True)
class Case:
    """Bytes, and how they are sent and read."""

    name: str
    why: str
    kind: str  # "http1", "http2", "stream", "behind" or "tls"
    steps: Sequence[Step] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # for the client
    timed: bool = False  # lasts for seconds; when it is over is part of the outcome


def h1(name: str, why: str, *steps: Step, timed: bool = False, **more: Any) -> Case:
    return Case(f"HTTP/1.1: {name}", why, "http1", steps, more, timed)


def h2(name: str, why: str, *steps: Step, timed: bool = False, **more: Any) -> Case:
    return Case(f"HTTP/2: {name}", why, "http2", steps, more, timed)


def l4(name: str, why: str, *steps: Step, timed: bool = False, behind: bool = False) -> Case:
    kind = "behind" if behind else "stream"
    return Case(f"{'PROXY header' if behind else 'l4'}: {name}", why, kind, steps, {}, timed)


def ask(target: str = "/", *lines: str, method: str = "GET", host: str = HOST, body: str = "") -> bytes:
    """A request of HTTP/1.1; the lines have no CRLF."""
    named = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {target} HTTP/1.1\r\n{host}{named}\r\n{body}".encode("latin-1")


def head(*fields: tuple[str | bytes, str | bytes], method: str = "GET", path: str | bytes = "/", scheme: str = "https",
         authority: str = NAME, end: bool = True, stream: int = 1) -> bytes:  # fmt: skip
    """HEADERS of HTTP/2."""
    pseudo: list[tuple[str | bytes, str | bytes]] = [(":method", method), (":scheme", scheme), (":path", path)]
    pseudo += [(":authority", authority)] if authority else []
    return raw_head(*pseudo, *fields, end=end, stream=stream)


def raw_head(*fields: tuple[str | bytes, str | bytes], end: bool = True, stream: int = 1) -> bytes:
    return frame(Frame.HEADERS, DONE | (END if end else 0), stream, block(fields))


def data(body: bytes, end: bool = True, stream: int = 1) -> bytes:
    return frame(Frame.DATA, END if end else 0, stream, body)
