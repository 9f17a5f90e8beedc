"""Watching connections: each reader has a bounded queue, and a reader that falls behind is dropped, never waited for.

The thread that an event comes from calls a `Watcher`; in one process that is the hub's. It puts the event into a queue
of Python's own C code that never blocks, or, when that is full, marks the watcher as dropped and is done. The reader's
own thread takes batches out. A dropped reader that reads again learns why. If it doesn't, because its thread waits in
gRPC for a client that takes nothing, one thread cancels its call after `GRACE`.
"""

import queue
import threading
from collections.abc import Callable, Iterator

import grpc

from mcproxy.admin.errors import TooMany
from mcproxy.admin.plane import DataPlane
from mcproxy.messages import EVERYTHING, ConnectionEvent

MAX_WATCHERS = 8  # each costs the hub a call for every event
QUEUE = 4_096  # events waiting for one reader: 1.5 MB, or half a second of the fastest flood
EVENTS_AT_ONCE = 256  # events in one message, some 50 kB
GRACE = 2.0  # seconds that a dropped reader has to learn it


class Watcher:
    """One reader's queue; called by the thread that brings an event."""

    __slots__ = ("_events", "_is_wanted", "_late", "context", "dropped", "ended")

    def __init__(
        self,
        context: grpc.ServicerContext,
        late: "queue.SimpleQueue[Watcher | None]",
        is_wanted: Callable[[ConnectionEvent], bool],
    ) -> None:
        """`is_wanted` is asked by that thread, so that a flood of other events fills no queue."""
        self.context = context
        self._is_wanted = is_wanted
        self.dropped = False
        self.ended = threading.Event()
        self._events: queue.SimpleQueue[ConnectionEvent | None] = queue.SimpleQueue()
        self._late = late

    def __repr__(self) -> str:
        return f"<Watcher waiting={self.waiting} dropped={self.dropped}>"

    @property
    def waiting(self) -> int:
        """Events that the reader has not taken yet."""
        return self._events.qsize()

    def __call__(self, event: ConnectionEvent) -> None:
        """Take an event. Never blocks."""
        if self.dropped or not self._is_wanted(event):
            return
        if self._events.qsize() >= QUEUE:
            self.dropped = True
            self._late.put(self)
        else:
            self._events.put(event)

    def end(self) -> None:
        """Make `batches` return."""
        self.ended.set()
        self._events.put(None)

    def batches(self) -> Iterator[list[ConnectionEvent]]:
        """Yield events as they come, until `end`. Raises TooMany if the reader was dropped."""
        while not self.ended.is_set():
            batch = [self._events.get()]
            while len(batch) < EVENTS_AT_ONCE and not self._events.empty():
                batch.append(self._events.get())
            events = [event for event in batch if event is not None]
            if events:
                yield events
            if self.dropped:
                raise TooMany(f"you read too slowly: {QUEUE} events were waiting; watch again")


class Watchers:
    """All readers."""

    def __init__(self, plane: DataPlane, grace: float = GRACE) -> None:
        self._plane = plane
        self._grace = grace
        self._lock = threading.Lock()
        self._open: set[Watcher] = set()
        self._late: queue.SimpleQueue[Watcher | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._cancel_late, name="watch-dropper", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Watchers {len(self)}>"

    def close(self) -> None:
        """End every stream, and the thread."""
        with self._lock:
            for watcher in self._open:
                watcher.end()
        self._late.put(None)
        self._thread.join()

    def watch(
        self, context: grpc.ServicerContext, is_wanted: Callable[[ConnectionEvent], bool] = EVERYTHING.takes_event
    ) -> Iterator[list[ConnectionEvent]]:
        """Batches of events that are wanted, until the call ends. Raises TooMany."""
        watcher = Watcher(context, self._late, is_wanted)
        with self._lock:
            if len(self._open) >= MAX_WATCHERS:
                raise TooMany(f"{MAX_WATCHERS} are watching, which is the limit: end one first")
            self._open.add(watcher)
        try:
            unsubscribe = self._plane.subscribe(watcher)
            try:
                if context.add_callback(watcher.end):
                    yield from watcher.batches()
            finally:
                unsubscribe()
        finally:
            watcher.ended.set()
            with self._lock:
                self._open.discard(watcher)

    def _cancel_late(self) -> None:
        while (watcher := self._late.get()) is not None:
            if not watcher.ended.wait(self._grace):
                watcher.context.cancel()
