"""One l7 session on its sockets: it reads both sides, has a core judge what came, and sends what results.

A core is HTTP without sockets (l7/core.py). Nothing blocks while the session lives: four watchers (side.py) call
`Drive._on` with what has happened, and each event is handled before the next one. So there is nothing to lock and
nothing to wake, and an answer to the client never waits behind a body for the backend. The session's greenlet only
waits for the end, which reaches it as a switch, or as an exception where something failed; switching to it and back for
every event would cost another 0.8 us of the 20 that an event takes.

Long work waits for its turn (net/turns.py): a bulk read, and bytes that the core did not get to. The bytes of a side
wait in one place, `Side.pending`, until the core has taken them, and the end of the side waits behind them.

Back-pressure: a side is read only while fewer than MAX_UNSENT bytes wait for the other side (none, for a client, where
too much waits for all clients: net/backlog.py), and fewer than MAX_OWED for itself: its own frames make us answer
(PING, SETTINGS, 421), and it might never read the answers.

A core with lines (lines.py) has many connections to its backend, which serve it beside what is said here.

The core decides when a backend is dialled; its first bytes go out with the connect. The dial has a greenlet of its own
(dialling.py), so the client is still read and answered meanwhile: a request for another host, a PING, a cancellation,
the end.

A session that is silent gives its greenlet back (net/slumber.py); the first thing that would be the greenlet's to do
makes it take another one, which goes on. While the backend may turn out to speak another version, it needs its own.

How it ends is in departure.py, and when nothing moves any more in quiet.py.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from gevent.hub import get_hub

from mcproxy.l7.bounds import BULK_SIZE, LONE_ANSWER, LONE_BULK, MAX_PENDING, MAX_UNSENT, READ_SIZE, TURN
from mcproxy.l7.core import Core, Ending, Record, Turn
from mcproxy.l7.sockets.backend_link import BackendLink, BeginAgain, Contradicted
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.departure import GOODBYE, PATIENCE, Departure, Patience, State
from mcproxy.l7.sockets.dialling import Dial
from mcproxy.l7.sockets.its_turns import ItsTurns
from mcproxy.l7.sockets.lines import Lines, Stage
from mcproxy.l7.sockets.pooled import Pooled
from mcproxy.l7.sockets.quiet import Due, Quiet
from mcproxy.l7.sockets.receipts import Receipts
from mcproxy.l7.sockets.side import ClientSide, Event, Side
from mcproxy.l7.sockets.waiting import Rested, Waiting
from mcproxy.model import End, Exchanges
from mcproxy.net.shared import NEW, Cut, OpenSession

log: Final = logging.getLogger(__name__)

MAX_OWED: Final = 4 * MAX_UNSENT  # the same for reading that side itself; more than the other's bulk makes
TICK: Final = 1.0  # seconds between two checks of the core's deadlines
HURRY: Final = 0.1  # the same, while the core is in a hurry
_CUT_WORDS: Final = {
    End.IDLE_TIMEOUT: "idle for proxy.idle_timeout",
    End.HALF_CLOSE_TIMEOUT: "silent for proxy.half_close_timeout after the client's end",
    End.SHUTDOWN: "not over within proxy.shutdown_timeout",
    End.KILLED: "closed by an operator",
}
_CUTS: Final = {Due.CUT_IDLE: End.IDLE_TIMEOUT, Due.CUT_HALF: End.HALF_CLOSE_TIMEOUT}

# Members of an enum cost three times as much to read as a global.
CLIENT: Final = Event.CLIENT
BACKEND: Final = Event.BACKEND
ITS_TURN: Final = Event.TURN
WOKEN: Final = Event.WOKEN


class Drive:
    """Runs a core on a session's sockets; to be made in the session's greenlet. It is the session's carrier."""

    def __init__(
        self,
        session: OpenSession,
        client: Channel,
        core: Core,
        way: Dial | Lines,
        record: Record,
        patience: Patience = PATIENCE,
        pending: bytes = b"",
        contradicted: Contradicted | None = None,
    ) -> None:
        """`way` leads to the backend: a dial, or the lines of a `LinedCore`.

        `record` is given the exchanges that have ended, and must not raise. `pending` was received from the client
        already. `contradicted` is called if the backend does not begin with HTTP/2; None: it is certain that it does.
        """
        self._session = session
        self._receipts = Receipts(client, record)
        self._core = core
        self._client = ClientSide(client, self._on, session.shared.backlog, session.readable)
        self._client.pending = pending
        self._lines = way if isinstance(way, Lines) else None
        self._link = BackendLink(_no_dial if isinstance(way, Lines) else way, session.shared.crew, contradicted)
        self._its_turns = ItsTurns(session.shared.turns)
        self._turn = Turn()
        self._waiting = Waiting()
        self._quiet = Quiet(patience.farewell)
        self._departure = Departure(session, self._client, self._waiting, self._quiet, patience, self._receipts)
        self._hurried = False
        if self._lines is not None:
            self._lines.begin(Stage(self._client, self._waiting, self._its_turns, self._wake))

    def __repr__(self) -> str:
        state = self._departure if self._core.ending else self._link.dialling or self._quiet
        return f"<Drive {state} {self._core!r} client={self._client.channel!r}>"

    @property
    def rests(self) -> bool:
        """True if it has no greenlet."""
        return self._waiting.rests

    @property
    def received(self) -> int:
        """Bytes of HTTP from the client."""
        return self._client.channel.received

    @property
    def sent(self) -> int:
        """Bytes of HTTP to the client."""
        return self._client.channel.sent

    @property
    def detail(self) -> str:
        """What went wrong with the connection."""
        if self._client.channel.abuse:
            return self._client.channel.lost
        return self._receipts.loss or (self._core.ending.why if self._core.ending else "")

    def go_on(self, cause: BaseException | None = None) -> End | None:
        """Return when the client's connection is over; the session closes its socket. None: it rests.

        It is called again after a rest; a `cause` ends it then. Raises BeginAgain if it has to go on with another core;
        nothing has been recorded or sent to the client in that case.
        """
        core, why, awake = self._core, "a defect of mcproxy; the log has its traceback", self._session.shared.awake
        ended: Record = self._receipts.add
        awake[self._session] = NEW
        try:
            self._waiting.resume(cause)
            if core.ending is None:  # it begins
                self._tick_later()
                if self._session.shared.draining:
                    core.drain(time.monotonic())
                self._read(CLIENT)  # mostly the first request has come behind the end of the handshake
                self._go_on()
            while core.ending is None:
                self._waiting.wait()
            return self._finish(core.ending)
        except Rested:
            return None
        except Cut as cut:  # by the sweeper or an operator
            why = _CUT_WORDS.get(cut.end, cut.end.value)
            raise
        except BeginAgain:
            ended = _forget
            raise
        finally:
            awake.pop(self._session, None)
            if not self.rests:
                if core.ending is None:  # exchanges under way are over, and are logged
                    core.cut(why, time.monotonic())
                ended(core.take_ended())
                self._receipts.close(0 if self._departure.state in (State.AHEAD, State.SENDING) else GOODBYE)
                self._its_turns.forget()
                self._client.close()
                self._drop_backend()
                if self._lines is not None:
                    self._lines.close()

    # What happens, until the core has its ending

    def _on(self, event: Event) -> None:
        """On the hub: something has happened."""
        if self._core.ending is None:
            try:
                self._turn.left = TURN
                if self._link.dialling is not None:
                    client = self._client.channel
                    if failed := self._link.dialled(self._on, may_begin_again=not (client.sent or client.unsent)):
                        self._core.backend_failed(*failed, time.monotonic())
                leaving = event is WOKEN and self._core.leaving
                if leaving:
                    self._read(CLIENT)  # a timer may have come before what the client sent
                elif event is not WOKEN and self._read(event):
                    return
                self._go_on()
                if leaving and not self._its_turns.due:
                    self._core.leave(time.monotonic())
            except BaseException:  # noqa: BLE001 - it is the session's
                self._waiting.throw(*sys.exc_info())
                return
        if self._core.ending is not None:
            self._waiting.end(event)

    def _read(self, event: Event) -> bool:
        """Read the side that the event is about, if any; but bulk only when the session has its turn.

        Returns true if all is done that follows from it.
        """
        its_turn = event is ITS_TURN
        which: Event | Side = self._its_turns.due.popleft() if its_turn else event
        side = self._client if which is CLIENT else self._link.side if which is BACKEND else None
        if side is None:
            if self._lines is not None and isinstance(which, Pooled):
                self._lines.read(which, its_turn)
            return False
        channel = side.channel
        if not (its_turn or channel.flows):
            data = channel.receive()
        elif self._its_turns.may_read(side, which, its_turn):
            data = channel.receive(self._bulk_size(side))
        else:
            return False
        # Not in a turn of its own, which ends by watching the side again.
        may_express = side is self._link.side and not (its_turn or side.pending or channel.ended)
        if data and may_express and self._link.kept is None:
            taken = self._core.express(data, time.monotonic())
            if taken == len(data):
                return _pass_on(self._core, self._client, side)
            data = data[taken:] if taken else data
        if data:
            side.pending = side.pending + data if side.pending else data
        side.end_due = channel.ended
        if self._link.kept is not None and (data or channel.ended):
            self._link.follow(side, data, self._client.channel)
        return False

    def _go_on(self) -> None:
        """Have the core take pending bytes, send what results, and watch for what is wanted now."""
        core = self._core
        client, backend = self._client, self._link.side
        if backend is not None and (backend.pending or backend.end_due):
            self._hear(backend)
        # A backend whose end is known is heard out first: a request taken now would go to a backend that has gone.
        if (client.pending or client.end_due) and not (backend is not None and backend.end_due):
            self._hear(client)
            if core.ending is not None:
                self._receipts.look()  # before our goodbye, which a client that said its own won't acknowledge
        self._send()
        if ended := core.take_ended():
            self._receipts.add(ended)
        if core.hurried is not self._hurried:
            self._hurried = core.hurried
            self._tick_later()
        self._watch()

    def _watch(self) -> None:
        """Watch for what is wanted now, and ask for a turn if one is due."""
        core, due = self._core, self._its_turns.due
        client, backend = self._client, self._link.side
        if not (client.waits(core.kept) or client.pending or due):  # nearly always
            if self._lines is not None:
                client.want(core.wants_client)
                self._lines.hold(held=False)
                return
            if backend is not None and not (backend.channel.unsent or backend.end_due):
                client.want(core.wants_client)
                backend.want(core.wants_backend)
                return
        to_client, takes_more = client.channel.unsent, client.takes_more(core.kept)
        to_backend = backend.channel.unsent if backend is not None else self._link.unsent
        client.want(
            core.wants_client
            and to_backend <= MAX_UNSENT
            and to_client <= MAX_OWED
            and CLIENT not in due
            and (not client.pending or len(client.pending) <= MAX_PENDING)
            and not (backend is not None and backend.end_due)
        )
        if backend is not None:
            backend.want(core.wants_backend and takes_more and to_backend <= MAX_OWED and BACKEND not in due)
        elif self._lines is not None:
            self._lines.hold(not takes_more)
        if due:
            self._its_turns.ask(self._on)

    def _hear(self, side: Side) -> None:
        """Have the core take what is pending, then deliver the end, unless pending bytes wait for a turn."""
        now, core = time.monotonic(), self._core
        turn, data, is_client = self._turn, side.pending, side is self._client
        if data:
            if not side.halted and turn.left > 0:
                taken = (
                    core.receive_from_client(data, turn, now)
                    if is_client
                    else core.receive_from_backend(data, turn, now)
                )
                side.pending = data = data[taken:] if taken != len(data) else b""
            if data and turn.left <= 0 and not side.halted:
                side.halted = True
                self._its_turns.due.append(side.event)
            if side.halted:
                return
        if side.end_due and core.ending is None:
            self._client_ended(now) if is_client else self._backend_ended(now)

    def _client_ended(self, now: float) -> None:
        client, core = self._client, self._core
        client.end_due = False
        self._receipts.look()  # before we send anything more, which it won't acknowledge
        if not client.channel.lost:
            core.client_closed(now)
            self._quiet.restart()  # the half-close timeout counts from here

    def _backend_ended(self, now: float) -> None:
        side = self._link.side
        if side is not None and side.channel.abuse:  # the client's line does not name it
            log.warning(
                "the backend of %s floods the proxy: %s", self._session.arrival().route.hostname, side.channel.lost
            )
        if not self._core.wants_dial:  # else the next connection replaces it anyway
            self._drop_backend()
            self._core.backend_closed(now)

    def _bulk_size(self, side: Side) -> int:
        """Bytes of one bulk read: many, if no other session waits and the other side has taken what was read before."""
        alone, client = len(self._session.shared.sessions) == 1, self._client
        if side is not client:
            size = LONE_ANSWER if alone and client.has_all else BULK_SIZE
            return self._core.bulk_read(READ_SIZE if client.backlog.is_full else size)
        sinks: list[Side]
        if self._lines is not None:
            sinks = [conn for _, conn in self._lines.in_use()]
        else:
            sinks = [] if self._link.side is None else [self._link.side]
        return LONE_BULK if alone and sinks and not any(sink.channel.unsent for sink in sinks) else BULK_SIZE

    def _send(self) -> None:
        """Send to both sides, over a new backend connection if the core asks for one."""
        core = self._core
        client = self._client.channel
        if self._lines is not None:
            self._lines.serve()
        else:
            if core.wants_dial and core.ending is None:
                self._connect()
            if not core.has_backend:
                self._drop_backend()
            elif self._link.dialling is not None or self._link.side is not None:
                self._link.send(core.take_for_backend())
        if (pieces := core.take_for_client()) or client.unsent:
            client.send_all(pieces)
        if client.lost and core.ending is None:
            if client.abuse:
                core.cut(client.lost, time.monotonic())  # by us, and exchanges under way say why
            else:
                core.client_lost(time.monotonic())

    def _connect(self) -> None:
        """Dial a new backend connection, in place of the present one."""
        self._drop_backend()
        core, shared = self._core, self._session.shared
        core.dialling()
        deadline = shared.sweeper.now() + shared.timeouts.connect
        self._link.connect(b"".join(core.take_for_backend()), deadline, self._wake)
        self._tick_later()

    def _drop_backend(self) -> None:
        """Close the backend's connection; the core's last bytes go first, unless they are for the next connection."""
        self._link.drop(None if self._core.wants_dial else self._core.take_for_backend)

    def _finish(self, ending: Ending) -> End:
        """Send what is left, then end as the core decided."""
        self._its_turns.forget()
        self._receipts.look()
        self._send()
        self._receipts.add(self._core.take_ended())
        self._drop_backend()
        if self._lines is not None:
            self._lines.close()
        return self._departure.run(ending)

    # The sweeper, draining

    def overdue(self, now: float) -> float | None:
        """Check deadlines; returns when to check again, on the sweeper's clock."""
        if not self._waiting.is_on:
            return now + HURRY  # its greenlet is on its way, to end it
        try:
            wake_later = get_hub().loop.run_callback  # the session may end in `_wake`, and must not be armed again then
            if self._departure.state is not State.AHEAD:
                wake_later(self._wake)
                self._receipts.look()
                return self._departure.overdue(now)
            timeouts, channel = self._session.shared.timeouts, self._client.channel
            self._link.give_up_late(now, timeouts.connect)
            clock = time.monotonic()
            sides: list[tuple[Side, Callable[[float], object]]] = [(self._client, self._core.client_lags)]
            if self._link.side is not None:
                sides.append((self._link.side, self._core.backend_lags))
            elif self._lines is not None:
                sides += ((conn, line.lags) for line, conn in self._lines.in_use())
            for side, lags in sides:
                if side.lags(timeouts.idle, now):
                    lags(clock)
            self._core.tick(clock, timeouts.idle)
            self._receipts.look()
            peers = [side.channel.sock for side, _ in sides]
            due = self._quiet.look(channel.received + channel.sent, peers, channel.ended, timeouts, now)
            if end := _CUTS.get(due):
                self._session.cut(Cut(end))
                return None
            if due is Due.GIVE_UP:
                self._core.give_up(time.monotonic())
            wake_later(self._wake)
            return now + self._link.until_deadline(now, HURRY if self._hurried else TICK)
        except Exception:  # noqa: BLE001 - it is the session's, and not the sweeper's
            self._waiting.throw_later(*sys.exc_info())
            return None

    def rest(self) -> bool:
        """Give the greenlet back, if it waits for the core's end. On the hub. Returns whether it rests."""
        link = self._link
        if not (self._waiting.is_on and self._core.ending is None and link.dialling is None and link.kept is None):
            return False
        self._waiting.rest(self._session.wake, self._session.fail)
        return True

    def drain(self) -> None:
        """Finish what is under way, and end."""
        self._core.drain(time.monotonic())
        get_hub().loop.run_callback(self._wake)

    def stop(self) -> None:
        """Nothing: all of it happens in callbacks and in the session's greenlet."""

    def _wake(self) -> None:
        if self._waiting.is_on:
            self._on(WOKEN)

    def _tick_later(self) -> None:
        session, sweeper = self._session, self._session.shared.sweeper
        now = sweeper.now()
        seconds = self._link.until_deadline(now, HURRY if self._hurried else TICK)
        if not session.slot or session.deadline > now + seconds:  # what is due sooner stays so
            sweeper.arm(session, seconds)


def _pass_on(core: Core, client: ClientSide, backend: Side) -> bool:
    """Send what an express read has made room for. Returns whether nothing else follows from it.

    Many servers open their windows for each 32 KiB of an upload: to have all of a drive go on takes longer than that.
    """
    channel = backend.channel
    if pieces := core.take_for_backend():
        channel.send_all(pieces)
    return core.wants_client is client.reads and not (client.pending or core.stirred or channel.wants_write)


def _no_dial(_first: bytes) -> Channel:
    raise AssertionError("a core with lines asks for no connection of its own")


def _forget(_ended: Exchanges) -> None:
    """They go on, or are begun once more, in another core."""
