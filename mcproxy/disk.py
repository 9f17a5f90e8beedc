"""Files that a route or the configuration names: read whole by a few threads, within a time and a size.

A disk of the network that is gone makes open(), read() and even stat() hang for as long as it is gone, and no signal
ends them. So the hub and the threads that answer operators must not touch such a file themselves: a thread of
its own does, and is waited for until a deadline. A file that hangs takes one thread, however many ask for it: the next
one that asks learns at once that it hangs still. Once files hang, others get less time, so that going through a
thousand of them ends; and when all the threads hang, no further file is tried.

A FIFO or a device in a file's place is opened without blocking, and refused: only regular files are read.
"""

import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Stamp = tuple[int, int, int, int]

PATIENCE = 4.0  # seconds for one file: many times what a busy disk takes, and less than any caller's own deadline
LINGER = 0.1  # seconds that a thread waits for another file: a caller that reads one often reads hundreds
SLICE = 0.1  # seconds between two looks at whether what is waited for counts as hanging by now
MAX_READERS = 16  # threads, and so files that may hang at once: those of a few routes on a disk that is gone


class NotAFile(OSError):
    """It is no regular file."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", path)


class TooLarge(OSError):
    """It has more bytes than any file of its kind."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EFBIG, os.strerror(errno.EFBIG), path)


class Changing(OSError):
    """It is being written, so that what was read may be half of it."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EAGAIN, "it is being written", path)


class Hangs(OSError):
    """It doesn't answer; or so many others don't that it was not tried."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(errno.ETIMEDOUT, why, path)


class _Reading:
    """One file that a thread is busy with."""

    __slots__ = ("began", "patience")

    def __init__(self, patience: float) -> None:
        self.began = time.monotonic()
        self.patience = patience

    def left(self) -> float:
        """Seconds until it counts as one that hangs."""
        return self.began + self.patience - time.monotonic()


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    function: Callable[[], Any]
    done: "Future[Any]"


class Readers:
    """The threads. Any thread may ask, but the hub's: it waits for the answer."""

    def __init__(self, most: int = MAX_READERS, patience: float = PATIENCE) -> None:
        """`patience` is the seconds that one file has."""
        self._most = most
        self._patience = patience
        self._changed = threading.Condition()
        self._readings: dict[str, _Reading] = {}  # by path
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = 0  # threads that linger, and for which no job is on its way

    def __repr__(self) -> str:
        return f"<Readers {', '.join(self._readings) or 'idle'}>"

    def run(self, path: str, function: Callable[[], T], patience: float | None = None) -> T:
        """Return what `function` does with the file at `path`, in seconds at most, or raise what it raises; or Hangs.

        One function at a time for each path.
        """
        reading = self._begin(path, patience or self._patience)
        done: Future[T] = Future()
        self._give(_Job(path, function, done))
        try:
            return done.result(reading.left())
        except TimeoutError:
            if done.done():  # it is what `function` raised, or came at the last moment
                return done.result()
            raise _silent(path, reading) from None
        finally:
            del done  # it has what is raised, whose traceback has this frame, and with it all callers': see _do

    def _give(self, job: _Job) -> None:
        """Have a thread do it: one that lingers, or a new one."""
        with self._changed:
            lingers = self._idle > 0
            self._idle -= lingers
        if lingers:
            self._jobs.put(job)
            return
        try:
            threading.Thread(target=self._work, args=(job,), name="reader", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._end(job.path)
            raise Hangs(job.path, f"there is no thread to read it ({error})") from error

    def _work(self, job: _Job) -> None:
        """A thread's life: a file, and whichever others come soon after it."""
        while True:
            self._do(job)
            del job  # and with it what was read
            try:
                job = self._jobs.get(timeout=LINGER)
            except queue.Empty:
                with self._changed:
                    if self._idle:  # or a job is on its way
                        self._idle -= 1
                        return
                job = self._jobs.get()

    def _do(self, job: _Job) -> None:
        try:
            found = job.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the file was asked for
            self._end(job.path, lingers=True)
            job.done.set_exception(error)
        else:
            self._end(job.path, lingers=True)
            job.done.set_result(found)
        finally:
            del job  # else its exception and this frame hold each other, and all that is in them, until a collection

    def _begin(self, path: str, patience: float) -> _Reading:
        deadline = time.monotonic() + patience
        with self._changed:
            while (mine := self._readings.get(path)) or len(self._readings) >= self._most:
                if mine is not None and mine.left() <= 0:
                    raise _silent(path, mine)
                if len(self._hanging()) >= self._most:
                    raise Hangs(path, f"it was not tried, because {len(self._readings)} other files don't answer")
                if (left := deadline - time.monotonic()) <= 0:
                    raise Hangs(path, f"it was not tried in {patience:g} s, because other files take that long")
                self._changed.wait(min(left, SLICE))
            share = patience / (1 + len(self._hanging()))
            reading = self._readings[path] = _Reading(share)
        return reading

    def _hanging(self) -> list[str]:
        return [path for path, reading in self._readings.items() if reading.left() <= 0]

    def _end(self, path: str, *, lingers: bool = False) -> None:
        with self._changed:
            del self._readings[path]
            self._idle += lingers
            self._changed.notify_all()


def _silent(path: str, reading: _Reading) -> Hangs:
    return Hangs(path, f"it has not answered in {time.monotonic() - reading.began:.1f} s")


_readers = Readers()  # of the process: what hangs is the machine's, not one worker's


def read(path: str, most: int, patience: float = PATIENCE) -> bytes:
    """The whole content of a regular file of at most `most` bytes. Raises OSError: the classes above, and others."""
    return _readers.run(path, lambda: read_here(path, most), patience)


def stamp(path: str) -> Stamp:
    """Values that differ once a file has changed, its owner and mode included. Raises OSError: Hangs."""
    return stamp_of(_readers.run(path, Path(path).stat))


def stamp_of(found: os.stat_result) -> Stamp:
    """The stamp in what stat() has returned."""
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def within(path: str, function: Callable[[], T], patience: float = PATIENCE) -> T:
    """Do something with a file, in a thread of its own. Raises what it raises, and Hangs."""
    return _readers.run(path, function, patience)


def read_here(path: str, most: int) -> bytes:
    """As `read`, in the calling thread, for as long as the disk takes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise NotAFile(path)
        if before.st_size > most:
            raise TooLarge(path)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(before.st_size + 1)
        if (len(data), os.fstat(descriptor).st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise Changing(path)
        return data
    finally:
        os.close(descriptor)


@contextmanager
def in_memory(data: bytes, path: str) -> Iterator[str]:
    """A path that leads to `data`, for a library that takes no bytes; where the kernel has none, `path` itself."""
    try:
        descriptor = os.memfd_create("file", os.MFD_CLOEXEC)
    except OSError:
        yield path
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        copy = f"/proc/self/fd/{descriptor}"
        yield copy if Path(copy).exists() else path
