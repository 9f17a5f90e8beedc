"""One l7 session on its sockets: a single greenlet that reads both sides, lets a core judge, and sends what waits.

A core is HTTP without sockets (`Core`: the relay of relay.py, the bridge of http1.py). The greenlet waits for all that
its core wants at once: four watchers switch straight to it, each saying what it is, and whatever happened is handled
before it waits again. So there is nothing to lock and nobody to wake, and an answer to the client never waits behind a
body for the backend.

Back-pressure: a side is read only while what waits for the other is below MAX_UNSENT, and what waits for itself below
MAX_OWED: its own frames make us answer (PING, SETTINGS, 421), and it might never read that.

A backend is dialled when the core asks for one, with the core's first bytes on their way at once. That takes a second
greenlet for as long as it lasts (dialling.py), so that the client is read and answered meanwhile: a request for another
host, a PING, a cancellation, the end.

The end: what is left is sent, then close_notify and FIN, and then the client has LINGER seconds to end as well, for a
close with unread bytes is a RST that would destroy an answer on its way (RFC 9112, section 9.6). An answer that broke
off ends with a RST instead, as soon as what came of it has been delivered.

An idle session is drained first, so that a client whose next request is on its way at that moment loses nothing (RFC
9113, section 9.1), and cut if that is of no use either.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from gevent import sleep
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.dialling import Dial, Dialling
from mcproxy.l7.tls import Lost, Stream
from mcproxy.model import End, Reason, Refused
from mcproxy.net.raw import READ, WRITE, IoWatcher
from mcproxy.net.session import Cut, Session

MAX_UNSENT = 262_144  # bytes that wait for a side before the other one is not read: two reads and their overhead
MAX_OWED = 2 * MAX_UNSENT  # bytes that wait for a side before it is not read itself; more than the other's bulk makes
TICK = 1.0  # seconds between two looks at the core's deadlines
HURRY = 0.1  # the same, while the core is in a hurry
FAREWELL = 5.0  # seconds without a byte for a session that was idle and has been asked to end; a drain takes two
LINGER = 2.0  # seconds for the client to end after us: a few round trips to anywhere
FLUSH_CHECK = 0.005  # seconds between two looks at what the client has not acknowledged yet


class Core(Protocol):
    """HTTP between a client and a backend, without sockets. Times are seconds of one monotonic clock."""

    wants_dial: bool  # a new backend connection, in place of the one that there is
    failed: bool  # with `closing`: by a RST
    fault: str  # what went wrong, for the log

    @property
    def closing(self) -> bool:
        """Send what waits for the client, and end."""

    @property
    def wants_client(self) -> bool:
        """Whether to read the client."""

    @property
    def wants_backend(self) -> bool:
        """Whether to read the backend."""

    @property
    def has_backend(self) -> bool:
        """Whether the backend's connection is to be kept."""

    @property
    def hurried(self) -> bool:
        """Whether to tick sooner."""

    def receive_from_client(self, data: bytes, now: float) -> None: ...  # noqa: D102 - as their names say
    def client_closed(self, now: float) -> None: ...  # noqa: D102
    def client_lost(self, now: float) -> None: ...  # noqa: D102
    def receive_from_backend(self, data: bytes, now: float) -> None: ...  # noqa: D102
    def backend_closed(self, now: float) -> None: ...  # noqa: D102
    def backend_failed(self, status: int, why: str, now: float) -> None: ...  # noqa: D102
    def tick(self, now: float) -> None: ...  # noqa: D102
    def drain(self, now: float) -> None: ...  # noqa: D102
    def take_for_client(self) -> bytes: ...  # noqa: D102
    def take_for_backend(self) -> bytes: ...  # noqa: D102


class Event(StrEnum):
    """Why the greenlet runs."""

    CLIENT = "client"  # it can be read
    BACKEND = "backend"
    WRITABLE = "writable"  # either
    WOKEN = "woken"  # by the sweeper, the end of a dial, or to drain


class State(StrEnum):
    """What the session waits for; decides what its deadline means."""

    OPEN = "open"
    LINGERING = "lingering"


