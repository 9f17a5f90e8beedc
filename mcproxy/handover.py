"""A server's two ends of a takeover (takeover/): how it finds the one that runs, and how it is succeeded itself.

`Beginning` is a start: it finds the server that runs, has everything slow done, and only then asks. `Handover` is what
a running server gives up: its control plane first, which it can take up again, and its data path last.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import gevent

from mcproxy.configuration import Config
from mcproxy.control import NOTHING, Before, Control
from mcproxy.notify import Inherited, Notifier
from mcproxy.reload import keys
from mcproxy.store.errors import StoreError
from mcproxy.store.store import read_table
from mcproxy.table import Table
from mcproxy.takeover.letters import wait
from mcproxy.takeover.predecessor import Estate, Predecessor, Released, Withheld
from mcproxy.takeover.program import installed
from mcproxy.takeover.renewal import Edition
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity, Successor, TakeoverError

# Seconds for calls that are under way, and for a fleet's database that doesn't answer: 12 s, or 5 s for each host that
# a node is connecting to. The new server waits for 40 s.
RELEASE_LIMIT = 30.0

log = logging.getLogger(__name__)


class Running(Protocol):
    """A running server, as its handover needs it. All but `accept_no_more` is called in native threads."""

    control: Control
    notifier: Notifier

    @property
    def sockets(self) -> Sequence[tuple[str, int]]:
        """Every listening socket of the data path: the listener's configured address, and a descriptor.

        The address is "" where the socket is inherited from the service manager.
        """

    @property
    def table(self) -> Table:
        """The table that is in force."""

    def reopen_control(self) -> None:
        """Open the database, the admin API and all that changes them again. Raises StoreError, AdminError."""

    def accept_no_more(self) -> None:
        """Give the listening sockets up, which the successor has too."""


class Handover(Estate):
    """Gives a running server up."""

    def __init__(self, running: Running, left: Callable[[int], None]) -> None:
        """`left` is called in the end, with the successor's process: the server is to drain and end."""
        self._running = running
        self._left = left
        self._closing: threading.Thread | None = None  # ends the control plane

    def __repr__(self) -> str:
        return f"<Handover {self._running}>"

    def release(self) -> Released:
        """End the control plane, and close the database. Raises Withheld if that takes too long."""
        self._closing = threading.Thread(target=self._running.control.release, name="control-release", daemon=True)
        self._closing.start()
        self._closing.join(RELEASE_LIMIT)
        if self._closing.is_alive():
            raise Withheld(f"the admin API or the database has not ended in {RELEASE_LIMIT:g} s")
        notifier = self._running.notifier
        return Released(self._running.sockets, self._running.table.generation, notifier.address, notifier.watchdog)

    def resume(self) -> None:
        """Open the control plane again, once it has ended. Raises StoreError, AdminError and TimeoutError."""
        if self._closing is None:
            return
        self._closing.join(RELEASE_LIMIT)
        if self._closing.is_alive():
            raise TimeoutError("the admin API or the database still has not ended")
        self._running.reopen_control()
        self._closing = None

    def leave(self, successor: int, *, managed: bool) -> None:
        """Stop accepting, and have the server drain and end."""
        notifier = self._running.notifier
        if managed:  # it reports to its own manager, and ours sees that we end
            notifier.stopping()
            notifier.close()
        else:
            notifier.succeeded_by(successor)
        try:
            self._running.accept_no_more()
        except TimeoutError:
            log.warning("the hub is too busy to stop accepting at once")
        self._left(successor)


class Beginning:
    """The start of a server beside one that may run. `close` at its end, whatever came of it."""

    def __init__(self, config: Config, path: Path) -> None:
        """`config` was read from `path`. Raises TakeoverError."""
        self._database = config.database.file
        self._node = config.node.shown if config.database.url is not None else ""
        self._path = path
        self._seat = Seat(self._database)
        self._edition = Edition(installed(), keys.fixed(config))
        self._successor = Successor.find(self._seat)
        self._predecessor: Predecessor | None = None  # ourselves, once we run
        self._before: int | None = None  # a descriptor of the old server's process, once it drains

    def __repr__(self) -> str:
        return f"<Beginning {self._seat} {self._successor}>"

    def ask(self, inherited: Inherited, notifier: Notifier) -> tuple[Before, Notifier]:
        """Take the place of the server that runs, once all that is slow is done: open nothing of the database before.

        Its sockets go to `inherited`. Returns what it leaves of the database, and the notifier to use. Raises
        TakeoverError and StoreError.
        """
        found = self._successor
        if found is None:
            return NOTHING, notifier
        before = Before(None if self._node else _known(self._database), is_another=True)
        if not found.ask(self._identity(), managed=bool(notifier.address)):
            log.warning("the server that ran has died; starting without it")
            self._successor = None
            found.close()
            return before, notifier
        for addr, sock in found.take():
            inherited.give(addr, sock)
        if found.notify and not notifier.address:
            notifier = Notifier(found.notify, found.watchdog)
        return before, notifier

    def ready(self, table: Table) -> None:
        """Everything is open, and `table` was loaded: take over. Raises TakeoverError; then nothing may go on."""
        found = self._successor
        if found is None:
            return
        if table.generation < found.generation:
            raise TakeoverError(
                f"the database is at generation {table.generation}, the server that runs at {found.generation}"
            )
        found.ready()

    def serving(self) -> None:
        """Connections are accepted: let the old server go. To be called on the hub."""
        if self._successor is not None:
            with suppress(ProcessLookupError):
                self._before = os.pidfd_open(self._successor.pid)
            self._successor.serving(gevent.sleep)
            log.info("took over from process %d", self._successor.pid)

    def drains_beside(self) -> bool:
        """Whether the old server still drains."""
        return self._before is not None and not wait(0.0, self._before)

    def listen(self, estate: Estate) -> None:
        """Listen for a successor of our own; a warning, if that can't be."""
        try:
            listening = self._successor.take_listening() if self._successor is not None else None
            if listening is None:
                listening = self._seat.listen()
            else:
                self._seat.adopt()
        except OSError as error:
            log.warning("no mcproxy can take over from this one, only restart it: %s: %s", self._seat.path, error)
            return
        self._predecessor = Predecessor(self._seat, listening, self._identity(), estate)
        self._predecessor.start()

    def close(self) -> None:
        """Let go of the old server."""
        if self._successor is not None:
            self._successor.close()

    def _identity(self) -> Identity:
        return Identity.of(self._path, self._database, self._edition, self._node)

    def end(self) -> None:
        """Let nobody take over from now on."""
        if self._predecessor is not None:
            self._predecessor.close()


def _known(database: Path) -> Table | None:
    """The database's table, before it is ours; None: it is loaded when it is."""
    try:
        return read_table(database)
    except StoreError as error:  # of another schema, perhaps: the start that follows says what is wrong
        log.debug("%s", error)
        return None
