"""The process that has a port, and whether the port is free."""

import errno
import os
import socket

import pytest

from mcproxy.check.ports import failure, holders
from tests.kit.peers import free_port


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "[::]", "[::1]"])
def test_a_port_that_is_free_can_be_had_and_is_free_afterwards(host: str) -> None:
    port = free_port()
    assert (failure(f"{host}:{port}"), holders(f"{host}:{port}")) == (0, [])
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(("host", "taken"), [("127.0.0.1", True), ("0.0.0.0", True), ("", True), ("127.0.0.2", False)])
def test_a_port_that_somebody_has(host: str, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        addr = f"{host}:{server.getsockname()[1]}"
        assert failure(addr) == (errno.EADDRINUSE if taken else 0)
        found = holders(addr)
        assert [each.pid for each in found] == ([os.getpid()] if taken else []), "it was blamed for any address"
        assert all(str(each).endswith(f" (pid {os.getpid()})") for each in found)
    assert holders(addr) == []


@pytest.mark.parametrize(
    ("held", "host", "in_the_way"),
    [("::", "127.0.0.1", True), ("::", "[::1]", True), ("::1", "[::1]", True), ("::1", "127.0.0.1", False)],
)
def test_who_listens_on_ipv6(held: str, host: str, in_the_way: bool) -> None:
    with socket.create_server((held, 0), family=socket.AF_INET6, dualstack_ipv6=held == "::") as server:
        assert bool(holders(f"{host}:{server.getsockname()[1]}")) is in_the_way


def test_an_address_that_is_not_of_this_machine() -> None:
    assert failure("192.0.2.1:443") == errno.EADDRNOTAVAIL
