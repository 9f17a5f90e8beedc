"""Runs work that could block the hub, such as reading a file, in a native thread, while the calling greenlet waits."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final

from gevent.event import AsyncResult
from gevent.hub import get_hub

MAX_THREADS: Final = 32  # at once; after a restart, the first clients of a thousand routes come together


class Aside:
    """The threads of one hub; to be made and called on it."""

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._loop = get_hub().loop
        self._most = most
        self._working = 0
        self._waiting: deque[tuple[Hashable, Callable[[], Any]]] = deque()  # one for each key at most
        self._results: dict[Hashable, AsyncResult[Any]] = {}

    def __repr__(self) -> str:
        return f"<Aside working={self._working} waiting={len(self._waiting)}>"

    def __call__(self, key: Hashable, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, or raise what it raises. Those who ask under one key share one call.

        A greenlet that is cut while it waits leaves the call to the others, and the thread to its end.
        """
        result = self._results.get(key)
        if result is None:
            result = self._results[key] = AsyncResult()
            self._waiting.append((key, function))
            self._begin()
        try:
            return result.get()
        finally:
            del result  # it has what is raised, whose traceback has this frame: a circle

    def _begin(self) -> None:
        while self._waiting and self._working < self._most:
            threading.Thread(target=self._work, args=self._waiting.popleft(), name="aside", daemon=True).start()
            self._working += 1

    def _work(self, key: Hashable, function: Callable[[], Any]) -> None:
        try:
            found = function()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the function was given
            self._loop.run_callback_threadsafe(self._end, key, None, raised)
        else:
            self._loop.run_callback_threadsafe(self._end, key, found, None)

    def _end(self, key: Hashable, found: Any, error: BaseException | None) -> None:
        """On the hub."""
        self._working -= 1
        result = self._results.pop(key)
        if error is None:
            result.set(found)
        else:
            result.set_exception(error)
        self._begin()
