"""Whatever turn is late, and whatever was read before it, each request gets its whole answer.

What waits for a turn isn't watched meanwhile, so a way on which nobody watches it again hangs, on a busy hub only: an
upload whose windows were opened in a turn did (l7/sockets/lines.py). Here turns are refused at random.
"""

import http.client
import random
import socket
import ssl
from collections.abc import Iterator

import pytest

from mcproxy.certificates.contexts import Contexts
from mcproxy.l7.sockets.backends import Backends
from mcproxy.l7.terminate import PROTOCOLS, Terminator
from mcproxy.model import BackendProtocol, Listener, Mode, Route
from mcproxy.net.turns import Turns
from mcproxy.notation.address import parse_backend
from mcproxy.table import Live, Table
from tests.conftest import MakeBackend
from tests.kit.http2_backends import echo, h2
from tests.kit.hub import HubThread
from tests.kit.peers import Authority
from tests.kit.worker_bench import V4, Bench
from tests.soak.traffic import Site, http2

RUNS, SIZES = 25, (0, 1_000, 70_000, 131_072, 200_000)  # bytes of a body; two of them are whole reads


class Late(Turns):
    """Of the sessions that could go ahead at once, half have to ask."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)

    def take(self) -> bool:
        return self._rng.random() < 0.5 and super().take()


def echo_http1(sock: socket.socket) -> None:
    """Answer each request with its body."""
    with sock.makefile("rb") as coming:
        while coming.readline().strip():
            fields = http.client.parse_headers(coming)
            body = coming.read(int(fields.get("content-length") or 0)) if "content-length" in fields else b""
            if "chunked" in fields.get("transfer-encoding", ""):
                while size := int(coming.readline(), 16):
                    body += coming.read(size)
                    coming.readline()
                coming.readline()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture(params=[BackendProtocol.H2, BackendProtocol.HTTP1])
def site(request: pytest.FixtureRequest, hub: HubThread, backend: MakeBackend, authority: Authority) -> Iterator[Site]:
    """The way to a route whose backend answers with what it was sent."""
    made = backend(h2(echo) if request.param is BackendProtocol.H2 else echo_http1)
    chain, key = authority.pair("a.test")
    route = Route("a.test", parse_backend(made.address), Mode.L7, str(chain), str(key), backend_protocol=request.param)
    table = Table.build([(Listener(V4), [route])])
    terminator = Terminator(Contexts(PROTOCOLS), Backends(Live(table)), lambda _: lambda _: None)
    running = Bench(hub, table, turns=hub.call(Late, 7), terminate=terminator)
    yield Site("", running.open(), ssl.create_default_context(cafile=str(authority.path)))
    running.stop()
    hub.call(terminator.release)


def test_uploads_and_answers_of_http1(site: Site) -> None:
    rng = random.Random(1)
    for _ in range(RUNS):
        with site.connect("a.test", "http/1.1") as sock:
            connection = http.client.HTTPConnection("a.test")
            connection.sock = sock
            for _ in range(8):
                body = rng.randbytes(rng.choice(SIZES))
                chunked = bool(body) and rng.random() < 0.5
                pieces = iter([body[:500], body[500:]]) if chunked and len(body) > 500 else body
                connection.request("POST", "/", pieces, encode_chunked=not isinstance(pieces, bytes))
                assert connection.getresponse().read() == body


def test_streams_of_http2(site: Site) -> None:
    for seed in range(RUNS):
        for _ in http2(random.Random(seed), site, "a.test"):
            continue
