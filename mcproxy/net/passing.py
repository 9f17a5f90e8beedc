"""An l4 session's bytes, from the dial to the end of both sides. It is the session's carrier.

The ClientHello goes to the backend with the connect; then `Relay` copies both ways, and the sweeper asks now and then
whether anything has moved. A relay that is silent rests (net/slumber.py); then `run` or `go_on` has returned None, and
what is left is to be closed by a cut, or gone on with.
"""

from typing import Final

from mcproxy.model import End, Reason, Refused
from mcproxy.net.delivery import VISITS, Progress
from mcproxy.net.raw import IoWatcher, RawSocket, abort
from mcproxy.net.reach import reach
from mcproxy.net.relay import BUFFER, Relay, flush
from mcproxy.net.shared import NEW, Cut, OpenSession, Phase

# Named once: CONTRIBUTING says why.
_HALF_CLOSED: Final = Phase.HALF_CLOSED
_CLOSED: Final = End.CLOSED


class Passing:
    """Dials the backend of one session, and relays until both sides have ended."""

    __slots__ = ("_progress", "_relay", "_session", "rests")
    detail = ""  # the session has the words for all that can go wrong

    def __init__(self, session: OpenSession) -> None:
        """The session has a route, and its ClientHello is still in the kernel."""
        self._session = session
        self._relay: Relay | None = None  # None: the dial is not over
        self._progress: Progress  # once there is a relay
        self.rests = False

    def __repr__(self) -> str:
        return f"<Passing {self._relay or 'dialling'}>"

    @property
    def received(self) -> int:
        """Bytes from client to backend so far."""
        return self._relay.up.moved if self._relay else 0

    @property
    def sent(self) -> int:
        """Bytes from backend to client so far."""
        return self._relay.down.moved if self._relay else 0

    def run(self, readable: IoWatcher) -> End | None:
        """Relay until both sides have ended; None: until it rests. Raises Refused if the dial fails."""
        session = self._session
        shared, seen = session.shared, session.facts.hello
        assert seen is not None
        shared.outgoing.own.pass_on(seen.random)
        try:
            backend, size = self._reach()
        except BaseException:
            shared.outgoing.own.passed(seen.random)
            raise
        relay = Relay(session.client, readable, backend, shared.pipes, self._half_closed, shared.crew.spawn)
        self._relay = relay
        relay.up.moved = size
        self._progress = Progress(shared.sweeper.now())
        shared.sweeper.arm(session, shared.timeouts.idle / VISITS)
        return self.go_on(None)

    def go_on(self, cause: BaseException | None) -> End | None:
        """Relay in this greenlet. A `cause` ends it at once: it is raised, and nothing waits."""
        self.rests = False
        session, relay = self._session, self._relay
        shared, seen, is_over = session.shared, session.facts.hello, True
        assert relay is not None
        assert seen is not None
        backend = relay.peers[1]
        try:
            if cause is not None:
                relay.close()
                raise cause
            shared.awake[session] = NEW
            is_over = relay.run()
            if not is_over:
                return None
            end = self._flush(relay, backend)
        except BaseException:
            abort(backend)
            raise
        finally:
            shared.awake.pop(session, None)
            if is_over:
                shared.outgoing.own.passed(seen.random)
        backend.close()
        return end

    def _reach(self) -> tuple[RawSocket, int]:
        """Dial, with the ClientHello behind a PROXY header. Raises Refused.

        Also returns how many of the client's bytes were sent. The rest of a hello longer than one read follows later.
        """
        session = self._session
        shared = session.shared
        shared.sweeper.arm(session, shared.timeouts.connect)
        arrival = session.arrival()
        # The backend will choose from what the client offers; what it wants most is the best guess.
        alpn = arrival.hello.alpn[0] if arrival.hello.alpn else b""
        first = session.client.recv(BUFFER)
        return reach(arrival, alpn, first, shared.outgoing, session.reached), len(first)

    def _half_closed(self) -> None:
        self._session.move_to(_HALF_CLOSED)
        self._wait_for_idleness(self._session.shared.timeouts.half_close)

    def _flush(self, relay: Relay, backend: RawSocket) -> End:
        """After a reset, wait until the other side has what came before it; then reset that side too."""
        if relay.first_reset is None:
            return _CLOSED
        client = self._session.client
        by_client = relay.first_reset is client
        self._session.move_to(Phase.FLUSHING)
        self._wait_for_idleness(self._session.shared.timeouts.half_close)
        flush(backend if by_client else client)
        abort(backend)
        return End.CLIENT_RESET if by_client else End.BACKEND_RESET

    def _wait_for_idleness(self, limit: float) -> None:
        sweeper = self._session.shared.sweeper
        self._progress.begin(sweeper.now())
        sweeper.arm(self._session, limit / VISITS)

    def overdue(self, now: float) -> float | None:
        """Check deadlines; returns when to check again, on the sweeper's clock."""
        session, timeouts, relay = self._session, self._session.shared.timeouts, self._relay
        if relay is None:
            session.cut(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {timeouts.connect:g} s"))
            return None
        idle = session.phase is Phase.RELAYING
        limit = timeouts.idle if idle else timeouts.half_close
        progress = self._progress
        if not progress.moved(relay.moved, now) and progress.stalled(limit, relay.peers, now):
            session.cut(Cut(End.IDLE_TIMEOUT if idle else End.HALF_CLOSE_TIMEOUT))
            return None
        return now + limit / VISITS

    def rest(self) -> bool:
        """Give both greenlets back, unless something is on its way. Returns whether it rests."""
        relay = self._relay
        if relay is None or not relay.is_waiting:
            return False
        self.rests = True  # before `go_on` returns, in there
        relay.rest(self._stirred)
        return True

    def _stirred(self) -> None:
        assert self._relay is not None
        self.rests = False
        self._relay.stir()
        self._session.wake()

    def drain(self) -> None:
        """Nothing: an l4 stream can't be asked to end."""

    def stop(self) -> None:
        """End the direction that runs in another greenlet, because the session is about to be cut."""
        if self._relay is not None:
            self._relay.stop()
