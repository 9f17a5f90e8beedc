"""A parent whose process id stays: `mcproxy server --keep-pid`, for supervisors that can't follow another main process.

supervisord, runit and the like watch the process that they have started. An upgrade replaces that one. So they get this
one to watch, which does nothing but pass on what it hears:

    SIGTERM, SIGINT     to the server, and to those that still drain; it ends when all have, with the server's status
    SIGHUP              a reload (renewal.py), from which another server may emerge
    MAINPID=            of the server, on the socket of a service manager: another one is the server from now on
    the server's end    is its own end, with that status; those that drain go on

A process whose parent ends becomes the child of the nearest ancestor that asked for it (PR_SET_CHILD_SUBREAPER,
prctl(2)), and so does a new server, whose parents have ended when it takes over.

It is not upgraded itself before the supervisor restarts it; so it imports only the standard library, and everything at
its start, and what it says to others is a command line, signals and that one word.
"""

import ctypes
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_MAX_LETTER = 4096  # bytes of a notification
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)


class CantRun(Exception):
    """The program can't be started. The message says which, and why."""


class Keeper:
    """The state: which process is the server."""

    def __init__(self, command: Sequence[str], sock: socket.socket) -> None:
        """`command` starts a server; `sock` is the one that it notifies."""
        self._command = list(command)
        self._sock = sock
        address = sock.getsockname()
        self._env = {**os.environ, "NOTIFY_SOCKET": "@" + address[1:].decode()}
        self._server = self._start()
        self._draining: set[int] = set()
        self._reload = 0  # the process that has it done; 0: none
        self._reload_again = False
        self._stop = 0  # the last signal to stop
        self.status: int | None = None  # the server's, once it has ended

    def __repr__(self) -> str:
        return f"<Keeper of {self._server}>"

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: after a crash at once, after a stop once those that drained have ended."""
        return self.status is not None and not (self._stop and self._draining)

    def hear(self, number: int) -> None:
        """Take a signal."""
        if number in _STOPPING:
            self._stop = number
            for pid in (self._server, *self._draining):
                _kill(pid, number)
        elif number == signal.SIGHUP and not self._stop:
            self._reload_again = bool(self._reload)
            if not self._reload:
                self._begin_reload()

    def read(self) -> None:
        """Read what the server notifies."""
        with suppress(BlockingIOError):
            while True:
                text, extras, _, _ = self._sock.recvmsg(_MAX_LETTER, socket.CMSG_SPACE(_CREDENTIALS.size))
                senders = [_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0] for _, _, data in extras]
                for name, _, value in (line.partition(b"=") for line in text.split(b"\n")):
                    if name == b"MAINPID" and value.isdigit() and senders == [self._server]:
                        self._draining.add(self._server)
                        self._server = int(value)
                        if self._stop:
                            _kill(self._server, self._stop)

    def reap(self) -> None:
        """Take note of processes that have ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                self._draining.discard(pid)
                if pid == self._server:
                    self.status = os.waitstatus_to_exitcode(status)
                if pid == self._reload:
                    self._reload = 0
                    if self._reload_again:
                        self.hear(signal.SIGHUP)

    def _begin_reload(self) -> None:
        try:
            self._reload = self._start("--reload", str(self._server))
        except CantRun as error:  # the program is being replaced, perhaps: the server goes on
            print(f"mcproxy: nothing was reloaded: {error}", file=sys.stderr, flush=True)

    def _start(self, *more: str) -> int:
        command = [*self._command, *more]
        try:
            return os.posix_spawn(command[0], command, self._env)
        except OSError as error:
            raise CantRun(f"this user can't run {command[0]}: {error.strerror}") from error


def keep(command: Sequence[str]) -> int:
    """Keep a server until it ends; returns its exit status, 128 and more for a signal.

    Raises CantRun if none can be started.
    """
    told, tell = os.pipe()
    for end in (told, tell):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in _HEARD:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)  # whatever the supervisor has left blocked
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl: PR_SET_CHILD_SUBREAPER")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # an abstract name of the kernel's choice, unix(7)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.setblocking(False)
        keeper = Keeper(command, sock)
        poll = select.poll()
        for each in (told, sock.fileno()):
            poll.register(each, select.POLLIN)
        while not keeper.over:
            poll.poll()
            numbers = b""
            with suppress(BlockingIOError):
                numbers = os.read(told, 64)
            keeper.read()
            for each in numbers:
                keeper.hear(each)
            keeper.read()  # all that a process has sent before its end
            keeper.reap()
    assert keeper.status is not None
    return keeper.status if keeper.status >= 0 else 128 - keeper.status


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
