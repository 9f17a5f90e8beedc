"""Clients that check every byte of what comes back, each in a thread of its own, until they are told to stop."""

import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.kit.peers import reset
from tests.soak.faults import Failure, Faults
from tests.soak.trail import Trail

PATIENCE = 20.0  # seconds for one answer
LARGEST = 200_000  # bytes of a body
FITTING = (0, 1, 1_000, 6_000)  # bytes of a body, so that five fit the window of a connection
PIECE = 30_000  # bytes that are on their way at once; the buffers between hold more
AFTER_FAILURE = 0.2  # seconds, or a client would do nothing but fail while a proxy is away
PAUSES = (0.0, 0.02, 0.05, 0.1)  # seconds between two requests
L4, L7, FLAKY, FLAKY_L4 = "l4.test", "l7.test", "flaky.test", "flaky4.test"


class Wrong(Exception):
    """What came back isn't what was sent."""


@dataclass
class Site:
    """Where a client goes."""

    proxy: str  # its name in faults
    port: int
    context: ssl.SSLContext
    trail: Trail = field(default_factory=Trail)

    @contextmanager
    def connect(self, name: str, alpn: str = "") -> Iterator[ssl.SSLSocket]:
        """A TLS connection to a name."""
        self.trail = Trail()
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as raw:
            self.trail = trail = Trail.of(raw)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = self.context
            context.set_alpn_protocols([alpn] if alpn else ["none"])
            with context.wrap_socket(raw, server_hostname=name, do_handshake_on_connect=False) as sock:
                try:
                    sock.do_handshake()
                    yield sock
                except Exception:
                    trail.failed(sock)
                    raise


Act = Callable[[random.Random, Site, str], Iterator[None]]  # yields after each request that was served


def l4(rng: random.Random, site: Site, name: str) -> Iterator[None]:
    """A stream that comes back whole."""
    with site.connect(name) as sock:
        for _ in range(rng.randint(1, 4)):
            data = rng.randbytes(rng.randint(1, LARGEST))
            site.trail.step = f"a stream of {len(data)} bytes"
            for start in range(0, len(data), PIECE):
                piece = data[start : start + PIECE]
                sock.sendall(piece)
                if _receive(sock, len(piece)) != piece:
                    raise Wrong("other bytes came back")
            yield


def _receive(sock: ssl.SSLSocket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = sock.recv(size - len(got))
        if not part:
            raise Wrong(f"ended after {len(got)} of {size} bytes")
        got += part
    return got


def http1(rng: random.Random, site: Site, name: str) -> Iterator[None]:
    """Requests on one connection, with and without a body, in chunks too."""
    connection = http.client.HTTPConnection(name, timeout=PATIENCE)
    with site.connect(name, "http/1.1") as sock:
        connection.sock = sock
        for _ in range(rng.randint(1, 8)):
            body = rng.randbytes(rng.choice((0, 1, 1_000, rng.randint(1, LARGEST))))
            pieces = iter([body[:500], body[500:]]) if body and rng.random() < 0.5 else body
            chunked = not isinstance(pieces, bytes)
            headers = {"Transfer-Encoding": "chunked"} if chunked else {}
            what = f"{'a chunked' if chunked else 'a'} request of {len(body)} bytes"
            site.trail.step = f"sending {what}"
            connection.request("POST" if body else "GET", "/x", pieces or None, headers, encode_chunked=chunked)
            site.trail.step = f"waiting for the answer to {what}"
            answer = connection.getresponse()
            site.trail.step = f"reading the answer to {what}"
            got = answer.read()
            if answer.status != 200 or got != body:
                raise Wrong(f"status {answer.status}, {len(got)} of {len(body)} bytes")
            yield
            if answer.will_close:
                return


def http2(rng: random.Random, site: Site, name: str) -> Iterator[None]:
    """Some streams at once on one connection."""
    with site.connect(name, "h2") as sock:
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        sock.sendall(h2.data_to_send())
        for _ in range(rng.randint(1, 4)):
            bodies = {}
            for _ in range(rng.randint(1, 5)):
                stream = h2.get_next_available_stream_id()
                bodies[stream] = rng.randbytes(rng.choice(FITTING))
                head = [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", "/y")]
                h2.send_headers(stream, head, end_stream=not bodies[stream])
                if bodies[stream]:
                    h2.send_data(stream, bodies[stream], end_stream=True)
            site.trail.step = f"{len(bodies)} streams of {sum(map(len, bodies.values()))} bytes"
            sock.sendall(h2.data_to_send())
            yield from _answers(h2, sock, bodies)


def _answers(h2: H2Connection, sock: ssl.SSLSocket, bodies: dict[int, bytes]) -> Iterator[None]:
    got = dict.fromkeys(bodies, b"")
    while bodies:
        data = sock.recv(65_536)
        if not data:
            raise Wrong(f"ended with {len(bodies)} streams open")
        for event in h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                status = str(dict(event.headers).get(b":status", b""), "ascii")
                if status != "200":
                    raise Wrong(f"status {status}")
            elif isinstance(event, DataReceived):
                got[event.stream_id] += event.data
                h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                if got[event.stream_id] != bodies.pop(event.stream_id):
                    raise Wrong("other bytes came back")
                yield
            elif isinstance(event, StreamReset | ConnectionTerminated) and not _is_polite(event, bodies):
                raise Wrong(f"{type(event).__name__} {event.error_code}")
        sock.sendall(h2.data_to_send())


def _is_polite(event: StreamReset | ConnectionTerminated, bodies: dict[int, bytes]) -> bool:
    """A GOAWAY that says no more than: open no further streams."""
    return isinstance(event, ConnectionTerminated) and not event.error_code and bool(bodies)


def breaks_off(rng: random.Random, site: Site, name: str) -> Iterator[None]:
    """A client that resets its connection somewhere in the middle; nobody expects anything of it."""
    with site.connect(name, rng.choice(("h2", "http/1.1"))) as sock:
        sock.settimeout(0.2)
        try:
            sock.sendall(
                rng.choice((b"", b"GET / HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"))
            )
            sock.recv(1)
        except OSError:
            pass
        finally:
            reset(sock)
    yield


CLIENTS: tuple[tuple[str, Act, str], ...] = (
    ("l4", l4, L4),
    ("HTTP/1.1", http1, L7),
    ("HTTP/2", http2, L7),
    ("HTTP/1.1", http1, FLAKY),
    ("HTTP/2", http2, FLAKY),
    ("l4", l4, FLAKY_L4),
    ("a client that breaks off", breaks_off, L7),
)


def keep(client: str, act: Act, site: Site, name: str, faults: Faults, stop: threading.Event, seed: int) -> None:
    """Act again and again."""
    rng = random.Random(seed)
    while not stop.is_set():
        begun = time.monotonic()
        try:
            for _ in act(rng, site, name):
                faults.served()
                begun = site.trail.served()
        except Exception as error:  # noqa: BLE001 - each is a failed request
            why = f"{type(error).__name__}: {error}"
            faults.failed(Failure(client, frozenset({site.proxy, name}), begun, time.monotonic(), why, site.trail))
            stop.wait(AFTER_FAILURE)
        stop.wait(rng.choice(PAUSES))
