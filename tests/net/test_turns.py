"""Turns: one in each round of the hub, in order, and after all that is short."""

import socket
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.hub import get_hub

from mcproxy.net.raw import READ
from mcproxy.net.turns import Turns
from tests.kit.hub import pass_rounds

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")

Seen = list[tuple[str, int]]  # what had its turn, and in which round


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    assert repr(turns) == "<Turns sessions=0 newcomers=0>"
    turns.close()


def noting(seen: Seen, what: str) -> Callable[[], None]:
    return lambda: seen.append((what, get_hub().loop.iteration))


def names(seen: Seen) -> str:
    """Who had a turn, in order; each in a round of its own."""
    assert len({at for _, at in seen}) == len(seen)
    return "".join(what for what, _ in seen)


def test_one_goes_ahead_in_each_round(turns: Turns) -> None:
    assert turns.take()
    assert not turns.take()
    pass_rounds(1)
    assert turns.take()


def test_the_others_queue_and_have_a_round_each(turns: Turns) -> None:
    assert turns.take()
    seen: Seen = []
    for what in "abc":
        turns.ask(noting(seen, what))
    assert repr(turns) == "<Turns sessions=3 newcomers=0>"
    pass_rounds()
    assert names(seen) == "abc"
    assert turns.take()


def test_nobody_goes_ahead_of_those_who_wait(turns: Turns) -> None:
    seen: Seen = []
    turns.ask(noting(seen, "a"))
    pass_rounds(0)
    assert not turns.take()
    pass_rounds()
    assert names(seen) == "a"


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
        pass_rounds()
    finally:
        watcher.close()
        ours.close()
        theirs.close()
    assert seen == ["long", "short", "long", "short", "long", "short"]


def test_who_is_gone_is_not_called(turns: Turns) -> None:
    seen: Seen = []
    first, second = noting(seen, "a"), noting(seen, "b")
    turns.ask(first)
    turns.ask(second)
    turns.forget(first)
    pass_rounds()
    turns.ask(first)
    turns.forget(first)
    pass_rounds()
    turns.ask(first)
    pass_rounds()
    assert names(seen) == "ba"


def newcomers(turns: Turns, seen: Seen, what: str) -> list["gevent.Greenlet[..., None]"]:
    """One for each letter, who has come and waits."""

    def come(letter: str) -> None:
        turns.wait()
        noting(seen, letter)()

    coming = [gevent.spawn(come, letter) for letter in what]
    gevent.sleep(0)
    return coming


def test_newcomers_wait_in_their_greenlets(turns: Turns) -> None:
    seen: Seen = []
    coming = newcomers(turns, seen, "abcd")
    coming[2].kill()
    gevent.joinall(coming)
    assert names(seen) == "abd"


def test_newcomers_and_sessions_take_turns(turns: Turns) -> None:
    seen: Seen = []
    assert turns.take()
    coming = newcomers(turns, seen, "abcdef")
    for what in "123":
        turns.ask(noting(seen, what))
    gevent.joinall(coming)
    order = names(seen)
    assert [each for each in order if each.isalpha()] == [*"abcdef"]
    assert order.index("3") <= 6, "a session waits for one newcomer at most"
