"""Idle connections to a backend: which are taken, which are dead or spoilt, and when they go by themselves."""

from collections.abc import Iterator

import pytest

from mcproxy.l7.sockets.idle import CHECKED
from tests.kit.pool_stage import TIMEOUTS, Guest, PoolStage

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


@pytest.fixture
def on() -> Iterator[PoolStage]:
    """A pool with two idle connections; that of "b" was used last."""
    stage = PoolStage()
    guest = Guest(stage)
    guest.ask("a")
    guest.ask("b")
    guest.has("a", "b")
    guest.back("a")
    guest.back("b")
    assert stage.tally.idle == 2
    yield stage
    stage.close()


def test_one_that_the_backend_ends_is_closed_and_counted(on: PoolStage) -> None:
    on.far[1].close()
    on.until(lambda: on.tally.dead == 1)
    assert (on.tally.idle, on.tally.poisoned) == (1, 0)
    guest = Guest(on)
    guest.ask("c")
    assert (len(guest.got), on.dials) == (1, 2)
    guest.back("c")


def test_one_that_says_what_nobody_asked_for_is_closed_and_counted(on: PoolStage) -> None:
    """It would be taken for the answer to the next request, of another client."""
    on.far[1].sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    on.until(lambda: on.tally.poisoned == 1)
    assert (on.tally.idle, on.tally.dead) == (1, 0)
    assert on.is_closed(1)


@pytest.mark.parametrize("dead", [True, False])
def test_one_that_has_been_idle_for_a_while_is_looked_at_when_it_is_taken(dead: bool, on: PoolStage) -> None:
    """What has come in this very round of the hub would be seen too late: the request would be on its way."""
    guest = Guest(on)
    on.clock.time += CHECKED
    if dead:
        on.far[1].close()
    else:
        on.far[1].sendall(b"x")
    guest.ask("c")
    assert (len(guest.got), on.dials) == (1, 2)
    assert (on.tally.dead, on.tally.poisoned, on.tally.idle) == (dead, not dead, 0)
    guest.back("c")


def test_they_go_after_a_while(on: PoolStage) -> None:
    on.wind(2)
    guest = Guest(on)
    guest.ask("c")
    guest.back("c")
    on.wind(TIMEOUTS.backend_idle - 1.8)
    assert (on.is_closed(0), on.is_closed(1)) == (True, False)
    on.wind(2)
    assert on.is_closed(1)
    assert (on.tally.idle, on.tally.dead, len(on.sweeper)) == (0, 0, 0), "nothing is left to be visited"


def test_only_what_is_for_one_session_goes_with_it(on: PoolStage) -> None:
    Guest(on).leave()
    assert on.tally.idle == 2
