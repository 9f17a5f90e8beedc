"""One order, a step at a time; whole ways are in test_keeper.py."""

from dataclasses import replace

import pytest

from mcproxy.certificates.acme.contract import OrderLost, Refusal, Seen
from mcproxy.certificates.acme.course import LAST_POLL, MAX_ORDER, MAX_POLL, TELL_AGAIN, Course, Name
from mcproxy.certificates.acme.order import Order, State
from tests.kit.acme_stub import DIRECTORY, START, Rows, StubCA

A = "a.test"


class Undecided(StubCA):
    """It takes its time, and may say how long."""

    retry_after = 0.0

    def look(self, url: str) -> Seen:
        return replace(super().look(url), status="processing", retry_after=self.retry_after)


class Stage:
    """A course with one name, and a clock that the test winds."""

    def __init__(self, kind: type[StubCA] = StubCA) -> None:
        self.now = START
        self.ca = kind(lambda: self.now)
        self.rows = Rows()
        self.name = Name(Order(A, next_at=START))
        self.published: list[State] = []
        self.course = Course(self.rows, self._publish, lambda: self.now, lambda: 0.0)

    def _publish(self, name: Name) -> None:
        self.published.append(name.order.state)


def test_the_start_is_durable_before_the_ca_is_asked() -> None:
    stage = Stage()
    stage.ca.refuse["order"] = [Refusal("no")]
    with pytest.raises(Refusal):
        stage.course.begin(stage.name, stage.ca, DIRECTORY)
    row = stage.rows.order_rows[A]
    assert (row.state, row.directory, row.url, stage.rows.started) == (State.ORDERING, DIRECTORY, "", [START])
    stage.course.put_back(stage.name)
    assert (stage.name.order.state, stage.name.order.key, stage.name.order.failures) == (State.WAITING, "", 0)


def test_the_pauses_between_two_looks_grow_and_retry_after_is_obeyed_within_reason() -> None:
    stage = Stage(Undecided)
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    pauses = []
    for _ in range(12):
        stage.course.go_on(stage.name, stage.ca)
        pauses.append(stage.name.order.next_at - stage.now)
        stage.now = stage.name.order.next_at
    assert pauses[:3] == pytest.approx([0.5, 0.75, 1.125])
    assert pauses[-1] == pytest.approx(LAST_POLL)
    assert isinstance(stage.ca, Undecided)
    stage.ca.retry_after = 60.0
    stage.course.go_on(stage.name, stage.ca)
    assert stage.name.order.next_at - stage.now == 60.0
    stage.ca.retry_after = 86_400.0
    stage.course.go_on(stage.name, stage.ca)
    assert stage.name.order.next_at - stage.now == MAX_POLL


def test_a_ca_that_does_not_decide_has_failed() -> None:
    stage = Stage(Undecided)
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    stage.now += MAX_ORDER + 1
    stage.course.go_on(stage.name, stage.ca)
    assert stage.name.order.failure == "the CA has not decided in 15 minutes"
    assert stage.name.order.url == ""


def test_the_ca_is_told_to_look_once() -> None:
    stage = Stage()
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    stage.course.go_on(stage.name, stage.ca)
    stage.ca.names[A] = "pending"  # it has not looked yet
    stage.course.go_on(stage.name, stage.ca)
    assert stage.ca.calls.count(f"begin {A}") == 1


LOST = "the CA no longer has the order: not found"


def test_an_order_that_the_ca_has_lost_is_made_again_at_once_and_is_no_failed_try() -> None:
    """It counted as one, so the name waited ten minutes for what was no fault of its own."""
    stage = Stage()
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    stage.ca.refuse["look"] = [OrderLost(LOST)]
    stage.course.go_on(stage.name, stage.ca)
    again = stage.name.order
    assert (again.state, again.url, again.key, again.next_at, again.failures) == (State.WAITING, "", "", START, 0)
    assert stage.rows.order_rows[A] == again


def test_a_ca_that_loses_every_order_gets_no_loop_of_them() -> None:
    stage = Stage()
    stage.ca.refuse["look"] = [OrderLost(LOST), OrderLost(LOST)]
    for _ in range(2):
        stage.course.begin(stage.name, stage.ca, DIRECTORY)
        stage.course.go_on(stage.name, stage.ca)
    assert (stage.name.order.failures, stage.name.order.failure) == (1, LOST)


def test_the_ca_is_told_to_look_when_all_nodes_can_answer() -> None:
    stage = Stage()
    lacking = [["edge2", "edge3"], ["edge2"], []]
    stage.course = Course(
        stage.rows, lambda _name: None, lambda: stage.now, lambda: 0.0, spreading=lambda: lambda: lacking.pop(0)
    )
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    for _ in range(2):
        stage.course.go_on(stage.name, stage.ca)
        assert stage.name.order.next_at == stage.now + TELL_AGAIN
    assert stage.ca.calls == [f"order {A}", f"look {A}"], "the CA isn't asked meanwhile"
    stage.course.go_on(stage.name, stage.ca)
    assert stage.ca.calls[-1] == f"begin {A}"
    assert stage.rows.order_rows[A].challenge == "token.thumb", "durable, for the other nodes"


def test_a_challenge_is_answered_until_its_order_has_ended() -> None:
    """It was not once the CA took it, though a CA may look more than once: the second look made the order invalid."""
    stage = Stage()
    stage.course.begin(stage.name, stage.ca, DIRECTORY)
    for _ in range(2):
        stage.course.go_on(stage.name, stage.ca)
    assert (stage.name.order.state, stage.name.challenge is not None) == (State.ISSUING, True)
    assert stage.rows.order_rows[A].challenge == "token.thumb"
    for _ in range(2):
        stage.course.go_on(stage.name, stage.ca)
    assert (stage.name.order.state, stage.name.challenge) == (State.WAITING, None)
    assert stage.rows.order_rows[A].challenge == ""
