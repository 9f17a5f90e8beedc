"""The census: every open session is looked at now and then, a few at each beat of the pulse.

A session's bytes are counted when it ends; those of a session that lives for hours would appear hours late. So the
census counts what it has moved so far, and logs a line for it every hour, which also remains in the log if the machine
loses power.
"""

import time
from collections.abc import Callable
from typing import Final

from mcproxy.model import Connection, End
from mcproxy.net.pulse import PERIOD
from mcproxy.net.shared import OpenSession

ROUND: Final = 15.0  # seconds for a look at all: as often as metrics are usually scraped
# Seconds between two lines of one connection: 24 a day, where an idle one may live for weeks.
LINE_INTERVAL: Final = 3600.0
SLICE: Final = 16  # sessions that are looked at in a beat at least, some 10 us


class Census:
    """Visits the sessions of a worker, on the hub's thread."""

    def __init__(
        self,
        sessions: dict[int, OpenSession],
        write: Callable[[Connection], object],
        line_interval: float = LINE_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`write` gets each connection that lives, every `line_interval` seconds."""
        self._sessions = sessions
        self._write = write
        self._line_interval = line_interval
        self._clock = clock
        self._ids: list[int] = []  # those to be visited in this round
        self._slice = SLICE

    def __repr__(self) -> str:
        return f"<Census left={len(self._ids)}>"

    def step(self) -> None:
        """Visit the next few; the pulse calls this at each beat."""
        if not self._ids:
            self._ids = list(self._sessions)
            self._slice = max(SLICE, int(len(self._ids) / (ROUND / PERIOD)) + 1)
        batch, self._ids = self._ids[: self._slice], self._ids[self._slice :]
        for number in batch:
            if (session := self._sessions.get(number)) is not None:
                self._visit(session)

    def _visit(self, session: OpenSession) -> None:
        session.account.moved(session.received, session.sent)
        lines = int((self._clock() - session.facts.began) / self._line_interval)
        if lines > session.account.lines:
            session.account.lines = lines
            self._write(session.connection()._replace(end=End.OPEN))
