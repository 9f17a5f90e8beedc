"""Who may do something long: one in each round of the hub.

In a round the hub handles all that has happened before it looks again, so that whatever happens meanwhile waits for all
of it: eight downloads of 0.3 ms each, or the handshakes of everybody who comes back after a restart. So what is long
has a turn: at once where nobody had one in this round, else in a queue, one in each round that follows, and after all
that is short. It costs a look at the sockets for each, 5 us.

There are two queues, which are served by turns: of sessions that are open, and of newcomers, whose handshakes would
otherwise keep every download waiting until the last of a thousand has been let in. Each holds a session once at most.
"""

from collections import deque
from collections.abc import Callable

from gevent.hub import get_hub
from greenlet import getcurrent

LAST = -2  # libev's lowest priority: of all that has happened, this is handled last; the default is timers first

OnTurn = Callable[[], object]


class Turns:
    """The turns of one hub. Everything here happens on its thread."""

    def __init__(self) -> None:
        self._hub = get_hub()
        self._timer = self._hub.loop.timer(0.0, priority=LAST)
        self._next: deque[OnTurn] = deque()  # the queue that is served next
        self._other: deque[OnTurn] = deque()
        self._sessions, self._newcomers = self._next, self._other
        self._round = -1  # the last one in which somebody had a turn

    def __repr__(self) -> str:
        return f"<Turns sessions={len(self._sessions)} newcomers={len(self._newcomers)}>"

    def take(self) -> bool:
        """Whether one may go ahead at once. If not: `ask`, or `wait`."""
        now = self._hub.loop.iteration
        if self._next or self._other or self._round == now:
            return False
        self._round = now
        return True

    def ask(self, on_turn: OnTurn) -> None:
        """Have `on_turn` called, on the hub, when an open session's turn has come. It must not raise."""
        self._queue(self._sessions, on_turn)

    def forget(self, on_turn: OnTurn) -> None:
        """Don't, any more."""
        self._sessions.remove(on_turn)

    def wait(self) -> None:
        """Wait for a newcomer's turn, in its greenlet."""
        if self.take():
            return
        on_turn = getcurrent().switch
        self._queue(self._newcomers, on_turn)
        try:
            self._hub.switch()
        except BaseException:  # thrown into the greenlet: it has not had its turn
            self._newcomers.remove(on_turn)
            raise

    def close(self) -> None:
        """Let go of the loop."""
        self._timer.close()

    def _queue(self, queue: deque[OnTurn], on_turn: OnTurn) -> None:
        queue.append(on_turn)
        self._timer.start(self._serve)

    def _serve(self) -> None:
        self._next, self._other = self._other, self._next
        queue = self._other or self._next
        if not queue:  # whoever asked is gone
            return
        on_turn = queue.popleft()
        self._round = self._hub.loop.iteration
        if self._next or self._other:
            self._timer.start(self._serve)
        on_turn()
