"""The sockets of the admin API: the public ones, and the folder of gRPC's own, which only the doorman reaches.

gRPC listens on a UNIX socket in a folder that only this user may enter, so no other user can connect there, under
a name of their choice or past the doorman's bounds.
"""

import contextlib
import errno
import grp
import os
import secrets
import shutil
import socket
import stat
import struct
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

from mcproxy.admin.peer import Peer
from mcproxy.notation.address import split_host_port

SOCKET_MODE = 0o600  # who may talk to the admin API: this user (and root),
GROUP_SOCKET_MODE = 0o660  # and the members of grpc.group, where it is set
BACKLOG = 1_024  # who waits while all places are taken: at 128 places a second it is their turn within a command's 15 s

# The kernel finds out that a client has gone without a word in the middle of a stream: seconds of silence before it
# asks, and between its questions.
_KEEP_ALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 15),
)
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_WILDCARDS = {"::", "0.0.0.0"}  # both stand for IPv4 and IPv6, as gRPC has it
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # one of a name's addresses that this machine doesn't have


class GroupError(Exception):
    """The group can't have the socket. The message says why and what to do."""


class Entrance(ABC):
    """The listening socket that the doorman accepts on. `close` ends it."""

    sockets: list[socket.socket]  # listening, and not blocking
    inner: Path  # where gRPC is to listen

    @abstractmethod
    def peer(self, sock: socket.socket, address: object) -> Peer:
        """The user or address that an accepted connection comes from. Raises OSError."""

    @abstractmethod
    def inside(self) -> None:
        """GRPC listens at `inner` by now."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""


class UnixEntrance(Entrance):
    """A socket in the file system, with the user id of each peer (SO_PEERCRED, unix(7)), which gRPC doesn't know."""

    def __init__(self, path: Path, group: str = "") -> None:
        """Listen at `path`, replacing a socket without a listener, for this user and a group's members.

        Raises OSError, GroupError.
        """
        gid = group_id(group) if group else None
        path = Path(os.path.realpath(path))  # a symbolic link stays one, and leads to the socket
        self._path = path
        self._folder = path.with_name(f".{path.name}.d")
        self.inner = self._folder / "s"
        self.sockets = [_listen(path, gid)]
        try:
            _make_private(self._folder)
        except OSError:
            self.sockets[0].close()
            self._path.unlink()
            raise

    def __repr__(self) -> str:
        return f"<UnixEntrance {self._path}>"

    def peer(self, sock: socket.socket, address: object) -> Peer:  # noqa: ARG002 - it is empty
        """The user."""
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return Peer(uid=uid)

    def inside(self) -> None:
        """GRPC's socket stays where it is."""

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        self.sockets[0].close()
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


class TcpEntrance(Entrance):
    """One listening socket for each address of a host."""

    def __init__(self, addr: str) -> None:
        """Listen at "HOST:PORT"; port 0 becomes a free one, `port`. Raises OSError."""
        self.sockets = list(_listening(*split_host_port(addr)))
        self.port: int = self.sockets[0].getsockname()[1]
        self._addr = addr
        self._kept: int | None = None  # a descriptor of gRPC's socket
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="mcproxy-"))
        except OSError:
            self._stop()
            raise
        self.inner = self._folder / "s"

    def __repr__(self) -> str:
        return f"<TcpEntrance {self._addr} port={self.port}>"

    def peer(self, sock: socket.socket, address: object) -> Peer:
        """The address."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert isinstance(address, tuple)
        return Peer.at(address[0])

    def inside(self) -> None:
        """Remove the folder, so that a server that is killed leaves nothing: a descriptor leads to the socket."""
        self._kept = os.open(self.inner, os.O_PATH | os.O_CLOEXEC)
        way = Path(f"/proc/self/fd/{self._kept}")
        if way.exists():
            self.inner = way
            shutil.rmtree(self._folder)

    def close(self) -> None:
        """Stop listening."""
        self._stop()
        if self._kept is not None:
            os.close(self._kept)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        for each in self.sockets:
            each.close()


def _listening(host: str, port: int) -> list[socket.socket]:
    """Listen at each address of a host, all with the same port. Raises OSError if that can't be."""
    if host in _WILDCARDS and socket.has_dualstack_ipv6():
        return [_bound(socket.AF_INET6, ("::", port), both=True)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    with contextlib.ExitStack() as opened:
        for family, (ip, _, *scope) in dict.fromkeys((each[0], each[4]) for each in found):
            try:
                sockets.append(opened.enter_context(_bound(family, (ip, port, *scope))))
                port = sockets[0].getsockname()[1]
            except OSError as error:
                failures.append(error)
        if failures and (not sockets or any(each.errno not in _ABSENT for each in failures)):
            raise failures[-1]
        opened.pop_all()
    return sockets


def _bound(family: int, address: tuple[object, ...], *, both: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        for option, value in _KEEP_ALIVE:  # accepted sockets inherit it
            sock.setsockopt(*option, value)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def group_id(name: str, own: Collection[int] | None = None) -> int:
    """The id of a group that this user may give a socket to: one of its `own`, of which root has all.

    Raises GroupError.
    """
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise GroupError(f"there is no group {name} on this machine: make it, or name another one") from None
    if own is None:
        own = {os.getegid(), *os.getgroups()} if os.geteuid() else {gid}
    if gid not in own:
        raise GroupError(f"this user is not a member of {name}, so it can't give its socket to that group: add it")
    return gid


def _listen(path: Path, gid: int | None) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        # Bound under another name and renamed once its mode is set: no process can connect before.
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        listening.bind(os.fspath(fresh))
        if gid is not None and fresh.stat().st_gid != gid:  # systemd's unit forbids chown, and mostly none is needed
            os.chown(fresh, -1, gid)
        fresh.chmod(SOCKET_MODE if gid is None else GROUP_SOCKET_MODE)
        listening.listen(BACKLOG)
        fresh.rename(path)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, and empty one that a killed server left. Raises OSError."""
    folder.mkdir(0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is another user's or open to others: remove it")
    for left in folder.iterdir():
        left.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket without a listener; raises OSError if it has one, or is not a socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"another process listens on {path}")
