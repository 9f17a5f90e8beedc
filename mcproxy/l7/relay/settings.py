"""SETTINGS between three parties (RFC 9113, section 6.5).

Relayed, because the other end is the one that acts on them: INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE and
MAX_CONCURRENT_STREAMS (never more than our own bounds); the client's HEADER_TABLE_SIZE (never more than the MAX_TABLE
bytes that we mirror); and from the backend ENABLE_CONNECT_PROTOCOL. Ours alone: MAX_FRAME_SIZE stays at its default for
everyone, so that a frame for one side always fits the other; ENABLE_PUSH is off towards the backend. Unknown ones are
for one hop and end here. A backend with a table smaller than the default gets its blocks from our own encoder, which
uses none: not every client heeds a server's HEADER_TABLE_SIZE, and one that doesn't would be cut off for that.

**The client's** are acknowledged as soon as the server's own have been sent, and are in force at once: a decrease that
the backend hears of later may let DATA arrive that the client no longer has a window for, which is held here (flow.py);
and HEADER_TABLE_SIZE is lowered, once streams exist, by taking that link out of step.

**The backend's** first ones decide what the server's preface to the client says, so it waits for them (PREFACE_SECONDS
at most: some clients wait for it in turn), and so does the first acknowledgement. A client has a right to the old
values until it has acknowledged new ones. So an increase is in force once announced, a decrease once acknowledged, and
the backend gets its acknowledgement when we get the client's.
"""

from collections import deque
from dataclasses import dataclass

from mcproxy.l7.http2.budgets import EARLY_STREAMS, MAX_STREAMS, MAX_TABLE, SETTINGS_SECONDS
from mcproxy.l7.relay.pair import BackendState, Pair
from mcproxy.wire.fields import MAX_HEADER_LIST
from mcproxy.wire.http2 import (
    DEFAULT_TABLE_SIZE,
    DEFAULT_WINDOW,
    MAX_WINDOW,
    PREFACE,
    SETTINGS_ACK,
    ConnectionFault,
    ErrorCode,
    Setting,
    settings,
)

