"""The protocol of a service manager: sd_notify(3) and sd_listen_fds(3), without their library.

Both are a few lines. State goes as one datagram of NAME=value lines to the socket in $NOTIFY_SOCKET. Listening sockets
come as descriptors from 3 on, $LISTEN_FDS of them, and are matched to listeners by address, so their order and names
don't matter. Without a service manager none of these variables is set, and everything here does nothing.

An inherited socket outlives us: connections that come between two processes wait in its queue. What a listener gets is
a duplicate, so that one that is removed and added again finds its address still there.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence
from ipaddress import ip_address
from itertools import chain

from mcproxy.model import Endpoint, host_port
from mcproxy.notation.address import split_host_port

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
MAX_INHERITED = 1024  # sockets; more is a damaged environment
FEEDS = 3  # in one watchdog interval: two may be lost before it fires


log = logging.getLogger(__name__)


class Notifier:
    """Reports our state to the service manager."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """`address` is a path, or "@name" in the abstract namespace; "": no manager. `watchdog` is in seconds."""
        self.address = address
        self.watchdog = watchdog
        self.interval = watchdog / FEEDS  # seconds between two `alive`; 0: nobody waits for them
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """A notifier for the service manager's variables; without them it does nothing."""
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "0") if watched else "0"
        return cls(environ.get("NOTIFY_SOCKET", ""), int(microseconds) / 1e6 if microseconds.isdigit() else 0.0)

    def __repr__(self) -> str:
        return f"<Notifier {self.address or 'off'} interval={self.interval:g}>"

    def ready(self) -> None:
        """Report that we serve: after the start, and after a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that we drain and exit."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def succeeded_by(self, pid: int) -> None:
        """Report that another process of the service is the main one from now on, and nothing more."""
        self._tell(f"MAINPID={pid}")
        self.close()

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str) -> None:
        sock = self._socket  # a reload notifies from its own thread, perhaps after `close`
        if sock is None:
            return
        try:
            name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
            sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, name)
        except OSError as error:  # a manager that is being restarted, or hangs: not a reason to serve nobody
            log.debug("could not send %s to the service manager: %s", lines[0], error.strerror)


class Inherited:
    """Listening sockets that were open before we were."""

    def __init__(self, descriptors: range = range(0)) -> None:
        """Take the descriptors over; those that are not listening TCP sockets are logged and left alone."""
        self._sockets: dict[Endpoint, socket.socket] = {}
        self._given: dict[str, list[socket.socket]] = {}
        for descriptor in descriptors:
            sock = _listening(descriptor)
            if sock is None:
                log.warning("descriptor %d from the service manager is not a listening TCP socket", descriptor)
            else:
                self._sockets[sock.getsockname()[:2]] = sock

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Inherited":
        """The sockets that the service manager passed to this process. Removes the variables."""
        pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
        environ.pop("LISTEN_FDNAMES", None)
        if pid != str(os.getpid()) or not count.isdigit():
            return cls()
        return cls(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(int(count), MAX_INHERITED)))

    def __repr__(self) -> str:
        return f"<Inherited {', '.join(f'{host}:{port}' for host, port in self._sockets) or 'none'}>"

    def give(self, addr: str, sock: socket.socket) -> None:
        """Add a listener's socket, from the server before us; "": one that it had inherited itself.

        A listener that was for several workers has several, in their order.
        """
        if addr:
            self._given.setdefault(addr, []).append(sock)
        else:
            self._sockets[sock.getsockname()[:2]] = sock

    @property
    def descriptors(self) -> list[int]:
        """Those that are inherited, whether a listener uses them or not."""
        return [sock.fileno() for sock in self._sockets.values()]

    def is_managers(self, sock: socket.socket) -> bool:
        """Whether a socket is one that the service manager has too, as the server before us may have given it."""
        inode = os.fstat(sock.fileno()).st_ino
        return any(os.fstat(each.fileno()).st_ino == inode for each in self._sockets.values())

    def take(self, addr: str) -> Sequence[socket.socket]:
        """All sockets for this listener's address: those that were given, or a duplicate of the inherited one."""
        if given := self._given.pop(addr, None):
            return given
        for bound in _meant(addr):
            if (sock := self._sockets.get(bound)) is not None:
                taken = sock.dup()
                taken.setblocking(False)
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
                return [taken]
        return ()

    def unclaimed(self, addrs: Mapping[str, object]) -> list[str]:
        """The addresses of sockets that none of these listeners has: nobody accepts their clients."""
        claimed = {bound for addr in addrs for bound in _meant(addr)}
        return [host_port(host, port)
                for host, port in self._sockets if (host, port) not in claimed]  # fmt: skip

    def close(self) -> None:
        """Close our copies; the service manager keeps its own."""
        for sock in (*self._sockets.values(), *chain.from_iterable(self._given.values())):
            sock.close()
        self._sockets.clear()
        self._given.clear()


def _meant(addr: str) -> list[Endpoint]:
    host, port = split_host_port(addr)
    return [(str(ip_address(host)), port)] if host else [("::", port), ("0.0.0.0", port)]


def _listening(descriptor: int) -> socket.socket | None:
    """The socket of a descriptor, if it is a listening TCP one."""
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    inet = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if inet and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return sock
    sock.detach()
    return None
