"""The facts of one connection: few when it is accepted, all of them when it ends.

Admission, the session and the dial add to them step by step. Everything else gets a frozen value: an `Arrival` once the
connection has a route, a `Connection` for its line in the log.
"""

import time
from typing import Final

from mcproxy.model import Backend, Connection, End, Endpoint, Reason, Route
from mcproxy.net.raw import RawSocket
from mcproxy.net.reach import Arrival
from mcproxy.wire.hello import Hello

# Named once: CONTRIBUTING says why.
_REFUSED: Final = End.REFUSED
_OK: Final = Reason.OK


class Facts:
    """The facts of one connection so far. Everything here happens on the hub's thread."""

    __slots__ = (
        "backend", "began", "client", "destination", "detail", "end", "hello", "id", "listener", "packed", "reason",
        "route",
    )  # fmt: skip

    def __init__(self, number: int, listener: str, peer: Endpoint) -> None:
        """`listener` is its address as configured, `peer` the address that accept() returned."""
        self.id = number  # unique while the server lives, rising in a process
        self.listener = listener
        self.began = time.monotonic()  # seconds
        self.client = peer  # until a PROXY header of a trusted peer says otherwise
        self.packed = b""  # the client's address, for the policies; b"": not known yet
        self.destination: Endpoint | None = None  # where the client connected to, if a PROXY header says so
        self.hello: Hello | None = None
        self.route: Route | None = None
        self.backend: Backend | None = None  # that was reached
        self.end = _REFUSED  # until it is relayed
        self.reason = _OK
        self.detail = ""

    def __repr__(self) -> str:
        return f"<Facts {self}>"

    def __str__(self) -> str:
        name = self.hello.server_name if self.hello else "?"
        host, port = self.client
        return f"{self.id} {self.listener} {host}:{port} {name}"

    def ended(self, end: End, reason: Reason = _OK, detail: str = "") -> None:
        """Note how it has ended, and why."""
        self.end = end
        self.reason = reason
        self.detail = detail

    def arrival(self, client: RawSocket) -> Arrival:
        """The facts that dialling its backend and l7 need; `client` is its socket. It must have a route."""
        assert self.route is not None
        assert self.hello is not None
        destination = self.destination
        if self.route.send_proxy_protocol and destination is None:
            destination = client.getsockname()[:2]
        return Arrival(self.id, self.listener, self.client, destination, self.hello, self.route)

    def connection(self, received: int, sent: int, detail: str) -> Connection:
        """The record as of now, with the bytes so far; `detail` is the carrier's, for a connection that was relayed."""
        duration = time.monotonic() - self.began
        route, seen = self.route, self.hello
        return Connection(
            id=self.id,
            started=time.time() - duration,
            duration=duration,
            listener=self.listener,
            client=self.client,
            sni=seen.server_name if seen else "",
            versions=seen.versions if seen else (),
            alpn=seen.alpn if seen else (),
            ech=seen.ech if seen else False,
            route=route.hostname if route else "",
            mode=route.mode if route else "",
            backend=self.backend or (route.backend if route else None),
            reason=self.reason,
            detail=self.detail or detail,
            received=received,
            sent=sent,
            end=self.end,
        )
