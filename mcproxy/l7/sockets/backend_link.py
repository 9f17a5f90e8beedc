"""The way to a session's backend: none, a dial under way, or a connection.

The core was chosen by what the backend was found to speak. If the first dial finds something else (`OtherVersion`), or
the first bytes that come do, the session begins again with another core, which gets all that the client has sent: until
then that is kept here. What was sent to the backend was HTTP/2, and a server of HTTP/1.1 understands nothing of it, so
no request has had an effect (RFC 9113, section 3.4).
"""

from collections.abc import Callable, Sequence
from typing import Final

from mcproxy.l7.sockets.channel import Channel, Lost, TLSChannel
from mcproxy.l7.sockets.dialling import Dial, Dialling
from mcproxy.l7.sockets.pooled import H2
from mcproxy.l7.sockets.probe import judge
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.model import Reason, Refused
from mcproxy.net.crew import Crew
from mcproxy.wire.http2 import Piece

# Bytes of a client that are kept; a backend says what it speaks before a client sends as many.
MAX_KEPT: Final = 262_144


Contradicted = Callable[[bytes], object]  # is given the first bytes that a backend says; b"": it has ended


class OtherVersion(Exception):
    """A backend has agreed on another version of HTTP than was found; it was sent nothing."""


class BeginAgain(Exception):
    """The session is to begin again with another core."""

    def __init__(self, kept: bytes) -> None:
        super().__init__(f"{len(kept)} bytes")
        self.kept = kept  # all that the client has sent


class BackendLink:
    """One connection to the backend at a time, from its dial to its close."""

    __slots__ = ("_contradicted", "_crew", "_dial", "dialling", "kept", "side")

    def __init__(self, dial: Dial, crew: Crew, contradicted: Contradicted | None = None) -> None:
        """`contradicted` is called where a backend does not begin with HTTP/2; None: it is certain that it does."""
        self._dial = dial
        self._crew = crew
        self._contradicted = contradicted
        self.dialling: Dialling | None = None
        self.side: Side | None = None
        # What the client has sent; None: it is no longer needed.
        self.kept: list[bytes] | None = None if contradicted is None else []

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

    def send(self, pieces: Sequence[Piece]) -> None:
        """Send, or queue for the dial that is under way. A channel that broke may still have something to read."""
        if self.dialling is not None:
            self.dialling.put(b"".join(pieces))
        elif self.side is not None and (pieces or self.side.channel.unsent):
            self.side.channel.send_all(pieces)

    def follow(self, side: Side, data: bytes, client: Channel) -> None:
        """Something was read, or has ended, while what the client sends is kept.

        Raises BeginAgain where it is the backend's, which does not begin with HTTP/2, and the client was sent nothing.
        """
        assert self.kept is not None
        if side is not self.side:
            self.kept.append(data)
            if sum(map(len, self.kept)) > MAX_KEPT:
                self.kept = None
            return
        kept, self.kept = self.kept, None
        if judge(data).version == H2:
            return
        assert self._contradicted is not None
        self._contradicted(data)
        if not (client.sent or client.unsent):
            raise BeginAgain(b"".join(kept))

    def dialled(self, on: Callable[[Event], object], may_begin_again: bool) -> tuple[int, str] | None:
        """Use the result of the dial, if there is one. Returns the status and the reason of a failure to connect.

        `on` is for the new `Side`. The status, 502 or 504, is for requests that wait for the connection. Raises
        BeginAgain where the backend speaks another version and `may_begin_again`, and any other failure.
        """
        dialling = self.dialling
        if dialling is None:
            return None
        failure = dialling.failure
        if dialling.channel is not None:
            self.dialling = None
            if isinstance(dialling.channel, TLSChannel):
                self.kept = None  # ALPN has said what is spoken
            self.side = Side(dialling.channel, Event.BACKEND, on)
            dialling.channel.put(b"".join(dialling.waiting))
        elif isinstance(failure, Refused | Lost):
            self.dialling = None
            timed_out = isinstance(failure, Refused) and failure.reason is Reason.BACKEND_TIMEOUT
            return 504 if timed_out else 502, str(failure)
        elif isinstance(failure, OtherVersion):
            self.dialling = None
            if self.kept is not None and may_begin_again:
                raise BeginAgain(b"".join(self.kept)) from failure
            return 502, str(failure)
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

    def drop(self, last: Callable[[], Sequence[Piece]] | None = None) -> None:
        """Close the connection, or give the dial up. `last` returns bytes to send before; None: send nothing more."""
        side, self.side = self.side, None
        dialling, self.dialling = self.dialling, None
        if dialling is not None:
            dialling.abandon()
        if side is not None:
            if last is not None:
                side.channel.send_all(last())
            side.close()
            side.channel.end()
            side.channel.close()
