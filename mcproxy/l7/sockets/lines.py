"""The lines of one session on their connections: the part of a drive that serves a core which has lines (l7/core.py).

Each line that wants a connection gets one of the route's pool (pool.py), and gives it back or has it closed. Each of
those connections has watchers of its own, which call `happened`. What came is judged at once; but what follows for the
client is sent once for all lines that had an event in this round of the hub, so that many answers leave in one write.

As with the sides of a session: bulk reads, and bytes that the line did not get to, wait for their turn; the end of a
connection is delivered behind the bytes that came before it; and nothing is read while too much waits for the client.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from gevent.hub import get_hub

from mcproxy.l7.bounds import BULK_SIZE, LONE_ANSWER, READ_SIZE, TURN
from mcproxy.l7.core import Line, LinedCore, LineState, Turn
from mcproxy.l7.sockets.its_turns import ItsTurns
from mcproxy.l7.sockets.pool import Pool
from mcproxy.l7.sockets.pooled import Made, Pooled
from mcproxy.l7.sockets.side import ClientSide, Event
from mcproxy.l7.sockets.waiting import Waiting
from mcproxy.net.raw import acknowledge
from mcproxy.net.shared import OpenSession

log: Final = logging.getLogger(__name__)

# Members of an enum cost three times as much to read as a global.
WANTED: Final = LineState.WANTED
BUSY: Final = LineState.BUSY
FREE: Final = LineState.FREE
WRITABLE: Final = Event.WRITABLE


class Stage(NamedTuple):
    """What a session's lines share with its drive."""

    client: ClientSide
    waiting: Waiting
    its_turns: ItsTurns
    wake: Callable[[], object]  # has the drive go on; on the hub


