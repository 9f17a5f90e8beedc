"""Turns: in each round of the hub, one session may do long work.

In a round the hub handles all events that are ready before it polls again, so an event that comes meanwhile waits for
all of them: eight downloads of 0.3 ms each, or the handshakes of all clients that reconnect after a restart. So long
work needs a turn. The first in a round runs at once; the others queue, and one runs in each of the following rounds,
after all short work. The price is one poll of the sockets for each turn, 5 us.

Two queues alternate: one of open sessions and one of newcomers, whose handshakes would otherwise delay every download
until the last of a thousand is done. Each queue holds a session at most once.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from gevent.hub import get_hub
from greenlet import getcurrent

LAST: Final = -2  # libev's lowest priority: of all that has happened, this is handled last; the default is timers first

OnTurn = Callable[[], object]


class Turns:
    """The turns of one hub. Everything here happens on its thread."""

    def __init__(self) -> None:
        self._hub = get_hub()
        self._timer = self._hub.loop.timer(0.0, priority=LAST)
        self._next: deque[OnTurn] = deque()  # the queue that is served next
        self._other: deque[OnTurn] = deque()
        self._sessions, self._newcomers = self._next, self._other
        self._round = -1  # the last one in which a session had a turn

    def __repr__(self) -> str:
        return f"<Turns sessions={len(self._sessions)} newcomers={len(self._newcomers)}>"

    def take(self) -> bool:
        """True if the caller may go ahead at once. If not: `ask`, or `wait`."""
        now = self._hub.loop.iteration
        if self._next or self._other or self._round == now:
            return False
        self._round = now
        return True

    def ask(self, on_turn: OnTurn) -> None:
        """Call `on_turn`, on the hub, when an open session's turn has come. It must not raise."""
        self._queue(self._sessions, on_turn)

    def forget(self, on_turn: OnTurn) -> None:
        """Take back `ask`: don't call `on_turn`."""
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
        """Release the loop's watcher."""
        self._timer.close()

    def _queue(self, queue: deque[OnTurn], on_turn: OnTurn) -> None:
        queue.append(on_turn)
        self._timer.start(self._serve)

    def _serve(self) -> None:
        self._next, self._other = self._other, self._next
        queue = self._other or self._next
        if not queue:  # the session that asked is gone
            return
        on_turn = queue.popleft()
        self._round = self._hub.loop.iteration
        if self._next or self._other:
            self._timer.start(self._serve)
        on_turn()
