"""Jobs run once each, greenlets are used again, and none stays behind."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.net.crew import Crew


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    crew.close()
    gevent.sleep(0)
    get_hub().destroy(destroy_loop=True)


def test_jobs_get_their_arguments_and_run_once(crew: Crew) -> None:
    seen: list[tuple[int, str]] = []
    for i in range(100):
        crew.spawn(lambda *args: seen.append(args), i, "x")
    assert not seen
    gevent.sleep(0)
    assert seen == [(i, "x") for i in range(100)]


def test_a_greenlet_that_rests_takes_the_next_job(crew: Crew) -> None:
    workers: list[greenlet] = []
    for _ in range(10):
        crew.spawn(lambda: workers.append(getcurrent()))
        gevent.sleep(0)
    assert len(set(map(id, workers))) == 1


def test_one_that_waits_is_not_given_another_job(crew: Crew) -> None:
    workers: list[greenlet] = []

    def job() -> None:
        workers.append(getcurrent())
        gevent.sleep(0.01)

    crew.spawn(job)
    crew.spawn(job)
    gevent.sleep(0)
    assert len(set(map(id, workers))) == 2


def test_no_more_rest_than_the_bound() -> None:
    crew = Crew(max_resting=3)
    for _ in range(20):
        crew.spawn(gevent.sleep, 0)
    gevent.sleep(0.01)
    assert repr(crew) == "<Crew resting=3>"
    crew.close()
    gevent.sleep(0)
    get_hub().destroy(destroy_loop=True)


def test_closing_ends_those_that_rest(crew: Crew) -> None:
    workers: list[greenlet] = []
    crew.spawn(lambda: workers.append(getcurrent()))
    gevent.sleep(0)
    assert not workers[0].dead
    crew.close()
    gevent.sleep(0)
    assert workers[0].dead
