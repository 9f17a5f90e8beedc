"""A listening socket: gevent's StreamServer, handing out raw sockets.

StreamServer accepts many connections for each wake-up and backs off where accept() fails for want of descriptors or
memory (EMFILE, ENFILE, ENOBUFS), doubling its pause up to a second; sessions that are open go on meanwhile. What is
ours: the accepted socket is nearly the C type, and a client that has gone before we came (ECONNABORTED) is no failure.
"""

import logging
import socket
from contextlib import suppress
from typing import Any, Final

from gevent.hub import get_hub
from gevent.server import StreamServer

from mcproxy.native import mypyc_attr
from mcproxy.net.accepted import Accepted
from mcproxy.net.raw import RawSocket, keep_alive
from mcproxy.net.session import Session
from mcproxy.net.shared import Shared
from mcproxy.notation.address import split_host_port

log: Final = logging.getLogger(__name__)

BACKLOG: Final = 4096  # connections that wait to be accepted; the kernel caps it at net.core.somaxconn, 4096 by default
# Accepted at one wake-up. gevent's 100 are more than the hub begins in a round, which ends after 50 callbacks or the
# switch interval: a flood would pile up. Of 8, all have begun before the next are accepted.
MAX_ACCEPT: Final = 8
# Sessions that were let in and have not begun, of all listeners; with more, none is accepted until they have. Clients
# then wait in the kernel's queue, which is bounded, and hold no descriptor of ours. Enough that no round of the hub
# lacks work.
MAX_NOT_BEGUN: Final = 64
# accept(2): pending errors of a connection that is already dead; the next accept() may do.
_GONE: Final = (ConnectionAbortedError, ConnectionResetError, TimeoutError)


@mypyc_attr(native_class=False)
class AcceptFailed(OSError):
    """Raised to StreamServer, which pauses; the log has it already."""


def print_no_traceback() -> None:
    """Keep this thread's hub from printing a traceback of each accept that failed.

    The setting is the hub's, so the worker makes it, which owns the hub; what is the process's is set in app.py.
    """
    hub = get_hub()
    if AcceptFailed not in hub.NOT_ERROR:
        hub.NOT_ERROR = (*hub.NOT_ERROR, AcceptFailed)


def bind(addr: str) -> socket.socket:
    """A non-blocking socket for ":443", "0.0.0.0:443" or "[::1]:443" that doesn't listen yet. Raises OSError.

    Nobody else has the address.
    """
    host, port = split_host_port(addr)
    dual_stack = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual_stack or ":" in host else socket.AF_INET
    return made(family, (host, port), dual_stack=dual_stack)


def made(family: int, where: tuple[Any, ...], *, dual_stack: bool, shared: bool = False) -> socket.socket:
    """A socket like that, as socket.create_server() makes it. A `shared` address may have several. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        sock.bind(where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@mypyc_attr(native_class=False)
class Acceptor(StreamServer):
    """Accepts connections of one configured address and starts a session for each."""

    max_accept = MAX_ACCEPT

    def __init__(self, addr: str, sock: socket.socket, shared: Shared) -> None:
        """`addr` is the listener's identity in the table; `sock` listens already."""
        super().__init__(sock, handle=self.do_handle)  # StreamServer requires one
        keep_alive(sock)  # accepted sockets inherit it
        self.addr = addr
        self._shared = shared
        self._tally = shared.stats.listener(addr)
        self._family, self._type, self._protocol = int(sock.family), int(sock.type), sock.proto

    def do_read(self) -> tuple[RawSocket, tuple[Any, ...]] | None:  # type: ignore[override]  # of gevent sockets
        """Accept one connection; None if there is none. StreamServer calls it until it returns None."""
        if self._shared.not_begun >= MAX_NOT_BEGUN:
            return None  # the socket stays readable: the next round of the hub comes here again
        return self._accept()

    def _accept(self) -> tuple[RawSocket, tuple[Any, ...]] | None:
        accept = self.socket._accept  # type: ignore[attr-defined]  # accept() itself makes enums and a wrapper
        while True:
            try:
                fd, peer = accept()
            except BlockingIOError:
                return None
            except _GONE:
                continue
            except OSError as error:
                log.warning("%s: accept failed: %s; trying again in %g s", self.addr, error.strerror, self.delay)
                raise AcceptFailed(error.errno, error.strerror) from error
            self._tally.begin()  # before anything else: what a killed worker has accepted and not counted is lost
            client = Accepted(self._family, self._type, self._protocol, fd)
            client.setblocking(False)
            return client, peer

    def accept_waiting(self) -> None:
        """Accept those whose handshake the kernel has finished already: closing the socket would reset them."""
        with suppress(AcceptFailed):
            for _ in range(BACKLOG):  # of those who come meanwhile, not all
                if (accepted := self._accept()) is None:
                    return
                self.do_handle(*accepted)

    def do_handle(self, client: RawSocket, peer: tuple[Any, ...]) -> None:
        """Start the session, which closes the connection."""
        Session(self._shared, self.addr, self._tally, client, peer[:2]).start()
