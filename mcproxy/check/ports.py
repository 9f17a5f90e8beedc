"""Finds out if an address can be listened on, and which process has it if not. It never listens itself."""

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcproxy.notation.address import split_host_port
from mcproxy.policy.networks import pack

IPV6_SIZE, IPV4_MAPPED = 16, bytes(10) + b"\xff\xff"
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
    """The processes whose listening sockets are in the way of an address, as far as this user may know."""
    wanted = set(_in_the_way(addr))
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


def _in_the_way(addr: str) -> Iterator[str]:
    """The listening sockets that keep another one from an address: others may have its port elsewhere."""
    host, port = split_host_port(addr)
    found = dict(_sockets(port))
    wanted = pack(host) if host else b""
    alike = {
        each for each, at in found.items() if len(at) == len(wanted) and (at == wanted or not (any(at) and any(wanted)))
    }
    dual = {each for each, at in found.items() if len(at) == IPV6_SIZE and not any(at)}  # "::" may take IPv4, too
    yield from (alike or dual) if host else found


def _sockets(port: int) -> Iterator[tuple[str, bytes]]:
    """The listening TCP sockets of a port, as /proc/PID/fd names them (proc(5)), and their packed addresses."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].partition(":")
                if fields[3] == LISTENS and int(number, 16) == port:
                    yield f"socket:[{fields[9]}]", _packed(address)


def _packed(text: str) -> bytes:
    """An address of /proc/net/tcp: words of 32 bits in the order of this machine; IPv4 within IPv6 is IPv4."""
    packed = b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))
    return packed.removeprefix(IPV4_MAPPED) if packed.startswith(IPV4_MAPPED) else packed
