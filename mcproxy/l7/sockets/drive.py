"""One l7 session on its sockets: it reads both sides, has a core judge what came, and sends what results.

A core is HTTP without sockets (l7/core.py). Nothing blocks while the session lives: four watchers (side.py) call
`Drive._on` with what has happened, and each event is handled before the next one. So there is nothing to lock and
nothing to wake, and an answer to the client never waits behind a body for the backend. The session's greenlet only
waits for the end, which reaches it as a switch, or as an exception where something failed; switching to it and back for
every event would cost another 0.8 us of the 20 that an event takes.

Long work waits for its turn (net/turns.py): a bulk read, and bytes that the core did not get to. The bytes of a side
wait in one place, `Side.pending`, until the core has taken them, and the end of the side waits behind them.

Back-pressure: a side is read only while fewer than MAX_UNSENT bytes wait for the other side, and fewer than MAX_OWED
for itself: its own frames make us answer (PING, SETTINGS, 421), and it might never read the answers.

The core decides when a backend is dialled; its first bytes go out with the connect. The dial has a greenlet of its own
(dialling.py), so the client is still read and answered meanwhile: a request for another host, a PING, a cancellation,
the end.

The end: everything is sent, then close_notify and FIN. Then the client has a while to end as well (`Patience`), because
closing with unread bytes sends a RST, which would destroy an answer on its way (RFC 9112, section 9.6). If an answer
broke off, the connection ends with a RST instead, once the client has received the part that came.

An idle session is drained first, so that a client whose next request is on its way at that moment loses nothing (RFC
9113, section 9.1), and cut if it does not leave. Requests that still wait for an answer then get 504.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gevent import sleep
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.bounds import BULK_SIZE, LONE_BULK, MAX_PENDING, TURN
from mcproxy.l7.core import Core, How, Record, Turn
from mcproxy.l7.sockets.dialling import Dial, Dialling
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.l7.sockets.stream import Lost, Stream
from mcproxy.model import End, Reason, Refused
from mcproxy.net.raw import pauses, reset_on_close
from mcproxy.net.shared import Cut, OpenSession

MAX_UNSENT = 262_144  # bytes unsent to a side at which the other one is no longer read
MAX_OWED = 4 * MAX_UNSENT  # the same for reading that side itself; more than the other's bulk makes
TICK = 1.0  # seconds between two checks of the core's deadlines
HURRY = 0.1  # the same, while the core is in a hurry
FLUSH_CHECK = 0.005  # seconds between the first two checks for bytes that the client has not acknowledged
FLUSH_LONGEST = 0.32  # seconds between the last ones


# Members of an enum cost three times as much to read as a global.
CLIENT = Event.CLIENT
BACKEND = Event.BACKEND
ITS_TURN = Event.TURN


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take to leave; seconds."""

    farewell: float = 5.0  # without a byte, once it was idle and has been asked to end; a drain takes two
    linger: float = 2.0  # without a byte, to end after us: a few round trips to anywhere
    longest: float = 10.0  # to end after us, however much it still sends


class State(StrEnum):
    """What the session waits for; decides what its deadline means."""

    OPEN = "open"
    LEAVING = "leaving"  # it was idle, and has been asked to end
    LINGERING = "lingering"  # we have ended, and the client has a while to end as well
    OVER = "over"  # and that while is over


