"""Names of backends: their addresses, from the system's resolver, and which to try first.

Each dial asks again; nothing is answered from a cache while the resolver answers. getaddrinfo() blocks, for half a
minute where name servers are silent, and can't be ended. So that no name starves another:

* One lookup of a name is under way at a time, shared by all who ask. It outlives them, and is of use to the next.
* Lookups run in threads of their own, MAX_LOOKUPS at most. A name whose last lookup hung or failed is *suspect*, and
  suspects have no more than MAX_SUSPECTS threads: names that are always silent leave the others half.
* A name that finds every thread taken goes to the *porter* as well, a thread more. What /etc/hosts lists, the porter
  asks the system at once, because that waits for no server (nsswitch.conf: "files" come first); the rest wait.
* The last good answer is kept for KEEP seconds, and used where the resolver does not answer within PATIENCE seconds or
  fails (RFC 8767). A resolver that says that there is no such name has not failed.

c-ares, which gevent brings, needs no threads. Tried with gevent's wheel it agrees with the C library on /etc/hosts,
search domains, final dots and IPv6. But it reads /etc/resolv.conf once, so that a server that runs for months would go
on asking name servers that are gone; and it knows no other source of nsswitch.conf (systemd's resolve and mymachines,
mDNS, sssd), so that `getent hosts` would find names that mcproxy does not.

Everything but the threads (net/lookups.py) happens on the hub's thread.
"""

import logging
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from socket import gaierror
from typing import TYPE_CHECKING, Final

from gevent.event import AsyncResult

from mcproxy.net.failures import without_frames
from mcproxy.net.lookups import HOSTS_FILE, Address, Ask, Result, Threads

MAX_LOOKUPS: Final = 48  # at once: each holds a thread, and a descriptor of the 64 that sessions leave
MAX_SUSPECTS: Final = 24  # of them, for names that hang or fail
# Names that are remembered, some 1 KB each; with more, those that were asked for longest ago are forgotten.
MAX_NAMES: Final = 4096
PATIENCE: Final = 1.0  # seconds until the last good answer does; RFC 8767, section 5 proposes 1.8 for a whole resolver
KEEP: Final = 3600.0  # seconds: as long as people take to mend a name server, and too short to forget about it
# Seconds that the address which was reached goes first; RFC 6555, section 4.2 proposes 10 minutes.
PREFER: Final = 600.0
_NO_SUCH_NAME: Final = {socket.EAI_NONAME, socket.EAI_NODATA}  # an answer, unlike EAI_AGAIN and the rest

if TYPE_CHECKING:
    _Answer = AsyncResult[list[Address]]

log: Final = logging.getLogger(__name__)


class _Name:
    """The cached state of one name."""

    __slots__ = ("addresses", "answered", "preferred", "preferred_at", "suspect", "under_way")

    def __init__(self) -> None:
        self.addresses: list[Address] = []  # of the last good answer
        self.answered = 0.0  # when that came
        self.suspect = False  # the last lookup hung or failed
        self.under_way: _Answer | None = None
        self.preferred: Address | None = None  # the one that was reached
        self.preferred_at = 0.0


