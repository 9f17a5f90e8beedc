"""The clerk: the life of a worker process, between its channel to the parent and its data path.

The main thread has the hub. A native thread, the clerk proper, reads the channel and has the desk answer, in its own
thread or through the hub's door as in one process. What takes long (a look at a backend, reading files, a drain) is
answered from a thread of its own, so that the rest doesn't wait. What the hub reports, beats and events, goes through a
queue to a thread that sends it: the hub never waits for the channel.
"""

import faulthandler
import itertools
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gevent.hub import Waiter, get_hub

from mcproxy import log as log_lines
from mcproxy.change import Change, next_table
from mcproxy.datapath import DataPath
from mcproxy.desk import ByDoor
from mcproxy.geoip import Copy, GeoIP
from mcproxy.ledger import KeptStats
from mcproxy.log import Sink
from mcproxy.messages import (
    BindListener,
    ConnectionEvent,
    Drain,
    LookAt,
    Publish,
    ReadFiles,
    Request,
    Reserve,
    Settings,
)
from mcproxy.model import IDS_APART
from mcproxy.table import Table
from mcproxy.tuning import raise_descriptor_limit, tune
from mcproxy.workers.common import joined
from mcproxy.workers.letters import ChannelClosed, Letters

BEAT = 0.5  # seconds between two beats
# Elements of a list that travel at once. Pickling holds the interpreter, and the hub waits for it: 0.3 ms for the
# counters of so many routes.
PART = 64
MAX_EVENTS = 10_000  # that wait to be sent; more are dropped, as for a watcher that reads too slowly

