"""The connections to one route's backend: kept alive between requests, bounded, and shared by all its clients.

A line asks for a connection (`ask`). An idle one is there at once. If there is none, a new one is dialled, unless the
route has as many as it may: then the line waits, in the order of arrival, for `connect_timeout` at most; after that its
request gets 503. Whatever becomes free first goes to the line that has waited longest, even if it was dialled for
another; so a dial whose line is gone serves another, or is kept idle.

Where a route sends PROXY headers, each connection has one client's address in it. So it belongs to the session
that made it, and is closed at its end; to make room, the oldest idle one of another session is closed.

A connection that turns out to speak HTTP/2 is not pooled. It stays with its line until that needs it no longer, and
counts in no bound, for a client has one of them.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

from gevent.hub import get_hub

from mcproxy.l7.core import Line
from mcproxy.l7.sockets.channel import Channel, Lost
from mcproxy.l7.sockets.dialling import Dialling
from mcproxy.l7.sockets.idle import Idle
from mcproxy.l7.sockets.pooled import Holder, Made, Pooled
from mcproxy.model import Reason, Refused, Route, RouteKey
from mcproxy.native import mypyc_attr
from mcproxy.net.shared import Shared

log: Final = logging.getLogger(__name__)

_NONE: Mapping[Line, "Seeker"] = {}


class Seeker:
    """A line that waits for a connection. It has a deadline of its own while no dial is made for it."""

    __slots__ = ("_late", "deadline", "holder", "line", "owner", "slot")

    def __init__(self, line: Line, holder: Holder, owner: Holder | None, late: Callable[["Seeker"], object]) -> None:
        self._late = late
        self.line = line
        self.holder = holder
        self.owner = owner  # None: any connection will do
        self.deadline = 0.0
        self.slot = 0

    def __repr__(self) -> str:
        return f"<Seeker for {self.line!r}>"

    def overdue(self, now: float) -> float | None:  # noqa: ARG002 - the sweeper's
        """It has waited too long."""
        self._late(self)
        return None


class Dialled:
    """A dial for a pool, which may outlive the session that it was begun for; its deadline is its own."""

    __slots__ = ("_dialling", "_limit", "_over", "deadline", "failure", "made", "seeker", "slot")

    def __init__(self, seeker: Seeker, limit: float, over: Callable[["Dialled"], object]) -> None:
        """`limit` is seconds; `over` is called on the hub, unless it is given up."""
        self._limit = limit
        self._over = over
        self._dialling: Dialling | None = Dialling(self._dial, b"", 0.0, self._is_over)
        self.failure: Exception | None = None  # why there is no connection
        self.seeker = seeker
        self.made: Made | None = None
        self.deadline = 0.0
        self.slot = 0

    def __repr__(self) -> str:
        return f"<Dialled {self._dialling!r}>"

    def start(self, shared: Shared) -> None:
        """Dial, in one of the crew's greenlets."""
        shared.sweeper.arm(self, self._limit)
        if self._dialling is not None:
            self._dialling.start(shared.crew)

    def _dial(self, _first: bytes) -> Channel:
        self.made = self.seeker.holder.connect()
        return self.made.channel

    def _is_over(self) -> None:
        dialling, self._dialling = self._dialling, None  # which keeps this one, too
        self.failure = dialling.failure if dialling is not None else None
        self._over(self)

    def overdue(self, now: float) -> float | None:  # noqa: ARG002 - the sweeper's
        """It takes too long."""
        if self._dialling is not None:
            self._dialling.fail(Refused(Reason.BACKEND_TIMEOUT, f"no connection in {self._limit:g} s"))
        return None

    def abandon(self) -> None:
        """Give it up."""
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.abandon()


