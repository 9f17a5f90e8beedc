"""A race between the addresses of one name: the first that accepts a connection wins (RFC 8305, "happy eyeballs").

The next address gets its chance HEAD_START seconds after the one before it, or at once where one has failed; those that
were started go on. So an address that swallows everything costs a quarter of a second, not the whole deadline. The
winner is sent the first bytes, the others are closed and get nothing.

All of it happens in the greenlet that dials, which waits for sockets and for one timer. A single address needs no race:
`net/dial.py` connects to it directly.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from socket import SO_ERROR, SOL_SOCKET
from typing import Final

from gevent.hub import Waiter, get_hub

from mcproxy.net.lookups import Address
from mcproxy.net.raw import WRITE, IoWatcher, RawSocket, abort

HEAD_START: Final = 0.25  # seconds; RFC 8305, section 8 recommends it

OnFailure = Callable[[Address, OSError], object]  # is given an address, and its failure


class _Runner:
    """An address that has not answered yet."""

    __slots__ = ("address", "began", "sock", "writable")

    def __init__(self, address: Address, sock: RawSocket) -> None:
        self.address = address
        self.sock = sock
        self.began = time.monotonic()
        self.writable: IoWatcher = get_hub().loop.io(sock.fileno(), WRITE)


class Race:
    """One race. Its events wake the greenlet that runs it."""

    def __init__(self, first: bytes, begin: Callable[[Address], RawSocket], lost: OnFailure) -> None:
        """The winner is sent `first`; `begin` returns a socket that connects. It raises OSError."""
        self._first = first
        self._begin = begin
        self._lost = lost
        self._running: list[_Runner] = []
        self._waiter: Waiter[_Runner | None] = Waiter()

    def __repr__(self) -> str:
        return f"<Race running={[each.address for each in self._running]}>"

    def run(self, addresses: Sequence[Address]) -> tuple[Address, RawSocket, int] | None:
        """The winner, and how many of the first bytes it was sent; None: every address has failed.

        It may have sent none where there are none to send. Those that lose are reported as failures, too.
        """
        timer = get_hub().loop.timer(HEAD_START, HEAD_START)
        try:
            for address in addresses:
                already = len(self._running)
                if (won := self._start(address)) is not None:
                    return won
                if len(self._running) == already:
                    continue  # it failed at once
                timer.again(self._waiter.switch, None, update=True)
                if (won := self._wait()) is not None:
                    return won
            timer.stop()
            while self._running:
                if (won := self._wait()) is not None:
                    return won
            return None
        finally:
            timer.close()
            for runner in list(self._running):
                waited = time.monotonic() - runner.began
                self._drop(runner, OSError(errno.ETIMEDOUT, f"no answer in {waited:.2g} s"))

    def _start(self, address: Address) -> tuple[Address, RawSocket, int] | None:
        """Have one more run; the result is as of `run`. On a local network it has arrived before the next call."""
        try:
            sock = self._begin(address)
        except OSError as error:
            self._lost(address, error)
            return None
        runner = _Runner(address, sock)
        self._running.append(runner)
        if self._first and (won := self._arrived(runner)) is not None:
            return won
        if runner in self._running:
            runner.writable.start(self._waiter.switch, runner)
        return None

    def _wait(self) -> tuple[Address, RawSocket, int] | None:
        """Wait for a winner, a failure, or the timer: the result is as of `run`."""
        runner = self._waiter.get()
        if runner is None:
            return None
        if code := runner.sock.getsockopt(SOL_SOCKET, SO_ERROR):
            self._drop(runner, OSError(code, os.strerror(code)))
            return None
        return self._arrived(runner)

    def _arrived(self, runner: _Runner) -> tuple[Address, RawSocket, int] | None:
        """Send the first bytes, which shows whether it is connected, and take it out of the race if so."""
        try:
            sent = runner.sock.send(self._first) if self._first else 0
        except BlockingIOError:
            return None
        except OSError as error:
            self._drop(runner, error)
            return None
        runner.writable.close()
        self._running.remove(runner)
        return runner.address, runner.sock, sent

    def _drop(self, runner: _Runner, error: OSError) -> None:
        self._running.remove(runner)
        runner.writable.close()
        abort(runner.sock)
        self._lost(runner.address, error)
