"""The seat of the running server: a UNIX socket beside the database, for its user only.

Beside the database, because that is what two servers must not both have. The name is reached through the folder's
descriptor, so that its length doesn't matter (sun_path has 108 bytes, unix(7)).

A successor gets the listening socket itself, so the name never leads to a process that has given its place up. Its time
of modification says since when the server that listens there has served.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODE = 0o600  # connecting needs permission to write
BACKLOG = 8  # successors that wait for an answer
CONNECT_SECONDS = 5.0  # for a server that doesn't accept, and whose backlog is full


class Seat:
    """Where the server of a database listens for its successor."""

    def __init__(self, database: Path) -> None:
        real = Path(os.path.realpath(database))
        self.path = real.with_name(f".{real.name}.takeover")
        self._inode = 0  # of the name that leads to us

    def __repr__(self) -> str:
        return f"<Seat {self.path}>"

    def connect(self) -> socket.socket | None:
        """A connection to the server that runs; None if there is none. Raises OSError, TimeoutError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(CONNECT_SECONDS)
            with _reached(self.path) as name:
                sock.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):  # ended clean, or killed
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self) -> socket.socket:
        """Take the seat, from a server that has ended. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fresh = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        try:
            with _reached(fresh) as name:
                sock.bind(name)
            fresh.chmod(MODE)
            sock.listen(BACKLOG)  # nobody can connect before
            fresh.rename(self.path)
            self.adopt()
        except BaseException:
            sock.close()
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        return sock

    def adopt(self) -> None:
        """The name leads to us from now on. Raises OSError."""
        os.utime(self.path)
        self._inode = self.path.stat().st_ino

    def leave(self) -> None:
        """Remove the name, if it still leads to us."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()


@contextmanager
def _reached(path: Path) -> Iterator[str]:
    """A short name for a path, whose folder must exist. Raises OSError."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
