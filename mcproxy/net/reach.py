"""The way to a backend, for l4 and l7 alike: a PROXY header where the route asks for one, the dial, and its time."""

import time
from collections.abc import Callable
from typing import NamedTuple

from mcproxy.model import Backend, Endpoint, Route
from mcproxy.net.dial import Outgoing, Tried, dial
from mcproxy.net.raw import RawSocket
from mcproxy.wire import proxy_protocol
from mcproxy.wire.hello import Hello


class Arrival(NamedTuple):
    """A client connection that has a route: the session passes it on, and it never changes."""

    id: int
    listener: str  # its address as configured
    client: Endpoint  # from the PROXY header where the listener takes one
    destination: Endpoint | None  # where the client connected to; known where a PROXY header is to say so
    hello: Hello
    route: Route


# Told which backend was reached, and how many seconds that took; None: over a connection that was there already.
Reached = Callable[[Backend, float | None], None]


def reach(arrival: Arrival, alpn: bytes, first: bytes, outgoing: Outgoing, reached: Reached) -> RawSocket:
    """Connect to the route's backend and send `first`, which may be empty.

    `alpn` is the client's protocol, for a PROXY header. Raises Refused.
    """
    backend = arrival.route.backend
    began = time.monotonic()
    sock = dial(backend, proxy_header(arrival, alpn) + first, outgoing)
    reached(backend, time.monotonic() - began)
    return sock


def try_out(route: Route, outgoing: Outgoing, tried: Tried | None = None) -> RawSocket:
    """Connect to the route's backend for no client; a PROXY header is LOCAL then. Raises Refused.

    `tried` is called for each address, with its failure, if any.
    """
    return dial(route.backend, proxy_protocol.LOCAL_V2 if route.send_proxy_protocol else b"", outgoing, tried)


def proxy_header(arrival: Arrival, alpn: bytes) -> bytes:
    """The PROXY header that the backend gets first; empty unless the route asks for it."""
    if not arrival.route.send_proxy_protocol:
        return b""
    assert arrival.destination is not None
    name = arrival.hello.server_name
    return proxy_protocol.encode_v2(arrival.client, arrival.destination, authority=name, alpn=alpn)
