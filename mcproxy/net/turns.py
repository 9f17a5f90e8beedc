"""Who may do something long: one in each round of the hub.

In a round the hub handles all that has happened before it looks again, so that whatever happens meanwhile waits for all
of it: eight downloads of 0.3 ms each, or the handshakes of everybody who comes back after a restart. So what is long
has a turn: at once where nobody had one in this round, else in a queue, one in each round that follows, and after all
that is short. It costs a look at the sockets for each, 5 us.
"""

import time
from collections import deque
from collections.abc import Callable

from gevent.hub import get_hub
from greenlet import getcurrent

LAST = -2  # libev's lowest priority: of all that has happened, this is handled last; the default is timers first
QUIET = 0.1  # seconds without anybody else, after which one is alone


class Turns:
    """The turns of one hub. Everything here happens on its thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._hub = get_hub()
        self._timer = self._hub.loop.timer(0.0, priority=LAST)
        self._waiting: deque[Callable[[], object]] = deque()
        self._round = -1  # the last one in which somebody had a turn
        self.last: object = None  # whose event was handled last, if that one is still there
        self._since = 0.0  # when somebody else's was, before it

    def __repr__(self) -> str:
        return f"<Turns waiting={len(self._waiting)}>"

    def take(self) -> bool:
        """Whether one may go ahead at once. If not: ask."""
        now = self._hub.loop.iteration
        if self._waiting or self._round == now:
            return False
        self._round = now
        return True

    def ask(self, on_turn: Callable[[], object]) -> None:
        """Have `on_turn` called, on the hub, when its turn has come. It must not raise."""
        if not self._waiting:
            self._timer.start(self._next)
        self._waiting.append(on_turn)

    def forget(self, on_turn: Callable[[], object]) -> None:
        """Don't, any more."""
        if on_turn in self._waiting:
            self._waiting.remove(on_turn)

    def wait(self) -> None:
        """Wait for a turn, in a greenlet of one's own."""
        if self.take():
            return
        on_turn = getcurrent().switch
        self.ask(on_turn)
        try:
            self._hub.switch()
        except BaseException:
            self.forget(on_turn)
            raise

    def close(self) -> None:
        """Let go of the loop."""
        self._timer.close()

    def _next(self) -> None:
        if not self._waiting:  # whoever asked is gone
            return
        on_turn = self._waiting.popleft()
        self._round = self._hub.loop.iteration
        if self._waiting:
            self._timer.start(self._next)
        on_turn()

    # Whether somebody is alone

    def heard(self, who: object) -> None:
        """Something has happened to `who`, not to `last`."""
        self.last = who
        self._since = self._clock()

    def alone(self) -> bool:
        """Whether nothing has happened to anybody but `last` for a while."""
        return self._clock() - self._since >= QUIET
