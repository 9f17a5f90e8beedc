"""Every request of an l7 route has its line and its count, whatever ended it."""

import pytest
from hpack import Encoder

from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import Fields, Seen, h2, l7_listener
from tests.kit.peers import Authority, connect, until
from tests.kit.proxy import parse_line

ASKED = [(":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", "one.test")]


def answers_grpc(request: Seen) -> None:
    """As a gRPC server that knows no such method."""
    request.head(200, [("content-type", "application/grpc")])
    request.trail([("grpc-status", "12"), ("grpc-message", "unknown method")])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            [("X-A", "1")],
            {"status": "0", "end": "client fault", "detail": "PROTOCOL_ERROR: a field name in upper case: X-A"},
        ),
        ([("content-type", "application/grpc")], {"status": "200", "end": "done", "grpc_status": "12"}),
    ],
    ids=["refused at once", "gRPC"],
)
def test_a_request_has_its_line(
    fields: Fields, said: dict[str, str], backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """One that was refused at once had neither line nor count; gRPC's status was nowhere."""
    running = proxy({"listeners": [l7_listener({"one.test": backend(h2(answers_grpc)).address}, authority)]})
    context = authority.client_context()
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(connect(running.port), server_hostname="one.test") as client:
        head = http2.headers(1, Encoder().encode([*ASKED, *fields]), end_stream=True)
        client.sendall(PREFACE + http2.settings([]) + head)
        until(lambda: any(" request " in line for line in running.lines), "the line of the request")
        (line,) = [parse_line(line) for line in running.lines if " request " in line]
        asked = {"method": "GET", "authority": "one.test", "path": "/a", **said}
        assert {key: line[key].strip('"') for key in asked} == asked
        counted = running.app.worker.shared.stats.route(("127.0.0.1:0", "one.test")).read()
    assert counted.request_ends == {said["end"]: 1}
