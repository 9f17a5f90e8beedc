"""Letters between two servers: datagrams of JSON on a UNIX socket (SOCK_SEQPACKET), some with listening sockets.

Two versions of mcproxy read each other's letters: fields are looked up by name, and those that are not known are
skipped.
"""

import array
import json
import math
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

PROTOCOL = 1  # of the letters; another one where an older server could not understand a newer one at all
MAX_LETTER = 64 << 10  # bytes: MAX_SOCKETS addresses of 100 bytes are 20 KB
MAX_SOCKETS = 200  # in one letter; the kernel takes 253 (SCM_MAX_FD)
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class Kind(StrEnum):
    """The letters, in their order."""

    ASK = "ask"  # new: may I take over?
    REFUSED = "refused"  # old: no, and why
    SOCKETS = "sockets"  # old: some listening sockets with their addresses; there may be several of these
    ALL = "all"  # old: these were all; with its generation and its service manager
    READY = "ready"  # new: all that can fail is done
    YOURS = "yours"  # old: the database and the clients are yours
    WITHDRAWN = "withdrawn"  # old: too late, I go on; end, and let go of the database
    SERVING = "serving"  # new: I accept connections
    BYE = "bye"  # old: I no longer do
    LOOK = "look"  # anybody of the same user: who are you? (renewal.py)
    HERE = "here"  # the server that runs: this process, with this program and these keys


class Gone(Exception):
    """The other server has ended or let go of the connection."""


class Malformed(Exception):
    """A letter that this version doesn't understand."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter."""

    kind: Kind
    fields: Mapping[str, object] = field(default_factory=dict)
    sockets: Sequence[int] = ()  # descriptors of listening sockets

    def text(self, name: str) -> str:
        """A field with a text; "" if there is none. Raises Malformed."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise Malformed(f"{self.kind}: {name} is not a text")
        return value

    def number(self, name: str) -> float:
        """A field with a number; 0 if there is none. Raises Malformed."""
        value = self.fields.get(name, 0)
        if not isinstance(value, int | float):
            raise Malformed(f"{self.kind}: {name} is not a number")
        return value

    def texts(self, name: str) -> list[str]:
        """A field with a list of texts; empty if there is none. Raises Malformed."""
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise Malformed(f"{self.kind}: {name} is not a list of texts")
        return value


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel knows it (SO_PEERCRED, unix(7))."""

    pid: int  # 0: it is in another namespace of processes
    uid: int


def peer_of(sock: socket.socket) -> Peer:
    """The process that called connect() or, at that one's end, the one that called listen(). Raises OSError."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)


def send(sock: socket.socket, letter: Letter) -> None:
    """Send a letter, within the socket's timeout. Raises Gone, and TimeoutError."""
    text = json.dumps({"kind": letter.kind, **letter.fields}).encode()
    try:
        if letter.sockets:
            socket.send_fds(sock, [text], list(letter.sockets))
        else:
            sock.send(text)
    except TimeoutError:
        raise
    except OSError as error:
        raise Gone(f"the other server has gone: {error.strerror}") from error


def receive(sock: socket.socket) -> Letter:
    """Wait for a letter, within the socket's timeout. Its sockets are the caller's to close.

    Raises Gone, Malformed, TimeoutError, and BlockingIOError where the socket doesn't wait.
    """
    try:
        # Not socket.recv_fds, which drops the flag: whatever we start would inherit the sockets.
        text, data, flags, _ = sock.recvmsg(MAX_LETTER, socket.CMSG_LEN(MAX_SOCKETS * 4), socket.MSG_CMSG_CLOEXEC)
    except (TimeoutError, BlockingIOError):
        raise
    except OSError as error:
        raise Gone(f"the other server has gone: {error.strerror}") from error
    if not text:
        raise Gone("the other server has gone")
    descriptors = _descriptors(data)
    try:
        return _read(text, descriptors, whole=not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
    except Malformed:
        for each in descriptors:
            socket.close(each)
        raise


def _descriptors(data: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, some in data:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(some[: len(some) - len(some) % found.itemsize])
    return list(found)


def _read(text: bytes, descriptors: Sequence[int], *, whole: bool) -> Letter:
    try:
        fields = json.loads(text) if whole else None
    except ValueError as error:
        raise Malformed("a letter that is not JSON") from error
    if not isinstance(fields, dict) or fields.get("kind") not in set(Kind):
        raise Malformed("a letter of no kind that is known, or cut short")
    return Letter(Kind(fields.pop("kind")), fields, descriptors)


def wait(seconds: float | None, *descriptors: int) -> set[int]:
    """Wait until some of these can be read or have ended; empty: none did within `seconds` (None: for ever)."""
    poll = select.poll()  # select() ends at descriptor 1,023
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return {found for found, _ in poll.poll(None if seconds is None else math.ceil(max(seconds, 0.0) * 1000))}
