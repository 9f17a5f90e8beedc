"""SIGTERM and SIGINT: the first one stops the server, a second one ends the process, whatever hangs in it.

A handler of Python's runs when the main thread next runs Python, and a callback of the hub when the hub next turns;
neither may ever come again. So the interpreter's own C handler writes each signal's number to a pipe, and a thread
that does nothing else reads it there. The second time it ends the process without asking anybody: no lock, no file and
no thread is waited for, but for the moment that the log has for its last lines.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable

LAST_WORDS = 1.5  # seconds that the log has to write its last lines
STOPPING = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


class Signals:
    """The process's signals. Made in the main thread, before anything slow: no signal kills a start."""

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None  # the signal that told to stop
        self.successor = 0  # the process that has taken over: another reason to stop
        self.open_connections: Callable[[], int] = lambda: 0  # for the second signal's line; as `at_once`
        self.at_once: Callable[[], object] = lambda: None  # the second signal calls it first; it must not wait or raise
        self.last_words: Callable[[], object] = lambda: None  # writes what the log has still, in a bounded time
        self._wake: Callable[[], object] = lambda: None
        self._changing = threading.Lock()  # of the stop and of what is woken
        self._told, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, lambda *_: None)  # the thread has it
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Signals stop={self.stop}>"

    def wake(self, call: Callable[[], object]) -> None:
        """Have this called, once, when told to stop; at once where that was before."""
        with self._changing:
            self._wake = call
            if self.stop is not None or self.successor:
                self._wake_up()

    def succeed(self, pid: int) -> None:
        """Stop, because this process has taken over. A signal that comes later is the first one."""
        with self._changing:
            self.successor = pid
            self._wake_up()

    def _wake_up(self) -> None:
        call, self._wake = self._wake, lambda: None
        call()

    def _listen(self) -> None:
        while True:
            for number in os.read(self._told, 64):
                if number in STOPPING:
                    self._stop(signal.Signals(number))

    def _stop(self, number: signal.Signals) -> None:
        if self.stop is None:
            with self._changing:
                self.stop = number
                self._wake_up()
            return
        count = self.open_connections()
        self.at_once()
        last = threading.Thread(target=self._say, args=(number, count), daemon=True)  # whatever holds the log's locks
        last.start()
        last.join(LAST_WORDS)
        os._exit(1)

    def _say(self, number: signal.Signals, count: int) -> None:
        log.warning("%s again: exiting at once; connections cut without a line: %d", number.name, count)
        self.last_words()
