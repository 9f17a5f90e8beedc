"""The workers, and what a new one must know: shared by the courier that asks them and the thread that keeps them.

`lock` orders publications and joins: a worker that joins gets all that is known, then every change after it. Nobody
waits for an answer while holding it.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from mcproxy.certificates.acme.order import Kept
from mcproxy.geoip import Copy
from mcproxy.messages import Drain, LookAt, PlaneBusy, ReadFiles, Request, Settings
from mcproxy.net.group import refuse_new, share
from mcproxy.table import Table
from mcproxy.workers.common import Common
from mcproxy.workers.merging import Base
from mcproxy.workers.remote import WorkerGone
from mcproxy.workers.slot import Slot

log = logging.getLogger(__name__)

T = TypeVar("T")
Asked = tuple[Slot, Future[T]]

ANSWER_SECONDS = 6.0  # for an answer: a worker itself gives up waiting for its hub after five
READ_SECONDS = 60.0  # for reading files again
ACK_SECONDS = 5.0  # for a publication or a reload; a worker whose hub takes longer is stuck
SLICE = 0.5  # seconds of such a wait that are counted at once: more were not ours, but of a pause of this process
GRACE = 5.0  # seconds beyond those that a request names itself


@dataclass(slots=True)
class Bound:
    """A listener's sockets."""

    sockets: Sequence[socket.socket]  # one for each worker, or more (net/group.py), or a single one for all
    row: int  # of its counts (common.py)
    shared: bool  # another program has them too, or had once: what we do to them may be done to it
    started: bool = False  # the workers accept there

    def descriptors(self, slot: Slot, count: int) -> list[int]:
        """The sockets of one of `count` workers."""
        return [each.fileno() for each in share(self.sockets, slot.number - 1, count)]

    def refuse_new(self) -> None:
        """Let nobody in who isn't in a queue, unless another program may go on with these sockets."""
        if not self.shared:
            with suppress(OSError):  # no memory or right: those who come from now on may be reset instead
                refuse_new(self.sockets)

    def close(self) -> None:
        """Give the address up, as far as it is ours."""
        for each in self.sockets:
            each.close()


@dataclass(slots=True)
class Known:
    """What a new worker must know."""

    table: Table
    settings: Settings
    log_level: str
    geoip: Copy | None  # the GeoIP database
    drain: float  # seconds that workers drain if their parent dies
    watched: bool = False
    listeners: dict[str, Bound] = field(default_factory=dict)  # by address
    kept: dict[str, Kept] = field(default_factory=dict)  # of ACME, by host name


class Team:
    """All workers."""

    def __init__(self, count: int, known: Known, common: Common) -> None:
        self.common = common
        self.slots = [Slot(number) for number in range(1, count + 1)]
        self.known = known
        self.lock = threading.RLock()
        self.stopping = False  # nobody joins, and nothing is opened
        self.base = Base()

    def __repr__(self) -> str:
        return f"<Team {' '.join(f'{slot.number}:{slot.state}' for slot in self.slots)}>"

    def ask(self, request: Request[T], slots: Iterable[Slot] | None = None) -> list[Asked[T]]:
        """Ask these workers, or all; `answers` waits. The lock must be held."""
        return [
            (slot, slot.remote.ask(request)) for slot in (self.slots if slots is None else slots)
            if slot.remote is not None
        ]  # fmt: skip

    def answers(self, request: Request[T], asked: list[Asked[T]]) -> list[T]:
        """The answers of those that live. Raises what one raised, and PlaneBusy if one is late or none lives.

        Empties `asked`: a future that has what is raised would keep the frames of all callers alive (net/door.py).
        """
        deadline = time.monotonic() + _patience(request)
        found: list[T] = []
        while asked:
            slot, future = asked.pop(0)
            try:
                error = future.exception(max(0.0, deadline - time.monotonic()))
            except FutureTimeoutError:
                raise PlaneBusy(f"worker {slot.number} is too busy to answer; try again") from None
            if error is None:
                found.append(future.result())
            elif not isinstance(error, WorkerGone):
                del future
                try:
                    raise error
                finally:
                    del error
        if not found:
            raise PlaneBusy("no worker is running; one starts soon: try again")
        return found


def outcome(future: Future[T], seconds: float) -> BaseException | None:
    """What a future raises, or TimeoutError if it is late; None: it has an answer. It is not raised here."""
    try:
        return future.exception(max(0.0, seconds))
    except FutureTimeoutError:
        return TimeoutError("it was too slow")


def _patience(request: Request[T]) -> float:
    if isinstance(request, (LookAt, Drain)):
        return request.seconds + GRACE
    return READ_SECONDS if isinstance(request, ReadFiles) else ANSWER_SECONDS


def kill(slot: Slot, number: signal.Signals) -> None:
    """Send a signal to a worker's process, if it is still that one."""
    if slot.process.handle >= 0:
        try:
            signal.pidfd_send_signal(slot.process.handle, number)
        except ProcessLookupError:
            return


def acknowledged(asked: Iterable[Asked[None]], what: str) -> None:
    """Wait for all; a worker that is late, or can't, is killed: then nobody has what was before."""
    left = ACK_SECONDS
    for slot, future in asked:
        error, left = _in_running_time(future, left)
        if error is not None and not isinstance(error, WorkerGone):  # whatever it is, the worker has not changed
            log.error("worker %d has not taken %s and is replaced: %s", slot.number, what, error)
            kill(slot, signal.SIGKILL)


def _in_running_time(future: Future[T], seconds: float) -> tuple[BaseException | None, float]:
    """As `outcome`, and what is left of the seconds: a time in which this process is stopped doesn't count.

    For the answer may have come meanwhile, and its reader runs again no sooner than this thread.
    """
    while not future.done() and seconds > 0:
        began = time.monotonic()
        outcome(future, min(seconds, SLICE))
        seconds -= min(time.monotonic() - began, SLICE)
    return outcome(future, 0.0), seconds
