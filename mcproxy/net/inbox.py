"""Begins the sessions that other workers have handed over to this one (siblings.py)."""

from gevent.hub import get_hub

from mcproxy.net.listener import MAX_ACCEPT, MAX_NOT_BEGUN
from mcproxy.net.raw import READ, IoWatcher
from mcproxy.net.session import Session
from mcproxy.net.shared import Shared
from mcproxy.net.siblings import Siblings


class Inbox:
    """Takes connections out of a worker's inbox as an Acceptor accepts them: few at a time."""

    def __init__(self, shared: Shared, siblings: Siblings) -> None:
        self._shared = shared
        self._siblings = siblings
        self._watcher: IoWatcher | None = None

    def __repr__(self) -> str:
        return f"<Inbox open={self._watcher is not None} {self._siblings}>"

    def open(self) -> None:
        """Begin to take them."""
        self._watcher = get_hub().loop.io(self._siblings.inbox.fileno(), READ)
        self._watcher.start(self._take)
        self._siblings.serve(on=True)

    def close(self) -> None:
        """Take no more."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            self._siblings.serve(on=False)

    def _take(self) -> None:
        shared = self._shared
        for _ in range(MAX_ACCEPT):
            if shared.not_begun >= MAX_NOT_BEGUN or (found := self._siblings.receive()) is None:
                return
            client, handed = found
            tally = shared.stats.listener(handed.listener)
            tally.take_over()
            Session(shared, handed.listener, tally, client, handed.client).start(handed)
