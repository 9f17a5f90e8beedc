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
        "_on",
        "_readable",
        "_reading",
        "_writable",
        "_writing",
        "channel",
        "end_due",
        "event",
        "halted",
        "lag",
        "pending",
    )  # fmt: skip

    __deletable__ = ["_on"]  # noqa: RUF012 - for mypyc

    def __init__(self, channel: Channel, event: Event, on: Callable[[Event], object]) -> None:
        """`on` is called, on the hub, with `event` where there is something to read, and with WRITABLE."""
        self.channel = channel
        io, descriptor = get_hub().loop.io, channel.sock.fileno()
        self._readable: IoWatcher = io(descriptor, READ)
        self._writable: IoWatcher = io(descriptor, WRITE)
        self._reading = self._writing = False
        self._on = on
        self.event = event  # says which side it is
        self.pending = b""  # has been read, and not been taken
        self.end_due = False  # the end has been read, and not been delivered
        self.halted = False  # the turn was over before all was taken
        self.lag = Lag()

    def __repr__(self) -> str:
        return f"<Side {self.event} {self.channel!r} pending={len(self.pending)}>"

    def want(self, read: bool) -> None:
        """Watch for bytes if `read`, and for room if the channel wants it."""
        channel = self.channel
        read = read and not (channel.ended or channel.blocked)
        if read is not self._reading:
            self._reading = read
            self._readable.start(self._on, self.event) if read else self._readable.stop()
        if channel.wants_write is not self._writing:
            self._writing = channel.wants_write
            self._writable.start(self._has_room) if self._writing else self._writable.stop()

    def _has_room(self) -> None:
        self.channel.has_room()
        self._on(Event.WRITABLE)

    def close(self) -> None:
        """Watch no more. The channel's socket is the owner's to close."""
        self._readable.close()
        self._writable.close()
        del self._on  # or the collector would have to find out that nobody needs the two


class ClientSide(Side):
    """The client's side. What waits for it counts in the backlog of the worker."""

    __slots__ = ("_counted", "backlog")

    def __init__(self, channel: Channel, on: Callable[[Event], object], backlog: Backlog) -> None:
        """`on` is as for any side."""
        super().__init__(channel, Event.CLIENT, on)
        self.backlog = backlog
        self._counted = 0  # bytes that count there

    def waits(self, kept: int) -> bool:
        """Whether anything waits for it, here or, `kept` bytes, in the core, or did at the last count."""
        return bool(kept or self.channel.unsent or self._counted)

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
