"""Every rule of HTTP/2 that a server must hold, with a backend that checks nothing: in memory, and over TLS."""

from collections.abc import Iterator

import pytest

from tests.kit import conformance_messages as cases_messages
from tests.kit.conformance_frames import CASES
from tests.kit.http2_peer import MemoryClient
from tests.kit.l7_proxy import Server, SocketClient, careless
from tests.kit.peers import Authority, Backend

assert set(cases_messages.CASES) == set(CASES)  # importing it has added its own


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Server]:
    backend = Backend(careless())
    server = Server(authority, int(backend.address.rpartition(":")[2]))
    yield server
    server.close()
    backend.close()


@pytest.mark.parametrize("name", CASES)
def test_in_memory(name: str) -> None:
    client = MemoryClient()
    CASES[name](client)
    assert all(stream.ended >= stream.started for stream in client.records)


@pytest.mark.parametrize("name", CASES)
def test_over_tls(name: str, server: Server, authority: Authority) -> None:
    client = SocketClient(server.port, authority)
    try:
        CASES[name](client)
    finally:
        client.close()
