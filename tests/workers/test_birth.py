"""The nursery from outside: it forks, reports ends, and is replaced when it dies itself."""

import os
import queue
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcproxy.workers.birth import Nursery
from mcproxy.workers.nursery import IGNORED, Born, Ended
from tests.kit.peers import DEADLINE


class Scene:
    def __init__(self) -> None:
        self.letters: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.nursery = Nursery(self.letters.put)

    def fork(self, number: int) -> tuple[int, socket.socket]:
        """A worker without a beginning: it waits for one on the socket."""
        ours, theirs = socket.socketpair()
        with theirs, Path(os.devnull).open("wb") as nowhere:
            self.nursery.fork(number, [theirs.fileno(), nowhere.fileno(), nowhere.fileno()])
        born = self.letters.get(timeout=DEADLINE)
        assert isinstance(born, Born)
        assert born.number == number
        return born.pid, ours


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.nursery.close()


def test_workers_are_forked_and_their_ends_are_reported(scene: Scene) -> None:
    (first, one), (second, other) = scene.fork(1), scene.fork(2)
    assert first != second
    os.kill(first, signal.SIGKILL)
    assert scene.letters.get(timeout=DEADLINE) == Ended(first, signal.SIGKILL)
    other.close()
    ended = scene.letters.get(timeout=DEADLINE)
    assert (ended.pid, os.waitstatus_to_exitcode(ended.status)) == (second, 1), "its parent is gone"
    one.close()


def test_a_nursery_that_dies_is_replaced_and_its_workers_live_on(scene: Scene) -> None:
    _, sock = scene.fork(1)
    process = scene.nursery._process
    process.kill()
    process.wait()
    _, another = scene.fork(2)
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.close()
    another.close()
    assert scene.nursery._process.pid != process.pid


@pytest.mark.parametrize("number", IGNORED)
def test_a_signal_to_all_processes_does_not_end_one_that_begins(scene: Scene, number: signal.Signals) -> None:
    """It did until it had imported everything; a stop within the first second logged that the nursery had died."""
    process = scene.nursery._process
    process.send_signal(number)
    _, sock = scene.fork(1)
    assert process.poll() is None
    sock.close()
