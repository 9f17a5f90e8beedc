"""SETTINGS between the client and us (RFC 9113, section 6.5).

**The client's** are acknowledged as soon as the server's own have been sent, and are in force at once: a decrease that
the backend hears of later may let DATA arrive that the client no longer has a window for, which is held here (flow.py);
and HEADER_TABLE_SIZE is lowered, once streams exist, by taking that link out of step.

**Ours** may depend on a backend that has not spoken yet, so the server's preface may be late (PREFACE_SECONDS at most:
some clients wait for it in turn), and so may the first acknowledgement. A client has a right to the old values until it
has acknowledged new ones. So an increase is in force once announced, a decrease once acknowledged, and the caller
that asked for them learns of the acknowledgement then.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from mcproxy.l7.http2.budgets import (
    CONNECTION_WINDOW,
    EARLY_STREAMS,
    MAX_STREAMS,
    MAX_TABLE,
    PREFACE_SECONDS,
    SETTINGS_SECONDS,
    STREAM_WINDOW,
)
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import DEFAULT_WINDOW, SETTINGS_ACK, ConnectionFault, ErrorCode, Setting, settings

# Announcements that the client hasn't acknowledged; a backend that changes its mind so often is broken.
MAX_PENDING: Final = 64


@dataclass(frozen=True, slots=True)
class Announcement:
    """SETTINGS that the client has been sent and has not acknowledged."""

    values: dict[int, int]
    relayed: bool  # the other side asked for them, and waits for the acknowledgement
    sent: float


class ClientSettings:
    """Both sides' settings of one client connection."""

    def __init__(self, leg: ClientLeg) -> None:
        self._leg = leg
        self._current: dict[int, int] = {  # what the client has been sent, or assumes
            Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW,
        }
        self._pending: deque[Announcement] = deque()
        self.announced = False  # the client has had the server's preface
        self.acks_due = 0  # SETTINGS of the client that are not acknowledged yet
        self.unacknowledged_since = 0.0  # before that, it had other bytes of ours to take first
        self._waiting_since: float | None = None  # the client's first SETTINGS, for the server's preface

    def __repr__(self) -> str:
        return f"<ClientSettings {'announced' if self.announced else 'waiting'}, {len(self._pending)} pending>"

    # From the client

    def from_client(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Put the client's into force; returns those that the writer of answers must heed. Raises ConnectionFault."""
        passed: list[tuple[int, int]] = []
        leg = self._leg
        for key, value in dict(pairs).items():  # the last one of each, for each may be a walk of all streams
            if key == Setting.INITIAL_WINDOW_SIZE:
                leg.windows.set_down_initial(value, leg.streams.values())
                passed.append((key, value))
            elif key == Setting.MAX_HEADER_LIST_SIZE:
                passed.append((key, value))
            elif key == Setting.HEADER_TABLE_SIZE:
                smallest = min(value for key, value in pairs if key == Setting.HEADER_TABLE_SIZE)
                for size in sorted({smallest, value}):  # which has to be heeded, too (RFC 7541, section 4.2)
                    self._set_table(min(size, MAX_TABLE))
                    passed.append((key, min(size, MAX_TABLE)))
        if self._waiting_since is None:
            self._waiting_since = leg.now
        self.acks_due += 1
        self.acknowledge()
        return passed

    def _set_table(self, size: int) -> None:
        down = self._leg.down
        if size < down.table.max_size and self._leg.closed.last_id:
            down.lose_step()  # blocks under the old size may be on their way
        down.allowed = size if down.in_step else max(size, down.allowed)

    def acknowledge(self) -> None:
        """Acknowledge the client's, once the server's own have been sent."""
        if self.announced and self.acks_due:
            self._leg.out.extend([SETTINGS_ACK] * self.acks_due)
            self.acks_due = 0

    def acknowledged(self) -> bool:
        """Put our oldest announcement into force, which the client has done. Returns whether it was relayed."""
        if not self._pending:
            return False  # there was none; harmless, and counted with the other SETTINGS
        announcement = self._pending.popleft()
        for key, value in announcement.values.items():
            self._lower(key, value)
        return announcement.relayed

    # To the client

    def relay(self, values: dict[int, int]) -> None:
        """Announce the other side's. Raises ConnectionFault.

        The caller calls `acknowledge` once it has announced all that has come: then nothing follows what a client waits
        for.
        """
        self._announce(values, relayed=True)

    def announce(self, values: dict[int, int]) -> None:
        """Announce what an owner without a backend of HTTP/2 decides, before anything else."""
        self._announce(values, relayed=False)

    def announce_early(self) -> None:
        """Announce what we can say ourselves, before anything else, where nothing was announced yet."""
        if not self.announced:
            out = self._leg.out
            waiting = out[:]
            out.clear()
            self._announce({Setting.MAX_CONCURRENT_STREAMS: EARLY_STREAMS}, relayed=False)
            self.acknowledge()
            out += waiting

    def _announce(self, values: dict[int, int], relayed: bool) -> None:
        if len(self._pending) >= MAX_PENDING:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "SETTINGS pile up")
        if not self.announced:
            ours: dict[int, int] = {
                Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
            }
            values = {**ours, **values}
        changed = {key: value for key, value in values.items() if self._current.get(key) != value}
        self._current.update(changed)
        self._leg.out.append(settings(sorted(changed.items())))
        self._pending.append(Announcement(changed, relayed, self._leg.now))
        for key, value in changed.items():
            self._raise(key, value)
        if not self.announced:
            self._leg.credit(CONNECTION_WINDOW - DEFAULT_WINDOW)  # SETTINGS can't say that (section 6.9.2)
        self.announced = True

    def _raise(self, key: int, value: int) -> None:
        """An increase: the client may act on it as soon as it reads it."""
        leg = self._leg
        if key == Setting.INITIAL_WINDOW_SIZE and value > leg.windows.up_initial:
            leg.windows.set_up_initial(value, leg.streams.values())
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            leg.admission.allow(max(leg.admission.max_streams, value))
        elif key == Setting.ENABLE_CONNECT_PROTOCOL:
            leg.admission.extended_connect = True  # RFC 8441, section 3: never taken back

    def _lower(self, key: int, value: int) -> None:
        """A decrease: the client keeps to it from its acknowledgement on. A later announcement may have raised it."""
        leg = self._leg
        later = [a.values[key] for a in self._pending if key in a.values]
        value = max([value, *later])
        if key == Setting.INITIAL_WINDOW_SIZE and value < leg.windows.up_initial:
            leg.windows.set_up_initial(value, leg.streams.values())
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            leg.admission.allow(value)

    def check(self) -> None:
        """Look at deadlines. Raises ConnectionFault where the client owes an acknowledgement (section 6.5.3)."""
        now = self._leg.now
        if self._waiting_since is not None and now - self._waiting_since >= PREFACE_SECONDS:
            self.announce_early()
        if self._pending and now - max(self._pending[0].sent, self.unacknowledged_since) > SETTINGS_SECONDS:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS were not acknowledged")
