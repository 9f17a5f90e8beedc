"""The session's greenlet while it waits: events reach it as a switch, and failures as an exception."""

from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.sockets.side import Event


class Waiting:
    """How callbacks on the hub reach the greenlet that made this."""

    __slots__ = ("_greenlet", "_hub", "is_on")

    def __init__(self) -> None:
        self._greenlet: greenlet = getcurrent()
        self._hub = get_hub()
        self.is_on = False  # the greenlet is in `wait`

    def __repr__(self) -> str:
        return f"<Waiting {'for an event' if self.is_on else 'not'}>"

    def wait(self) -> Event:
        """Wait for an event, in the session's greenlet. Raises what is thrown."""
        self.is_on = True
        try:
            event: Event = self._hub.switch()
        finally:
            self.is_on = False  # afterwards the greenlet has another session
        return event

    def end(self, event: Event) -> None:
        """Have `wait` return. On the hub, while `is_on`."""
        self._greenlet.switch(event)

    def throw(self, *failure: Any) -> None:
        """Have `wait` raise. On the hub, while `is_on`."""
        self._greenlet.throw(*failure)

    def throw_later(self, *failure: Any) -> None:
        """Have `wait` raise once this round of the hub is over, if the greenlet still waits then."""
        self._hub.loop.run_callback(self._throw, failure)

    def _throw(self, failure: tuple[Any, ...]) -> None:
        if self.is_on:
            self._greenlet.throw(*failure)
