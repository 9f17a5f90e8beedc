"""Delivered means acknowledged: what the kernel has accepted for a peer may still be megabytes, and minutes, away.

This is the one notion of "delivered" of l4 and l7, in both directions. Timers and endings ask here:

* **A byte is delivered** once the peer's kernel has acknowledged it (tcp(7): SIOCOUTQ counts the others), or, over a
  UNIX socket, once the peer has read it. Whether the program behind it ever reads it can't be known.
* **A session moves** while bytes come in, are accepted by a kernel, or are acknowledged. `Progress` is the clock of
  that. It is what idle_timeout, half_close_timeout, the farewell of an idle client and every wait at an end go by.
* **A shut window is no standstill.** A peer whose buffer is full announces no room until a good part of it is free
  again (Linux: a sixteenth, and a whole segment), however steadily its program reads; until then nothing can be
  acknowledged. Its kernel answers our kernel's window probes meanwhile: that is its sign of life. The program's pace
  can't be seen; so it is given the time to free as much that READ_RATE takes. LONGEST_SHUT bounds that, because a
  program that has stopped for good looks the same.
* **A peer is gone** when there are bytes for it and none has been acknowledged for the limit: at once after it where
  packets are under way and unanswered (a peer that has vanished), after the time above where the window is shut.

Exact: the bytes that a peer has not acknowledged, and that one has come to acknowledge some. Not exact: when, because
sockets are asked only once nothing else has moved for a quarter of a limit (so that a healthy session pays nothing for
this). A limit may thus expire late by half of it, and never early.
"""

import struct
from collections.abc import Iterable
from socket import AF_UNIX, IPPROTO_TCP, TCP_INFO
from typing import Final, NamedTuple

from mcproxy.net.raw import RawSocket, outgoing_queue

VISITS: Final = 4  # looks at a session within a limit
READ_RATE: Final = 8_000  # bytes a second; a slower program has only idle_timeout
LONGEST_SHUT: Final = 60.0  # seconds; what a window of 8 MB needs at that rate
# Linux opens a shut window when this part of the buffer is free (tcp_output.c: __tcp_select_window).
WINDOW_SHARE: Final = 16
# Window probes without an answer from which on a peer shows no life; the kernel repeats lost ones.
MAX_PROBES: Final = 3

_TCP_CLOSE: Final = 7  # include/net/tcp_states.h
_INFO: Final = struct.Struct(
    "=BBBBBBBB IIII IIIII IIII IIIIIIII III QQQQ III"
)  # linux/tcp.h: struct tcp_info, a part of it
_STATE, _PROBES, _MSS, _UNACKED, _ACKED, _NOT_SENT = 0, 3, 10, 12, 34, 38  # positions in that


class Owed(NamedTuple):
    """The bytes that one peer had not acknowledged at one moment."""

    waiting: int  # bytes
    acknowledged: int  # grows whenever some are acknowledged, and means nothing else
    allowance: float  # seconds in which it need not acknowledge any, because its window is shut


_NOTHING: Final = Owed(0, 0, 0.0)


def owed(sock: RawSocket) -> Owed:
    """Ask the kernel. Nothing is owed by a peer that has reset the connection, for it will never take it."""
    waiting = outgoing_queue(sock)
    if not waiting:
        return _NOTHING
    if sock.family == AF_UNIX:
        return Owed(waiting, -waiting, 0.0)
    info = _INFO.unpack(sock.getsockopt(IPPROTO_TCP, TCP_INFO, _INFO.size))
    if info[_STATE] == _TCP_CLOSE:
        return _NOTHING
    shut = info[_NOT_SENT] and not info[_UNACKED] and info[_PROBES] < MAX_PROBES
    return Owed(waiting, info[_ACKED], _time_to_open(info[_ACKED], info[_MSS]) if shut else 0.0)


def _time_to_open(acknowledged: int, segment: int) -> float:
    """Seconds until a program has read enough for its window to open; it has `acknowledged` bytes to read, at most."""
    return min(LONGEST_SHUT, max(segment, acknowledged // WINDOW_SHARE) / READ_RATE)


class Progress:
    """How long nothing has moved on a session. Times are seconds of the sweeper's clock."""

    __slots__ = ("_handed", "_owed", "since")

    def __init__(self, now: float = 0.0) -> None:
        self._handed: int | None = None  # bytes at the last look; None: the next look begins a quiet time
        self._owed: tuple[Owed, ...] | None = None  # what the peers owed when they were last asked, in this quiet time
        self.since = now

    def __repr__(self) -> str:
        return f"<Progress since={self.since:g}>"

    def restart(self) -> None:
        """Count from the next look on."""
        self._handed = None

    def begin(self, now: float) -> None:
        """Count from now on."""
        self.since, self._owed = now, None

    def moved(self, handed: int, now: float) -> bool:
        """Whether bytes have come or gone since the last look. `handed` is how many there were in all."""
        if handed == self._handed:
            return False
        self._handed = handed
        self.begin(now)
        return True

    def stalled(self, limit: float, peers: Iterable[RawSocket], now: float) -> bool:
        """Whether nothing has moved for `limit` seconds, nor been delivered to one of the `peers`."""
        quiet = now - self.since
        if quiet < limit / VISITS:
            return False
        before = self._owed
        if before is None or any(each.waiting for each in before):
            self._owed = after = tuple(map(owed, peers))
            if self._has_moved(before, after):
                self.since = now
                return False
            limit = max((limit, *(each.allowance for each in after)))
        return quiet >= limit

    @staticmethod
    def _has_moved(before: tuple[Owed, ...] | None, after: tuple[Owed, ...]) -> bool:
        """Whether a peer has taken some of what it owed. At the first look that is unknown, where one owes anything."""
        if before is None or len(before) != len(after):
            return any(each.waiting for each in after)
        return any(
            old.waiting and (not new.waiting or new.acknowledged > old.acknowledged)
            for old, new in zip(before, after, strict=True)
        )
