"""Looks at the files of all l7 routes, at the start, daily and at each reload, and logs faults and warnings.

In a native thread, because there may be many and each may have to be read. One thread at a time, and a slot for the
latest table: the last survey is of the last table, and one more sees to all reloads that come during another. What is
wrong, and what ends soon, is logged each time. What only follows from how the routes are made is logged once, and again
only after it had ceased to be true.
"""

import logging
import threading
import time
from collections.abc import Callable

from mcproxy.certificates import judge
from mcproxy.table import Table

SURVEY_SECONDS = 86_400.0  # between two looks at how long certificates are good for; they are warned of for 14 days

log = logging.getLogger(__name__)


class Surveyor:
    """Surveys one table after the other."""

    def __init__(self) -> None:
        self._changing = threading.Lock()  # guards the two below; it is not held during a survey
        self._waiting: Table | None = None  # the latest table that no survey has begun with
        self._running = False
        self._logged: set[int] = set()  # hashes of findings that last and are in the log: one for each l7 route at most

    def __repr__(self) -> str:
        return f"<Surveyor logged={len(self._logged)}>"

    def begin(self, table: Table) -> None:
        """Survey in a thread of its own, after the survey that is going on, if there is one."""
        with self._changing:
            self._waiting = table
            if not self._running:
                threading.Thread(target=self._run, name="certificates", daemon=True).start()
                self._running = True

    def _run(self) -> None:
        while (table := self._next()) is not None:
            try:
                self.survey(table)
            except Exception:
                log.exception("bug in the survey of certificates")

    def _next(self) -> Table | None:
        with self._changing:
            table, self._waiting = self._waiting, None
            self._running = table is not None
            return table

    def survey(self, table: Table) -> None:
        """Log faults and warnings about the routes of all listeners."""
        now = time.time()
        lasting: set[int] = set()
        for addr, listener in table.listeners.items():
            for hostname, finding in judge.survey(listener.routes.values(), now):
                if finding.lasting:
                    lasting.add(finding_hash := hash((addr, hostname, finding.message)))
                    if finding_hash in self._logged:
                        continue
                level = logging.ERROR if finding.problem else logging.WARNING
                log.log(level, "%s on %s: %s: %s", hostname, addr, finding.key, finding)
        self._logged = lasting


class Survey:
    """The surveys of a running server: daily, and whenever one is begun, of the table that is in force then."""

    def __init__(self, table: Callable[[], Table], seconds: float = SURVEY_SECONDS) -> None:
        self._table = table
        self._seconds = seconds
        self._surveyor = Surveyor()
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"<Survey {self._surveyor}>"

    def start(self) -> None:
        """Begin one now, and one every day from now on."""
        self.begin()
        threading.Thread(target=self._run, name="daily-survey", daemon=True).start()

    def begin(self) -> None:
        """Begin one now."""
        self._surveyor.begin(self._table())

    def close(self) -> None:
        """Stop."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            self.begin()
