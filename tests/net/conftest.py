"""A hub, and workers on it, that end with the test."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcproxy.table import Table
from tests.kit.hub import HubThread
from tests.kit.worker_bench import Bench, MakeBench


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


@pytest.fixture
def full_socket(nothing_left: None, tmp_path: Path) -> Iterator[str]:
    """A backend that is never reached: the backlog of its UNIX socket is full."""
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(path)
        server.listen(0)
        first.connect(path)
        yield f"unix:{path}"
