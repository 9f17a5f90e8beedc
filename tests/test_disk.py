"""Files that hang, are no files, are too large or being written; and that one that hangs takes nobody else's time."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcproxy import disk
from mcproxy.disk import Hangs, NotAFile, Readers, TooLarge
from tests.kit.peers import DEADLINE, until

PATIENCE = 0.2  # seconds that a file has here


@pytest.fixture
def gone() -> Iterator[Callable[[], str]]:
    """What reads a file on a disk that is gone, until the end of the test."""
    back = threading.Event()

    def read() -> str:
        back.wait(DEADLINE)
        return "it was slow"

    yield read
    back.set()


def readers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "reader"]


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    assert disk.read(str(file), 100_000) == b"x" * 100_000
    with pytest.raises(TooLarge):
        disk.read(str(file), 99_999)
    with pytest.raises(FileNotFoundError):
        disk.read(str(tmp_path / "absent"), 1)
    until(lambda: not readers(), "the threads to end")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_regular_files_are_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "it")
    with pytest.raises(NotAFile, match="it is not a regular file"):
        disk.read(str(tmp_path / "it"), 100)
    with pytest.raises(NotAFile):
        disk.read("/dev/zero", 100)


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    before = disk.stamp(str(file))
    assert disk.stamp(str(file)) == before
    file.write_bytes(b"ab")
    assert disk.stamp(str(file)) != before


def test_a_file_that_hangs_is_given_up_and_takes_one_thread(gone: Callable[[], str]) -> None:
    some = Readers(patience=PATIENCE)
    with ThreadPoolExecutor(20) as callers:
        calls = [callers.submit(some.run, "/gone/a", gone) for _ in range(20)]
        for call in calls:
            with pytest.raises(Hangs, match=r"it has not answered in \d\.\d s"):
                call.result(DEADLINE)
    assert len(readers()) == 1
    assert some.run("/here/b", lambda: 7) == 7
    assert repr(some) == "<Readers /gone/a>"


def test_what_hangs_still_is_said_at_once(gone: Callable[[], str]) -> None:
    some = Readers(patience=PATIENCE)
    tried: list[int] = []
    with pytest.raises(Hangs):
        some.run("/gone/a", gone)
    for _ in range(3):
        with pytest.raises(Hangs):
            some.run("/gone/a", lambda: tried.append(1))
    assert not tried


def test_a_disk_that_comes_back_is_read_again() -> None:
    some, back = Readers(patience=PATIENCE), threading.Event()
    with pytest.raises(Hangs):
        some.run("/gone/a", lambda: back.wait(DEADLINE))
    back.set()
    until(lambda: repr(some) == "<Readers idle>", "the disk to come back")
    assert some.run("/gone/a", lambda: 7) == 7


def test_when_all_threads_hang_no_more_files_are_tried(gone: Callable[[], str]) -> None:
    some, tried = Readers(most=3, patience=PATIENCE), list[int]()
    for name in "abc":
        with pytest.raises(Hangs):
            some.run(f"/gone/{name}", gone)
    with pytest.raises(Hangs, match="it was not tried, because 3 other files don't answer"):
        some.run("/here/d", lambda: tried.append(1))
    assert not tried
    assert len(readers()) == 3


def test_a_file_waits_for_a_thread_while_none_hangs() -> None:
    some, busy, go_on = Readers(most=1, patience=DEADLINE), threading.Event(), threading.Event()

    def slow() -> int:
        busy.set()
        assert go_on.wait(DEADLINE)
        return 1

    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(some.run, "/a", slow)
        assert busy.wait(DEADLINE)
        second = callers.submit(some.run, "/b", lambda: 2)
        go_on.set()
        assert (first.result(DEADLINE), second.result(DEADLINE)) == (1, 2)


def test_many_that_hang_don_t_take_as_many_times_the_patience(gone: Callable[[], str]) -> None:
    """A survey of a thousand certificates on a disk that is gone has to end."""
    some = Readers(most=16, patience=PATIENCE)
    for number in range(100):
        with pytest.raises(Hangs):
            some.run(f"/gone/{number}", gone)
    assert len(readers()) == 16
    shares = [each.patience for each in some._readings.values()]
    assert sum(shares) < PATIENCE * 4


def test_what_a_function_raises_is_raised() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Readers().run("/a", fail)


def test_what_is_raised_keeps_nothing_of_its_caller(no_collector: None) -> None:
    """Calls of the admin API stayed alive so: an exception and a frame held each other until a collection."""

    def ask() -> "weakref.ref[threading.Event]":
        mine = threading.Event()
        with pytest.raises(ZeroDivisionError):
            Readers().run("/a", lambda: 1 // 0)
        return weakref.ref(mine)

    asked = ask()
    until(lambda: asked() is None, "what the caller had to be released")


def test_a_copy_in_memory_has_a_path(tmp_path: Path) -> None:
    with disk.in_memory(b"content", str(tmp_path)) as path:
        assert Path(path).read_bytes() == b"content"
    assert not Path(path).exists()
