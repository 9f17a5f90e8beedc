"""The other workers: which of them a connection belongs to, and its way there.

A connection is handed over for one of two reasons.

* Limits by address are on, and this worker is not the client's home (policy/homes.py). The kernel brings a client to
  its home, but it can't know the client that a PROXY header names; nor can it choose where all workers accept on one
  socket, as on one of the service manager's. So the limits of an address are as exact as in one process.
* No such limit is on, and this worker has many more connections than another one: a load balancer with few addresses
  would leave the others idle.

Its socket goes to the other worker's inbox (SCM_RIGHTS, unix(7)), and the session goes on there as if it had been
accepted there. It has no place in the limits on its way; so it is never counted twice, and never above a limit. The
parent holds both ends of each inbox: what is there when a worker dies is its successor's.

An inbox is full where its worker doesn't keep up; the kernel bounds it by bytes, some 250 connections. Then a client
that has a home elsewhere is refused, because nobody else can count it; one that was to be spread stays here. A loop
back to this machine (own.py) is known by its ClientHello only once it has been handed over.

Handing over costs 40 to 200 us of CPU, in both workers together (measured in pairs on a busy machine); a connection
with a PROXY header costs 270 without it.
"""

import array
import logging
import os
import pickle
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gevent.hub import get_hub

from mcproxy.model import Endpoint
from mcproxy.net.raw import RawSocket
from mcproxy.policy.homes import home
from mcproxy.policy.limits import Clients
from mcproxy.policy.shared_limits import SERVING, WHOLE, Cells, SharedLimits

# Connections that a worker has before it gives some away: below this an even spread gains nothing worth the cost.
MANY: Final = 64
MAX_LETTER: Final = 4096  # bytes; the longest has two addresses and the name of a listener, some 500
_DESCRIPTOR_SPACE: Final = socket.CMSG_SPACE(4)

log: Final = logging.getLogger(__name__)


class HandedOver(Exception):
    """The session goes on in another worker: nothing is left to do here but to close the socket."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What another worker has found out about a connection."""

    listener: str
    client: Endpoint
    destination: Endpoint | None  # of a PROXY header
    packed: bytes  # the client's address
    began: float  # when it was accepted, by the machine's monotonic clock


class Siblings:
    """All workers, as one of them sees them. Everything here happens on the hub's thread."""

    __slots__ = ("_cells", "_inbox", "_outboxes", "_own", "_rows")

    def __init__(
        self, own: int, cells: Cells, rows: dict[str, int], inbox: RawSocket, outboxes: list[RawSocket]
    ) -> None:
        """`own` counts from 0, as `outboxes` do; `rows` are those of the listeners in `cells`."""
        self._own = own
        self._cells = cells
        self._rows = rows
        self._inbox = inbox
        self._outboxes = outboxes

    def __repr__(self) -> str:
        return f"<Siblings own={self._own} {self._cells}>"

    @property
    def inbox(self) -> RawSocket:
        """Readable when something was handed over."""
        return self._inbox

    def limits(self, max_connections: int, clients: Clients) -> SharedLimits:
        """The limits of all, for this worker."""
        return SharedLimits(max_connections, clients, self._cells, self._own, self._rows)

    def serve(self, *, on: bool) -> None:
        """Connections may be spread to this worker, or no more."""
        self._cells.put(SERVING, self._own, int(on))

    def home(self, packed: bytes) -> int:
        """The worker that counts the connections of an address."""
        return home(packed, len(self._outboxes))

    def better(self, packed: bytes, clients: Clients) -> int | None:
        """The worker that is to have a new connection; None: this one. `clients` are the limits by address."""
        if clients.are_limited:
            its_home = self.home(packed)
            return None if its_home == self._own else its_home
        mine = self._cells.each(WHOLE)[self._own]
        return self._least() if mine > MANY else None

    def _least(self) -> int | None:
        counts, serving = self._cells.each(WHOLE), self._cells.each(SERVING)
        count, worker = min((count, worker) for worker, count in enumerate(counts) if serving[worker])
        return worker if counts[self._own] > 2 * count else None

    def send(self, worker: int, client: RawSocket, handed: Handed) -> bool:
        """Put a connection into a worker's inbox; False: it is full. Close `client` then."""
        packed = pickle.dumps(
            (handed.listener, handed.client, handed.destination, handed.packed, handed.began), pickle.HIGHEST_PROTOCOL
        )
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))]
        try:
            self._outboxes[worker].sendmsg([packed], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:  # full: EAGAIN, or more descriptors on their way than a process may have open
            log.debug("worker %d takes no connection: %s", worker + 1, error.strerror)
            return False
        _forget(client)
        return True

    def receive(self) -> tuple[RawSocket, Handed] | None:
        """A connection that was handed over to this worker; None if there is none."""
        while True:
            try:
                packed, rights, _flags, _address = self._inbox.recvmsg(
                    MAX_LETTER, _DESCRIPTOR_SPACE, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return None
            if not packed:
                return None  # the parent has gone, and all siblings with it
            if not rights:
                log.warning("a connection that another worker handed over is lost: too few file descriptors left")
                continue
            client = RawSocket(fileno=int.from_bytes(rights[0][2][:4], "little"))
            return client, Handed(*pickle.loads(packed))  # noqa: S301 - of our own program, over a socket without a name

    def close(self) -> None:
        """Let go of the counts and the inboxes, which stay open in the parent."""
        for each in [self._inbox, *self._outboxes]:
            each.close()
        self._cells.release()


def _forget(client: RawSocket) -> None:
    """Have the hub's epoll forget a socket that lives on elsewhere.

    Closing our descriptor would not do that, and libev leaves it to closing: epoll(7) would report the other process's
    traffic to us, and libev would make a new epoll instance each time.
    """
    number = get_hub().loop.fileno()
    assert number is not None
    # OSError: it was never waited for.
    with suppress(OSError), select.epoll.fromfd(os.dup(number)) as poll:
        poll.unregister(client.fileno())


def age(handed: Handed) -> float:
    """Seconds since it was accepted."""
    return time.monotonic() - handed.began