_LONG = (LookAt, ReadFiles, Reserve, Drain)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first letter to a worker: everything that it needs but its sockets."""

    table: Table
    settings: Settings
    log_level: str
    geoip: str  # the path of the GeoIP database, whose copy comes with the letter; "" without one
    serial: int  # of its first connection
    drain: float  # seconds that it drains if its parent dies
    descriptors: int  # that come first, of common.py; then one of a GeoIP database, if there is one


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, under a number of the parent's."""

    number: int
    request: Request[Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """Its answer, or what was raised."""

    number: int
    answer: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The next elements of a list that is answered. The last ones come with Answered."""

    number: int
    elements: list[Any]


@dataclass(frozen=True, slots=True)
class Follow(Request[None]):
    """The changes of one generation. Answered when they are in force."""

    generation: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class BindAt(Request[None]):
    """BindListener, with the row of the listener's counts, and its sockets as descriptors."""

    addr: str
    row: int


@dataclass(frozen=True, slots=True)
class Beat:
    """The hub turns."""

    connections: int  # open
    serial: int  # that the next connection gets, at least


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker can be asked. Its first letter."""


def run(number: int, channel: int, log_pipe: int, errors: int) -> int:
    """A worker's whole life. Returns its exit status: 0 if its parent ended it, or it drained clean without one."""
    os.dup2(errors, 2)
    os.close(errors)
    faulthandler.enable(all_threads=True)  # SIGABRT, of a hub that is stuck, leaves a traceback
    raise_descriptor_limit()
    letters = Letters(socket.socket(fileno=channel))
    try:
        beginning, descriptors = letters.receive()
    except ChannelClosed:
        return 1
    sink = Sink(log_pipe)
    log_lines.configure(sink, beginning.log_level, beginning.settings.log_format)
    try:
        return Clerk(number, beginning, descriptors, letters, sink).serve()
    except Exception:
        log.exception("bug in worker %d", number)
        return 1
    finally:
        sink.close()


class Clerk:
    """A worker's data path and its channel."""

    def __init__(
        self, number: int, beginning: Beginning, descriptors: Sequence[int], letters: Letters, sink: Sink
    ) -> None:
        """To be made on the hub's thread. `descriptors` came with `beginning`: those of common.py, and a database's."""
        self._number = number
        self._letters = letters
        self._drain = beginning.drain
        self._table = beginning.table
        self._sockets: dict[str, list[socket.socket]] = {}  # that came with a request to bind, and wait to be taken
        self._copies: dict[str, Sequence[int]] = {}  # of GeoIP databases, by path, the same
        self._outgoing: queue.SimpleQueue[object] = queue.SimpleQueue()
        common = joined(number, descriptors[: beginning.descriptors])
        self._rows = common.rows
        self._ids = itertools.count(beginning.serial * IDS_APART + number, IDS_APART)
        geoip = self._open_geoip(beginning.geoip, descriptors[beginning.descriptors :]) if beginning.geoip else None
        self._data = DataPath(
            beginning.table, beginning.settings, geoip, sink.put, self._tell, self._take, lambda: sink.dropped,
            self._ids, lambda path: self._open_geoip(path, self._copies.pop(path, ())), common.siblings,
            KeptStats(common.ledger),
        )  # fmt: skip
        self._courier = ByDoor(self._data.desk, self._data.door)
        self._parent_gone: Waiter[None] = Waiter()

    def __repr__(self) -> str:
        return f"<Clerk {self._number} {self._data}>"

    def serve(self) -> int:
        """Serve until the parent ends the channel, then drain what is left. Returns the exit status."""
        hub = get_hub()
        gone = hub.loop.async_()
        gone.start(self._parent_gone.switch, None)
        self._data.pulse.every(BEAT, self._beat)
        self._data.begin()
        tune()
        threading.Thread(target=self._send, name="sender", daemon=True).start()
        threading.Thread(target=self._read, args=(gone.send,), name="clerk", daemon=True).start()
        self._outgoing.put(Ready())
        self._parent_gone.get()
        gone.close()
        if self._data.worker.shared.sessions:
            log.error("worker %d: the parent has ended: draining for up to %g s", self._number, self._drain)
        clean = self._data.desk.drain(self._drain)
        self._data.close()
        return 0 if clean else 1

    def _take(self, addr: str) -> list[socket.socket]:
        return self._sockets.pop(addr, [])

    def _tell(self, event: ConnectionEvent) -> None:
        if self._outgoing.qsize() < MAX_EVENTS:
            self._outgoing.put(event)

    def _beat(self) -> None:
        connections = len(self._data.worker.shared.sessions)
        self._outgoing.put(Beat(connections, next(self._ids) // IDS_APART))  # one id is skipped

    def _send(self) -> None:
        with suppress(ChannelClosed):
            while True:
                self._letters.send(self._outgoing.get())

    def _read(self, gone: Callable[[], object]) -> None:
        try:
            while True:
                asked, descriptors = self._letters.receive()
                self._take_in(asked.request, descriptors)
                if isinstance(asked.request, _LONG):
                    threading.Thread(target=self._answer, args=(asked,), name="answer", daemon=True).start()
                else:
                    self._answer(asked)
        except ChannelClosed:
            gone()
        except BaseException:
            log.exception("bug in the clerk of worker %d", self._number)
            sys.stderr.flush()
            os._exit(1)

    @staticmethod
    def _open_geoip(path: str, descriptors: Sequence[int]) -> GeoIP:
        """The database that the parent has checked, which closes the descriptor. Raises GeoIPError where none came."""
        copy = Copy(Path(path), descriptors[0] if descriptors else -1)
        try:
            return GeoIP.of(copy)
        finally:
            copy.close()

    def _take_in(self, request: Request[Any], descriptors: list[int]) -> None:
        if isinstance(request, BindAt):
            sockets = self._sockets[request.addr] = [socket.socket(fileno=each) for each in descriptors]
            for each in sockets:
                each.setblocking(False)
        if isinstance(request, ReadFiles) and descriptors:
            self._copies[request.geoip] = descriptors

    def _answer(self, asked: Asked) -> None:
        parts: Iterator[list[Any]] = iter(())
        try:
            answer = self._outcome(asked.request)
            if isinstance(answer, list):
                parts, answer = _parted(answer)
            answered = Answered(asked.number, answer)
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answered = Answered(asked.number, error=error)
        with suppress(ChannelClosed):
            for part in parts:
                self._letters.send(Part(asked.number, part))
            self._letters.send(answered)

    def _outcome(self, request: Request[Any]) -> Any:
        if isinstance(request, BindAt):
            self._rows[request.addr] = request.row
            return self._courier.ask(BindListener(request.addr))
        if isinstance(request, Follow):
            self._table = next_table(self._table, request.changes, request.generation)
            return self._courier.ask(Publish(self._table, request.changes))
        return self._courier.ask(request)


def _parted(elements: list[Any]) -> tuple[Iterator[list[Any]], list[Any]]:
    """A list in parts, and what is left behind them."""
    rest = len(elements) // PART * PART
    return (elements[start : start + PART] for start in range(0, rest, PART)), elements[rest:]
