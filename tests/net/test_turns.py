"""Turns: one in each round of the hub, in order, and after all that is short."""

import socket
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.hub import get_hub

from mcproxy.net.raw import READ
from mcproxy.net.turns import QUIET, Turns

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    turns.close()


def rounds(seen: list[tuple[str, int]], what: str) -> Callable[[], None]:
    return lambda: seen.append((what, get_hub().loop.iteration))


def test_one_goes_ahead_in_each_round(turns: Turns) -> None:
    assert turns.take()
    assert not turns.take()
    gevent.sleep(0.001)
    assert turns.take()


def test_the_others_queue_and_have_a_round_each(turns: Turns) -> None:
    assert turns.take()
    seen: list[tuple[str, int]] = []
    for what in "abc":
        turns.ask(rounds(seen, what))
    assert repr(turns) == "<Turns waiting=3>"
    gevent.sleep(0.01)
    assert [what for what, _ in seen] == ["a", "b", "c"]
    assert len({at for _, at in seen}) == 3
    assert turns.take()


def test_nobody_goes_ahead_of_those_who_wait(turns: Turns) -> None:
    seen: list[tuple[str, int]] = []
    turns.ask(rounds(seen, "a"))
    assert not turns.take()
    gevent.sleep(0.01)
    assert [what for what, _ in seen] == ["a"]


def test_what_is_short_comes_first(turns: Turns) -> None:
    ours, theirs = socket.socketpair()
    watcher = get_hub().loop.io(ours.fileno(), READ)
    seen: list[str] = []

    def serve() -> None:
        ours.recv(9)
        seen.append("short")

    def long() -> None:
        seen.append("long")
        theirs.send(b"x")  # which has happened before the next round, and so has the next turn
        if len(seen) < 5:
            turns.ask(long)

    watcher.start(serve)
    try:
        turns.ask(long)
        gevent.sleep(0.01)
    finally:
        watcher.close()
        ours.close()
        theirs.close()
    assert seen == ["long", "short", "long", "short", "long", "short"]


def test_who_is_gone_is_not_called(turns: Turns) -> None:
    seen: list[tuple[str, int]] = []
    first, second = rounds(seen, "a"), rounds(seen, "b")
    turns.ask(first)
    turns.ask(second)
    turns.forget(first)
    turns.forget(first)
    gevent.sleep(0.01)
    assert [what for what, _ in seen] == ["b"]
    turns.ask(first)
    turns.forget(first)
    gevent.sleep(0.01)
    turns.ask(first)
    gevent.sleep(0.01)
    assert [what for what, _ in seen] == ["b", "a"], "after a turn that nobody took"


def test_greenlets_wait_for_theirs(turns: Turns) -> None:
    seen: list[tuple[str, int]] = []

    def work(what: str) -> None:
        turns.wait()
        rounds(seen, what)()

    workers = [gevent.spawn(work, what) for what in "abcd"]
    gevent.sleep(0)
    workers[2].kill()
    gevent.joinall(workers)
    assert [what for what, _ in seen] == ["a", "b", "d"]
    assert len({at for _, at in seen}) == 3
    assert repr(turns) == "<Turns waiting=0>"


def test_alone_is_who_has_not_heard_of_others_for_a_while() -> None:
    now = 100.0
    turns = Turns(lambda: now)
    turns.heard("a")
    assert not turns.alone()
    now += 2 * QUIET
    assert turns.alone()
    turns.heard("b")
    assert turns.last == "b"
    assert not turns.alone()
    turns.close()
