"""Names: one lookup each, none that starves another, and the last good answer where the resolver hangs or fails."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

from mcproxy.net.lookups import Address
from mcproxy.net.names import KEEP, MAX_LOOKUPS, MAX_NAMES, MAX_SUSPECTS, PREFER, Names, interleaved
from tests.kit.clock import Clock
from tests.kit.hub import HubThread, messages
from tests.kit.peers import DEADLINE, until
from tests.kit.resolver import Resolver

Look = Callable[[str], "Future[list[Address]]"]
SILENT = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    made.addresses = ["192.0.2.1"]
    yield made
    made.answers.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def names(hub: HubThread, resolver: Resolver, clock: Clock, tmp_path: Path) -> Iterator[Names]:
    """With little patience: what they do when that is over is the same."""
    made: Names = hub.call(lambda: Names(resolver, clock, patience=0.01, hosts=tmp_path / "hosts"))
    yield made
    hub.call(made.close)


@pytest.fixture
def look(hub: HubThread, names: Names) -> Look:
    return lambda host: hub.spawn(names.look_up, host)


def hosts(found: "Future[list[Address]]") -> list[str]:
    return [address[0] for _, address in found.result(DEADLINE)]


def failure(found: "Future[list[Address]]") -> object:
    return found.exception(DEADLINE)


def test_each_asks_again(look: Look, resolver: Resolver) -> None:
    assert hosts(look("a.test")) == ["192.0.2.1"]
    resolver.addresses = ["192.0.2.2"]
    assert hosts(look("a.test")) == ["192.0.2.2"]
    assert resolver.asked == ["a.test", "a.test"]


def test_those_who_ask_meanwhile_share_one_lookup(hub: HubThread, names: Names, look: Look, resolver: Resolver) -> None:
    """It outlives the one who began it."""
    resolver.answers.clear()
    asking: list[greenlet] = []

    def ask() -> list[Address]:
        asking.append(getcurrent())
        return names.look_up("a.test")

    first = hub.spawn(ask)
    others = [look("a.test") for _ in range(3)]
    until(lambda: resolver.asked, "the lookup to begin")
    hub.call(asking[0].throw, GreenletExit)  # as a deadline does
    assert isinstance(failure(first), GreenletExit)
    resolver.answers.set()
    assert [hosts(each) for each in others] == [["192.0.2.1"]] * 3
    assert resolver.asked == ["a.test"]


def test_the_last_good_answer_serves_while_the_resolver_is_silent(look: Look, resolver: Resolver, clock: Clock) -> None:
    """A name server's outage used to be the outage of every backend with a name."""
    assert hosts(look("a.test")) == ["192.0.2.1"]
    resolver.answers.clear()
    resolver.addresses = ["192.0.2.2"]
    clock.time += KEEP
    with messages() as said:
        assert [hosts(look("a.test")) for _ in range(3)] == [["192.0.2.1"]] * 3
        assert resolver.asked == ["a.test"] * 2
        resolver.answers.set()
        until(lambda: hosts(look("a.test")) == ["192.0.2.2"], "the new answer")
    assert said[:2] == [  # a slow machine's later lookups may take longer than is waited for, too
        "warning the resolver does not answer for a.test; using its answer of 3600 s ago, for up to an hour",
        "info the resolver answers for a.test again",
    ]


def test_the_last_good_answer_serves_where_the_resolver_fails(look: Look, resolver: Resolver, clock: Clock) -> None:
    assert hosts(look("a.test")) == ["192.0.2.1"]
    resolver.failure = SILENT
    until(lambda: len(resolver.asked) > 1 or hosts(look("a.test")) != ["192.0.2.1"], "it to be asked again")
    assert hosts(look("a.test")) == ["192.0.2.1"]
    clock.time += KEEP + 1
    assert failure(look("a.test")) is SILENT


def test_a_name_that_is_no_more_is_no_failure_of_the_resolver(look: Look, resolver: Resolver) -> None:
    assert hosts(look("a.test")) == ["192.0.2.1"]
    resolver.failure = UNKNOWN
    until(lambda: look("a.test").exception(DEADLINE) is UNKNOWN, "it to be unknown")


def test_a_name_that_never_had_an_answer_fails(look: Look, resolver: Resolver) -> None:
    resolver.failure = SILENT
    assert failure(look("a.test")) is SILENT


def test_names_that_hang_leave_room_for_others(look: Look, resolver: Resolver) -> None:
    """Ten of them used to take every thread of gevent's pool."""
    resolver.failure = SILENT
    silent = [f"silent{i}.test" for i in range(MAX_LOOKUPS)]
    for each in [look(name) for name in silent]:
        assert failure(each) is SILENT
    resolver.answers.clear()  # for those who come now
    hanging = [look(name) for name in silent]
    until(lambda: len(resolver.asked) == MAX_LOOKUPS + MAX_SUSPECTS, "as many as may to be asked for")
    silence, resolver.answers, resolver.failure = resolver.answers, Resolver().answers, None  # for those who come now
    assert hosts(look("good.test")) == ["192.0.2.1"]
    assert not any(each.done() for each in hanging)
    silence.set()
    for each in hanging:
        until(each.done, "all to be answered")


def test_what_the_hosts_file_lists_waits_for_nobody(
    look: Look, resolver: Resolver, tmp_path: Path, hub: HubThread
) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n192.0.2.9 other.test Here.test # there.test\n")
    silent = resolver.answers
    silent.clear()
    hanging = [look(f"silent{i}.test") for i in range(MAX_LOOKUPS)]
    until(lambda: len(resolver.asked) == MAX_LOOKUPS, "every thread to hang")
    resolver.answers = Resolver().answers  # of those who come now
    late = [look("there.test"), look("192.0.2.9")]
    assert hosts(look("here.test")) == ["192.0.2.1"]
    assert hosts(look("other.test")) == ["192.0.2.1"]
    (tmp_path / "hosts").write_text("192.0.2.9 added.test\n")
    assert hosts(look("added.test")) == ["192.0.2.1"]
    assert not any(each.done() for each in late + hanging)
    silent.set()
    assert [hosts(each) for each in late + hanging] == [["192.0.2.1"]] * (MAX_LOOKUPS + 2)


def test_only_so_many_names_are_remembered(hub: HubThread, names: Names) -> None:
    def fill() -> str:
        for i in range(MAX_NAMES + 10):
            names.reached(f"n{i}.test", (2, ("192.0.2.1", 0)))
        return repr(names)

    assert hub.call(fill) == f"<Names known={MAX_NAMES} at_work=0 waiting=0>"


def test_families_take_turns() -> None:
    """RFC 8305, section 4."""
    v4, v6 = [(socket.AF_INET, (str(i), 0)) for i in range(2)], [(socket.AF_INET6, (str(i), 0)) for i in range(3)]
    assert interleaved([*v6, *v4]) == [v6[0], v4[0], v6[1], v4[1], v6[2]]
    assert interleaved([*v4, *v6]) == [v4[0], v6[0], v4[1], v6[1], v6[2]]
    assert interleaved(v4) == v4


def test_the_address_that_was_reached_goes_first_for_a_while(
    hub: HubThread, names: Names, look: Look, resolver: Resolver, clock: Clock
) -> None:
    resolver.addresses = ["2001:db8::1", "2001:db8::2", "192.0.2.1"]
    assert hosts(look("a.test")) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
    hub.call(names.reached, "a.test", (int(socket.AF_INET6), ("2001:db8::2", 0)))
    assert hosts(look("a.test")) == ["2001:db8::2", "2001:db8::1", "192.0.2.1"]
    clock.time += PREFER + 1
    assert hosts(look("a.test")) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
