"""What `make bench` measures: works times peers, as values. Tested by tests/e2e/test_bench.py."""

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

H2, HTTP1 = "h2", "http/1.1"
VERSIONS = {"h2": H2, "h1": HTTP1}

PEERS = {  # and their titles, in the order of their turns
    "mcproxy": "mcproxy",
    "mcproxy-compiled": "mcproxy, compiled",
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "envoy": "Envoy",
    "traefik": "Traefik",
    "caddy": "Caddy",
    "go": "Go router",
}
OURS = ("mcproxy", "mcproxy-compiled")


class Work(NamedTuple):
    """One kind of work, and what its figures are for."""

    name: str
    title: str
    short: str  # title, where there is little room
    unit: str  # of the cost: "µs", "s/GB" or "KB"
    each: str  # what the cost is for, and the rate counts


class Stage(NamedTuple):
    """One job for every proxy."""

    title: str
    short: str
    works: tuple[Work, ...]
    absent: dict[str, str]  # the peers that can't take part, and why

    def peers(self) -> list[str]:
        """Those that can."""
        return [peer for peer in PEERS if peer not in self.absent]


class Turn(NamedTuple):
    """A peer at a stage, with the works that are to be measured."""

    stage: str
    peer: str
    works: tuple[str, ...]


def _requests(name: str, title: str, short: str) -> Work:
    return Work(name, title, short, "µs", "request")


_BULK = (
    Work("down", "Bodies of 16 MiB to the client", "16 MiB down", "s/GB", "GB"),
    Work("up", "Bodies of 16 MiB from the client", "16 MiB up", "s/GB", "GB"),
)
_H2 = (
    _requests("1x1", "1 client, 1 request at a time", "1 x 1"),
    _requests("10x1", "10 clients, 1 request at a time each", "10 x 1"),
    _requests("differ", "10 clients, no two heads alike", "10 x 1, all differ"),
    _requests("10x10", "10 clients, 10 requests at once each", "10 x 10"),
    _requests("1x100", "1 client, 100 requests at once", "1 x 100"),
    *_BULK,
)
_H1 = (
    _requests("1", "1 connection, 1 request at a time", "1"),
    _requests("10", "10 connections, 1 request at a time each", "10"),
    _requests("differ", "10 connections, no two heads alike", "10, all differ"),
    _requests("50", "50 connections, 1 request at a time each", "50"),
    *_BULK,
)
_NO_L4 = "its layer-4 module is not in the standard build"
_NO_L7 = "is a router of raw streams"
_NO_H2 = "Debian's nginx speaks HTTP/1.1 to backends, and HTTP/2 only for gRPC"
_HTTP = {"go": _NO_L7}
_TO_H2 = {"go": _NO_L7, "nginx": _NO_H2}

STAGES = {
    "l4": Stage(
        "Raw streams (l4)",
        "l4",
        (
            Work("connection", "A connection: hello, answer, close", "connection", "µs", "connection"),
            Work("message", "64 bytes there and back", "message", "µs", "message"),
            Work("bulk", "A gigabyte", "bulk", "s/GB", "GB"),
            Work("idle", "Memory of an idle connection", "idle", "KB", "connection"),
        ),
        {"caddy": _NO_L4},
    ),
    "h2-h2": Stage("HTTP/2 to an HTTP/2 backend", "HTTP/2 → HTTP/2", _H2, _TO_H2),
    "h2-h1": Stage("HTTP/2 to an HTTP/1.1 backend", "HTTP/2 → HTTP/1.1", _H2, _HTTP),
    "h1-h2": Stage("HTTP/1.1 to an HTTP/2 backend", "HTTP/1.1 → HTTP/2", _H1, _TO_H2),
    "h1-h1": Stage("HTTP/1.1 to an HTTP/1.1 backend", "HTTP/1.1 → HTTP/1.1", _H1, _HTTP),
    "grpc": Stage(
        "gRPC",
        "gRPC",
        (
            Work("unary", "A unary call", "unary", "µs", "call"),
            Work("stream", "A message of a stream, there and back", "stream", "µs", "message"),
        ),
        _HTTP,
    ),
    "websocket": Stage(
        "WebSocket", "WebSocket", (Work("echo", "64 bytes there and back", "echo", "µs", "message"),), _HTTP
    ),
    "tls": Stage(
        "TLS handshakes",
        "TLS",
        (
            Work("full", "A connection with one request", "full", "µs", "connection"),
            Work("resumed", "The same, the session resumed", "resumed", "µs", "connection"),
        ),
        _HTTP,
    ),
}


def chosen(patterns: Sequence[str], work: str, peer: str) -> bool:
    """Whether one of the patterns names the work ("l4.idle") at the peer. No pattern: everything.

    A pattern is WORK or WORK/PEER, each with `*` and `?` as the shell has them.
    """
    for pattern in patterns:
        of_work, _, of_peer = pattern.partition("/")
        if fnmatchcase(work, of_work or "*") and fnmatchcase(peer, of_peer or "*"):
            return True
    return not patterns


def turns(patterns: Sequence[str], present: Collection[str]) -> Iterator[Turn]:
    """One round, of the peers that are there."""
    for name, stage in STAGES.items():
        for peer in stage.peers():
            works = tuple(each.name for each in stage.works if chosen(patterns, f"{name}.{each.name}", peer))
            if works and peer in present:
                yield Turn(name, peer, works)


def works() -> dict[str, Work]:
    """All of them, by stage and name: "l4.idle"."""
    return {f"{name}.{work.name}": work for name, stage in STAGES.items() for work in stage.works}


def matches_nothing(patterns: Sequence[str], others: Collection[str]) -> list[str]:
    """The patterns that name no work or no peer; `others` are works that only mcproxy has."""
    everything = [(work, peer) for work in works() for peer in PEERS] + [
        (work, peer) for work in others for peer in OURS
    ]
    return [each for each in patterns if not any(chosen([each], work, peer) for work, peer in everything)]


HEADLINES = (  # those of README.md
    "l4.connection", "l4.message", "l4.bulk", "l4.idle",
    "h2-h2.10x1", "h2-h2.10x10", "h2-h2.1x100", "h2-h1.10x10", "h1-h2.10", "h1-h1.10", "h2-h2.down", "h2-h2.up",
    "grpc.unary", "grpc.stream", "websocket.echo", "tls.full", "tls.resumed",
)  # fmt: skip
