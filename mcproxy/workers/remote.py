"""One worker process, as the parent sees it: requests go out, answers and reports come in."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from mcproxy.messages import ConnectionEvent, PlaneBusy, Request
from mcproxy.workers.clerk import Answered, Asked, Beat, Beginning, Part, Ready
from mcproxy.workers.letters import ChannelClosed, Letters

T = TypeVar("T")

log = logging.getLogger(__name__)


class WorkerGone(PlaneBusy):
    """The worker has ended, and with it the question."""


class Remote:
    """A worker's channel. Any thread may ask; one thread of its own reads."""

    def __init__(
        self, number: int, letters: Letters, hear: Callable[["Remote", Beat | Ready | ConnectionEvent], object],
        gone: Callable[["Remote"], object],
    ) -> None:  # fmt: skip
        """`hear` gets what the worker reports, `gone` is called once when the channel has ended; both must not wait."""
        self.number = number
        self._letters = letters
        self._hear = hear
        self._gone = gone
        self._asked = 0
        self._waiting: dict[int, Future[Any]] = {}
        self._parts: dict[int, list[Any]] = {}  # of answers that have begun to come
        self._closed = False
        self._lock = threading.Lock()  # of the three above

    def __repr__(self) -> str:
        return f"<Remote {self.number} waiting={len(self._waiting)} closed={self._closed}>"

    def begin(self, beginning: Beginning, descriptors: Sequence[int] = ()) -> None:
        """Send the first letter, and read from now on. Raises WorkerGone."""
        try:
            self._letters.send(beginning, descriptors)
        except ChannelClosed as error:
            raise WorkerGone(f"worker {self.number} has ended") from error
        threading.Thread(target=self._read, name=f"worker-{self.number}", daemon=True).start()

    def ask(self, request: Request[T], descriptors: Sequence[int] = ()) -> "Future[T]":
        """Send a request; what returns has its answer later, or what was raised: WorkerGone if the worker ends."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(WorkerGone(f"worker {self.number} has ended"))
                return future
            self._asked = number = self._asked + 1
            self._waiting[number] = future
        try:
            self._letters.send(Asked(number, request), descriptors)
        except ChannelClosed:
            self._fail()
        return future

    def close(self) -> None:
        """End the channel, whereupon the worker ends."""
        self._letters.close()

    def _read(self) -> None:
        try:
            while True:
                letter, _ = self._letters.receive()
                if isinstance(letter, Part):
                    self._parts.setdefault(letter.number, []).extend(letter.elements)
                elif isinstance(letter, Answered):
                    self._take(letter)
                else:
                    self._hear(self, letter)
        except ChannelClosed:
            pass
        except Exception:
            log.exception("bug in reading from worker %d", self.number)
        self._fail()
        self._letters.close()
        self._gone(self)

    def _take(self, answered: Answered) -> None:
        parts = self._parts.pop(answered.number, None)
        with self._lock:
            future = self._waiting.pop(answered.number, None)
        if future is None:
            return
        if answered.error is not None:
            future.set_exception(answered.error)
        else:
            future.set_result(answered.answer if parts is None else [*parts, *answered.answer])

    def _fail(self) -> None:
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting.values()), {}
        for future in waiting:
            future.set_exception(WorkerGone(f"worker {self.number} has ended"))
