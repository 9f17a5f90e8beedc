"""Native threads that ask the system's resolver for names, and a porter for the names of /etc/hosts.

getaddrinfo() blocks, for half a minute where name servers are silent, and can't be ended: these threads are daemons, so
that the process ends without them. `net/names.py` says how many there are, and why they and not c-ares.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import AF_UNSPEC, SOCK_STREAM
from typing import Any, Final

from mcproxy.net.door import Door

IDLE: Final = 10.0  # seconds until a thread without work ends
MAX_HOSTS_FILE: Final = 4 << 20  # bytes of /etc/hosts that are read; blocklists that people put there have some 2 MiB
HOSTS_FILE: Final = Path("/etc/hosts")

Address = tuple[int, Any]  # family and what connect() takes
Ask = Callable[..., Sequence[tuple[Any, ...]]]  # getaddrinfo
Result = list[Address] | Exception  # the addresses have port 0


class Threads:
    """Native threads that ask the system, made when they are needed, and a porter."""

    def __init__(self, ask: Ask, hosts: Path, done: Callable[[str, Result, bool], None]) -> None:
        """`done` is called on the hub with what was found: of a name, by the porter or not."""
        self._ask = ask
        self._hosts = _HostsFile(hosts)
        self._done = done
        self._door = Door()
        self._jobs: SimpleQueue[str | None] = SimpleQueue()
        self._asked: SimpleQueue[str | None] = SimpleQueue()  # of the porter
        self._lock = threading.Lock()  # of what follows
        self._idle = 0  # threads without a job: none is on its way to them
        self._threads = 0
        self._porter = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<Threads count={self._threads} idle={self._idle}>"

    def give(self, host: str) -> None:
        """Have a thread look this up."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._jobs.put(host)
                return
            self._threads += 1
        threading.Thread(target=self._work, args=(host,), name="lookup", daemon=True).start()

    def give_porter(self, host: str) -> None:
        """Have the porter look this up, if /etc/hosts has it."""
        if not self._porter:
            self._porter = True
            threading.Thread(target=self._guard, name="lookup of hosts", daemon=True).start()
        self._asked.put(host)

    def close(self) -> None:
        """Do nothing more; every thread ends as soon as it can."""
        with self._lock:
            self._closed = True
            count = self._threads
        for _ in range(count):
            self._jobs.put(None)
        self._asked.put(None)

    def _work(self, host: str | None) -> None:
        while host is not None:
            result = self._looked_up(host)
            with self._lock:
                self._idle += 1
            self._tell(host, result, False)
            try:
                host = self._jobs.get(timeout=IDLE)
            except Empty:
                host = self._last_job()

    def _last_job(self) -> str | None:
        """One that came as the time was over; without one, this thread ends."""
        with self._lock:
            try:
                return self._jobs.get_nowait()
            except Empty:
                self._idle -= 1
                self._threads -= 1
                return None

    def _guard(self) -> None:
        """The porter's life."""
        while (host := self._asked.get()) is not None:
            if self._hosts.lists(host):
                self._tell(host, self._looked_up(host), True)

    def _looked_up(self, host: str) -> Result:
        try:
            found = self._ask(host, 0, AF_UNSPEC, SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            return error
        return [(int(family), address) for family, _type, _protocol, _canonical, address in found]

    def _tell(self, host: str, result: Result, by_porter: bool) -> None:
        with self._lock:
            if not self._closed:
                self._door.post(self._done, host, result, by_porter)


class _HostsFile:
    """Which names /etc/hosts has (hosts(5)); read again when it has changed. Only for the porter's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, ...] = ()
        self._names: frozenset[bytes] = frozenset()

    def lists(self, host: str) -> bool:
        """True if a line has this name. The system does not find a name with a final dot there either."""
        try:
            found = self._path.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state != self._state:
                with self._path.open("rb") as file:
                    text = file.read(MAX_HOSTS_FILE).lower()
                lines = (line.partition(b"#")[0].split() for line in text.splitlines())
                self._names, self._state = frozenset(name for line in lines for name in line[1:]), state
        except OSError:
            return False
        return host.lower().encode() in self._names
