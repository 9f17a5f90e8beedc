"""Sessions that are silent give their greenlets back: an idle connection then costs its sockets, watchers and facts.

A greenlet that waits holds its C stack and the pages of its Python frames, 4 to 8 KB; a relay has two. So every session
that moves bytes is in `Shared.awake`, with the bytes that it had moved at the last look. The pulse has `Slumber` look
at each once in `ROUND`; one that has moved nothing since is asked to rest.

| state | who runs it | it ends by |
| --- | --- | --- |
| awake | its greenlets; it is in `awake` | its carrier's end, or an exception that is thrown into its greenlet |
| resting | nobody: watchers call its carrier; it is in no list but the sessions | see below |
| stirred | a job of the crew is on its way, from the hub's next round on | that job, which finds a cause, or is awake |

What a session is left with when it rests is its carrier's: l4's two watchers (net/relay.py) call `stirred` whatever can
be read, l7's four go on as always, for all of an l7 session happens in callbacks, and wake it for its end alone.

* **An end, a half-close, a reset** make a socket readable. They are found by the greenlets that are taken again.
* **A cut** (an operator, a firewall rule's `--kill`, idle_timeout, the end of draining) needs no greenlet, since all
  that is left to do is to close: `Session.cut` does that at once, on the hub. A cut that comes while it is stirred is
  kept, and its job begins with it.
* **Draining** asks nothing of l4; an l7 core is asked as always, and its end wakes the session.
* **Deadlines** are the sweeper's, which asks the carrier and not its greenlets.
* **Bytes that the other side has not taken** keep a session awake, be they in a pipe or read: it rests only where each
  direction waits for its source. A side that has ended keeps it awake, too: what is half closed has a deadline soon.

Exact: nothing is lost by resting, because watchers are level-triggered and nothing is read in between. Not exact: when.
A session rests one to two `ROUND`s after its last byte, and later where many fall silent at once (`MOST`).

The crew keeps few of the greenlets that it gets back here, for 512 of them would be half of what 1,000 idle connections
take. Those that end leave their memory free in the middle of the heap. Where many rest at once, `MANY`, the kernel gets
that back: idle connections that come one after another take 3 KB each, and 1,000 or 3,000 at once 5, of which 2 are
still free.

It costs 30 to 45 us to rest and to be stirred, once a silence. A client that sends a byte in each has us work twice as
much for it as for a byte that comes sooner, and no more.
"""

import threading
from collections.abc import Callable

from mcproxy.net.crew import MAX_RESTING
from mcproxy.net.pulse import PERIOD
from mcproxy.net.shared import OpenSession
from mcproxy.tuning import give_memory_back

ROUND = 1.0  # seconds for a look at all
SLICE = 16  # sessions that are looked at in a beat at least, 3 us
MOST = 100  # that are laid to rest in a beat: about a millisecond of the hub
KEPT = 32  # greenlets that the crew has for the next connections, in a beat in which so many sessions give theirs back
MANY = 500  # that rested without a beat in which none did, before memory is given back: a megabyte or two


class Slumber:
    """Lays silent sessions of a worker to rest, on the hub's thread."""

    def __init__(
        self,
        awake: dict[OpenSession, int],
        keep: Callable[[int], object],
        free: Callable[[], object] = give_memory_back,
    ) -> None:
        """`awake` are those that move bytes, with how many they had moved when they were looked at last.

        `keep` is the crew's; `free` gives memory back, in a thread of its own.
        """
        self._awake = awake
        self._keep = keep
        self._free = free
        self._rested = 0  # since `free`, or since a beat in which none did
        self._left: list[OpenSession] = []  # to be looked at in this round
        self._slice = SLICE

    def __repr__(self) -> str:
        return f"<Slumber awake={len(self._awake)}>"

    def step(self) -> None:
        """Look at the next few; the pulse calls this at each beat."""
        if not self._left:
            self._left = list(self._awake)
            self._slice = max(SLICE, int(len(self._left) / (ROUND / PERIOD)) + 1)
        rested = looked = 0
        self._keep(KEPT)  # some end within `rest`, others in the hub's next round
        while self._left and looked < self._slice and rested < MOST:
            looked += 1
            rested += self._look(self._left.pop())
        self._keep(KEPT if rested >= KEPT else MAX_RESTING)
        self._rested += rested
        if not rested:
            if self._rested >= MANY:
                threading.Thread(target=self._free, name="slumber", daemon=True).start()
            self._rested = 0

    def _look(self, session: OpenSession) -> bool:
        before = self._awake.get(session)
        if before is None:
            return False  # it has ended meanwhile
        moved = session.received + session.sent
        if moved == before and session.carrier is not None and session.carrier.rest():
            return True
        self._awake[session] = moved
        return False
