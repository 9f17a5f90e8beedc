"""One HTTP/2 client connection on its sockets: a greenlet for each direction around a `Relay`.

The client's greenlet is the caller's; it begins to read at once. The backend's dials, so that a client's first requests
are judged, and those that need no backend answered, before there is one. Each reads, lets the relay judge, and sends
what then waits for either end. A direction whose receiver is slow stays in its `push`, and so doesn't read: that is all
the back-pressure there is, and HTTP/2's own windows keep the two from waiting for each other.

The sweeper asks `overdue` once a second: for the relay's deadlines, the connect time-out, and idleness.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.ends import End, EndGone, Outlet, TlsEnd
from mcproxy.l7.relay import Relay
from mcproxy.model import Reason, Refused
from mcproxy.net.sweep import Sweeper

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at the relay's deadlines
LINGER = 1.0  # seconds for the client to end after our last word: a close with unread bytes would be a RST that eats it


class _Abandoned(Exception):
    """The client went while its backend was being dialled."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations, in seconds."""

    connect: float
    idle: float


class Http2Session:
    """The sockets around one relay."""

    def __init__(
        self,
        client: TlsEnd,
        relay: Relay,
        dial: Callable[[], End],
        sweeper: Sweeper,
        limits: Limits,
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        """`dial` returns an end on which HTTP/2 can begin, or raises Refused or EndGone; `spawn` runs a greenlet."""
        self._client = client
        self._relay = relay
        self._dial = dial
        self._sweeper = sweeper
        self._limits = limits
        self._spawn = spawn
        self._backend: End | None = None
        self._to_client = Outlet(client, relay.pair.to_client, relay.take_for_client)
        self._to_backend: Outlet | None = None
        self._dialling: greenlet | None = None  # the backend's direction, while it can be thrown at
        self._over = False
        self._choked = False  # the backend's direction waits for `_held`
        self._held = Event()
        self._backend_over = Event()
        self._started = sweeper.now()
        self._moved = 0
        self._quiet_since = self._started
        self._lingering_since = 0.0
        self.deadline = 0.0  # for the sweeper
        self.slot = 0

    def __repr__(self) -> str:
        return f"<Http2Session {self._relay!r} client={self._client!r} backend={self._backend!r}>"

    def run(self) -> None:
        """Relay until the connection is over. Both sockets are closed then."""
        self._sweeper.arm(self, TICK)
        self._spawn(self._from_backend)
        try:
            self._from_client()
        except EndGone:
            pass  # the relay is told below
        finally:
            self._over = True
            self._sweeper.disarm(self)
            self._relay.client_closed(time.monotonic())
            self._end()

    def drain(self) -> None:
        """Finish what is under way, and end."""
        self._relay.drain(time.monotonic())
        self._spawn(self._flush_quietly)

    def cut(self) -> None:
        """End now."""
        self._client.shut()

    # The two directions

    def _from_client(self) -> None:
        client, relay = self._client, self._relay
        clock = time.monotonic
        while not relay.closing:
            data = client.read()
            if not data:
                return
            relay.receive_from_client(data, clock())
            self._flush(upward=True)
        self._last_word()
        while client.read():  # until it has ended too; nobody needs what still comes
            pass

    def _from_backend(self) -> None:
        relay = self._relay
        clock = time.monotonic
        try:
            backend = self._connect()
            while backend is not None and not relay.closing:
                if relay.pair.held_bytes and relay.choked_by_client:
                    self._choked = True
                    self._held.clear()
                    self._held.wait()
                    continue
                data = self._read(backend)
                if not data:
                    break
                relay.receive_from_backend(data, clock())
                self._flush(upward=False)
        except EndGone:
            self._client.shut()  # it has gone, and its own direction has to notice
        except Exception:
            log.exception("bug in %r", self)
            self._client.shut()
        finally:
            self._backend_over.set()
        if not self._over:
            relay.backend_closed(clock())
            self._flush_quietly()

    @staticmethod
    def _read(backend: End) -> bytes:
        try:
            return backend.read()
        except EndGone:
            return b""  # to the relay, one end is like another: it knows what is incomplete

    def _connect(self) -> End | None:
        if self._over:
            return None
        self._dialling = getcurrent()
        status, why = 502, ""
        try:
            self._backend = self._dial()
        except Refused as refusal:
            status, why = (504 if refusal.reason is Reason.BACKEND_TIMEOUT else 502), str(refusal)
        except (EndGone, _Abandoned) as gone:
            why = str(gone)
        finally:
            self._dialling = None
        if self._backend is None:
            self._relay.backend_failed(status, why, time.monotonic())
        else:
            self._to_backend = Outlet(self._backend, self._relay.pair.to_backend, self._relay.take_for_backend)
        self._flush(upward=False)
        return self._backend

    # Sending

    def _flush(self, upward: bool) -> None:
        """Send what waits for either end; the bulk is in the direction `upward`, or not.

        Raises EndGone where the client has gone.
        """
        pair = self._relay.pair
        if self._to_backend is not None and pair.to_backend:
            try:
                self._to_backend.flush(upward)
            except EndGone:
                self._to_backend.end.shut()  # its direction reads what it said before (GOAWAY, perhaps), then its end
                pair.to_backend.clear()
        if pair.to_client:
            self._to_client.flush(not upward)
        if self._choked and not self._relay.choked_by_client:
            self._choked = False
            self._held.set()
        if pair.closing and not self._to_client.busy:
            self._last_word()

    def _flush_quietly(self) -> None:
        with contextlib.suppress(EndGone):
            self._flush(upward=False)

    def _last_word(self) -> None:
        """The relay is over, and has said so: now the client has LINGER to end."""
        if not self._lingering_since:
            self._lingering_since = self._sweeper.now()
            self._client.finish()

    # The sweeper

    def overdue(self, now: float) -> float | None:
        """Look at what may not take for ever; never late by more than TICK."""
        relay = self._relay
        if self._lingering_since:
            if now - self._lingering_since >= LINGER:
                self._client.shut()
                return None
            return now + TICK
        relay.tick(now)
        if now - self._started >= self._limits.connect:
            self._give_up_dialling(Refused(Reason.BACKEND_TIMEOUT, "no connection in time"))
        if self._client.moved != self._moved:
            self._moved, self._quiet_since = self._client.moved, now
        elif now - self._quiet_since >= self._limits.idle:
            relay.client_closed(now)
        if relay.pair.to_client or relay.pair.to_backend or relay.closing:
            self._spawn(self._flush_quietly)
        return now + TICK

    def _give_up_dialling(self, why: Exception) -> None:
        if self._dialling is not None:
            self._dialling.throw(why)

    def _end(self) -> None:
        """Close both ends, once the other direction is done with them."""
        self._held.set()
        self._client.shut()
        if self._backend is not None:
            self._backend.shut()
        get_hub().loop.run_callback(self._give_up_dialling, _Abandoned())
        self._backend_over.wait()
        if self._backend is not None:
            self._backend.close()
        self._client.close()
