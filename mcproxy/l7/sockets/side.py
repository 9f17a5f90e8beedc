"""One side of an l7 session: its channel, the watchers that say when it can go on, and what was read and not taken."""

from collections.abc import Callable
from enum import StrEnum

from gevent.hub import get_hub

from mcproxy.l7.bounds import MAX_UNSENT
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.lag import Lag
from mcproxy.net.backlog import Backlog
from mcproxy.net.raw import READ, WRITE, IoWatcher


class Event(StrEnum):
    """What has happened to a session."""

    CLIENT = "client"  # it can be read
    BACKEND = "backend"
    WRITABLE = "writable"  # either
    WOKEN = "woken"  # by the sweeper, the end of a dial, or to drain
    TURN = "turn"  # to do something long


class Side:
    """A channel with its watchers, which are started and stopped as wanted."""

    __slots__ = (
        "_lag",
        "_on",
        "_readable",
        "_writable",
        "_writing",
        "channel",
        "end_due",
        "event",
        "halted",
        "pending",
        "reads",
    )  # fmt: skip

    __deletable__ = ["_on"]  # noqa: RUF012 - for mypyc

    def __init__(
        self, channel: Channel, event: Event, on: Callable[[Event], object], readable: IoWatcher | None = None
    ) -> None:
        """`on` is called, on the hub, with `event` where there is something to read, and with WRITABLE.

        `readable` is a watcher of the socket, if there is one; a new one costs two system calls.
        """
        self.channel = channel
        self._readable: IoWatcher = self._watcher(READ) if readable is None else readable
        self._writable: IoWatcher | None = None  # made where it is needed, which is seldom
        self.reads = False  # it is watched for bytes
        self._writing = False
        self._on = on
        self.event = event  # says which side it is
        self.pending = b""  # has been read, and not been taken
        self.end_due = False  # the end has been read, and not been delivered
        self.halted = False  # the turn was over before all was taken
        self._lag: Lag | None = None  # made at the first look

    def __repr__(self) -> str:
        return f"<Side {self.event} {self.channel!r} pending={len(self.pending)}>"

    def want(self, read: bool) -> None:
        """Watch for bytes if `read`, and for room if the channel wants it."""
        channel = self.channel
        read = read and not (channel.ended or channel.blocked)
        if read is not self.reads:
            self.reads = read
            self._readable.start(self._on, self.event) if read else self._readable.stop()
        if channel.wants_write is not self._writing:
            self._writing = channel.wants_write
            self._await_room()

    def lags(self, limit: float, now: float) -> bool:
        """Whether the peer lags, as far as that is looked at now (lag.py)."""
        if self._lag is None:
            self._lag = Lag()
        return self._lag.look(self.channel, limit, now)

    def _watcher(self, events: int) -> IoWatcher:
        made: IoWatcher = get_hub().loop.io(self.channel.sock.fileno(), events)
        return made

    def _await_room(self) -> None:
        """Watch for room if that is wanted."""
        if self._writable is None:
            self._writable = self._watcher(WRITE)
        self._writable.start(self._has_room) if self._writing else self._writable.stop()

    def _has_room(self) -> None:
        self.channel.has_room()
        self._on(Event.WRITABLE)

    def close(self) -> None:
        """Watch no more. The channel's socket is the owner's to close, and so is a watcher that was there."""
        self._readable.stop()
        if self._writable is not None:
            self._writable.close()
        del self._on  # or the collector would have to find out that nobody needs the two


class ClientSide(Side):
    """The client's side. What waits for it counts in the backlog of the worker."""

    __slots__ = ("_counted", "backlog")

    def __init__(
        self, channel: Channel, on: Callable[[Event], object], backlog: Backlog, readable: IoWatcher | None = None
    ) -> None:
        """`on` and `readable` are as for any side."""
        super().__init__(channel, Event.CLIENT, on, readable)
        self.backlog = backlog
        self._counted = 0  # bytes that count there

    def waits(self, kept: int) -> bool:
        """Whether anything waits for it, here or, `kept` bytes, in the core, or did at the last count."""
        return bool(kept or self.channel.unsent or self._counted)

    @property
    def has_all(self) -> bool:
        """Whether nothing waits for it, here or at the last count in the core."""
        return not (self.channel.unsent or self._counted)

    def takes_more(self, kept: int) -> bool:
        """Count what waits for it, here and, `kept` bytes, in the core. Whether to read the backend."""
        unsent = self.channel.unsent
        waiting = unsent + kept
        if waiting != self._counted:
            self.backlog.waiting += waiting - self._counted
            self._counted = waiting
        return not waiting or (unsent <= MAX_UNSENT and not self.backlog.is_full)

    def close(self) -> None:
        """Watch no more, and count nothing."""
        self.backlog.waiting -= self._counted
        self._counted = 0
        super().close()
