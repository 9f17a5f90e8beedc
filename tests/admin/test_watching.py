import threading
from collections.abc import Callable
from typing import Any

import pytest

from mcproxy.admin import watching
from mcproxy.admin.errors import TooMany
from mcproxy.admin.watching import Watchers
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind
from tests.kit.control_plane import FakePlane
from tests.kit.peers import DEADLINE, until


class Call:
    """As much of gRPC's context as a watcher needs."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def cancel(self) -> None:
        self.cancelled.set()
        self.end()

    def end(self) -> None:
        for callback in self._callbacks:
            callback()


class Setting:
    def __init__(self, grace: float = watching.GRACE) -> None:
        self.plane = FakePlane()
        self.watchers = Watchers(self.plane, grace)

    def happen(self, number: int) -> None:
        """Something happens, on what would be the hub."""
        event = ConnectionEvent(EventKind.OPENED, 0.0, ConnectionInfo(number, ":443", "192.0.2.1:5", 0.0, "relaying"))
        for sink in list(self.plane.sinks):
            sink(event)

    def watch(self, call: Call) -> Any:
        return self.watchers.watch(call)  # type: ignore[arg-type]

    def reading(self, call: Call, found: list[int]) -> threading.Thread:
        """A thread that reads to the end."""

        def read() -> None:
            for batch in self.watch(call):
                found.extend(event.connection.id for event in batch)

        thread = threading.Thread(target=read)
        thread.start()
        assert self.plane.subscribed.wait(DEADLINE)
        return thread


@pytest.fixture
def setting() -> Any:
    made = Setting()
    yield made
    made.watchers.close()


def test_events_come_in_order_until_the_call_ends(setting: Setting) -> None:
    call, found = Call(), list[int]()
    thread = setting.reading(call, found)
    for number in range(1000):
        setting.happen(number)
        until(lambda number=number: number % 100 != 0 or number in found, "the reader to keep up")  # type: ignore[misc]
    until(lambda: len(found) == 1000, "all events")
    assert found == list(range(1000))
    assert len(setting.watchers) == 1
    call.end()
    thread.join(DEADLINE)
    assert not setting.plane.sinks
    assert len(setting.watchers) == 0


def test_a_batch_has_a_bound(setting: Setting) -> None:
    call = Call()
    batches = setting.watch(call)
    first = threading.Thread(target=lambda: [next(batches) for _ in range(1)])
    first.start()
    assert setting.plane.subscribed.wait(DEADLINE)
    setting.happen(0)
    first.join(DEADLINE)
    for number in range(watching.EVENTS_AT_ONCE * 2):
        setting.happen(number)
    assert len(next(batches)) == watching.EVENTS_AT_ONCE
    call.end()
    batches.close()


def test_a_reader_that_falls_behind_is_dropped_and_the_hub_never_waits(setting: Setting) -> None:
    call = Call()
    batches = setting.watch(call)
    started = threading.Thread(target=lambda: next(batches))
    started.start()
    assert setting.plane.subscribed.wait(DEADLINE)
    setting.happen(0)
    started.join(DEADLINE)
    (watcher,) = setting.plane.sinks
    for number in range(watching.QUEUE + 1):
        setting.happen(number)
    assert "dropped=True" in repr(watcher)
    with pytest.raises(TooMany, match="you read too slowly"):
        next(batches)
    assert not setting.plane.sinks
    assert not call.cancelled.is_set(), "it has had its end, and needs no force"


def test_a_reader_that_never_reads_is_cut_off() -> None:
    setting = Setting(grace=0.05)
    call = Call()
    batches = setting.watch(call)
    started = threading.Thread(target=lambda: next(batches))
    started.start()
    assert setting.plane.subscribed.wait(DEADLINE)
    for number in range(watching.QUEUE + watching.EVENTS_AT_ONCE + 2):
        setting.happen(number)
    started.join(DEADLINE)
    assert call.cancelled.wait(DEADLINE)
    batches.close()
    setting.watchers.close()


def test_watchers_have_a_bound(setting: Setting) -> None:
    calls = [Call() for _ in range(watching.MAX_WATCHERS)]
    threads = []
    for call in calls:
        setting.plane.subscribed.clear()
        threads.append(setting.reading(call, []))
    with pytest.raises(TooMany, match="8 are watching"):
        next(setting.watch(Call()))
    for call in calls:
        call.end()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(setting.watchers) == 0


def test_a_plane_that_refuses_leaves_no_watcher(setting: Setting) -> None:
    setting.plane.fail["subscribe"] = OSError("no")
    with pytest.raises(OSError, match="no"):
        next(setting.watch(Call()))
    assert len(setting.watchers) == 0


def test_closing_ends_every_stream() -> None:
    setting = Setting()
    thread = setting.reading(Call(), [])
    setting.watchers.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
