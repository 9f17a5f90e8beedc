"""The idle connections of one pool: taken last in first out, so that those which are not needed grow old and go.

An idle connection that can be read has ended, or says what nobody asked for; it is closed. A backend ends it some day
for being idle, and a request that is sent at that moment is lost. So it is closed before that (`backend_idle` of
`Timeouts`), and one that has been idle for CHECKED seconds is read once more when it is taken: its end may have come in
the very round of the hub in which a request needs it.
"""

from collections.abc import Callable
from typing import Final

from mcproxy.l7.sockets.pooled import Fit, Holder, Keeper, Pooled
from mcproxy.net.shared import Shared
from mcproxy.stats import BackendTally

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
DEAD: Final = Fit.DEAD
GOOD: Final = Fit.GOOD

CHECKED: Final = 0.5  # seconds; no backend ends a connection sooner for being idle, and asking costs 2 us
LOOK: Final = 1.0  # seconds between two looks at what is too old, and whether the route is still there


class Idle(Keeper):
    """Idle connections, by the session that they are for. The sweeper visits it while there are any."""

    def __init__(
        self, shared: Shared, tally: BackendTally, is_wanted: Callable[[], bool], close: Callable[[Pooled], object]
    ) -> None:
        """`is_wanted` returns whether the route is still in use; `close` closes a connection and gives its place up."""
        self._shared = shared
        self._tally = tally
        self._is_wanted = is_wanted
        self._close = close
        self._by_owner: dict[Holder | None, list[Pooled]] = {}
        self.deadline = 0.0
        self.slot = 0

    def __repr__(self) -> str:
        return f"<Idle {len(self)}>"

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))

    def put(self, conn: Pooled) -> None:
        """Keep a connection."""
        sweeper = self._shared.sweeper
        conn.idle_since = sweeper.now()
        conn.want(read=True)
        self._by_owner.setdefault(conn.owner, []).append(conn)
        self._tally.idle += 1
        if not self.slot:
            sweeper.arm(self, min(LOOK, self._shared.timeouts.backend_idle))

    def take(self, owner: Holder | None) -> Pooled | None:
        """The connection that was used last of those that are for `owner`."""
        mine = self._by_owner.get(owner)
        while mine:
            conn = mine[-1]
            aged = self._shared.sweeper.now() - conn.idle_since >= CHECKED
            if aged and (fit := conn.look()) is not GOOD:
                self.unfit(conn, fit)
                continue
            if len(mine) > 1:
                mine.pop()
            else:
                del self._by_owner[owner]
            self._tally.idle -= 1
            return conn
        return None

    def unfit(self, conn: Pooled, fit: Fit) -> None:
        """Close a connection that the backend has ended, or spoilt."""
        if fit is DEAD:
            self._tally.dead += 1
        else:
            self._tally.poisoned += 1
        self._drop(conn)

    def drop_oldest(self) -> bool:
        """Close the one that has been idle longest, to make room. False: there is none."""
        oldest = min((each[0] for each in self._by_owner.values()), key=lambda conn: conn.idle_since, default=None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def drop_all(self, owners: list[Holder | None] | None = None) -> None:
        """Close all, or those that are for these."""
        for owner in list(self._by_owner) if owners is None else owners:
            for conn in self._by_owner.get(owner, [])[:]:
                self._drop(conn)

    def _drop(self, conn: Pooled) -> None:
        self._remove(conn)
        self._close(conn)

    def _remove(self, conn: Pooled) -> None:
        mine = self._by_owner[conn.owner]
        mine.remove(conn) if mine[-1] is not conn else mine.pop()
        if not mine:
            del self._by_owner[conn.owner]
        self._tally.idle -= 1

    def overdue(self, now: float) -> float | None:
        """Close what is too old, or all of them once the route is gone; returns when to look again."""
        limit = self._shared.timeouts.backend_idle
        if not self._is_wanted():
            self.drop_all()
        for mine in list(self._by_owner.values()):
            for conn in [each for each in mine if now - each.idle_since >= limit]:
                self._drop(conn)
        if not self._by_owner:
            return None
        oldest = min(each[0].idle_since for each in self._by_owner.values())
        return min(now + LOOK, oldest + limit)
