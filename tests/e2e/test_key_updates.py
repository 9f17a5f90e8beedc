"""A client that sends nothing but TLS 1.3 KeyUpdates is disconnected, and its neighbours are served meanwhile.

OpenSSL handles as many of them in one SSL_read as have come: two such clients kept a server from everybody for 16 s,
and its watchdog was not fed.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count

from mcproxy.model import End
from tests.conftest import MakeBackend
from tests.kit.http2_peer import HOST
from tests.kit.key_updates import KeyUpdates
from tests.kit.l7_proxy import Server, SocketClient, careless
from tests.kit.peers import DEADLINE, Authority, until


def test_a_flood_of_key_updates_is_ended(authority: Authority, backend: MakeBackend) -> None:
    over, ids = threading.Event(), count(1, 2)

    def flood(client: KeyUpdates) -> None:
        while not over.is_set():
            if not client.send():
                over.wait(0.1)  # it is gone, or so is its server's patience

    with closing(Server(authority, int(backend(careless()).address.rpartition(":")[2]))) as server:

        def ended() -> list[str]:
            return [line for line in list(server.proxy.lines) if f'"end": "{End.ABUSE}"' in line]

        with (
            closing(SocketClient(server.port, authority)) as neighbour,
            KeyUpdates(server.port, HOST) as one,
            KeyUpdates(server.port, HOST) as other,
        ):
            neighbour.handshake()
            floods = [threading.Thread(target=flood, args=(client,), daemon=True) for client in (one, other)]
            for each in floods:
                each.start()
            until(
                lambda: served(neighbour, ids) and len(ended()) == 2, "both to be ended while the neighbour is served"
            )
            over.set()
            for each in floods:
                each.join(DEADLINE)
            assert served(neighbour, ids)
        for line in map(json.loads, ended()):
            assert "without a byte of HTTP" in line["detail"]
            assert line["client"] == "127.0.0.1"
        assert [thread.name for thread in threading.enumerate()].count("read guard") == 1
    assert "read guard" not in [thread.name for thread in threading.enumerate()]


def served(client: SocketClient, ids: Iterator[int]) -> bool:
    """Whether one more request is answered."""
    client.request(next(ids))
    client.expect_answer()
    return True
