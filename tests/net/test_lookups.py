"""The threads that look names up: as many as are needed, used again, and gone when they are told to go."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy.net.lookups import Result, Threads
from tests.kit.hub import HubThread
from tests.kit.peers import until
from tests.kit.resolver import Resolver

HERE = [(2, ("192.0.2.1", 0))]


class Running:
    """Threads, and what they have found."""

    def __init__(self, hub: HubThread, resolver: Resolver, hosts: Path) -> None:
        self.hub = hub
        self.resolver = resolver
        self.found: list[tuple[str, Result, bool]] = []
        self.threads: Threads = hub.call(Threads, resolver, hosts, lambda *found: self.found.append(found))

    def give(self, host: str) -> None:
        self.hub.call(self.threads.give, host)


@pytest.fixture
def running(hub: HubThread, tmp_path: Path) -> Iterator[Running]:
    resolver = Resolver()
    resolver.addresses = ["192.0.2.1"]
    made = Running(hub, resolver, tmp_path / "hosts")
    yield made
    resolver.answers.set()
    hub.call(made.threads.close)


def lookups() -> int:
    return sum(thread.name.startswith("lookup") for thread in threading.enumerate())


def test_a_thread_is_used_again(running: Running) -> None:
    for i in range(20):
        running.give("a.test")
        until(lambda count=i + 1: len(running.found) == count, "an answer")  # type: ignore[misc]
    assert running.found == [("a.test", HERE, False)] * 20
    assert repr(running.threads) == "<Threads count=1 idle=1>"


def test_each_that_hangs_has_a_thread(running: Running) -> None:
    running.resolver.answers.clear()
    for i in range(5):
        running.give(f"n{i}.test")
    until(lambda: len(running.resolver.asked) == 5, "all to be asked for")
    assert repr(running.threads) == "<Threads count=5 idle=0>"
    running.resolver.answers.set()
    until(lambda: len(running.found) == 5, "all answers")
    assert repr(running.threads) == "<Threads count=5 idle=5>"


def test_after_the_end_nothing_is_told(running: Running) -> None:
    """Process and hub may be gone: a lookup that hangs outlives both."""
    running.resolver.answers.clear()
    running.give("a.test")
    until(lambda: running.resolver.asked, "it to be asked for")
    running.hub.call(running.threads.close)
    running.resolver.answers.set()
    until(lambda: not lookups(), "the threads to end")
    assert not running.found


def test_whatever_goes_wrong_is_the_answer(running: Running) -> None:
    running.resolver.addresses = None
    running.give("a" * 300)  # no label may have as many; Python says so, not the system
    until(lambda: running.found, "an answer")
    assert isinstance(running.found[0][1], Exception)


def test_the_porter_looks_up_only_what_the_hosts_file_lists(running: Running, tmp_path: Path) -> None:
    for host in ("early.test", "here.test"):
        running.hub.call(running.threads.give_porter, host)
    (tmp_path / "hosts").write_text("192.0.2.1 here.test\n")
    running.hub.call(running.threads.give_porter, "here.test")
    running.hub.call(running.threads.give_porter, "here.test.")
    until(lambda: running.found, "an answer")
    assert set(map(str, running.found)) == {str(("here.test", HERE, True))}
