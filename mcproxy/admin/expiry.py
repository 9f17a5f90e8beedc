"""Temporary rules end on time: a native thread sleeps until the next end and removes what is due, as a mutation.

The ends are in the database, so a restart forgets none; rules that ended meanwhile are removed first. A rule holds
until its removal is durable: a full disk keeps an address blocked, it never frees one.
"""

import logging
import threading

from mcproxy.admin.errors import Refusal
from mcproxy.admin.mutations import end_rules
from mcproxy.admin.writer import Writer
from mcproxy.store import listing
from mcproxy.store.errors import StoreError

WHO = "expiry"
MAX_ENDED = 1_000  # rules removed by one mutation: some 50 ms, so that others don't wait for a mass expiry
MAX_SLEEP = 30.0  # seconds: after so long at most, a clock that was set is noticed
RETRY = 5.0  # seconds after a mutation that failed

log = logging.getLogger(__name__)


class Expiry:
    """The thread. `close` ends it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rule-expiry", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Expiry closing={self._closing}>"

    def close(self) -> None:
        """End the thread; waits for the mutation that it is at."""
        self._closing = True
        self._writer.rules_changed.set()
        self._thread.join()

    def _run(self) -> None:
        said = ""  # the last failure: a database may be away for hours
        while not self._closing:
            try:
                pause = self._end_due()
                said = ""
            except (StoreError, Refusal) as error:
                if str(error) != said:
                    log.error("expired rules stay in force; trying again every %.0f s: %s", RETRY, error)
                said, pause = str(error), RETRY
            except Exception:  # the thread must outlive a bug of ours
                log.exception("expired rules stay in force; next try in %.0f s", RETRY)
                pause = RETRY
            self._writer.rules_changed.wait(pause)
            self._writer.rules_changed.clear()

    def _end_due(self) -> float:
        """Remove what is due; returns how many seconds there are to sleep."""
        writer = self._writer
        if rules := listing.ended_rules(writer.store, writer.clock(), MAX_ENDED):
            writer.mutate(WHO, "rule.expire", end_rules(rules))
            return 0.0
        following = writer.store.next_expiry()
        return MAX_SLEEP if following is None else min(max(following - writer.clock(), 0.0), MAX_SLEEP)