MAX_PENDING = (
    64  # announcements that the client hasn't acknowledged; a backend that changes its mind so often is broken
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """SETTINGS that the client has been sent and has not acknowledged."""

    values: dict[int, int]
    of_backend: bool  # its acknowledgement is the backend's, too
    sent: float


class Settings:
    """Both sides' settings of one pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._current: dict[int, int] = {  # what the client has been told, or assumes
            Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW,
        }
        self._pending: deque[Announcement] = deque()
        self.announced = False  # the client has had the server's preface
        self.heard_client = False  # and so is there a preface for the backend
        self._acks_due = 0
        self.waiting_since = 0.0  # since when the client's first SETTINGS have waited for the backend's

    def __repr__(self) -> str:
        return f"<Settings {'announced' if self.announced else 'waiting'}, {len(self._pending)} pending>"

    # From the client

    def from_client(self, pairs: list[tuple[int, int]]) -> bytes:
        """Put the client's into force and return what the backend is sent. Raises ConnectionFault."""
        passed: list[tuple[int, int]] = []
        for key, value in dict(pairs).items():  # the last one of each, for each may be a walk of all streams
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._client_window(value)
                passed.append((key, value))
            elif key == Setting.MAX_HEADER_LIST_SIZE:
                passed.append((key, value))
            elif key == Setting.HEADER_TABLE_SIZE:
                smallest = min(value for key, value in pairs if key == Setting.HEADER_TABLE_SIZE)
                for size in sorted({smallest, value}):  # which has to be heeded, too (RFC 7541, section 4.2)
                    self._client_table(min(size, MAX_TABLE))
                    passed.append((key, min(size, MAX_TABLE)))
        self._acks_due += 1
        self.acknowledge()
        if self.heard_client:
            return settings(passed) if passed else b""
        self.heard_client = True
        self.waiting_since = self._pair.now
        # Before what may wait for the backend already, such as answers to its PING.
        self._pair.to_backend.insert(0, PREFACE + settings([(Setting.ENABLE_PUSH, 0), *passed]))
        return b""

    def _client_window(self, value: int) -> None:
        pair = self._pair
        delta = value - pair.down_initial
        pair.down_initial = value
        for stream in pair.streams.values():
            stream.down_window += delta
            if stream.down_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")

    def _client_table(self, size: int) -> None:
        down = self._pair.down
        if size < down.table.max_size and self._pair.closed.last_id:
            down.lose_step()  # blocks under the old size may be on their way
        down.allowed = size if down.in_step else max(size, down.allowed)

    def acknowledge(self) -> None:
        """Acknowledge the client's, once the server's own have been sent."""
        if self.announced and self._acks_due:
            self._pair.to_client.extend([SETTINGS_ACK] * self._acks_due)
            self._acks_due = 0

    def client_acknowledged(self) -> None:
        """The client has put our oldest announcement into force. Raises ConnectionFault."""
        if not self._pending:
            return  # nobody asked; harmless, and counted with the other SETTINGS
        announcement = self._pending.popleft()
        for key, value in announcement.values.items():
            self._lower(key, value)
        if announcement.of_backend and self._pair.backend is BackendState.UP:
            self._pair.to_backend.append(SETTINGS_ACK)

    # From the backend

    def from_backend(self, pairs: list[tuple[int, int]]) -> None:
        """Announce the backend's to the client. Raises ConnectionFault."""
        self._pair.backend = BackendState.UP
        values: dict[int, int] = {}
        for key, value in pairs:
            if key == Setting.ENABLE_CONNECT_PROTOCOL:
                if value:  # RFC 8441, section 3: never taken back
                    self._pair.extended_connect = True
                    values[key] = value
            elif key == Setting.HEADER_TABLE_SIZE and value < DEFAULT_TABLE_SIZE:
                self._pair.up.lose_step()
            elif key in BOUNDS:
                values[key] = min(value, BOUNDS[key])
        self._announce(values, of_backend=True)

    def announce_early(self) -> None:
        """The backend has nothing to say (yet): the client gets what we can say ourselves, before anything else."""
        if not self.announced:
            to_client = self._pair.to_client
            waiting = to_client[:]
            to_client.clear()
            self._announce({Setting.MAX_CONCURRENT_STREAMS: EARLY_STREAMS}, of_backend=False)
            to_client += waiting

    def _announce(self, values: dict[int, int], of_backend: bool) -> None:
        if len(self._pending) >= MAX_PENDING:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "SETTINGS pile up")
        if not self.announced:
            ours: dict[int, int] = {
                Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
            }
            values = {**ours, **values}
        changed = {key: value for key, value in values.items() if self._current.get(key) != value}
        self._current.update(changed)
        pair = self._pair
        pair.to_client.append(settings(sorted(changed.items())))
        self._pending.append(Announcement(changed, of_backend, pair.now))
        for key, value in changed.items():
            self._raise(key, value)
        self.announced = True
        if (
            not of_backend
        ):  # else when all of the backend's read is announced: then nothing follows what a client waits for
            self.acknowledge()

    def _raise(self, key: int, value: int) -> None:
        """An increase: the client may act on it as soon as it reads it."""
        pair = self._pair
        if key == Setting.INITIAL_WINDOW_SIZE and value > pair.up_initial:
            self._move_up_windows(value)
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            pair.allow_streams(max(pair.max_streams, value))

    def _lower(self, key: int, value: int) -> None:
        """A decrease: the client keeps to it from its acknowledgement on. A later announcement may have raised it."""
        pair = self._pair
        later = [a.values[key] for a in self._pending if key in a.values]
        value = max([value, *later])
        if key == Setting.INITIAL_WINDOW_SIZE and value < pair.up_initial:
            self._move_up_windows(value)
        elif key == Setting.MAX_CONCURRENT_STREAMS:
            pair.allow_streams(value)

    def _move_up_windows(self, value: int) -> None:
        pair = self._pair
        delta = value - pair.up_initial
        pair.up_initial = value
        for stream in pair.streams.values():
            stream.up_window += delta

    def check(self, now: float) -> None:
        """Raises ConnectionFault where the client has owed an acknowledgement for too long (section 6.5.3)."""
        if self._pending and now - self._pending[0].sent > SETTINGS_SECONDS:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS were not acknowledged")


BOUNDS: dict[int, int] = {
    Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW,
    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
}
