"""The control plane of a running process: the database, the one writer, the admin API.

`Control` opens the database first of all, because its table is what the data path begins with. Once the listeners have
their addresses it takes the admin API's, then makes the seed durable, and answers last: a start that fails leaves the
database unseeded, so that a corrected file still counts.
"""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

from gevent import sleep

from mcproxy.admin.expiry import Expiry
from mcproxy.admin.plane import ServerState
from mcproxy.admin.server import AdminServer
from mcproxy.admin.service import Service
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.config import Config
from mcproxy.plane import Plane
from mcproxy.store.diff import FileSeed
from mcproxy.store.errors import Conflict
from mcproxy.store.store import Store
from mcproxy.table import Table

STOP_CHECK = 0.01  # seconds between two looks at whether the admin API has stopped


class Control:
    """Store, writer, expiry and admin API of one process."""

    def __init__(self, config: Config) -> None:
        """Open the database; `table` is what it holds, or what `seed` will make it hold. Raises StoreError."""
        self._config = config
        self.store = Store.open(Path(config.database.path))
        try:
            self.table = self.store.load()
            self.file = FileSeed((config.seed_listeners(self.table), config.seed_rules()))
            self._unseeded = self.table.generation == 0 and bool(self.file)
            if self._unseeded:
                self.table = Table.build(*self.file.seed(), 1)
        except BaseException:
            self.store.close()
            raise
        self._open = ExitStack()  # what to close, last one first
        self._open.callback(self.store.close)
        self._plane: Plane | None = None
        self._server: AdminServer | None = None
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<Control {self.store} {self._server}>"

    def prepare(self, plane: Plane) -> None:
        """Take the admin API's address, if there is one, and answer nobody yet. Raises AdminError."""
        self._plane = plane
        self._writer = Writer(self.store, self.table, plane)
        if self._config.grpc is not None:
            watchers = Watchers(plane)
            with ExitStack() as failed:
                failed.callback(watchers.close)
                self._server = AdminServer(self._config.grpc, Service(self._writer, plane, watchers, self.file))
                failed.pop_all()
            self._open.callback(self._server.close)  # which closes the watchers

    def seed(self) -> None:
        """Make the seed durable, where the database has never been written to. Raises StoreError."""
        if self._unseeded and not self.store.seed(*self.file.seed(), time.time()):
            raise Conflict(f"database {self.store.path}: another process has seeded it meanwhile; start again")

    def open(self) -> None:
        """Begin to change what the data plane does: rules end when they are due, and the admin API answers."""
        assert self._writer is not None, "prepare comes first"
        self._open.callback(Expiry(self._writer).close)
        if self._server is not None:
            self._server.open()

    def take(self, config: Config) -> None:
        """Learn that the file was read again: what it says against the database, and the admin API's certificates.

        Raises AdminError; the certificates stay then.
        """
        table = self._writer.table if self._writer is not None else self.table
        self.file.read((config.seed_listeners(table), config.seed_rules()))
        if self._server is not None and config.grpc is not None:
            self._server.reload(config.grpc)

    def drain(self) -> None:
        """Tell whoever asks that no more connections are taken."""
        if self._plane is not None:
            self._plane.state = ServerState.DRAINING
        if self._server is not None:
            self._server.drain()

    def close(self) -> None:
        """End everything, from the hub's thread, which goes on meanwhile: calls that wait for it get their answer."""
        closing = threading.Thread(target=self.close_at_once, name="control-close")
        closing.start()
        while closing.is_alive():
            sleep(STOP_CHECK)

    def close_at_once(self) -> None:
        """End everything, stopping the thread that this runs in until it is done."""
        self._open.close()
