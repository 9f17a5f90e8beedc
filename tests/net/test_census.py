"""The census counts what open sessions have moved, and writes a line of those that live long."""

from collections.abc import Iterator

import pytest

from mcproxy.model import Connection, End
from mcproxy.net.census import SLICE, Census
from mcproxy.net.facts import Facts
from tests.kit.clock import Clock
from tests.test_lines import ended


class Open:
    """A session as the census sees it."""

    def __init__(self, began: float = 0.0) -> None:
        self.facts = Facts(1, "[::1]:443", ("192.0.2.1", 1024))
        self.facts.began = began
        self.received, self.sent = 1, 2
        self.account = self
        self.lines = 0
        self.counted = 0

    def moved(self, up: int, down: int) -> None:
        assert (up, down) == (self.received, self.sent)
        self.counted += 1

    def connection(self) -> Connection:
        return ended(duration=7.0)


@pytest.fixture
def written() -> Iterator[list[Connection]]:
    lines: list[Connection] = []
    yield lines
    assert all(line.end is End.OPEN for line in lines)


def census_of(sessions: dict[int, Open], written: list[Connection], clock: Clock | None = None) -> Census:
    return Census(sessions, written.append, 100.0, clock or (lambda: 0.0))  # type: ignore[arg-type]


def test_every_session_is_visited_once_a_round(written: list[Connection]) -> None:
    sessions = {i: Open() for i in range(10 * SLICE)}
    census = census_of(sessions, written)
    for _ in range(10):
        census.step()
    assert {session.counted for session in sessions.values()} == {1}
    census.step()
    assert sum(session.counted for session in sessions.values()) == 11 * SLICE


def test_a_round_takes_no_longer_for_many(written: list[Connection]) -> None:
    sessions = {i: Open() for i in range(6000)}
    census = census_of(sessions, written)
    for _ in range(60):
        census.step()
    assert {session.counted for session in sessions.values()} == {1}


def test_sessions_come_and_go_meanwhile(written: list[Connection]) -> None:
    sessions = {i: Open() for i in range(2 * SLICE)}
    census = census_of(sessions, written)
    census.step()
    for i in list(sessions):
        del sessions[i]
    census.step()
    sessions[999] = Open()
    census.step()
    assert sessions[999].counted == 1


def test_a_line_for_each_interval_that_it_lives(written: list[Connection]) -> None:
    clock = Clock()
    census = census_of({1: Open(clock.time)}, written, clock)
    counts = []
    for age in (0.0, 99.0, 100.0, 101.0, 199.0, 205.0, 206.0, 999.0):
        clock.time = 1000.0 + age
        census.step()
        counts.append(len(written))
    assert counts == [0, 0, 1, 1, 1, 2, 2, 3]
