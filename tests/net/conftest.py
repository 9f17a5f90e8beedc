"""A hub, and workers on it, that end with the test."""

from collections.abc import Iterator
from typing import Any

import pytest

from mcproxy.table import Table
from tests.kit.hub import HubThread
from tests.kit.worker_bench import Bench, MakeBench


@pytest.fixture
def hub(nothing_left: None) -> Iterator[HubThread]:
    """A running hub."""
    running = HubThread()
    yield running
    running.close()


@pytest.fixture
def bench(hub: HubThread) -> Iterator[MakeBench]:
    """Makes workers from tables; keyword arguments are seams."""
    made: list[Bench] = []

    def make(table: Table, **seams: Any) -> Bench:
        made.append(Bench(hub, table, **seams))
        return made[-1]

    yield make
    for each in made:
        each.stop()