class Lines:
    """The lines of one session. Everything here happens on the hub's thread."""

    __deletable__ = ["_stage"]  # noqa: RUF012 - for mypyc

    def __init__(
        self,
        session: OpenSession,
        core: LinedCore,
        pool: Pool,
        connect: Callable[[], Made],
        contradicted: Callable[[], object],
    ) -> None:
        """`connect` makes a new connection, and may outlive the session; it raises Refused and Lost.

        `contradicted` is called where a backend answers in another version of HTTP than was found.
        """
        self.connect = connect
        self._session = session
        self._core = core
        self._pool = pool
        self._contradicted = contradicted
        self._stage: Stage
        self._busy: dict[Line, Pooled] = {}
        self._seeking: set[Line] = set()
        self._turn = Turn()
        self._held = False  # too much waits for the client
        self._woken = False  # the drive goes on later in this round
        self._closed = False

    def __repr__(self) -> str:
        return f"<Lines busy={len(self._busy)} seeking={len(self._seeking)}>"

    def begin(self, stage: Stage) -> None:
        """The drive is there. Before anything else."""
        self._stage = stage

    def in_use(self) -> Iterable[tuple[Line, Pooled]]:
        """The lines that have connections."""
        return self._busy.items()

    # What the drive asks for

    def serve(self, sends: bool = True) -> None:
        """Look at the lines that have changed: find connections, send, let connections go.

        `sends`: the drive sends to the client behind that.
        """
        if sends:
            self._woken = False
        core, busy = self._core, self._busy
        while changed := core.take_lines():
            now = time.monotonic()
            for line in changed:
                state = line.state
                if state is BUSY:
                    self._go_on(line, busy[line], now)
                elif state is WANTED:
                    self._seek(line, now)
                else:
                    self._release(line)

    def hold(self, held: bool) -> None:
        """Read no connection while too much waits for the client."""
        if held is not self._held:
            self._held = held
            for line, conn in self._busy.items():
                self._watch(line, conn)

    def close(self) -> None:
        """The session ends: let go of all connections, in whatever state they are. May come twice."""
        if self._closed:
            return
        self._closed = True
        for line in self._seeking:
            self._pool.forget(line, self)
        self._seeking.clear()
        while self._busy:
            _, conn = self._busy.popitem()
            self._let_go(conn)
            self._pool.discard(conn)
        self._pool.leave(self)
        del self._stage  # or the collector would have to find out that nobody needs the two

    # Connections, as lines need them

    def _seek(self, line: Line, now: float) -> None:
        if line in self._seeking:
            return
        conn = self._pool.ask(line, self)
        if conn is None:
            self._seeking.add(line)
        else:
            self._join(line, conn, now)

    def _join(self, line: Line, conn: Pooled, now: float) -> None:
        reused, tally = conn.uses > 0, self._pool.tally
        tally.reused += reused
        tally.retries += line.again
        conn.begin(self, line)
        self._busy[line] = conn
        self._session.reached(self._pool.route.backend, None if reused else conn.made.took)
        conn.left = line.connected(conn.made.version, reused, now, conn.left)

    def _go_on(self, line: Line, conn: Pooled, now: float) -> None:
        """Send what there is, and read on if that is wanted; what it could not use before is offered again."""
        channel = conn.channel
        if pieces := line.take():
            channel.send_all(pieces)
            line.sent(channel.unsent, now)
        if line.half_closed and not (conn.half_closed or channel.unsent):
            conn.half_closed = True
            channel.half_close()
        if conn.pending and line.wants_read and not conn.halted:
            self._hear(line, conn, now)
        if conn.line is line:
            self._watch(line, conn)

    def _watch(self, line: Line, conn: Pooled) -> None:
        conn.want(not self._held and line.wants_read and conn not in self._stage.its_turns.due)

    def _release(self, line: Line) -> None:
        """It needs its connection no longer, or none."""
        if line in self._seeking:
            self._seeking.remove(line)
            self._pool.forget(line, self)
        conn = self._busy.pop(line, None)
        if conn is None:
            return
        channel = conn.channel
        if pieces := line.take():
            channel.send_all(pieces)
        self._let_go(conn)
        is_free = line.state is FREE and conn.is_http1 and not conn.half_closed
        if is_free and conn.pending:
            self._pool.tally.poisoned += 1
        if is_free and not (conn.pending or conn.end_due or channel.unsent or channel.ended or channel.lost):
            self._pool.give_back(conn)
        else:
            self._pool.discard(conn)

    def _let_go(self, conn: Pooled) -> None:
        conn.leave()
        self._stage.its_turns.remove(conn)
        conn.halted = False

    # The pool, on the hub

    def found(self, line: Line, conn: Pooled) -> None:
        """There is a connection for a line."""
        self._seeking.discard(line)
        self._do(lambda: self._join(line, conn, time.monotonic()))

    def failed(self, line: Line, status: int, why: str) -> None:
        """There will be none."""
        self._seeking.discard(line)
        self._do(lambda: line.failed(status, why, time.monotonic()))

    def broke(self, failure: BaseException) -> None:
        """A defect has ended a dial: the session ends."""
        self._stage.waiting.throw_later(type(failure), failure, failure.__traceback__)

    def _do(self, what: Callable[[], object]) -> None:
        try:
            what()
            self.serve(sends=False)
        except Exception:  # noqa: BLE001 - it is the session's, and not the pool's
            self._stage.waiting.throw_later(*sys.exc_info())
        else:
            self._wake_later()

    # Events of connections, on the hub

    def happened(self, conn: Pooled, event: Event) -> None:
        """A connection can be read, or written to."""
        if self._core.ending is not None:
            return  # it is about to be closed
        try:
            if event is WRITABLE:
                self._flush(conn)
            elif self.read(conn, its_turn=False):
                return
            self.serve(sends=False)
        except BaseException:  # noqa: BLE001 - it is the session's
            self._stage.waiting.throw(*sys.exc_info())
            return
        if self._seeking or len(self._busy) > 1:
            self._wake_later()
        else:
            self._stage.wake()  # no other line can have an event in this round

    def _flush(self, conn: Pooled) -> None:
        line, channel = conn.line, conn.channel
        if line is None:
            return
        channel.flush()
        now = time.monotonic()
        line.sent(channel.unsent, now)
        if self._busy.get(line) is conn:
            self._go_on(line, conn, now)

    def read(self, conn: Pooled, its_turn: bool) -> bool:
        """Read a connection, and have its line judge what came; but bulk only when the session has its turn.

        Returns true if all is done that follows from it.
        """
        line, channel, turns = conn.line, conn.channel, self._stage.its_turns
        if line is None:
            return False
        if channel.flows and not its_turn:
            its_turn = turns.take()
            if not its_turn:
                turns.due.append(conn)
                conn.want(read=False)
                return False
        now = time.monotonic()
        if its_turn and conn.halted:
            conn.halted = False  # its pending bytes are offered again
        else:
            data = channel.receive(_bulk_size(self._session, self._stage.client)) if its_turn else channel.receive()
            # Not in a turn of its own, which ends by watching the connection again.
            may_express = conn.heard and not (its_turn or conn.pending or channel.ended)
            if data and may_express and line.express(data, now):
                return self._pass_on(line, conn, now)
            if data:
                if not (conn.heard or conn.made.known) and not _as_found(conn, data):
                    self._contradicted()  # its version of HTTP was found out by another connection
                conn.heard = True
                conn.pending = conn.pending + data if conn.pending else data
            conn.end_due = channel.ended
        self._turn.left = TURN
        self._hear(line, conn, now)
        if conn.line is line and line.state is BUSY:
            if conn.is_http1 and not channel.flows:
                # The rest of an answer is still to come, perhaps from a server that writes head and body apart: with
                # Nagle's algorithm it waits for this acknowledgement, which would come 40 ms later.
                acknowledge(channel.sock)
            self._watch(line, conn)
        return False

    def _pass_on(self, line: Line, conn: Pooled, now: float) -> bool:
        """Send what a read has made room for. Returns whether the drive need not go on.

        Many servers open their windows for each 32 KiB of an upload: to go on then took longer than to send.
        """
        channel, core, client = conn.channel, self._core, self._stage.client
        if pieces := line.take():
            channel.send_all(pieces)
            line.sent(channel.unsent, now)
            if channel.wants_write:
                self._watch(line, conn)
        return core.wants_client is client.reads and not (client.pending or core.stirred)

    def _hear(self, line: Line, conn: Pooled, now: float) -> None:
        """Have the line take what is pending, then deliver the end, unless pending bytes wait for a turn."""
        turn, data = self._turn, conn.pending
        if data:
            if not conn.halted and turn.left > 0:
                taken = line.receive(data, turn, now)
                conn.pending = data = data[taken:] if taken != len(data) else b""
            if data and turn.left <= 0 and not conn.halted and line.state is BUSY:
                conn.halted = True
                self._stage.its_turns.due.append(conn)
            if conn.halted:
                return
        if conn.end_due and line.state is BUSY:
            self._end(line, conn, now)

    def _end(self, line: Line, conn: Pooled, now: float) -> None:
        channel = conn.channel
        if channel.abuse:  # the client's line does not name it
            log.warning("the backend of %s floods the proxy: %s", self._pool.route.hostname, channel.lost)
        if not (conn.heard or conn.made.known):
            self._contradicted()
        del self._busy[line]
        self._let_go(conn)
        self._pool.discard(conn)
        line.closed(channel.ended_cleanly, now)

    def _wake_later(self) -> None:
        """Have the drive go on once this round's events are over."""
        if not self._woken:
            self._woken = True
            get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self._woken and not self._closed:
            self._woken = False
            self._stage.wake()


def _as_found(conn: Pooled, first: bytes) -> bool:
    """Whether the first bytes of a connection are of the version of HTTP that was found there."""
    return first.startswith(b"HTTP/") if conn.is_http1 else first.startswith(b"\0")  # of the length of SETTINGS


def _bulk_size(session: OpenSession, client: ClientSide) -> int:
    """Bytes of one bulk read: many, if no other session waits and the client has taken what was read before."""
    if client.backlog.is_full:
        return READ_SIZE
    alone = len(session.shared.sessions) == 1
    return LONE_ANSWER if alone and client.has_all else BULK_SIZE
