"""Connecting to a backend, with the first bytes already on their way.

On a local network the three-way handshake is often over before the next system call, so `dial` sends right after the
non-blocking connect and waits only where the kernel says that it must. A name is resolved in gevent's thread pool when
it is dialled, and its addresses are tried in the order in which the resolver gave them. Nothing is cached, but whoever
needs a name that is being looked up waits for that answer: were the name's servers silent, a handful of dials would
take every thread of the pool, and no other name could be resolved.

Whatever goes wrong is Refused with the reason that fits. There is no deadline here: the session's covers it all.
"""

import errno
import os
from collections.abc import Callable, Iterator
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
from typing import Any

from gevent import sleep, spawn_raw
from gevent.event import AsyncResult
from gevent.hub import Hub, get_hub

from mcproxy.model import Backend, Reason, Refused
from mcproxy.net.raw import WRITE, IoWatcher, RawSocket, abort, pauses

MAX_ADDRESSES = 8  # of one name that are tried: enough for a rotating backend, few enough for the deadline
# Seconds between two tries; a UNIX socket with a full backlog says EAGAIN instead of queueing us, and nothing wakes us.
FULL_BACKLOG_PAUSE, MAX_FULL_BACKLOG_PAUSE = 0.01, 0.1
# What the system says and what that means; all else is BACKEND_UNREACHABLE.
_REASONS = {
    errno.ECONNREFUSED: Reason.BACKEND_REFUSED,
    errno.ECONNRESET: Reason.BACKEND_REFUSED,
    errno.EPIPE: Reason.BACKEND_REFUSED,
    errno.ENOENT: Reason.BACKEND_REFUSED,  # no such UNIX socket
    errno.EMFILE: Reason.DESCRIPTORS,
    errno.ENFILE: Reason.DESCRIPTORS,
}
_TYPE = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC

Address = tuple[int, Any]  # family and what connect() takes

_lookups: "dict[tuple[Hub, str], AsyncResult[list[Any]]]" = {}  # under way: one a name, so no more than routes


def dial(backend: Backend, first: bytes, tried: Callable[[Address, OSError | None], object] | None = None) -> RawSocket:
    """Connect and send `first`. Returns a non-blocking socket. Raises Refused.

    `tried` is told of each address, and of what went wrong there.
    """
    failure: Refused | None = None
    for family, address in addresses(backend):
        try:
            sock = _connected(family, address, first)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, Reason.BACKEND_UNREACHABLE)
            failure = Refused(reason, f"{backend}: {error.strerror}")
            if tried is not None:
                tried((family, address), error)
        else:
            if tried is not None:
                tried((family, address), None)
            return sock
    raise failure or Refused(Reason.BACKEND_UNRESOLVED, f"{backend.host} has no address")


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


def addresses(backend: Backend) -> Iterator[Address]:
    """Where to connect to, best first; resolving a name takes place here. Raises Refused."""
    if backend.path:
        yield AF_UNIX, backend.path
    elif (family := _family(backend.host)) != AF_UNSPEC:
        yield family, (backend.host, backend.port)
    else:
        try:
            found = _look_up(backend.host)
        except gaierror as error:
            raise Refused(Reason.BACKEND_UNRESOLVED, f"{backend.host}: {error.strerror}") from error
        for family, _type, _protocol, _canonical, address in found[:MAX_ADDRESSES]:
            yield family, (address[0], backend.port, *address[2:])


def _look_up(host: str) -> list[Any]:
    """What getaddrinfo() says, without a port. Raises gaierror."""
    key = get_hub(), host
    if key not in _lookups:
        _lookups[key] = AsyncResult()
        spawn_raw(_run_lookup, key)
    found: list[Any] | None = _lookups[key].get()
    return found or []


def _run_lookup(key: tuple[Hub, str]) -> None:
    """In a greenlet of its own, because each of those who wait may be cut."""
    hub, host = key
    try:
        _lookups[key].set(hub.resolver.getaddrinfo(host, 0, AF_UNSPEC, SOCK_STREAM))
    except Exception as error:  # noqa: BLE001 - all who wait get it
        _lookups[key].set_exception(error)
    finally:
        del _lookups[key]


def _connected(family: int, address: Any, first: bytes) -> RawSocket:
    """A socket on which `first` is sent; none is left where that fails. Raises OSError."""
    sock = RawSocket(family, _TYPE)
    try:
        _connect(sock, family, address, first)
    except BaseException:
        abort(sock)
        raise
    return sock


def _connect(sock: RawSocket, family: int, address: Any, first: bytes) -> None:
    """Connect and send; waits only where it must. Raises OSError."""
    if family != AF_UNIX:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    code = sock.connect_ex(address)
    pause = pauses(FULL_BACKLOG_PAUSE, MAX_FULL_BACKLOG_PAUSE)
    while code == errno.EAGAIN and family == AF_UNIX:
        sleep(next(pause))
        code = sock.connect_ex(address)
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))
    sent = _send(sock, first) if first else 0
    if sent < len(first) or not first:
        _finish(sock, first[sent:])


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
