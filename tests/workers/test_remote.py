"""A worker's channel from the parent's side: answers, what is raised, reports, and the end."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mcproxy.messages import FindCountry, PlaneBusy, WouldEnter
from mcproxy.workers.clerk import Answered, Asked, Beat, Part
from mcproxy.workers.letters import Letters
from mcproxy.workers.remote import Remote, WorkerGone
from tests.kit.peers import DEADLINE, until


class Scene:
    """A remote, and the far end of its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.heard: list[Any] = []
        self.gone = threading.Event()
        self.remote = Remote(
            1, Letters(ours), lambda remote, letter: self.heard.append(letter), lambda remote: self.gone.set()
        )
        self.far = Letters(theirs)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    made.remote.begin("the beginning")  # type: ignore[arg-type]  # any value travels
    assert made.far.receive()[0] == "the beginning"
    yield made
    made.far.close()
    assert made.gone.wait(DEADLINE)


def test_answers_find_their_question_in_any_order(scene: Scene) -> None:
    asked = [scene.remote.ask(FindCountry(bytes([i]))) for i in range(3)]
    letters: list[Asked] = [scene.far.receive()[0] for _ in asked]
    for each in reversed(letters):
        scene.far.send(Answered(each.number, f"{each.request.packed[0]}"))  # type: ignore[attr-defined]
    assert [each.result(DEADLINE) for each in asked] == ["0", "1", "2"]


def test_a_list_that_comes_in_parts_is_one_answer(scene: Scene) -> None:
    asked = [scene.remote.ask(FindCountry(bytes([i]))) for i in range(2)]
    one, other = (scene.far.receive()[0].number for _ in asked)
    for letter in (Part(one, [1, 2]), Part(other, [9]), Part(one, [3]), Answered(one, [4]), Answered(other, [])):
        scene.far.send(letter)
    answers: list[Any] = [each.result(DEADLINE) for each in asked]
    assert answers == [[1, 2, 3, 4], [9]]
    assert not scene.remote._parts


def test_what_the_worker_raises_is_raised(scene: Scene) -> None:
    asked = scene.remote.ask(WouldEnter(":1", 0))
    scene.far.send(Answered(scene.far.receive()[0].number, error=PlaneBusy("later")))
    with pytest.raises(PlaneBusy, match="later"):
        asked.result(DEADLINE)


def test_reports_are_heard(scene: Scene) -> None:
    scene.far.send(Beat(3, 17))
    until(lambda: scene.heard == [Beat(3, 17)])


def test_the_end_of_the_worker_answers_everything(scene: Scene) -> None:
    asked = scene.remote.ask(FindCountry(b""))
    scene.far.close()
    with pytest.raises(WorkerGone):
        asked.result(DEADLINE)
    assert scene.gone.wait(DEADLINE)
    with pytest.raises(WorkerGone):
        scene.remote.ask(FindCountry(b"")).result(DEADLINE)
