"""The turns of one session: which of its sides wait for one (see net/turns.py)."""

from collections import deque
from collections.abc import Callable

from mcproxy.l7.sockets.side import Event, Side
from mcproxy.net.turns import Turns


class ItsTurns:
    """What a session still has to do that is long: one side of it each turn, in the order in which they came."""

    __slots__ = ("_on", "_turns", "due")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._on: Callable[[Event], object] | None = None  # None: no turn is asked for
        # Sides to read, or to offer again what they have pending; connections of lines are there themselves.
        self.due: deque[Event | Side] = deque()

    def __repr__(self) -> str:
        return f"<ItsTurns {', '.join(map(str, self.due))}>"

    def take(self) -> bool:
        """Whether something long may be done at once. If not, it is to be put into `due`."""
        return self._turns.take()

    def may_read(self, side: Side, which: Event | Side, its_turn: bool) -> bool:
        """Whether to read a side in bulk now. If not, it is in `due` as `which`, or its pending bytes come first."""
        if not its_turn and not self._turns.take():
            self.due.append(which)
            return False
        if its_turn and side.halted:
            side.halted = False
            return False
        return True

    def ask(self, on: Callable[[Event], object]) -> None:
        """Ask for a turn, unless one is asked for. `on` is called with TURN, on the hub; `due` is not empty then."""
        if self._on is None:
            self._on = on
            self._turns.ask(self._begin)

    def _begin(self) -> None:
        on, self._on = self._on, None
        assert on is not None
        on(Event.TURN)

    def remove(self, side: Side) -> None:
        """Nothing more is to be done for it."""
        if side in self.due:
            self.due.remove(side)
            if not self.due:
                self.forget()

    def forget(self) -> None:
        """Take back the request for a turn."""
        if self._on is not None:
            self._on = None
            self._turns.forget(self._begin)
