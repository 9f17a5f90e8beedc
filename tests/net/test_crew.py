"""Jobs run once each, greenlets are used again, and none stays behind."""

from collections.abc import Iterator
from functools import partial

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.net.crew import Crew, Job


def turn() -> None:
    """Let everybody run who can."""
    for _ in range(3):
        gevent.sleep(0)


@pytest.fixture
def hub() -> Iterator[None]:
    yield
    turn()
    get_hub().destroy(destroy_loop=True)


@pytest.fixture
def crew(hub: None) -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.close()


def test_jobs_run_once_in_the_next_round(crew: Crew) -> None:
    seen: list[int] = []
    for i in range(100):
        crew.spawn(partial(seen.append, i))
    assert not seen
    turn()
    assert seen == list(range(100))


def test_a_greenlet_that_rests_takes_the_next_job(crew: Crew) -> None:
    workers: list[greenlet] = []
    for _ in range(10):
        crew.spawn(lambda: workers.append(getcurrent()))
        turn()
    assert len(set(map(id, workers))) == 1


def test_one_that_waits_is_not_given_another_job(crew: Crew) -> None:
    workers: list[greenlet] = []
    go_on = Event()

    def job() -> None:
        workers.append(getcurrent())
        go_on.wait()

    crew.spawn(job)
    crew.spawn(job)
    turn()
    go_on.set()
    assert len(set(map(id, workers))) == 2


def test_what_is_thrown_into_a_job_gets_to_that_job_only(crew: Crew) -> None:
    """A greenlet has one job after another: what was meant for the first must not end the second."""
    caught: list[tuple[str, greenlet]] = []

    def work(name: str) -> None:
        try:
            Event().wait()
        except ConnectionError:
            caught.append((name, getcurrent()))

    def throw(job: Job, when: str) -> None:
        get_hub().loop.run_callback(job.throw, ConnectionError(when))
        turn()

    first = crew.spawn(partial(work, "first"))
    first.throw(ConnectionError("it has not begun"))
    turn()
    assert caught == []
    throw(first, "it is at work")
    second = crew.spawn(partial(work, "second"))
    turn()
    throw(first, "it is over")
    assert [name for name, _ in caught] == ["first"]
    throw(second, "it is at work")
    assert [name for name, _ in caught] == ["first", "second"]
    assert caught[0][1] is caught[1][1], "both in the same greenlet, or this shows nothing"


def test_no_more_rest_than_the_bound(hub: None) -> None:
    crew = Crew(max_resting=3)
    for _ in range(20):
        crew.spawn(partial(gevent.sleep, 0))
    turn()
    assert repr(crew) == "<Crew resting=3>"
    crew.close()


def test_it_can_be_told_to_keep_fewer_and_more_again_until_it_closes(hub: None) -> None:
    crew = Crew(max_resting=9)

    def resting_after(most: int) -> str:
        crew.keep(most)
        for _ in range(20):
            crew.spawn(partial(gevent.sleep, 0))
        turn()
        return repr(crew)

    assert [resting_after(most) for most in (2, 5, 2)] == [f"<Crew resting={most}>" for most in (2, 5, 2)]
    crew.close()
    assert resting_after(5) == "<Crew resting=0>"


def test_closing_ends_those_that_rest(crew: Crew) -> None:
    workers: list[greenlet] = []
    crew.spawn(lambda: workers.append(getcurrent()))
    turn()
    assert not workers[0].dead
    crew.close()
    turn()
    assert workers[0].dead


def test_closing_ends_those_at_work_when_they_are_done(crew: Crew) -> None:
    workers: list[greenlet] = []
    go_on = Event()

    def job() -> None:
        workers.append(getcurrent())
        go_on.wait()

    crew.spawn(job)
    turn()
    crew.close()
    turn()
    assert not workers[0].dead
    go_on.set()
    turn()
    assert workers[0].dead
