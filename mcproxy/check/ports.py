"""Finds out if an address can be listened on, and which process has it if not. It never listens itself."""

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcproxy.notation.address import split_host_port

LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)
SERVICE_MANAGER, OURS = "systemd", "mcproxy"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port."""

    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def failure(addr: str) -> int:
    """The error number with which a start would fail to listen on an address; 0: it would not."""
    host, port = split_host_port(addr)
    dual_stack = not host and socket.has_dualstack_ipv6()
    with socket.socket(socket.AF_INET6 if dual_stack or ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def holders(addr: str) -> list[Holder]:
    """The processes that listen on the port of an address, as far as this user may know."""
    wanted = set(_sockets(split_host_port(addr)[1]))
    found = {}
    for process in Path("/proc").glob("[0-9]*") if wanted else ():
        with suppress(OSError):  # it has gone
            if not wanted.isdisjoint(_open(process)):
                found[int(process.name)] = _name(process)
    return [Holder(name, pid) for pid, name in sorted(found.items())]


def _name(process: Path) -> str:
    """The process's name; ours is also run as `python -m mcproxy`. Raises OSError."""
    arguments = (process / "cmdline").read_text(errors="replace").split("\0")
    is_ours = any(Path(each).name == OURS for each in arguments[:3])  # what follows are options
    return OURS if is_ours else (process / "comm").read_text().strip()


def _open(process: Path) -> Iterator[str]:
    """The open files of a process; none of another user's."""
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return
    for link in links:
        with suppress(OSError):  # closed meanwhile
            yield str(link.readlink())


def _sockets(port: int) -> Iterator[str]:
    """The listening TCP sockets of a port, as /proc/PID/fd names them (proc(5))."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
