"""The nursery from outside: started, asked for workers, started again if it dies or doesn't answer."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mcproxy.workers.letters import ChannelClosed, Letters
from mcproxy.workers.nursery import IGNORED, Born

PATIENCE = 10.0  # seconds without an answer after which it is stuck: all that it does is fork
IMPORT_SECONDS = 30.0  # that a new one has, which imports the data path first, on a machine without CPU to spare
END_SECONDS = 2.0  # that it has to end once its channel has

# The same search path as ours, and not the folder that we happen to be in, from which -m would import too.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from mcproxy.workers.nursery import main; main(int(sys.argv[1]))"

log = logging.getLogger(__name__)


class Nursery:
    """A running nursery process. Any thread may use it."""

    def __init__(self, hear: Callable[[Any], object], patience: float = PATIENCE) -> None:
        """`hear` gets its letters, Born and Ended, in a thread of its own; it must not wait.

        `patience` is the seconds without an answer after which a nursery is stuck.
        """
        self._hear = hear
        self._patience = patience
        self._closed = False
        self._changing = threading.Lock()  # of what is below
        self._asked: dict[int, float] = {}  # by worker: since when one that is to be forked was not
        self._has_forked = False
        self._process, self._letters = self._start()

    def __repr__(self) -> str:
        return f"<Nursery {self._process.pid}>"

    def fork(self, number: int, descriptors: Sequence[int]) -> None:
        """Have a worker forked with these descriptors; Born follows. Raises ChannelClosed; one may try again."""
        with self._changing:
            if self._process.poll() is not None and not self._closed:
                log.error("the nursery, process %d, has ended (%d): starting another", self._process.pid,
                          self._process.returncode)  # fmt: skip
                self._letters.close()
                self._process, self._letters = self._start()
            letters = self._letters
            self._asked.setdefault(number, time.monotonic())
        letters.send(number, descriptors)

    def end_if_stuck(self, now: float) -> None:
        """End a nursery that does not answer. The workers that it was to fork find the end of their channels."""
        patience = self._patience if self._has_forked else max(self._patience, IMPORT_SECONDS)
        with self._changing:
            late = now - min(self._asked.values(), default=now)
            if late <= patience:
                return
            log.error(
                "the nursery, process %d, has forked no worker for %.1f s and is replaced", self._process.pid, late
            )
            self._asked.clear()
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)

    def forgive(self, seconds: float, now: float) -> None:
        """Don't count the time until now, in which nobody heard its answers."""
        with self._changing:
            self._asked = {number: min(now, at + seconds) for number, at in self._asked.items()}

    def close(self) -> None:
        """End it; workers that live go on."""
        with self._changing:
            self._closed = True
        self._letters.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
            return
        self._process.kill()
        self._process.wait()

    def _start(self) -> tuple["subprocess.Popen[bytes]", Letters]:
        ours, theirs = socket.socketpair()
        self._asked.clear()
        self._has_forked = False
        with theirs:
            command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), *sys.path]
            before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)  # which it inherits, and imports with
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    env={**os.environ, "NOTIFY_SOCKET": ""},
                )  # fmt: skip
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        letters = Letters(ours)
        threading.Thread(target=self._read, args=(letters,), name="nursery", daemon=True).start()
        return process, letters

    def _read(self, letters: Letters) -> None:
        with suppress(ChannelClosed):
            while True:
                letter, _ = letters.receive()
                if isinstance(letter, Born):
                    self._has_forked = True
                    self._asked.pop(letter.number, None)
                self._hear(letter)
