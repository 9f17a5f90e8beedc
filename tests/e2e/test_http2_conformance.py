"""Every rule of HTTP/2 that a server must hold, with a backend that checks nothing: in memory, and over TLS."""

from collections.abc import Iterator

import pytest

from tests.l7 import cases_messages
from tests.l7.cases_frames import CASES
from tests.l7.peer import MemoryClient
from tests.l7.serving import Server, SocketClient, careless
from tests.peers import Authority, Backend

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
