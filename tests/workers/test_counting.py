"""When counters are read, and that those of a process that has ended are not taken for its successor's."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from mcproxy.messages import ReadRoutes, ReadStatus, Request, RouteCounters
from mcproxy.workers.counting import ROUTE_SECONDS, STATUS_SECONDS, Counting
from mcproxy.workers.slot import Slot
from mcproxy.workers.team import Team

MANY = 10_000


class OneWorker(Team):
    """Remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(1, None, None)  # type: ignore[arg-type]  # neither is looked at
        self.asked: list[tuple[Request[Any], Future[Any]]] = []

    def ask(self, request: Request[Any], slots: Any = None) -> list[tuple[Slot, "Future[Any]"]]:
        self.asked.append((request, Future()))
        return [(self.slots[0], self.asked[-1][1])]

    def kinds(self) -> list[type]:
        found = [type(request) for request, _ in self.asked]
        self.asked.clear()
        return found


def test_routes_are_read_the_more_rarely_the_more_there_are() -> None:
    team, news = OneWorker(), list[Callable[[], object]]()
    counting = Counting(team, news.append)
    counting.step(100.0)
    assert team.kinds() == [ReadStatus, ReadRoutes]
    counting.step(100.0 + STATUS_SECONDS / 2)
    assert not team.kinds()
    team.slots[0].process.last_routes = [RouteCounters(":1", "a.test")] * MANY
    counting.step(100.0 + STATUS_SECONDS)
    assert team.kinds() == [ReadStatus, ReadRoutes]
    counting.step(100.0 + 2 * STATUS_SECONDS)
    assert team.kinds() == [ReadStatus]
    counting.step(100.0 + STATUS_SECONDS + MANY * ROUTE_SECONDS)
    assert team.kinds() == [ReadStatus, ReadRoutes]


def test_an_answer_is_noted_by_the_thread_unless_the_process_has_ended() -> None:
    team, news = OneWorker(), list[Callable[[], object]]()
    Counting(team, news.append).step(1.0)
    (_, status), (_, routes) = team.asked
    status.set_exception(OSError("it is gone"))
    routes.set_result([RouteCounters(":1", "a.test")])
    (note,) = news
    assert not team.slots[0].process.last_routes
    note()
    assert len(team.slots[0].process.last_routes) == 1
    team.slots[0].begin(2.0, 0.0)
    team.slots[0].process.remote = object()  # type: ignore[assignment]  # of another process
    note()
    assert not team.slots[0].process.last_routes