class Names:
    """Looks up the names of one worker. To be made and used on the hub's thread."""

    def __init__(
        self, ask: Ask = socket.getaddrinfo, clock: Callable[[], float] = time.monotonic, patience: float = PATIENCE,
        hosts: Path = HOSTS_FILE,
    ) -> None:  # fmt: skip
        """`ask` is called in native threads; `patience` is in seconds."""
        self._clock = clock
        self._patience = patience
        self._threads = Threads(ask, hosts, self._done)
        self._names: OrderedDict[str, _Name] = OrderedDict()
        # For a thread, each name once; suspects stand in a line of their own.
        self._waiting: dict[bool, deque[str]] = {False: deque(), True: deque()}
        self._at_work: dict[str, bool] = {}  # the names that threads look up: whether each is a suspect
        self._suspects = 0  # of those

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<Names known={len(self._names)} at_work={len(self._at_work)} waiting={waiting}>"

    def look_up(self, host: str) -> list[Address]:
        """The addresses of a name, best first. Waits for the resolver, without a deadline. Raises gaierror."""
        name = self._name(host)
        under_way = name.under_way or self._begin(host, name)
        try:
            if not name.addresses or self._clock() - name.answered > KEEP:
                return self._ordered(name, under_way.get() or [])
            if not name.suspect:
                under_way.wait(self._patience)
            if not under_way.ready():
                self._suspect(host, name, "does not answer")
            elif isinstance(under_way.exception, gaierror) and under_way.exception.errno in _NO_SUCH_NAME:
                raise under_way.exception
            return self._ordered(name, name.addresses)
        finally:
            del under_way  # it has what is raised, whose traceback has this frame: a circle

    def reached(self, host: str, address: Address) -> None:
        """Remember that this address of a name answered first."""
        name = self._name(host)
        name.preferred, name.preferred_at = address, self._clock()

    def close(self) -> None:
        """Let the threads go; those that hang end when the resolver has answered."""
        self._threads.close()

    def _name(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name()
            if len(self._names) > MAX_NAMES:
                self._forget_one()
        else:
            self._names.move_to_end(host)
        return name

    def _forget_one(self) -> None:
        """Forget the name that was asked for longest ago, of those that no dial waits for."""
        host = next((host for host, name in self._names.items() if name.under_way is None), "")
        self._names.pop(host, None)

    def _ordered(self, name: _Name, addresses: list[Address]) -> list[Address]:
        """As the resolver sorted them (RFC 6724), families in turn, behind the one that was reached last."""
        if len(addresses) < 2:
            return addresses
        first = name.preferred if self._clock() - name.preferred_at <= PREFER else None
        ordered = interleaved(addresses)
        return sorted(ordered, key=lambda address: address != first)

    def _begin(self, host: str, name: _Name) -> "_Answer":
        name.under_way = AsyncResult()
        self._waiting[name.suspect].append(host)
        self._start_some()
        if host not in self._at_work:
            self._threads.give_porter(host)
        return name.under_way

    def _start_some(self) -> None:
        """Give threads to those that wait, first come first served; suspects come last, and have a bound of theirs."""
        for suspect, waiting in self._waiting.items():
            while waiting and len(self._at_work) < MAX_LOOKUPS and not (suspect and self._suspects >= MAX_SUSPECTS):
                host = waiting.popleft()
                self._at_work[host] = suspect
                self._suspects += suspect
                self._threads.give(host)

    def _done(self, host: str, result: Result, by_porter: bool) -> None:
        """A thread has an answer, or the porter."""
        if not by_porter:
            self._suspects -= self._at_work.pop(host)
        elif host not in self._at_work:
            for waiting in self._waiting.values():
                with suppress(ValueError):
                    waiting.remove(host)
        name = self._names.get(host)
        if name is not None and name.under_way is not None and host not in self._at_work:
            self._settle(host, name, name.under_way, result)
        self._start_some()

    def _settle(self, host: str, name: _Name, waiting: "_Answer", result: Result) -> None:
        name.under_way = None
        if isinstance(result, Exception):
            waiting.set_exception(without_frames(result))
            if not (isinstance(result, gaierror) and result.errno in _NO_SUCH_NAME):
                self._suspect(host, name, f"fails: {getattr(result, 'strerror', result)}")
            return
        waiting.set(result)
        if name.suspect and name.addresses:
            log.info("the resolver answers for %s again", host)
        name.addresses, name.answered, name.suspect = result, self._clock(), False

    def _suspect(self, host: str, name: _Name, what: str) -> None:
        if name.addresses and not name.suspect:
            age = self._clock() - name.answered
            log.warning("the resolver %s for %s; using its answer of %.0f s ago, for up to an hour", what, host, age)
        name.suspect = True


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The families in turn, beginning with that of the first address (RFC 8305, section 4)."""
    ours = deque(address for address in addresses if address[0] == addresses[0][0])
    others = deque(address for address in addresses if address[0] != addresses[0][0])
    found: list[Address] = []
    while ours or others:
        found.extend(family.popleft() for family in (ours, others) if family)
    return found
