"""The answers of several workers: without those that have ended, and not later than the request allows."""

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import Any

import pytest

from mcproxy.messages import Drain, FindCountry, PlaneBusy, PlaneStopping
from mcproxy.workers.common import Common
from mcproxy.workers.remote import WorkerGone
from mcproxy.workers.team import GRACE, Known, Team

QUESTION = FindCountry(b"")


def answered(answer: Any = None, error: Exception | None = None) -> "Future[Any]":
    future: Future[Any] = Future()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
    return future


@pytest.fixture
def team() -> Iterator[Team]:
    with closing(Common(2)) as common:
        yield Team(2, Known.__new__(Known), common)


def answers(team: Team, *futures: "Future[Any]") -> list[Any]:
    return team.answers(QUESTION, [(team.slots[0], each) for each in futures])


def test_one_that_has_ended_is_left_out(team: Team) -> None:
    assert repr(team) == "<Team 1:starting 2:starting>"
    assert answers(team, answered(error=WorkerGone("it has ended")), answered("NL")) == ["NL"]


def test_nobody_who_answers_is_busy(team: Team) -> None:
    with pytest.raises(PlaneBusy, match="no worker is running; one starts soon"):
        answers(team, answered(error=WorkerGone("it has ended")))
    with pytest.raises(PlaneBusy):
        answers(team)


def test_one_that_is_late_is_named(team: Team) -> None:
    with pytest.raises(PlaneBusy, match="worker 2 is too busy to answer; try again"):
        team.answers(Drain(-GRACE), [(team.slots[0], answered(True)), (team.slots[1], Future())])


@pytest.mark.parametrize("error", [PlaneStopping("the server is stopping"), TimeoutError("its own")])
def test_what_one_raises_is_raised(team: Team, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        answers(team, answered("NL"), answered(error=error))


@pytest.mark.parametrize("error", [PlaneStopping("the server is stopping"), WorkerGone("it has ended")])
def test_what_is_raised_keeps_nothing_of_its_caller(team: Team, error: Exception, no_collector: None) -> None:
    """Calls of the admin API stayed alive so while workers were killed, until gRPC refused further ones."""

    def ask() -> "weakref.ref[threading.Event]":
        mine = threading.Event()
        asked = [(team.slots[0], answered(error=error))]
        with suppress(PlaneBusy, WorkerGone):
            team.answers(QUESTION, asked)
        return weakref.ref(mine)

    asked = ask()
    error.__traceback__ = None  # the test's own parameter has it
    assert asked() is None
