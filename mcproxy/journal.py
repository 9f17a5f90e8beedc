"""Decides which connections and requests are logged: all, except floods of refusals.

A refusal costs its sender next to nothing, and its line takes 300 bytes of disk. So each reason has a bucket of lines;
lines beyond it are counted, and a summary line is written every few seconds.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from mcproxy.lines import CONNECTION_LINE, REQUEST_LINES, Format
from mcproxy.model import Connection, Exchanges, Origin, Reason
from mcproxy.stats import Stats

# Lines of refused connections, for each reason. Refusals cost their sender next to nothing, and 5,000 a second for a
# day would be 100 GB of lines that are all alike. A burst holds what people look at after an incident; afterwards there
# are at most 9 million lines, 3 GB, a day. Routed connections are never left out.
REFUSALS_PER_SECOND = 100
REFUSALS_AT_ONCE = 5_000

log = logging.getLogger(__name__)


class ConnectionLog:
    """Writes a line for each connection that has ended, except in floods of refusals.

    The lines have the level info: a higher level leaves them out without counting them.
    """

    def __init__(self, put: Callable[[Sequence[str]], None], style: Format, stats: Stats) -> None:
        self._put = put
        self._stats = stats
        self.write_as(style)
        self._package = logging.getLogger("mcproxy")
        self._tokens: dict[Reason, tuple[float, float]] = {}  # how many there were, and when
        self._left_out: Counter[Reason] = Counter()  # since the last report

    def __repr__(self) -> str:
        return f"<ConnectionLog left_out={self._stats.lines_left_out}>"

    def write_as(self, style: Format) -> None:
        """Write lines in this format from now on, those of requests on open connections too."""
        self._line = CONNECTION_LINE[style]
        self._request_lines = REQUEST_LINES[style]

    def put(self, connection: Connection) -> None:
        """Write the connection's line, unless its reason's bucket is empty."""
        if self._package.level > (logging.DEBUG if connection.reason is Reason.PROBE else logging.INFO):
            return
        if connection.reason is not Reason.OK and not self._has_room(connection):
            self._left_out[connection.reason] += 1
            self._stats.lines_left_out += 1
            return
        self._put((self._line(connection),))

    def requests(self, origin: Origin) -> Callable[[Exchanges], None]:
        """A function that writes the lines of one connection's requests, as they end."""
        made = self._request_lines
        lines, put, package, clock = made(origin), self._put, self._package, time.time

        def put_lines(exchanges: Exchanges) -> None:
            nonlocal made, lines
            if made is not self._request_lines:
                made = self._request_lines
                lines = made(origin)
            if package.level <= logging.INFO:
                put(lines(exchanges, clock()))

        return put_lines

    def report(self) -> None:
        """Log how many lines were left out since the last report."""
        if self._left_out:
            counts = ", ".join(f"{reason} {count}" for reason, count in self._left_out.most_common())
            log.warning("left out %d lines of refused connections: %s", self._left_out.total(), counts)
            self._left_out.clear()

    def _has_room(self, connection: Connection) -> bool:
        now = connection.started + connection.duration
        tokens, at = self._tokens.get(connection.reason, (float(REFUSALS_AT_ONCE), now))
        tokens = min(REFUSALS_AT_ONCE, tokens + max(0.0, now - at) * REFUSALS_PER_SECOND)
        self._tokens[connection.reason] = (max(0.0, tokens - 1), now)
        return tokens >= 1
