"""Ends a TLS read that does not come to its end: a native thread that watches what the hub reads.

One SSL_read handles as many records without data as have come (SSL_MODE_AUTO_RETRY, which Python sets and doesn't let
anybody clear). A peer that sends nothing but KeyUpdates, 27 bytes each, holds the hub in it for seconds: nobody else is
served, and the watchdog is not fed. From outside there is one way to end such a read: to put another socket, whose peer
has ended, under its descriptor (dup2(2)). `shutdown` is not enough, because what is queued is still read.

The hub notes each read before it begins and clears the note behind it, with two assignments. What counts is the CPU
that the hub spends in one read, so a machine that is busy, or paused, makes no peer a suspect.

The guard must never touch a descriptor whose read is over, for it may be another connection's by now. It says `acting`
before it looks whether the read is still under way; the hub clears the note before it looks at `acting`, and if that is
set waits for the guard's lock. So either the guard finds the note gone and leaves the descriptor alone, or the hub
waits until the guard is done. (Both are plain attributes: the interpreter's lock puts them in one order.)

The thread begins with the first read. It sleeps until a read begins, and looks LOOK seconds later: a process that reads
nothing wakes it never, a busy one 50 times a second.
"""

import os
import threading
import time
from socket import socket, socketpair
from typing import Any, Final

from mcproxy.native import mypyc_attr
from mcproxy.net.raw import RawSocket

LOOK: Final = 0.02  # seconds between two looks; a read may last so much longer than it may
# Seconds of CPU in one read or one step of a handshake. A record of 16 KiB takes 20 us, and an honest peer sends little
# with it; those of a bulk read, 32 at most, count together. A step of a handshake may make a signature: 0.3 s with an
# RSA key of 16,384 bits on a slow machine.
READ_CPU: Final = 0.05
STEP_CPU: Final = 1.0

# The socket of a read under way, and the CPU seconds that it may take. Each read has a tuple of its own, which `is`
# finds again: were its length in the type, mypyc would take it apart and make another one wherever it is read.
Note = tuple[Any, ...]


@mypyc_attr(native_class=False)
class ReadCut(ConnectionError):
    """The guard has ended this read."""


class ReadGuard:
    """Watches the reads of one hub. Its public methods are the hub's, except `cut`."""

    __slots__ = (
        "_begun", "_clock", "_closing", "_cut", "_ended", "_its_thread", "_lock", "_look", "acting", "parked",
        "reading",
    )  # fmt: skip

    def __init__(self, look: float = LOOK) -> None:
        self.reading: Note | None = None  # set before a read, cleared behind it
        self.acting = False  # true behind a read: ask `was_cut`
        self.parked = True  # true before a read, when the note is set: call `wake`
        self._look = look
        self._lock = threading.Lock()
        self._cut = False  # the read that was noted when the lock was taken has been ended
        self._begun = threading.Event()
        self._closing = threading.Event()
        self._clock = 0  # of the CPU that the hub's thread has spent
        self._ended: socket | None = None  # reading from it gives the end
        self._its_thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<ReadGuard {'parked' if self.parked else 'looking'}>"

    def begin(self, sock: RawSocket, seconds: float) -> None:
        """A read of this socket begins, which may take so many seconds of CPU. `over` follows, whatever it raises."""
        self.reading = sock, seconds
        if self.parked:
            self.wake()

    def over(self, seconds: float) -> None:
        """The read is over. Raises ReadCut if it took more than these seconds of CPU."""
        self.reading = None
        if self.acting and self.was_cut():
            raise ReadCut(f"one read took more than {seconds:g} s of CPU")

    def wake(self) -> None:
        """A read begins, and the guard sleeps."""
        self.parked = False
        if self._its_thread is None:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._ended, other = socketpair()  # now, for there may be no descriptor left when it is needed
            other.close()
            self._ended.setblocking(False)
            self._its_thread = threading.Thread(target=self._run, name="read guard", daemon=True)
            self._its_thread.start()
        self._begun.set()

    def was_cut(self) -> bool:
        """Whether the guard has ended the read whose note was cleared just now. Waits while the guard is about it."""
        with self._lock:
            cut, self._cut, self.acting = self._cut, False, False
        return cut

    def close(self) -> None:
        """End the thread. No read is under way."""
        self._closing.set()
        self._begun.set()
        if self._its_thread is not None:
            self._its_thread.join()
        if self._ended is not None:
            self._ended.close()

    # On the guard's thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._begun.clear()
            self.parked = True
            if self.reading is None:  # one that begins from here on finds `parked`
                self._begun.wait()
            self.parked = False
            self._closing.wait(self._look)
            if note := self.reading:
                self._watch(note)

    def _watch(self, note: Note) -> None:
        """Return when the read is over, by itself or by us."""
        began = time.clock_gettime(self._clock)
        while self.reading is note and not self._closing.wait(self._look):
            if time.clock_gettime(self._clock) - began >= note[1]:
                self.cut(note)
                return

    def cut(self, note: Note) -> None:
        """End a read, unless it is over."""
        with self._lock:
            self.acting = True
            if self.reading is note and self._ended is not None:
                os.dup2(self._ended.fileno(), note[0].fileno(), inheritable=False)
                self._cut = True
            else:
                self.acting = False
