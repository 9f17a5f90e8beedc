"""A dial in progress, in a greenlet of its own, so that the session goes on meanwhile.

A dial that is given up gets an exception, and closes what it holds.
"""

from collections.abc import Callable

from gevent.hub import get_hub

from mcproxy.l7.sockets.channel import Channel
from mcproxy.net.crew import Crew, Job
from mcproxy.net.failures import without_frames

Dial = Callable[[bytes], Channel]  # connects and sends; raises Refused, Lost


class _Abandoned(Exception):
    """The connection is no longer needed."""


class Dialling:
    """A dial. It is over once it has a `channel` or a `failure`."""

    __slots__ = (
        "_cause",
        "_dial",
        "_first",
        "_job",
        "_over",
        "channel",
        "deadline",
        "failure",
        "unsent",
        "waiting",
    )

    def __init__(self, dial: Dial, first: bytes, deadline: float, over: Callable[[], object]) -> None:
        """`first` is sent at once; `over` is called on the hub's thread, unless it is given up."""
        self._dial = dial
        self._first = first
        self._over = over
        self._job: Job | None = None
        self._cause: Exception | None = None
        self.deadline = deadline  # on the sweeper's clock
        self.channel: Channel | None = None
        self.failure: Exception | None = None
        self.waiting: list[bytes] = []  # to be sent behind `first`
        self.unsent = 0  # bytes of it

    def __repr__(self) -> str:
        return f"<Dialling {self.failure or self.channel or 'under way'}>"

    def put(self, data: bytes) -> None:
        """Send this once it is connected."""
        if data:
            self.waiting.append(data)
            self.unsent += len(data)

    def start(self, crew: Crew) -> None:
        """Dial in one of the crew's greenlets."""
        self._job = crew.spawn(self._run)

    def _run(self) -> None:
        try:
            if self._cause is not None:
                raise self._cause
            self.channel = self._dial(self._first)
        except Exception as error:  # noqa: BLE001 - the session's greenlet looks at it
            self.failure = without_frames(error)
        if isinstance(self._cause, _Abandoned):
            self._discard()
        else:
            get_hub().loop.run_callback(self._over)  # not from here: it may switch to the session, and never back

    def fail(self, cause: Exception) -> None:
        """Give it up, with `cause` as its failure."""
        if self._cause is None and self.channel is None and self.failure is None:
            self._cause = cause
            get_hub().loop.run_callback(self._throw)  # later: a throw from a greenlet would not come back to it

    def abandon(self) -> None:
        """Give it up, and clean up."""
        self._cause = _Abandoned()
        self._discard()
        get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        if self._job is not None and self._cause is not None:
            self._job.throw(self._cause)

    def _discard(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.abort()