class Drive:
    """Runs a core on a session's sockets; to be made in the session's greenlet. It is the session's carrier."""

    def __init__(
        self,
        session: OpenSession,
        client: Stream,
        core: Core,
        dial: Dial,
        record: Record,
        patience: Patience = Patience(),
    ) -> None:
        """`record` is given the exchanges that have ended, and must not raise."""
        self._patience = patience
        self._session = session
        self._record = record
        self._core = core
        self._dial = dial
        self._greenlet: greenlet = getcurrent()
        self._hub = get_hub()
        self._client = Side(client, CLIENT, self._on)
        self._backend: Side | None = None
        self._dialling: Dialling | None = None
        self._turns = session.shared.turns
        self._turn = Turn()
        self._due: deque[Event] = deque()  # sides to read, or to hear again, when the session has its turn
        self._asked = False  # for a turn
        self._waiting = False
        self._state = State.OPEN
        self._hurried = False
        self._moved: int | None = None  # bytes at the last check; None: the next check begins a quiet time
        self._quiet_since = 0.0

    def __repr__(self) -> str:
        return f"<Drive {self._dialling or self._state} {self._core!r} client={self._client.stream!r}>"

    @property
    def received(self) -> int:
        """Bytes of HTTP from the client."""
        return self._client.stream.received

    @property
    def sent(self) -> int:
        """Bytes of HTTP to the client."""
        return self._client.stream.sent

    @property
    def detail(self) -> str:
        """What went wrong with the connection."""
        return self._core.ending.why if self._core.ending else ""

    def run(self) -> End:
        """Until the client's connection is over; closing its socket is the session's."""
        core = self._core
        self._tick_later()
        if self._session.shared.draining:
            core.drain(time.monotonic())
        try:
            self._go_on()
            while core.ending is None:
                self._switch()
            return self._finish()
        finally:
            if core.ending is None:  # cut, by the sweeper or an operator: exchanges under way are over, and are logged
                core.cut(time.monotonic())
            self._record(core.take_ended())
            if self._asked:
                self._turns.forget(self._on_turn)
            self._client.close()
            self._drop_backend()

    # What happens, until the core has its ending

    def _on(self, event: Event) -> None:
        """On the hub: something has happened."""
        if self._core.ending is None:
            try:
                self._turn.left = TURN
                self._read(event)
                self._go_on()
            except BaseException:  # noqa: BLE001 - it is the session's
                self._greenlet.throw(*sys.exc_info())
                return
        if self._core.ending is not None:
            self._greenlet.switch(event)

    def _read(self, event: Event) -> None:
        """Read the side that the event is about, if any; but bulk only when the session has its turn."""
        if self._dialling is not None:
            self._dialled(self._dialling)
        its_turn = event is ITS_TURN
        which = self._due.popleft() if its_turn else event
        side = self._client if which is CLIENT else self._backend if which is BACKEND else None
        if side is None:
            return
        if side.stream.flows and not its_turn:
            its_turn = self._turns.take()
            if not its_turn:
                self._due.append(which)
                return
        if its_turn and side.halted:
            side.halted = False  # its pending bytes are offered again
            return
        stream = side.stream
        data = stream.receive(self._bulk_size(which)) if its_turn else stream.receive()
        if data:
            side.pending = side.pending + data if side.pending else data
        side.end_due = stream.ended

    def _go_on(self) -> None:
        """Have the core take pending bytes, send what results, and watch for what is wanted now."""
        core = self._core
        client, backend = self._client, self._backend
        if backend is not None and (backend.pending or backend.end_due):
            self._hear(backend, core.receive_from_backend, self._backend_ended)
        # A backend whose end is known is heard out first: a request taken now would go to a backend that has gone.
        if (client.pending or client.end_due) and not (backend is not None and backend.end_due):
            self._hear(client, core.receive_from_client, self._client_ended)
        self._send()
        if ended := core.take_ended():
            self._record(ended)
        if core.hurried is not self._hurried:
            self._hurried = core.hurried
            self._tick_later()
        self._watch()

    def _watch(self) -> None:
        """Watch for what is wanted now, and ask for a turn if one is due."""
        core, due = self._core, self._due
        client, backend = self._client, self._backend
        to_client = client.stream.unsent
        to_backend = backend.stream.unsent if backend else self._dialling.unsent if self._dialling else 0
        client.want(
            core.wants_client
            and to_backend <= MAX_UNSENT
            and to_client <= MAX_OWED
            and CLIENT not in due
            and (not client.pending or len(client.pending) <= MAX_PENDING)
            and not (backend is not None and backend.end_due)
        )
        if backend is not None:
            backend.want(
                core.wants_backend and to_client <= MAX_UNSENT and to_backend <= MAX_OWED and BACKEND not in due
            )
        if due and not self._asked:
            self._asked = True
            self._turns.ask(self._on_turn)

    def _on_turn(self) -> None:
        self._asked = False
        if self._core.ending is None:
            self._on(ITS_TURN)

    def _switch(self) -> Event:
        """Wait for an event, in the session's greenlet."""
        self._waiting = True
        try:
            event: Event = self._hub.switch()
        finally:
            self._waiting = False  # now it may wait for something else, or have another session's job
        return event

    def _hear(self, side: Side, receive: Callable[[bytes, Turn, float], int], ended: Callable[[float], object]) -> None:
        """Have the core take what is pending, then deliver the end, unless pending bytes wait for a turn."""
        now = time.monotonic()
        turn, data = self._turn, side.pending
        if data:
            if not side.halted and turn.left > 0:
                taken = receive(data, turn, now)
                side.pending = data = data[taken:]
            if data and turn.left <= 0 and not side.halted:
                side.halted = True
                self._due.append(side.event)
            if side.halted:
                return
        if side.end_due and self._core.ending is None:
            ended(now)

    def _client_ended(self, now: float) -> None:
        client, core = self._client, self._core
        client.end_due = False
        if not client.stream.lost:
            core.client_closed(now)
            self._moved = None  # the half-close timeout counts from here

    def _backend_ended(self, now: float) -> None:
        if not self._core.wants_dial:  # else the next connection replaces it anyway
            self._drop_backend()
            self._core.backend_closed(now)

    def _bulk_size(self, event: Event) -> int:
        """Bytes of one bulk read: many, if no other session waits and the other side has taken what was read before."""
        sink = self._client if event is BACKEND else self._backend
        alone = len(self._session.shared.sessions) == 1
        size = LONE_BULK if alone and sink is not None and not sink.stream.unsent else BULK_SIZE
        return self._core.bulk_read(size) if event is BACKEND else size

    def _send(self) -> None:
        """Send to both sides, over a new backend connection if the core asks for one."""
        core = self._core
        client = self._client.stream
        if core.wants_dial and core.ending is None:
            self._connect()
        if not core.has_backend:
            self._drop_backend()
        elif self._dialling is not None:
            self._dialling.put(core.take_for_backend())
        elif self._backend is not None:
            self._backend.stream.send(core.take_for_backend())  # if broken, it may still have something to read
        client.send(core.take_for_client())
        if client.lost and core.ending is None:
            core.client_lost(time.monotonic())

    def _connect(self) -> None:
        """Dial a new backend connection, in place of the present one."""
        self._drop_backend()
        core, shared = self._core, self._session.shared
        core.dialling()
        deadline = shared.sweeper.now() + shared.timeouts.connect
        self._dialling = Dialling(self._dial, core.take_for_backend(), deadline, self._wake)
        self._dialling.start(shared.crew)
        self._tick_later()

    def _dialled(self, dialling: Dialling) -> None:
        """Use the result of a dial, if there is one. Raises what is not a failure to connect."""
        failure = dialling.failure
        if dialling.stream is not None:
            self._dialling = None
            self._backend = Side(dialling.stream, BACKEND, self._on)
            dialling.stream.put(b"".join(dialling.waiting))
        elif isinstance(failure, Refused | Lost):
            self._dialling = None
            timed_out = isinstance(failure, Refused) and failure.reason is Reason.BACKEND_TIMEOUT
            self._core.backend_failed(504 if timed_out else 502, str(failure), time.monotonic())
        elif failure is not None:
            raise failure

    def _drop_backend(self) -> None:
        """Send the backend the core's last bytes, and close."""
        side, self._backend = self._backend, None
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.abandon()
        if side is not None:
            if not self._core.wants_dial:
                side.stream.put(self._core.take_for_backend())
                side.stream.flush()
            side.close()
            side.stream.end()
            side.stream.close()

    # The end

    def _finish(self) -> End:
        """Send what is left, then end as the core decided."""
        ending, client = self._core.ending, self._client.stream
        assert ending is not None
        self._send()
        self._drop_backend()
        while client.wants_write:
            self._wait_for_client(read=False)
            client.flush()
        if client.lost:
            return End.CLIENT_RESET
        if ending.how is How.RST:
            self._reset_once_delivered(client)
        else:
            client.end()
            self._linger()
        return ending.end

    def _reset_once_delivered(self, client: Stream) -> None:
        self._client.want(read=False)
        patience = time.monotonic() + self._session.shared.timeouts.half_close
        for pause in pauses(FLUSH_CHECK, FLUSH_LONGEST):
            if not client.undelivered or time.monotonic() > patience:
                break
            sleep(pause)
        reset_on_close(client.sock)

    def _linger(self) -> None:
        client, session = self._client.stream, self._session
        self._state = State.LINGERING
        sweeper = session.shared.sweeper
        end = sweeper.now() + self._patience.longest
        while not client.ended and self._state is State.LINGERING:
            sweeper.arm(session, max(0.0, min(self._patience.linger, end - sweeper.now())))
            if self._wait_for_client(read=True) is CLIENT:
                client.receive()

    def _wait_for_client(self, read: bool) -> Event:
        self._client.want(read)
        return self._switch()

    # The sweeper, draining, the session's end

    def overdue(self, now: float) -> float | None:
        """Check deadlines; returns when to check again, on the sweeper's clock."""
        try:
            return self._look(now)
        except Exception:  # noqa: BLE001 - it is the session's, and not the sweeper's
            self._hub.loop.run_callback(self._fail, *sys.exc_info())
            return None

    def _fail(self, *failure: Any) -> None:
        if self._waiting:
            self._greenlet.throw(*failure)

    def _look(self, now: float) -> float | None:
        timeouts = self._session.shared.timeouts
        if self._state is State.LINGERING:
            self._state = State.OVER
            get_hub().loop.run_callback(self._wake)
            return None
        if self._dialling is not None and now >= self._dialling.deadline:
            self._dialling.fail(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {timeouts.connect:g} s"))
        self._core.tick(time.monotonic())
        moved = self._client.stream.received + self._client.stream.sent
        if moved != self._moved:
            self._moved, self._quiet_since = moved, now
        elif self._client.stream.ended and now - self._quiet_since >= timeouts.half_close:  # half of a tunnel
            self._session.cut(Cut(End.HALF_CLOSE_TIMEOUT))
            return None
        elif self._state is State.OPEN and now - self._quiet_since >= timeouts.idle:
            self._state, self._quiet_since = State.LEAVING, now
            self._core.give_up(time.monotonic())
        elif self._state is State.LEAVING and now - self._quiet_since >= self._patience.farewell:
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
            self._on(Event.WOKEN)

    def _tick_later(self) -> None:
        session, sweeper = self._session, self._session.shared.sweeper
        now = sweeper.now()
        seconds = self._until_look(now)
        if not session.slot or session.deadline > now + seconds:  # what is due sooner stays so
            sweeper.arm(session, seconds)

    def _until_look(self, now: float) -> float:
        """Seconds until something may be overdue."""
        usual = HURRY if self._hurried else TICK
        dialling = self._dialling
        return min(usual, dialling.deadline - now) if dialling is not None and dialling.deadline > now else usual
