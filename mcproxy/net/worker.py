"""The data path of one process: its listeners, its sessions, and their shared state.

Everything here happens on the hub's thread. Another thread goes through `net.door.Door`, its only way in.
"""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from socket import socket
from typing import Final

from gevent import sleep
from gevent.hub import get_hub

from mcproxy.model import End
from mcproxy.net.group import choose_by_address, open_group
from mcproxy.net.listener import Acceptor, print_no_traceback
from mcproxy.net.shared import Cut, OpenSession, Shared
from mcproxy.table import Table

log: Final = logging.getLogger(__name__)

SPARE_TALLIES: Final = 1000  # tallies of routes that are gone, kept until there are as many again as routes
CUT_GRACE: Final = 2.0  # seconds for sessions that were cut to close what they hold
DRAIN_CHECK: Final = 0.05  # seconds between two looks at whether the last session has ended


class Worker:
    """Opens listeners, and keeps track of their sessions."""

    def __init__(self, shared: Shared, inherited: Callable[[str], Sequence[socket]] = lambda _addr: ()) -> None:
        """`inherited` returns the sockets that already listen on an address: several after several workers."""
        self.shared = shared
        print_no_traceback()
        self._inherited = inherited
        self._listeners: dict[str, Sequence[Acceptor]] = {}  # one for each socket

    def __repr__(self) -> str:
        return f"<Worker listeners={len(self._listeners)} sessions={len(self.shared.sessions)}>"

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """The address that each listener has bound, by its configured address, whose port may be 0."""
        return {addr: acceptors[0].socket.getsockname()[:2] for addr, acceptors in self._listeners.items()}

    @property
    def accepting(self) -> set[str]:
        """The configured addresses of the listeners that accept. Any thread may ask."""
        return {addr for addr, acceptors in list(self._listeners.items()) if acceptors[0].started}

    @property
    def descriptors(self) -> list[tuple[str, int]]:
        """The configured address and the descriptor of each socket of each listener."""
        return [(addr, each.socket.fileno()) for addr, acceptors in self._listeners.items() for each in acceptors]

    def bind(self, addr: str) -> None:
        """Take an address without accepting yet. Raises OSError if it can't be had."""
        if addr in self._listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        sockets = self._inherited(addr) or open_group(addr, 1)
        self._listeners[addr] = [Acceptor(addr, each, self.shared) for each in sockets]
        self._note_ports()

    def start(self, addr: str) -> None:
        """Accept on an address that is bound."""
        acceptors = self._listeners[addr]
        for each in acceptors:
            each.start()
        if len(acceptors) > 1 and self.shared.siblings is None:  # of workers the parent does it, for all of them
            choose_by_address([each.socket for each in acceptors], 1)
        self._say("listening on %s", addr)

    def close(self, addr: str) -> None:
        """Stop listening there; its sessions go on, and those that the kernel has connected already begin.

        Does nothing if no listener has it.
        """
        acceptors = self._listeners.pop(addr, None)
        if acceptors is None:
            return
        if acceptors[0].started:
            for each in acceptors:
                each.accept_waiting()
            self._say("no longer listening on %s", addr)
        for each in reversed(acceptors):  # the first one is where new clients are brought
            each.stop()
        self._note_ports()

    def _say(self, what: str, addr: str) -> None:
        """Log it, unless this is one of several workers: then their parent does, once for all."""
        if self.shared.siblings is None:
            log.info(what, addr)

    def _note_ports(self) -> None:
        self.shared.outgoing.own.ports = frozenset(port for _, port in self.addresses.values())

    def publish(self, table: Table) -> None:
        """Make this the table of every session that begins from now on."""
        self.shared.live.table = table
        stats = self.shared.stats
        if len(stats.routes) > SPARE_TALLIES + 2 * sum(len(listener.routes) for listener in table.listeners.values()):
            stats.forget_routes(table.has_route)

    def limit(self, max_connections: int, max_per_ip: int, rate: float, burst: int) -> None:
        """Apply other limits from now on (see `Limits`). No open session is cut."""
        admitted = (session.facts.packed for session in self.shared.sessions.values() if session.admitted)
        self.shared.limits.change(max_connections, max_per_ip, rate, burst, admitted)

    def sessions(self) -> list[OpenSession]:
        """The open ones."""
        return list(self.shared.sessions.values())

    def stop_listening(self) -> None:
        """Accept nothing more."""
        for addr in list(self._listeners):
            self.close(addr)

    def leave(self) -> None:
        """Accept nothing more. Others have the same sockets: those that the kernel has connected are theirs."""
        for addr in list(self._listeners):
            for each in self._listeners.pop(addr):
                each.stop()
            self._say("no longer listening on %s", addr)

    def drain(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the sessions to end, then cut those that are left. True: none was."""
        deadline = self.shared.sweeper.now() + timeout
        sleep(0)  # sessions that were accepted in this turn of the loop begin
        self.shared.draining = True
        for session in self.sessions():
            if session.carrier is not None:
                session.carrier.drain()
        while self.shared.sessions and self.shared.sweeper.now() < deadline:
            sleep(DRAIN_CHECK)
        left = self.sessions()
        for session in left:
            get_hub().loop.run_callback(session.cut, Cut(End.SHUTDOWN))
        deadline = self.shared.sweeper.now() + CUT_GRACE
        while self.shared.sessions and self.shared.sweeper.now() < deadline:
            sleep(0)
        return not left

    def release(self) -> None:
        """Release the parts once nothing runs."""
        self.shared.sweeper.close()
        self.shared.turns.close()
        self.shared.read_guard.close()
        self.shared.pipes.close()
        self.shared.outgoing.names.close()
        self.shared.crew.close()
        sleep(0)  # lets the resting greenlets exit
