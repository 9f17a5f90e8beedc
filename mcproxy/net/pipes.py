"""Pipes for splice(), made when bulk flows and kept empty between two uses."""

import os
import sys
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from typing import Final

PIPE_SIZE: Final = 1 << 20  # bytes; the most that an unprivileged pipe may hold (proc(5), pipe-max-size)
# Pipes at once, or 256 MiB in the kernel where all sinks are slow; further bulk is copied, 16 KiB at a time.
MAX_PIPES: Final = 256
SPARE_PIPES: Final = 32  # kept for the next bulk, so that a bursty transfer does not make a pipe for every burst


class Pipes:
    """Pipes for bulk, kept empty between two uses."""

    def __init__(self, max_descriptor: int = sys.maxsize) -> None:
        """Descriptors above `max_descriptor` are left to others."""
        self._max_descriptor = max_descriptor
        self._spare: list[tuple[int, int]] = []
        self._open = 0

    def __repr__(self) -> str:
        return f"<Pipes spare={len(self._spare)}>"

    def take(self) -> tuple[int, int] | None:
        """A pipe's reading and writing end; None if too many are open, and the caller has to copy."""
        if self._spare:
            return self._spare.pop()
        if self._open >= MAX_PIPES:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        self._open += 1
        if max(pipe) > self._max_descriptor:
            self.give(pipe, empty=False)
            return None
        with suppress(OSError):  # over pipe-user-pages-soft the kernel says EPERM: a small pipe works, only slower
            fcntl(pipe[1], F_SETPIPE_SZ, PIPE_SIZE)
        return pipe

    def give(self, pipe: tuple[int, int], empty: bool) -> None:
        """Take a pipe back; one with bytes left in it is closed."""
        if empty and len(self._spare) < SPARE_PIPES:
            self._spare.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])
            self._open -= 1

    def close(self) -> None:
        """Close the spare ones."""
        while self._spare:
            self.give(self._spare.pop(), empty=False)