class _Watch:
    """A watcher that is started and stopped as wanted."""

    __slots__ = ("_active", "_event", "_io", "_switch")

    def __init__(self, stream: Stream, kind: int, event: Event, switch: Callable[[Event], object]) -> None:
        self._io: IoWatcher = get_hub().loop.io(stream.sock.fileno(), kind)
        self._event = event
        self._switch = switch
        self._active = False

    def want(self, wanted: bool) -> None:
        if wanted is not self._active:
            self._active = wanted
            if wanted:
                self._io.start(self._switch, self._event)
            else:
                self._io.stop()

    def close(self) -> None:
        self._io.close()


class _Side:
    """A stream with its watchers."""

    __slots__ = ("readable", "stream", "writable")

    def __init__(self, stream: Stream, event: Event, switch: Callable[[Event], object]) -> None:
        self.stream = stream
        self.readable = _Watch(stream, READ, event, switch)
        self.writable = _Watch(stream, WRITE, Event.WRITABLE, switch)

    def want(self, read: bool) -> None:
        self.readable.want(read and not self.stream.ended)
        self.writable.want(self.stream.wants_write)

    def close(self) -> None:
        self.readable.close()
        self.writable.close()


class Drive:
    """Runs a core on a session's sockets; to be made in the session's greenlet. It is the session's carrier."""

    def __init__(self, session: Session, client: Stream, core: Core, dial: Dial) -> None:
        self._session = session
        self._core = core
        self._dial = dial
        self._greenlet: greenlet = getcurrent()
        self._client = _Side(client, Event.CLIENT, self._greenlet.switch)
        self._backend: _Side | None = None
        self._dialling: Dialling | None = None
        self._waiting = False
        self._state = State.OPEN
        self._hurried = False
        self._moved = -1
        self._quiet_since = 0.0
        self._idle = False  # it was, and is to end

    def __repr__(self) -> str:
        return f"<Drive {self._dialling or self._state} {self._core!r} client={self._client.stream!r}>"

    @property
    def bytes_up(self) -> int:
        """Bytes of HTTP from the client."""
        return self._client.stream.received

    @property
    def bytes_down(self) -> int:
        """Bytes of HTTP to the client."""
        return self._client.stream.sent

    def run(self) -> End:
        """Until the client's connection is over; closing its socket is the session's."""
        core, client = self._core, self._client.stream
        self._tick_later()
        if self._session.shared.draining:
            core.drain(time.monotonic())
        try:
            self._send()
            while not core.closing:
                self._handle(self._wait())
                self._send()
                if core.hurried is not self._hurried:
                    self._hurried = core.hurried
                    self._tick_later()
                if client.lost and not core.closing:
                    core.client_lost(time.monotonic())
            return self._finish()
        finally:
            if not core.closing:  # cut, by the sweeper or an operator: what was under way is over, and has its line
                core.client_lost(time.monotonic())
            self._client.close()
            self._drop_backend()

    # The loop

    def _wait(self) -> Event:
        """Wait for whatever is wanted now."""
        client, backend = self._client, self._backend
        to_client = client.stream.unsent
        to_backend = backend.stream.unsent if backend else self._dialling.unsent if self._dialling else 0
        client.want(self._core.wants_client and to_backend <= MAX_UNSENT and to_client <= MAX_OWED)
        if backend is not None:
            backend.want(self._core.wants_backend and to_client <= MAX_UNSENT and to_backend <= MAX_OWED)
        return self._switch()

    def _switch(self) -> Event:
        self._waiting = True
        try:
            event: Event = get_hub().switch()
        finally:
            self._waiting = False  # the greenlet is another session's next
        return event

    def _handle(self, event: Event) -> None:
        core, client = self._core, self._client.stream
        if self._dialling is not None:
            self._dialled(self._dialling)
        if event is Event.CLIENT:
            if data := client.receive():
                core.receive_from_client(data, time.monotonic())
            if client.lost:
                core.client_lost(time.monotonic())
            elif client.ended:
                core.client_closed(time.monotonic())
        elif event is Event.BACKEND and self._backend is not None:
            backend = self._backend.stream
            if data := backend.receive():
                core.receive_from_backend(data, time.monotonic())
            if backend.ended and not core.wants_dial:
                self._drop_backend()
                core.backend_closed(time.monotonic())

    def _send(self) -> None:
        """Send what waits for either side, over a new backend connection if that is asked for."""
        core = self._core
        client = self._client.stream
        if core.wants_dial and not core.closing:
            self._connect()
        if not core.has_backend:
            self._drop_backend()
        elif self._dialling is not None:
            self._dialling.put(core.take_for_backend())
        elif self._backend is not None:
            backend = self._backend.stream
            backend.put(core.take_for_backend())
            backend.flush()  # one that is broken still has something to read, perhaps, and then its end
        client.put(core.take_for_client())
        client.flush()

    def _connect(self) -> None:
        """Begin to make a new backend connection, in place of the one that there may be."""
        self._drop_backend()
        core, shared = self._core, self._session.shared
        core.wants_dial = False
        deadline = shared.sweeper.now() + shared.timeouts.connect
        self._dialling = Dialling(self._dial, core.take_for_backend(), deadline, self._wake)
        shared.crew.spawn(self._dialling.run)
        self._tick_later()

    def _dialled(self, dialling: Dialling) -> None:
        """Go on with what a dial has led to, if it has. Raises what was no failure to connect."""
        failure = dialling.failure
        if dialling.stream is not None:
            self._dialling = None
            self._backend = _Side(dialling.stream, Event.BACKEND, self._greenlet.switch)
            dialling.stream.put(b"".join(dialling.waiting))
        elif isinstance(failure, Refused | Lost):
            self._dialling = None
            timed_out = isinstance(failure, Refused) and failure.reason is Reason.BACKEND_TIMEOUT
            self._core.backend_failed(504 if timed_out else 502, str(failure), time.monotonic())
        elif failure is not None:
            raise failure

    def _drop_backend(self) -> None:
        """Tell it what the core still has to tell, and close."""
        side, self._backend = self._backend, None
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.abandon()
        if side is not None:
            if self._core.has_backend and not self._core.wants_dial:
                side.stream.put(self._core.take_for_backend())
                side.stream.flush()
            side.close()
            side.stream.end()
            side.stream.close()

    # The end

    def _finish(self) -> End:
        """What is left, then the end, as the core says."""
        core, client = self._core, self._client.stream
        self._session.detail = core.fault
        self._drop_backend()
        while client.wants_write:
            self._wait_for_client(read=False)
            client.flush()
        if client.lost:
            return End.CLIENT_RESET
        if core.failed:
            while client.undelivered:
                sleep(FLUSH_CHECK)
            return End.BACKEND_RESET
        client.end()
        self._linger()
        return End.IDLE_TIMEOUT if self._idle else End.CLOSED

    def _linger(self) -> None:
        client, session = self._client.stream, self._session
        self._state = State.LINGERING
        session.shared.sweeper.arm(session, LINGER)
        while not client.ended and self._state is State.LINGERING:
            if self._wait_for_client(read=True) is Event.CLIENT:
                client.receive()

    def _wait_for_client(self, read: bool) -> Event:
        self._client.want(read)
        return self._switch()

    # The sweeper, draining, the session's end

    def overdue(self, now: float) -> float | None:
        """Look at what may not take for ever."""
        timeouts = self._session.shared.timeouts
        if self._state is State.LINGERING:
            self._state = State.OPEN
            get_hub().loop.run_callback(self._wake)
            return None
        if self._dialling is not None and now >= self._dialling.deadline:
            self._dialling.fail(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {timeouts.connect:g} s"))
        self._core.tick(time.monotonic())
        moved = self._client.stream.received + self._client.stream.sent
        if moved != self._moved:
            self._moved, self._quiet_since = moved, now
        elif not self._idle and now - self._quiet_since >= timeouts.idle:
            self._idle, self._quiet_since = True, now
            self._core.drain(time.monotonic())
        elif self._idle and now - self._quiet_since >= FAREWELL:
            self._session.cut(Cut(End.IDLE_TIMEOUT))
            return None
        get_hub().loop.run_callback(self._wake)  # later: the session may end in it, and must not be armed again then
        return now + self._until_look(now)

    def drain(self) -> None:
        """Finish what is under way, and end."""
        self._core.drain(time.monotonic())
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._waiting:
            self._greenlet.switch(Event.WOKEN)

    def _tick_later(self) -> None:
        sweeper = self._session.shared.sweeper
        sweeper.arm(self._session, self._until_look(sweeper.now()))

    def _until_look(self, now: float) -> float:
        """Seconds until something may be overdue."""
        usual = HURRY if self._hurried else TICK
        dialling = self._dialling
        return min(usual, dialling.deadline - now) if dialling is not None and dialling.deadline > now else usual
