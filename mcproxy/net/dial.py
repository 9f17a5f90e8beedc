"""Connecting to a backend, with the first bytes already on their way.

On a local network the three-way handshake is often over before the next system call, so `dial` sends right after the
non-blocking connect and waits only where the kernel says that it must. A name is looked up when it is dialled
(`net/names.py`); where it has several addresses, they race (`net/race.py`), and the one that was reached goes first for
a while.

Whatever goes wrong is Refused with the reason that fits. There is no deadline here: the session's covers it all.
"""

import errno
import os
from collections.abc import Callable
from functools import lru_cache
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    AF_UNSPEC,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    AddressFamily,
    gaierror,
    inet_pton,
)
from typing import Final, NamedTuple

from gevent import sleep
from gevent.hub import get_hub

from mcproxy.model import Backend, Reason, Refused
from mcproxy.net.lookups import Address
from mcproxy.net.names import Names
from mcproxy.net.own import OwnSockets
from mcproxy.net.race import Race
from mcproxy.net.raw import WRITE, IoWatcher, RawSocket, abort, keep_alive, pauses

MAX_ADDRESSES: Final = 8  # of one name that are tried: enough for a rotating backend, few enough for the deadline
# Seconds between two tries; a UNIX socket with a full backlog says EAGAIN instead of queueing us, and nothing wakes us.
FULL_BACKLOG_PAUSE, MAX_FULL_BACKLOG_PAUSE = 0.01, 0.1
# Reasons by errno; any other is BACKEND_UNREACHABLE.
_REASONS: Final = {
    errno.ECONNREFUSED: Reason.BACKEND_REFUSED,
    errno.ECONNRESET: Reason.BACKEND_REFUSED,
    errno.EPIPE: Reason.BACKEND_REFUSED,
    errno.ENOENT: Reason.BACKEND_REFUSED,  # no such UNIX socket
    errno.EMFILE: Reason.DESCRIPTORS,
    errno.ENFILE: Reason.DESCRIPTORS,
}
_TYPE: Final = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC

Tried = Callable[[Address, OSError | None], object]  # is given an address, and its failure, if any


class Outgoing(NamedTuple):
    """The parts that all dials of a worker share."""

    names: Names
    own: OwnSockets

    @classmethod
    def make(cls) -> "Outgoing":
        """To be called on the hub's thread."""
        return cls(Names(), OwnSockets())


def dial(backend: Backend, first: bytes, outgoing: Outgoing, tried: Tried | None = None) -> RawSocket:
    """Connect and send `first`. Returns a non-blocking socket. Raises Refused.

    `tried` is called for each address, with its failure, if any.
    """
    found = addresses(backend, outgoing.names)
    if len(found) > 1:
        return _first_to_answer(backend, found, first, outgoing, tried)
    address = found[0]
    try:
        sock = _connected(address, first, outgoing.own)
    except OSError as error:
        if tried is not None:
            tried(address, error)
        raise _refusal(backend, error) from error
    if tried is not None:
        tried(address, None)
    return sock


def _first_to_answer(
    backend: Backend, found: list[Address], first: bytes, outgoing: Outgoing, tried: Tried | None
) -> RawSocket:
    """As `dial`, with several addresses. The refusal names the failure that came last."""
    failures: list[OSError] = []

    def note(address: Address, error: OSError) -> None:
        failures.append(error)
        if tried is not None:
            tried(address, error)

    won = Race(first, lambda address: _begin(address, outgoing.own), note).run(found)
    if won is None:
        raise _refusal(backend, failures[-1])
    address, sock, sent = won
    family, where = address
    outgoing.names.reached(backend.host, (family, (where[0], 0, *where[2:])))
    try:
        if first[sent:]:
            _finish(sock, first[sent:])
    except BaseException as error:
        abort(sock)
        if isinstance(error, OSError):
            raise _refusal(backend, error) from error
        raise
    if tried is not None:
        tried(address, None)
    return sock


def _refusal(backend: Backend, error: OSError) -> Refused:
    return Refused(_REASONS.get(error.errno or 0, Reason.BACKEND_UNREACHABLE), f"{backend}: {error.strerror}")


@lru_cache(maxsize=1024)  # hosts; each dial asks
def _family(host: str) -> AddressFamily:
    """Of an IP address; AF_UNSPEC: it is a name, to be resolved."""
    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, host)
        except OSError:
            continue
        return family
    return AF_UNSPEC


def addresses(backend: Backend, names: Names) -> list[Address]:
    """Where to connect to, best first; there is at least one. Waits for the name to be looked up. Raises Refused."""
    if backend.path:
        return [(AF_UNIX, backend.path)]
    if (family := _family(backend.host)) != AF_UNSPEC:
        return [(family, (backend.host, backend.port))]
    try:
        found = names.look_up(backend.host)[:MAX_ADDRESSES]
    except gaierror as error:
        raise Refused(Reason.BACKEND_UNRESOLVED, f"{backend.host}: {error.strerror}") from error
    if not found:
        raise Refused(Reason.BACKEND_UNRESOLVED, f"{backend.host} has no address")
    return [(family, (address[0], backend.port, *address[2:])) for family, address in found]


def _connected(address: Address, first: bytes, own: OwnSockets) -> RawSocket:
    """A socket on which `first` is sent; none is left where that fails. Raises OSError."""
    sock = _begin(address, own)
    try:
        sent = _send(sock, first) if first else 0
        if sent < len(first) or not first:
            _finish(sock, first[sent:])
    except BaseException:
        abort(sock)
        raise
    return sock


def _begin(address: Address, own: OwnSockets) -> RawSocket:
    """A socket that connects; only that of a UNIX socket's full backlog waits. Raises OSError."""
    family, where = address
    sock = RawSocket(family, _TYPE)
    try:
        if family != AF_UNIX:
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            if not (where[0].startswith("127.") or where[0] == "::1"):  # whose end this kernel always knows
                keep_alive(sock)
        code = sock.connect_ex(where) if family != AF_UNIX else _connect_to_path(sock, where)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        if family != AF_UNIX and where[1] in own.ports:
            own.note(sock)  # before anybody can accept it
    except BaseException:
        abort(sock)
        raise
    return sock


def _connect_to_path(sock: RawSocket, path: str) -> int:
    """Connect to a UNIX socket, waiting while its backlog is full. Returns an errno, or 0."""
    pause = pauses(FULL_BACKLOG_PAUSE, MAX_FULL_BACKLOG_PAUSE)
    while (code := sock.connect_ex(path)) == errno.EAGAIN:
        sleep(next(pause))
    return code


def _send(sock: RawSocket, data: bytes) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def _finish(sock: RawSocket, rest: bytes) -> None:
    """Wait for the connection and send what is left. Raises OSError."""
    writable: IoWatcher = get_hub().loop.io(sock.fileno(), WRITE)
    try:
        get_hub().wait(writable)
        if code := sock.getsockopt(SOL_SOCKET, SO_ERROR):
            raise OSError(code, os.strerror(code))
        while rest := rest[_send(sock, rest) :]:
            get_hub().wait(writable)
    finally:
        writable.close()
