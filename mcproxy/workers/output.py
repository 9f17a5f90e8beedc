"""The log lines and the standard error of workers: read from pipes by one thread, and put into the parent's log."""

import logging
import os
import selectors
import threading
from collections.abc import Callable, Sequence

READ = 1 << 16  # bytes at once
MAX_LINE = 1 << 20  # bytes without a line feed; more is passed on as it is, so that nothing grows without bound

log = logging.getLogger(__name__)

TakeLines = Callable[[Sequence[str]], None]


class _Pipe:
    __slots__ = ("rest", "take")

    def __init__(self, take: TakeLines) -> None:
        self.take = take
        self.rest = b""


class Output:
    """The thread. A pipe is read until its last writer has gone."""

    def __init__(self, put: TakeLines) -> None:
        """`put` takes whole lines of the log."""
        self._put = put
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="worker-output", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Output pipes={len(self._selector.get_map()) - 1}>"

    def read_log(self, descriptor: int) -> None:
        """Pass whole lines on as they come. Takes the descriptor over."""
        self._add(descriptor, self._put)

    def read_errors(self, descriptor: int, who: str) -> None:
        """Log each line as an error of `who`. Takes the descriptor over."""

        def take(lines: Sequence[str]) -> None:
            for line in lines:
                log.error("%s: %s", who, line.rstrip("\n"))

        self._add(descriptor, take)

    def close(self, seconds: float) -> None:
        """Read what is left, for a bounded time: the writers have gone by now."""
        self._closing = True
        os.write(self._woken, b"\0")
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._selector.close()
            os.close(self._wake)
            os.close(self._woken)

    def _add(self, descriptor: int, take: TakeLines) -> None:
        os.set_blocking(descriptor, False)
        self._selector.register(descriptor, selectors.EVENT_READ, _Pipe(take))
        os.write(self._woken, b"\0")  # a selection that is under way may not see the new one

    def _run(self) -> None:
        while not (self._closing and len(self._selector.get_map()) == 1):
            for key, _ in self._selector.select():
                if key.fd == self._wake:
                    os.read(self._wake, READ)
                else:
                    self._read(key.fd, key.data)

    def _read(self, descriptor: int, pipe: _Pipe) -> None:
        data = os.read(descriptor, READ)
        if data:
            lines, feed, rest = (pipe.rest + data).rpartition(b"\n")
            pipe.rest = rest
            if len(rest) > MAX_LINE:
                lines, feed, pipe.rest = lines + feed + rest, b"\n", b""
        else:
            self._selector.unregister(descriptor)
            os.close(descriptor)
            lines, feed = pipe.rest, b"\n" if pipe.rest else b""
        if feed:
            pipe.take((lines + feed).decode("utf-8", "backslashreplace").splitlines(keepends=True))