@mypyc_attr(native_class=False)  # for its weak references
class Pool:
    """The connections of one route. Everything here happens on the hub's thread; nothing raises."""

    def __init__(self, shared: Shared, key: RouteKey, route: Route) -> None:
        self.route = route
        self.tally = shared.stats.route(key).backend
        self._shared = shared
        self._key = key
        self._idle = Idle(shared, self.tally, self._is_current, self.discard)
        self._seekers: dict[Holder | None, OrderedDict[Line, Seeker]] = {}  # in the order of arrival
        self._queued: OrderedDict[Line, Seeker] = OrderedDict()  # those without a dial, in the order of arrival
        self._dials: set[Dialled] = set()
        self._count = 0  # of dials, and of connections of HTTP/1.1
        self._retired = False
        self._advancing = False

    def __repr__(self) -> str:
        return f"<Pool {self.route.hostname} count={self._count} {self._idle!r} queued={len(self._queued)}>"

    def ask(self, line: Line, holder: Holder) -> Pooled | None:
        """Return an idle connection. None: `found` or `failed` of the holder follows, unless it `forget`s the line."""
        owner = holder if self.route.send_proxy_protocol else None
        mine = self._seekers.get(owner)
        if not mine and (conn := self._idle.take(owner)) is not None:
            return conn
        if mine is None:
            mine = self._seekers[owner] = OrderedDict()
        seeker = mine[line] = Seeker(line, holder, owner, self._late)
        self._enqueue(seeker)
        if not self._advancing:  # else what is idle has to be given away first
            self._dial_queued()
        if line in self._queued:
            self._shared.sweeper.arm(seeker, self._shared.timeouts.connect)
        return None

    def forget(self, line: Line, holder: Holder) -> None:
        """The line no longer needs one. A dial for it goes on, for others."""
        owner = holder if self.route.send_proxy_protocol else None
        seeker = self._seekers.get(owner, _NONE).get(line)
        if seeker is not None:
            self._remove(seeker)

    def give_back(self, conn: Pooled) -> None:
        """Keep a connection that has served its line, and is fit for another request."""
        if self._retired and not self._seekers:
            self.discard(conn)
            return
        self._idle.put(conn)
        if self._seekers:
            self._advance_soon()

    def discard(self, conn: Pooled) -> None:
        """Close a connection, in whatever state it is."""
        channel = conn.channel
        conn.leave()
        conn.close()
        channel.end()
        channel.close()
        if conn.is_http1:
            self._leave_place()

    def leave(self, holder: Holder) -> None:
        """A session ends, whose lines have no connection and wait for none: what is only for it goes."""
        if not self.route.send_proxy_protocol:
            return
        self._idle.drop_all([holder])
        for dial in [each for each in self._dials if each.seeker.owner is holder]:
            self._dials.remove(dial)
            self._shared.sweeper.disarm(dial)
            dial.abandon()
            self._leave_place()

    def retire(self) -> None:
        """The route has changed: what is in use is closed after its use, and what is idle at once."""
        self._retired = True
        self._idle.drop_all()

    def _is_current(self) -> bool:
        listener = self._shared.live.table.listeners.get(self._key[0])
        return listener is not None and listener.routes.get(self._key[1]) == self.route

    # Lines that wait

    def _enqueue(self, seeker: Seeker) -> None:
        self._queued[seeker.line] = seeker
        self.tally.waiting += 1

    def _dequeue(self, seeker: Seeker) -> None:
        if self._queued.pop(seeker.line, None) is not None:
            self.tally.waiting -= 1
            self._shared.sweeper.disarm(seeker)

    def _remove(self, seeker: Seeker) -> None:
        """It waits no longer."""
        self._dequeue(seeker)
        mine = self._seekers[seeker.owner]
        del mine[seeker.line]
        if not mine:
            del self._seekers[seeker.owner]

    def _is_seeking(self, seeker: Seeker) -> bool:
        return self._seekers.get(seeker.owner, _NONE).get(seeker.line) is seeker

    def _late(self, seeker: Seeker) -> None:
        bound, limit = self.route.max_backend_connections, self._shared.timeouts.connect
        self.tally.waited_too_long += 1
        self._remove(seeker)
        why = f"all {bound} connections to the backend were in use for {limit:g} s; see max_backend_connections"
        seeker.holder.failed(seeker.line, 503, why)

    def _leave_place(self) -> None:
        self._count -= 1
        if self._queued:
            self._advance_soon()

    def _advance_soon(self) -> None:
        """Later: the session that gives a connection back is in the middle of something."""
        if not self._advancing:
            self._advancing = True
            get_hub().loop.run_callback(self._advance)

    def _advance(self) -> None:
        """Give what is idle to those that wait, and dial for the others as long as there is a place."""
        self._advancing = False
        for owner, mine in list(self._seekers.items()):
            while mine and (conn := self._idle.take(owner)) is not None:
                self._meet(next(iter(mine.values())), conn)
        self._dial_queued()

    def _meet(self, seeker: Seeker, conn: Pooled) -> None:
        self._remove(seeker)
        seeker.holder.found(seeker.line, conn)

    # Dials

    def _dial_queued(self) -> None:
        while self._queued and self._has_place():
            seeker = next(iter(self._queued.values()))
            self._dequeue(seeker)
            self._count += 1
            dial = Dialled(seeker, self._shared.timeouts.connect, self._dialled)
            self._dials.add(dial)
            dial.start(self._shared)

    def _has_place(self) -> bool:
        """Whether one more connection may be made; where an idle one is in the way, it is of another session."""
        is_full = self._count >= self.route.max_backend_connections
        return not is_full or (self.route.send_proxy_protocol and self._idle.drop_oldest())

    def _dialled(self, dial: Dialled) -> None:
        if dial not in self._dials:
            return  # it was given up, just too late
        self._dials.remove(dial)
        self._shared.sweeper.disarm(dial)
        if dial.failure is not None or dial.made is None:
            self._leave_place()
            self._fail(dial.seeker, dial.failure)
            return
        conn = Pooled(dial.made, dial.seeker.owner, self._idle)
        conn.want(read=True)
        self.tally.made[dial.made.version] += 1
        if not conn.is_http1:
            self._leave_place()
        mine = self._seekers.get(conn.owner)
        if mine:
            self._meet(next(iter(mine.values())), conn)
        elif conn.is_http1:
            self.give_back(conn)
        else:
            self.discard(conn)

    def _fail(self, seeker: Seeker, failure: Exception | None) -> None:
        known = isinstance(failure, Refused | Lost)
        if self._is_seeking(seeker):
            self._remove(seeker)
            if known:
                timed_out = isinstance(failure, Refused) and failure.reason is Reason.BACKEND_TIMEOUT
                seeker.holder.failed(seeker.line, 504 if timed_out else 502, str(failure))
            elif failure is not None:
                seeker.holder.broke(failure)
        elif not known:
            log.error("bug in %r", self, exc_info=failure)


class Pools:
    """The pools of a worker. One lives as long as a session uses it, or a connection is idle there."""

    def __init__(self) -> None:
        self._pools: WeakValueDictionary[RouteKey, Pool] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Pools {len(self._pools)}>"

    def of(self, shared: Shared, listener: str, route: Route) -> Pool:
        """The pool of a route; the one that it had before it was changed is retired."""
        key = listener, route.hostname
        pool = self._pools.get(key)
        if pool is not None and (pool.route is route or pool.route == route):  # a look at all fields takes 2 us
            return pool
        if pool is not None:
            pool.retire()
        pool = self._pools[key] = Pool(shared, key, route)
        return pool

    def retire(self) -> None:
        """Retire all: the worker stops."""
        for pool in list(self._pools.values()):
            pool.retire()
