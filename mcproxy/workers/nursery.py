"""The nursery: a process that has imported the data path and does nothing but fork workers from itself.

    python -m mcproxy.workers.nursery DESCRIPTOR

It has no thread, no hub, no gRPC and no database, none of which survives a fork; and its objects are frozen, so that a
collection in a worker copies none of their pages. A worker forked from it adds a sixth of the memory of one that is
executed, and begins at once.

The parent sends letters on the descriptor: a worker's number, with the descriptors of its channel, its log and its
standard error. The nursery answers with a process id; and sends one more letter for each worker that has ended, with
its wait status. It ends with its parent; the workers, which see their own channels end, drain.
"""

import gc
import logging
import os
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

from mcproxy.workers import clerk
from mcproxy.workers.letters import ChannelClosed, Letters

# Of the parent, which decides what happens: a terminal and a service manager send them to all processes.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Born:
    """A worker was forked."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended, with a status as wait(2) has it."""

    pid: int
    status: int


def main(descriptor: int) -> None:
    """Fork workers until the parent has gone."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # see birth.py
    sock = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    letters = Letters(sock)
    told, tell = os.pipe()
    for end in (told, tell):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    try:
        _serve(letters, sock, told)
    except ChannelClosed:
        return


def _serve(letters: Letters, sock: socket.socket, told: int) -> NoReturn:
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    selector.register(told, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == told:
                os.read(told, 4096)
            else:
                number, descriptors = letters.receive()
                letters.send(Born(number, _fork(number, descriptors, (sock.fileno(), told))))
        _reap(letters)


def _reap(letters: Letters) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        letters.send(Ended(pid, status))


def _fork(number: int, descriptors: list[int], not_yours: tuple[int, ...]) -> int:
    """Fork a worker; returns its process id, in the nursery only."""
    pid = os.fork()
    if pid:
        for each in descriptors:
            os.close(each)
        return pid
    status = 70  # EX_SOFTWARE, sysexits(3)
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in not_yours:
            os.close(each)
        status = clerk.run(number, *descriptors)
    except BaseException:  # noqa: BLE001 - of a whole process, printed as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
