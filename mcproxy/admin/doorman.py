"""The UNIX socket of the admin API: finds out the user id of each peer, which gRPC itself doesn't know.

gRPC for Python has no access to an accepted socket, and names every peer on a UNIX socket "unix:" and the name that the
peer's socket is bound to, if any. So this thread accepts on the public socket, asks the kernel for the peer's user id
(SO_PEERCRED, unix(7)), connects on its behalf to gRPC's own socket from an abstract name that contains that id, and
passes bytes both ways. gRPC's own socket is in a folder that only this user may enter, so nobody else can connect there
under a name of their choice.

One thread with one selector serves all connections. A side that doesn't read stops the reading on the other: at most
`CHUNK` bytes wait in each direction.
"""

import contextlib
import grp
import logging
import os
import re
import secrets
import selectors
import shutil
import socket
import stat
import struct
import threading
import time
from collections.abc import Collection
from pathlib import Path

SOCKET_MODE = 0o600  # who may talk to the admin API: this user (and root),
GROUP_SOCKET_MODE = 0o660  # and the members of grpc.group, where it is set
MAX_UNIX_CONNECTIONS = 64  # each is two descriptors; an operator's command needs one
BACKLOG = 64
ACCEPT_PAUSE = 0.1  # seconds after a failed accept
CHUNK = 64 << 10  # bytes

log = logging.getLogger(__name__)

_PEER = re.compile(r"unix-abstract:mcproxy-[0-9a-f]+-(\d+)-\d+")
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class GroupError(Exception):
    """The group can't have the socket. The message says why and what to do."""


def peer_uid(peer: str) -> int | None:
    """The user id in gRPC's name of a peer, None if it has not come through a doorman."""
    match = _PEER.fullmatch(peer)
    return int(match[1]) if match else None


class _Side:
    """One direction of a connection: what was read here and not yet written there."""

    __slots__ = ("ended", "other", "sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other: _Side = self
        self.waiting = b""  # from the other side, to be written here
        self.ended = False  # nothing more comes from here


class Doorman:
    """The thread. `close` ends it, with all connections."""

    def __init__(self, path: Path, group: str = "") -> None:
        """Listen at `path`, replacing a socket that nobody listens on, for this user and a group's members.

        Raises OSError, GroupError.
        """
        gid = group_id(group) if group else None
        path = Path(os.path.realpath(path))  # a symbolic link stays one, and leads to the socket
        self._path = path
        self._folder = path.with_name(f".{path.name}.d")
        self.inner = self._folder / "s"  # where gRPC is to listen
        self._token = secrets.token_hex(8)
        self._count = 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        try:
            self._listening = _listen(path, gid)
        except OSError:
            self._release()
            raise
        try:
            _make_private(self._folder)
        except OSError:
            self._listening.close()
            self._path.unlink()
            self._release()
            raise
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="admin-doorman", daemon=True)

    def __repr__(self) -> str:
        return f"<Doorman {self._path} connections={self._count}>"

    def start(self) -> None:
        """Begin to accept; gRPC listens at `inner` by now."""
        self._thread.start()

    def close(self) -> None:
        """End all connections and remove the socket."""
        self._wake.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Side):
                key.data.sock.close()
                key.data.other.sock.close()
        self._listening.close()
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _run(self) -> None:
        serial = 0
        while True:
            for key, events in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listening:
                    serial += 1
                    self._accept(serial)
                elif isinstance(key.data, _Side):
                    self._serve(key.data, events)

    def _accept(self, serial: int) -> None:
        try:
            outer, _ = self._listening.accept()
        except OSError as error:  # too few descriptors: the socket stays readable, so don't look again at once
            log.warning("admin socket: %s", error)
            time.sleep(ACCEPT_PAUSE)
            return
        if self._count >= MAX_UNIX_CONNECTIONS:
            log.warning(
                "admin socket: %d connections are open, which is the limit; one was refused", MAX_UNIX_CONNECTIONS
            )
            outer.close()
            return
        inner = socket.socket(socket.AF_UNIX)
        try:
            _, uid, _ = _CREDENTIALS.unpack(outer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            inner.bind(f"\0mcproxy-{self._token}-{uid}-{serial}")
            inner.connect(os.fspath(self.inner))
        except OSError as error:
            log.warning("admin socket: can't reach the API: %s", error)
            outer.close()
            inner.close()
            return
        self._join(outer, inner)

    def _join(self, outer: socket.socket, inner: socket.socket) -> None:
        one, two = _Side(outer), _Side(inner)
        one.other, two.other = two, one
        for side in (one, two):
            side.sock.setblocking(False)
            self._selector.register(side.sock, selectors.EVENT_READ, side)
        self._count += 1

    def _serve(self, side: _Side, events: int) -> None:
        if side.sock.fileno() < 0:
            return  # closed while this turn's other event was served
        try:
            if events & selectors.EVENT_WRITE:
                self._write(side)
            if events & selectors.EVENT_READ and not side.other.waiting:
                self._read(side)
        except OSError:  # reset by either: the connection is over
            self._part(side)
            return
        if side.ended and side.other.ended and not side.waiting and not side.other.waiting:
            self._part(side)
        else:
            self._watch(side)
            self._watch(side.other)

    def _read(self, side: _Side) -> None:
        with contextlib.suppress(BlockingIOError):
            side.other.waiting = side.sock.recv(CHUNK)
            side.ended = not side.other.waiting
            self._write(side.other)

    def _write(self, side: _Side) -> None:
        with contextlib.suppress(BlockingIOError):
            while side.waiting:
                side.waiting = side.waiting[side.sock.send(side.waiting) :]
        if side.other.ended and not side.waiting:
            side.sock.shutdown(socket.SHUT_WR)

    def _watch(self, side: _Side) -> None:
        reading = selectors.EVENT_READ if not side.ended and not side.other.waiting else 0
        events = reading | (selectors.EVENT_WRITE if side.waiting else 0)
        registered = side.sock in self._selector.get_map()
        if events and registered:
            self._selector.modify(side.sock, events, side)
        elif events:
            self._selector.register(side.sock, events, side)
        elif registered:
            self._selector.unregister(side.sock)

    def _part(self, side: _Side) -> None:
        for each in (side, side.other):
            if each.sock in self._selector.get_map():
                self._selector.unregister(each.sock)
            each.sock.close()
        self._count -= 1


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
        # Bound under another name and renamed once its mode is set: nobody can connect before.
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
    """Remove a socket that nobody listens on; raises OSError if somebody does, or if it is not a socket."""
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
