"""The session's greenlet while it waits: events reach it as a switch, and failures as an exception.

The greenlet may be given back meanwhile (`rest`, net/slumber.py); then the first event that is meant for it is reported
to the owner, who has a greenlet `resume`, and a failure at once.
"""

from collections.abc import Callable
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.sockets.side import Event
from mcproxy.native import mypyc_attr
from mcproxy.net.thrown import Thrown


@mypyc_attr(native_class=False)
class Rested(Thrown):
    """Thrown into a greenlet that is given back."""


class Waiting:
    """How callbacks on the hub reach the greenlet that made this."""

    __slots__ = ("_failed", "_greenlet", "_hub", "_stirred", "is_on")

    def __init__(self) -> None:
        self._greenlet: greenlet = getcurrent()
        self._hub = get_hub()
        self._stirred: Callable[[], object] | None = None  # None: there is a greenlet
        self._failed: Callable[[BaseException], object] | None = None
        self.is_on = False  # the greenlet is in `wait`, or rests

    def __repr__(self) -> str:
        return f"<Waiting {'for an event' if self.is_on else 'not'}>"

    def wait(self) -> Event:
        """Wait for an event, in the session's greenlet. Raises what is thrown."""
        self.is_on = True
        try:
            event: Event = self._hub.switch()
        finally:
            self.is_on = self._stirred is not None  # afterwards the greenlet has another session
        return event

    @property
    def rests(self) -> bool:
        """True between `rest` and the first event."""
        return self.is_on and self._stirred is not None

    def rest(self, stirred: Callable[[], object], failed: Callable[[BaseException], object]) -> None:
        """Have `wait` raise Rested. On the hub, while `is_on`.

        From then on `stirred` is called instead of `end`, once, and `failed` instead of throwing.
        """
        self._stirred, self._failed = stirred, failed
        self._greenlet.throw(Rested)

    def resume(self, cause: BaseException | None) -> None:
        """The calling greenlet is the session's from now on. Raises `cause`, if there is one."""
        self._greenlet, self._stirred, self._failed, self.is_on = getcurrent(), None, None, False
        if cause is not None:
            raise cause

    def end(self, event: Event) -> None:
        """Have `wait` return. On the hub, while `is_on`."""
        if self._stirred is None:
            self._greenlet.switch(event)
        elif self.is_on:
            self.is_on = False
            self._stirred()

    def throw(self, *failure: Any) -> None:
        """Have `wait` raise. On the hub, while `is_on`."""
        if self._failed is None:
            self._greenlet.throw(*failure)
        elif self.is_on:
            self.is_on = False
            self._failed(failure[1])

    def throw_later(self, *failure: Any) -> None:
        """Have `wait` raise once this round of the hub is over, if the greenlet still waits then."""
        self._hub.loop.run_callback(self._throw, failure)

    def _throw(self, failure: tuple[Any, ...]) -> None:
        if self.is_on:
            self.throw(*failure)
