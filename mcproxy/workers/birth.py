"""The nursery from outside: started, asked for workers, started again if it dies."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mcproxy.workers.letters import ChannelClosed, Letters
from mcproxy.workers.nursery import IGNORED

END_SECONDS = 2.0  # that it has to end once its channel has

# The same search path as ours, and not the folder that we happen to be in, from which -m would import too.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from mcproxy.workers.nursery import main; main(int(sys.argv[1]))"

log = logging.getLogger(__name__)


class Nursery:
    """A running nursery process. Any thread may use it."""

    def __init__(self, hear: Callable[[Any], object]) -> None:
        """`hear` gets its letters, Born and Ended, in a thread of its own; it must not wait."""
        self._hear = hear
        self._closed = False
        self._changing = threading.Lock()  # of the two below
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
        letters.send(number, descriptors)

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
                self._hear(letter)
