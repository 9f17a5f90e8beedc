"""A group of sockets: the kernel brings every address to its home, and an address that is taken is refused."""

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from mcproxy.net.group import choose_by_address, grown, open_group, refuse_new, share
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from tests.kit.peers import DEADLINE, connect

WORKERS = 3


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def opened(stack: ExitStack, addr: str, count: int = WORKERS) -> list[socket.socket]:
    sockets = open_group(addr, count)
    for each in sockets:
        stack.enter_context(each)
    return sockets


def accepted_by(sockets: list[socket.socket], address: str) -> int:
    """Which of them has this client in its queue."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = ("::1" if ":" in address else "127.0.0.1", sockets[0].getsockname()[1])
    with socket.socket(family) as client:
        client.settimeout(DEADLINE)
        client.bind((address, 0))
        client.connect(where)
        for number, each in enumerate(sockets):
            try:
                each.accept()[0].close()
            except BlockingIOError:
                continue
            return number
    raise AssertionError("nobody has it")


@pytest.mark.parametrize("addr", ["127.0.0.1:0", ":0"])
def test_the_kernel_brings_an_address_to_its_home(stack: ExitStack, addr: str) -> None:
    sockets = opened(stack, addr)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    found = set()
    for last in range(1, 60):
        address = f"127.0.{last}.{last}"
        expected = home(pack(address), WORKERS)
        assert [accepted_by(sockets, address) for _ in range(2)] == [expected] * 2
        found.add(expected)
    assert found == set(range(WORKERS))


def test_ipv6_is_brought_to_the_home_of_its_network(stack: ExitStack) -> None:
    assert accepted_by(opened(stack, ":0"), "::1") == home(pack("::1"), WORKERS)


def test_closing_duplicates_changes_nothing(stack: ExitStack) -> None:
    """As a server that was succeeded does; and the program may be attached again."""
    sockets = opened(stack, "127.0.0.1:0")
    kept = [stack.enter_context(each.dup()) for each in sockets]
    for each in sockets:
        each.close()
    for _ in range(2):
        for last in range(1, 20):
            address = f"127.0.0.{last}"
            assert accepted_by(kept, address) == home(pack(address), WORKERS)
        choose_by_address(kept, WORKERS)


def homes_of(sockets: list[socket.socket], addr: str, count: int) -> bool:
    """Whether every client is brought to its home of so many."""
    addresses = ["::1"] if addr.startswith("[") else [f"127.0.0.{last}" for last in range(1, 40)]
    return all(accepted_by(sockets, each) == home(pack(each), count) for each in addresses)


@pytest.mark.parametrize("addr", ["127.0.0.1:0", ":0", "[::1]:0"])
@pytest.mark.parametrize("before", [1, 2])
def test_a_group_grows_and_shrinks_and_nobody_is_brought_elsewhere_meanwhile(
    stack: ExitStack, addr: str, before: int
) -> None:
    """Nobody accepts on those that are new yet, and they may be closed again. Connections are open all the while."""
    sockets = opened(stack, addr, before)
    stack.enter_context(connect(sockets[0].getsockname()[1], "::1" if addr.startswith("[") else "127.0.0.1"))
    for each in sockets:
        with suppress(BlockingIOError):
            stack.enter_context(each.accept()[0])
    for each in list(grown(sockets, 4))[before:]:
        assert homes_of(sockets, addr, before)
        each.close()
    found = list(grown(sockets, 4))
    assert found[:before] == sockets
    for each in found[before:]:
        stack.enter_context(each)
    for count in (before, 4, 3, 1):
        choose_by_address(found, count)
        assert homes_of(found, addr, count)


def test_a_group_that_is_large_enough_stays() -> None:
    assert grown((), 3) == []
    with ExitStack() as stack:
        sockets = opened(stack, "127.0.0.1:0")
        assert grown(sockets, WORKERS) == grown(sockets, 1) == sockets


@pytest.mark.parametrize(("number", "count"), [(1, 1), (1, 3), (3, 3), (5, 2), (5, 1), (4, 2)])
def test_workers_share_all_sockets(stack: ExitStack, number: int, count: int) -> None:
    """The first one is for the first of them; none is left alone, and none is given twice but a single one."""
    sockets = opened(stack, "127.0.0.1:0", number)
    shares = [share(sockets, each, count) for each in range(count)]
    assert {each for found in shares for each in found} == set(sockets)
    if number > 1:
        assert [found[0] for found in shares] == sockets[:count]
        assert sum(map(len, shares)) == number


def test_an_address_that_another_program_has_is_refused(stack: ExitStack) -> None:
    """A group would let in any socket of the same user that shares the address, too."""
    for shared in (False, True):
        other = socket.create_server(("127.0.0.1", 0), reuse_port=shared)
        stack.enter_context(other)
        with pytest.raises(OSError, match="in use") as caught:
            open_group(f"127.0.0.1:{other.getsockname()[1]}", WORKERS)
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "[::1]:0"])
def test_nobody_is_connected_once_new_ones_are_refused(stack: ExitStack, addr: str) -> None:
    """A client that came between the last accept and the close of a listener was connected, then reset."""
    sockets = opened(stack, addr)
    where, family = sockets[0].getsockname()[:2], sockets[0].family
    before, late = (stack.enter_context(socket.socket(family)) for _ in range(2))
    before.connect(where)
    refuse_new(sockets)
    late.setblocking(False)
    assert late.connect_ex(where) == errno.EINPROGRESS, "it is not answered, and tries again"
    before.sendall(b"still here")
    found = []
    for each in sockets:
        with suppress(BlockingIOError):
            found.append(stack.enter_context(each.accept()[0]))
        each.close()
    (accepted,) = found
    assert accepted.recv(10) == b"still here", "who was there before is served as usual"
    assert select.select([], [late], [], DEADLINE)[1]
    assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
