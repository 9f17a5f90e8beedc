"""The way to a session's backend: none, a dial under way, or a connection."""

from collections.abc import Callable

from mcproxy.l7.sockets.channel import Lost
from mcproxy.l7.sockets.dialling import Dial, Dialling
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.model import Reason, Refused
from mcproxy.net.crew import Crew


class BackendLink:
    """One connection to the backend at a time, from its dial to its close."""

    __slots__ = ("_crew", "_dial", "dialling", "side")

    def __init__(self, dial: Dial, crew: Crew) -> None:
        self._dial = dial
        self._crew = crew
        self.dialling: Dialling | None = None
        self.side: Side | None = None

    def __repr__(self) -> str:
        return f"<BackendLink {self.dialling or self.side}>"

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        if self.side is not None:
            return self.side.channel.unsent
        return self.dialling.unsent if self.dialling is not None else 0

    def connect(self, first: bytes, deadline: float, over: Callable[[], object]) -> None:
        """Dial, and send `first` as soon as that is possible. There must be no connection, and no dial.

        `deadline` is on the sweeper's clock; `over` is called on the hub once there is a result.
        """
        self.dialling = Dialling(self._dial, first, deadline, over)
        self.dialling.start(self._crew)

    def send(self, data: bytes) -> None:
        """Send, or queue for the dial that is under way. A channel that broke may still have something to read."""
        if self.dialling is not None:
            self.dialling.put(data)
        elif self.side is not None:
            self.side.channel.send(data)

    def dialled(self, on: Callable[[Event], object]) -> tuple[int, str] | None:
        """Use the result of the dial, if there is one. Returns the status and the reason of a failure to connect.

        `on` is for the new `Side`. The status, 502 or 504, is for requests that wait for the connection. Raises any
        other failure.
        """
        dialling = self.dialling
        if dialling is None:
            return None
        failure = dialling.failure
        if dialling.channel is not None:
            self.dialling = None
            self.side = Side(dialling.channel, Event.BACKEND, on)
            dialling.channel.put(b"".join(dialling.waiting))
        elif isinstance(failure, Refused | Lost):
            self.dialling = None
            timed_out = isinstance(failure, Refused) and failure.reason is Reason.BACKEND_TIMEOUT
            return 504 if timed_out else 502, str(failure)
        elif failure is not None:
            raise failure
        return None

    def give_up_late(self, now: float, limit: float) -> None:
        """Give up a dial whose deadline has come; `limit` seconds is what it had."""
        dialling = self.dialling
        if dialling is not None and now >= dialling.deadline:
            dialling.fail(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {limit:g} s"))

    def until_deadline(self, now: float, usual: float) -> float:
        """Seconds until the dial is late, if there is one and that is sooner than `usual`; else `usual`."""
        dialling = self.dialling
        return min(usual, dialling.deadline - now) if dialling is not None and dialling.deadline > now else usual

    def drop(self, last: Callable[[], bytes] | None = None) -> None:
        """Close the connection, or give the dial up. `last` returns bytes to send before; None: send nothing more."""
        side, self.side = self.side, None
        dialling, self.dialling = self.dialling, None
        if dialling is not None:
            dialling.abandon()
        if side is not None:
            if last is not None:
                side.channel.put(last())
                side.channel.flush()
            side.close()
            side.channel.end()
            side.channel.close()
