"""Which connections and requests have a line in the log: all, but for floods of refusals.

A refusal costs its sender next to nothing, a line of it costs a disk 300 bytes. So each reason has a bucket of lines;
what doesn't fit is counted, and told of in one line every now and then.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from mcproxy.lines import CONNECTION_LINE, REQUEST_LINES, Format
from mcproxy.model import Connection, Exchanges, Origin, Reason
from mcproxy.stats import Stats

# Lines of refused connections, for each reason. Refusals cost their sender next to nothing, and 5,000 a second for a
# day would be 100 GB of lines that all say the same. A burst holds what people look at after an incident; what goes on
# is 9 million lines, 3 GB, a day at most. Connections that are routed are never left out.
REFUSALS_PER_SECOND = 100
REFUSALS_AT_ONCE = 5_000

log = logging.getLogger(__name__)


class ConnectionLog:
    """Puts a line for each connection that has ended, but not one for each of a flood of refusals.

    The lines are of level info: a higher level leaves them out, which is nobody's loss and counted nowhere.
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
        """Write its line, if it is one of those that are written."""
        if self._package.level > logging.INFO:
            return
        if connection.reason is not Reason.OK and not self._has_room(connection):
            self._left_out[connection.reason] += 1
            self._stats.lines_left_out += 1
            return
        self._put((self._line(connection),))

    def requests(self, origin: Origin) -> Callable[[Exchanges], None]:
        """What writes the lines of one connection's requests, as they end."""
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
        """Say what was left out since the last time."""
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
