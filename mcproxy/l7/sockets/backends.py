"""What the backends of a worker's routes speak: found out once, remembered, and looked at again where it is in doubt.

In doubt is what was found once the backend was away (a dial failed), or has answered in another version. One look at a
time is under way for a route (probe.py); the sessions that need its answer wait for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gevent.event import Event

from mcproxy.l7.sockets.pooled import HTTP1
from mcproxy.l7.sockets.probe import Answer, decided
from mcproxy.model import Route, RouteKey
from mcproxy.net.failures import without_frames
from mcproxy.stats import Spoken
from mcproxy.table import Live

MAX_ROUTES: Final = 256  # routes that are remembered, before those that are gone are forgotten; doubled as needed

Look = Callable[[Route], Answer]  # waits; raises Refused, Lost


@dataclass(slots=True, eq=False)
class _Entry:
    route: Route
    spoken: Spoken | None = None
    doubted: bool = False  # it will be looked at again
    looking: "_Looking | None" = None


@dataclass(slots=True, eq=False)
class _Looking:
    """A look under way."""

    over: Event = field(default_factory=Event)
    failure: Exception | None = None


class Backends:
    """The memory of one worker. Everything here happens on the hub's thread, but for `spoken`."""

    def __init__(self, live: Live) -> None:
        """`live` has the table of the present routes; others are forgotten."""
        self._live = live
        self._entries: dict[RouteKey, _Entry] = {}
        self._prune_at = MAX_ROUTES

    def __repr__(self) -> str:
        return f"<Backends routes={len(self._entries)}>"

    def spoken(self, key: RouteKey, route: Route) -> Spoken | None:
        """What was found last; None: nothing yet, or the route decides itself. Any thread may ask."""
        entry = self._entries.get(key)
        return entry.spoken if entry is not None and entry.route == route else None

    def last(self, key: RouteKey, route: Route) -> str:
        """The version that is most likely: what the route says, or what was found last; "http/1.1" before that."""
        if answer := decided(route):
            return answer.version
        spoken = self.spoken(key, route)
        return spoken.version if spoken is not None else HTTP1

    def find(self, key: RouteKey, route: Route, look: Look, spawn: Callable[[Callable[[], None]], object]) -> str:
        """The version of HTTP that a route's backend speaks; found out by `look` if that is unknown or in doubt.

        Waits for that, in the caller's greenlet; the look runs in another one, which `spawn` begins, and does not end
        with the caller. Raises Refused and Lost where the backend could not be reached.
        """
        if decided(route):
            return self.last(key, route)
        entry = self._entry(key, route)
        if entry.spoken is not None and not entry.doubted:
            return entry.spoken.version
        looking = entry.looking or self._begin(entry, look, spawn)
        try:
            looking.over.wait()
            if looking.failure is not None:
                raise looking.failure
        finally:
            del looking  # it has what is raised, whose traceback has this frame: a circle
        return self.last(key, route)

    def _begin(self, entry: _Entry, look: Look, spawn: Callable[[Callable[[], None]], object]) -> _Looking:
        looking = entry.looking = _Looking()
        spawn(lambda: self._look(entry, looking, look))
        return looking

    def found(self, key: RouteKey, route: Route, answer: Answer) -> None:
        """A connection has shown what is spoken."""
        if decided(route) is None:
            self._note(self._entry(key, route), answer)

    def doubt(self, key: RouteKey, route: Route) -> None:
        """What was found may be true no longer."""
        entry = self._entries.get(key)
        if entry is not None and entry.route == route:
            entry.doubted = True

    def _look(self, entry: _Entry, looking: _Looking, look: Look) -> None:
        try:
            self._note(entry, look(entry.route))
        except Exception as failure:  # noqa: BLE001 - those that wait raise it
            looking.failure = without_frames(failure)
        entry.looking = None
        looking.over.set()

    @staticmethod
    def _note(entry: _Entry, answer: Answer) -> None:
        entry.doubted = False
        entry.spoken = Spoken(answer.version, answer.how, time.time())

    def _entry(self, key: RouteKey, route: Route) -> _Entry:
        entry = self._entries.get(key)
        if entry is None or entry.route != route:
            if len(self._entries) >= self._prune_at:
                is_kept = self._live.table.has_route
                self._entries = {each: kept for each, kept in self._entries.items() if is_kept(each)}
                self._prune_at = MAX_ROUTES + 2 * len(self._entries)
            entry = self._entries[key] = _Entry(route)
        return entry
