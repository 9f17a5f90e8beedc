"""Every rule of HTTP/2 that a server must hold, with a backend that checks nothing."""

import pytest

from tests.l7 import cases_messages
from tests.l7.cases_frames import CASES
from tests.l7.peer import MemoryClient

assert cases_messages.served  # its cases are registered by the import


@pytest.mark.parametrize("name", CASES)
def test_in_memory(name: str) -> None:
    client = MemoryClient()
    CASES[name](client)
    assert all(stream.ended >= stream.started for stream in client.records)
