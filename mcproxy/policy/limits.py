"""Limits on the number of connections, in all, for a listener and from one address, and on their rate.

There are two checks. `enter` runs as soon as a connection is accepted, and takes a place in the whole and in its
listener. `admit` runs when the client's address is known for sure (a PROXY header may name it), and takes a place and a
token for that address. `leave` and `release` give the places back. An IPv6 client is counted by its /64: an interface
chooses its low 64 bits itself (RFC 4291 section 2.5.1), so many addresses gain nothing.

A token bucket is one number: the time at which it will be full again. Taking a token moves it on by 1 / rate, and a
token is there as long as it lies no more than burst / rate ahead. This is the generic cell rate algorithm (ITU-T I.371)
and needs no refilling. A time in the past means a full bucket, which is the same as none at all.

Memory is bounded: an address is forgotten when it has neither a connection nor an unfinished bucket. To find those
without searching, each unfinished bucket is in the slot of the time at which it was to be full; when that has passed,
it is forgotten or moves to its new slot, at most once for each token taken since. When all places are taken by
addresses that can't be forgotten yet, a new one is refused: failing open would let an attacker with many addresses
switch the limits off.

The clock is an argument, seconds of any clock that only goes forward.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from mcproxy.model import Reason

# Addresses kept count of, at most. More than a /48, which holds 65,536 times a /64: one network that rotates through
# all that it has can't fill the table by itself. 131,072 entries take about 25 MB.
MAX_TRACKED: Final = 131_072
# Slots in the time that an empty bucket takes to be full. A finished bucket is forgotten one slot late at most.
SLOTS: Final = 64
# A thousandth of a token early is early enough that rounding never refuses what is due.
_EARLY: Final = 0.001


class _Client:
    """The state of one address."""

    __slots__ = ("connections", "full_at")

    def __init__(self) -> None:
        self.connections = 0  # counted only where they are limited
        self.full_at = -inf  # when its bucket is full; -inf: it is full, and in no slot


class Clients:
    """The connections and tokens of each client address; zero turns a limit off."""

    __slots__ = (
        "_clients", "_horizon", "_interval", "_next_due", "_slots", "_width", "burst", "max_per_ip", "max_tracked",
        "rate",
    )  # fmt: skip

    def __init__(self, max_per_ip: int, rate: float, burst: float, max_tracked: int = MAX_TRACKED) -> None:
        """`rate` is connections a second, `burst` how many may come at once (0: as the rate; at least 1)."""
        self.max_per_ip = max_per_ip
        self.rate = rate
        self.burst = max(1.0, burst or rate)
        self.max_tracked = max_tracked
        self._interval = 1 / rate if rate else 0.0  # seconds that a token takes
        self._horizon = (self.burst + _EARLY) * self._interval  # how far ahead `full_at` may lie
        self._width = self.burst * self._interval / SLOTS  # seconds that a slot covers
        self._clients: dict[bytes, _Client] = {}
        self._slots: dict[int, list[bytes]] = {}  # slot i: those to be full from i * width up to (i + 1) * width
        self._next_due = inf  # when the earliest slot has passed

    def __repr__(self) -> str:
        rate = f"{self.rate:g}/s burst={self.burst:g}" if self.rate else "-"
        return f"<Clients per_ip={self.max_per_ip or '-'} rate={rate} tracked={len(self)}/{self.max_tracked}>"

    def __len__(self) -> int:
        """How many addresses are tracked now."""
        return len(self._clients)

    @property
    def are_limited(self) -> bool:
        """True if a limit is on."""
        return bool(self.max_per_ip or self.rate)

    def would_admit(self, packed: bytes, now: float) -> Reason | None:
        """The answer of `admit`, without taking anything."""
        return self._decide(packed[:8], now) if self.max_per_ip or self.rate else None

    def admit(self, packed: bytes, now: float) -> Reason | None:
        """Take a place and a token for this address, or return why it gets none. `release` gives the place back."""
        if not self.max_per_ip and not self.rate:
            return None
        if now >= self._next_due:
            self._forget(now)
        key = packed[:8]  # the /64 of an IPv6 address, the whole of an IPv4 address
        reason = self._decide(key, now)
        if reason is None:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = _Client()
            if self.max_per_ip:
                client.connections += 1
            if self.rate:
                self._take_token(key, client, now)
        return reason

    def following(self, max_per_ip: int, rate: float, burst: float, admitted: Iterable[bytes]) -> "Clients":
        """What keeps to other limits from now on, with those of `admitted` counted; itself if they are the same."""
        after = Clients(max_per_ip, rate, burst, self.max_tracked)
        if (after.max_per_ip, after.rate, after.burst) == (self.max_per_ip, self.rate, self.burst):
            return self
        for packed in admitted:
            after.readmit(packed)
        return after

    def readmit(self, packed: bytes) -> None:
        """Count a connection that other limits admitted. It takes no token."""
        if self.max_per_ip:
            self._clients.setdefault(packed[:8], _Client()).connections += 1

    def release(self, packed: bytes) -> None:
        """Give back the place that `admit` took; a token is spent. Raises KeyError if no place was taken."""
        if not self.max_per_ip:
            return
        key = packed[:8]
        client = self._clients[key]
        client.connections -= 1
        if not client.connections and client.full_at == -inf:
            del self._clients[key]

    def _decide(self, key: bytes, now: float) -> Reason | None:
        client = self._clients.get(key)
        if client is None:
            full = len(self._clients) >= self.max_tracked and not self._has_finished(now)
            return Reason.LIMIT_TABLE_FULL if full else None
        if self.max_per_ip and client.connections >= self.max_per_ip:
            return Reason.LIMIT_PER_IP
        if self.rate and max(client.full_at, now) + self._interval > now + self._horizon:
            return Reason.RATE_PER_IP
        return None

    def _take_token(self, key: bytes, client: _Client, now: float) -> None:
        in_no_slot = client.full_at == -inf
        client.full_at = max(client.full_at, now) + self._interval
        if in_no_slot:
            self._enslot(key, client)

    def _enslot(self, key: bytes, client: _Client) -> None:
        index = int(client.full_at // self._width)
        self._slots.setdefault(index, []).append(key)
        self._next_due = min(self._next_due, (index + 1) * self._width)

    def _forget(self, now: float) -> None:
        """Empty the slots that have passed: of at most SLOTS + 2, whatever the clock did."""
        for index in [index for index in self._slots if (index + 1) * self._width <= now]:
            for key in self._slots.pop(index):
                client = self._clients[key]
                if client.full_at > now:
                    self._enslot(key, client)
                elif client.connections:
                    client.full_at = -inf
                else:
                    del self._clients[key]
        self._next_due = min(((index + 1) * self._width for index in self._slots), default=inf)

    def _has_finished(self, now: float) -> bool:
        """True if `_forget` would make room. Straight after it there is nothing to search."""
        if now < self._next_due:
            return False
        passed = [keys for index, keys in list(self._slots.items()) if (index + 1) * self._width <= now]
        clients = (self._clients.get(key) for keys in passed for key in keys)
        return any(client and client.full_at <= now and not client.connections for client in clients)


class Limits:
    """The places and tokens of one process. Zero turns a limit off."""

    __slots__ = ("by_listener", "clients", "connections", "max_connections")

    def __init__(
        self, max_connections: int, max_per_ip: int, rate: float, burst: float, max_tracked: int = MAX_TRACKED
    ) -> None:
        """`rate` and `burst` are as for `Clients`."""
        self.max_connections = max_connections
        self.connections = 0
        self.by_listener: dict[str, int] = {}  # those with connections only
        self.clients = Clients(max_per_ip, rate, burst, max_tracked)

    def __repr__(self) -> str:
        return f"<Limits connections={self.connections}/{self.max_connections or '-'} {self.clients!r}>"

    def change(
        self, max_connections: int, max_per_ip: int, rate: float, burst: float, admitted: Iterable[bytes]
    ) -> None:
        """Apply other limits from now on. No connection that has a place loses it.

        `admitted` has the address of each connection that `admit` let in and `release` has not given back. They are
        counted again, because without a limit they were not; where a limit for addresses changes, buckets are full.
        """
        self.max_connections = max_connections
        self.clients = self.clients.following(max_per_ip, rate, burst, admitted)

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """The answer of `enter`, without taking anything."""
        if self.max_connections and self.connections >= self.max_connections:
            return Reason.LIMIT_TOTAL
        if listener_max and self.by_listener.get(listener, 0) >= listener_max:
            return Reason.LIMIT_LISTENER
        return None

    def enter(self, listener: str, listener_max: int) -> Reason | None:
        """Take a place in the whole and in this listener, or return why there is none. `leave` gives it back."""
        reason = self.would_enter(listener, listener_max)
        if reason is None:
            self.connections += 1
            self.by_listener[listener] = self.by_listener.get(listener, 0) + 1
        return reason

    def leave(self, listener: str) -> None:
        """Give back what `enter` took. Raises KeyError if nothing was taken."""
        remaining = self.by_listener[listener] - 1
        self.connections -= 1
        if remaining:
            self.by_listener[listener] = remaining
        else:
            del self.by_listener[listener]

    def would_admit(self, packed: bytes, now: float) -> Reason | None:
        """The answer of `admit`, without taking anything."""
        return self.clients.would_admit(packed, now)

    def admit(self, packed: bytes, now: float) -> Reason | None:
        """Take a place and a token for this address, or return why it gets none. `release` gives the place back."""
        return self.clients.admit(packed, now)

    def release(self, packed: bytes) -> None:
        """Give back the place that `admit` took. Raises KeyError if no place was taken."""
        self.clients.release(packed)
