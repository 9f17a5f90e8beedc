"""Decides which connections and requests are logged: all, except floods of refusals.

A refusal costs its sender next to nothing, and its line takes 300 bytes of disk. So each reason has a bucket of lines;
lines beyond it are counted, and a summary line is written every few seconds. The same holds for requests that no
backend took part in: one connection can have 60,000 of them answered in a second.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from mcproxy.lines import CONNECTION_LINE, REQUEST_LINES, Format
from mcproxy.model import Connection, Exchanges, FinishedExchange, Origin, Reason
from mcproxy.stats import Stats

# Lines of refused connections, for each reason. Refusals cost their sender next to nothing, and 5,000 a second for a
# day would be 100 GB of lines that are all alike. A burst holds what people look at after an incident; afterwards there
# are at most 9 million lines, 3 GB, a day. Routed connections are never left out, nor requests that a backend got.
REFUSALS_PER_SECOND = 100
REFUSALS_AT_ONCE = 5_000

DONE = "done"  # nearly all requests end so
# The ends (l7/core.py) of requests that mcproxy answered, reset or refused itself. Each has a bucket for each status.
WITHOUT_BACKEND = frozenset(("answered", "refused", "client fault"))

log = logging.getLogger(__name__)
_OK, _PROBE = Reason.OK, Reason.PROBE  # named once: CONTRIBUTING says why


class Buckets:
    """How many lines may be written, for each reason, and how many were left out."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[float, float]] = {}  # how many there were, and when
        self._left_out: Counter[str] = Counter()  # since the last report

    def __repr__(self) -> str:
        return f"<Buckets left_out={self._left_out.total()}>"

    def has_room(self, reason: str, now: float) -> bool:
        """Return whether a line may be written, and count it, either way; `now` is seconds since the epoch."""
        tokens, at = self._tokens.get(reason, (float(REFUSALS_AT_ONCE), now))
        tokens = min(REFUSALS_AT_ONCE, tokens + max(0.0, now - at) * REFUSALS_PER_SECOND)
        self._tokens[reason] = (max(0.0, tokens - 1), now)
        if tokens < 1:
            self._left_out[reason] += 1
        return tokens >= 1

    def report(self, what: str) -> None:
        """Log how many lines of `what` were left out since the last report."""
        if self._left_out:
            counts = ", ".join(f"{reason} {count}" for reason, count in self._left_out.most_common())
            log.warning("left out %d lines of %s: %s", self._left_out.total(), what, counts)
            self._left_out.clear()


class ConnectionLog:
    """Writes a line for each connection that has ended, except in floods of refusals.

    The lines have the level info: a higher level leaves them out without counting them.
    """

    def __init__(
        self,
        put: Callable[[Sequence[str]], None],
        style: Format,
        stats: Stats,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self._put = put
        self._stats = stats
        self.write_as(style)
        self._package = logging.getLogger("mcproxy")
        self._clock = clock
        self._connections, self._requests = Buckets(), Buckets()

    def __repr__(self) -> str:
        return f"<ConnectionLog left_out={self._stats.lines_left_out}>"

    def write_as(self, style: Format) -> None:
        """Write lines in this format from now on, those of requests on open connections too."""
        self._line = CONNECTION_LINE[style]
        self._request_lines = REQUEST_LINES[style]

    def put(self, connection: Connection) -> None:
        """Write the connection's line, unless its reason's bucket is empty."""
        if self._package.level > (logging.DEBUG if connection.reason is _PROBE else logging.INFO):
            return
        if connection.reason is not _OK:
            now = connection.started + connection.duration
            if not self._connections.has_room(connection.reason, now):
                self._stats.lines_left_out += 1
                return
        self._put((self._line(connection),))

    def requests(self, origin: Origin) -> Callable[[Exchanges], None]:
        """A function that writes the lines of one connection's requests, as they end."""
        made = self._request_lines
        lines, put, package, clock = made(origin), self._put, self._package, self._clock

        def put_lines(exchanges: Exchanges) -> None:
            nonlocal made, lines
            if made is not self._request_lines:
                made = self._request_lines
                lines = made(origin)
            if package.level <= logging.INFO:
                now = clock()
                kept = [each for each in exchanges if each.end == DONE or self._has_room(each, now)]
                if kept:
                    put(lines(kept, now))

        return put_lines

    def report(self) -> None:
        """Log how many lines were left out since the last report."""
        self._connections.report("refused connections")
        self._requests.report("requests that mcproxy answered itself")

    def _has_room(self, exchange: FinishedExchange, now: float) -> bool:
        if exchange.end not in WITHOUT_BACKEND:
            return True
        reason = f"{exchange.end} {exchange.status}" if exchange.status else exchange.end
        if self._requests.has_room(reason, now):
            return True
        self._stats.lines_left_out += 1
        return False
