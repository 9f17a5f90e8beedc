"""The places of the admin API's connections, and which of them has to go when all are taken. Values only, no sockets.

A connection is *unproven* until a call has come on it. Anybody can hold unproven ones, with mutual TLS too, so they go
first: the oldest of the origin that has the most. A flood from few addresses then costs no other one a place. For one
from an operator's own address, or from many, each has a *grace* for its next step towards a call, which an honest
client does in time; connections that come meanwhile wait in the kernel's queue.

Where all are proven, the one goes that has been without calls for longest. A connection with a call never goes.
"""

from collections import Counter
from dataclasses import dataclass

MAX_CONNECTIONS = 64  # open at once, each with three descriptors (gRPC's is one); an operator's command needs one
# Seconds that an unproven one has for its next step, by the steps that it has done. A TLS client sends its first byte
# at once. One turn of a slow path follows, and 128 handshakes can begin in a second. That the client goes on is worth
# more: with mutual TLS no caller without a certificate comes so far, or stays.
GRACES = (0.1, 0.5, 0.5, 2.0)
QUIET = 10.0  # seconds without calls after which a proven one may go: `top` makes a call every second or so


@dataclass(slots=True)
class Place:
    """One connection's; times are in seconds of the same clock."""

    origin: object  # those of one origin are counted together
    since: float  # it came, or did its last step, or its last call ended
    steps: int = 0  # the client has spoken, and the server, and the client again
    proven: bool = False
    calls: int = 0  # open ones

    @property
    def leaves(self) -> float:
        """When it may be ended, as long as it does nothing."""
        return self.since + (QUIET if self.proven else GRACES[self.steps])


class Room:
    """All places that are taken, by the connections' numbers."""

    def __init__(self, size: int = MAX_CONNECTIONS) -> None:
        self.size = size
        self._places: dict[int, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<Room {len(self)}/{self.size}>"

    @property
    def is_full(self) -> bool:
        """Whether one has to leave before another one may enter."""
        return len(self._places) >= self.size

    def enter(self, number: int, origin: object, now: float) -> None:
        """Take a place; there must be one."""
        assert not self.is_full, "a place is free"
        self._places[number] = Place(origin, now)

    def leave(self, number: int) -> None:
        """Free a place."""
        del self._places[number]

    def heard(self, number: int, now: float, *, client: bool) -> None:
        """The client or the server has sent something. More of the same is no step: one could do that for ever."""
        place = self._places[number]
        if place.steps < len(GRACES) - 1 and client == (place.steps % 2 == 0):
            place.steps += 1
            place.since = now

    def call_began(self, number: int) -> None:
        """A call has come; if the connection has ended meanwhile, that is no matter."""
        if place := self._places.get(number):
            place.proven = True
            place.calls += 1

    def call_ended(self, number: int, now: float) -> None:
        """As `call_began`, once for each."""
        if place := self._places.get(number):
            place.calls -= 1
            place.since = now

    def next_to_leave(self) -> tuple[int, float] | None:
        """The number of the connection that goes if one has to, and from when on it may. None: all have calls."""
        unproven = {number: place for number, place in self._places.items() if not place.proven}
        if unproven:
            held = Counter(place.origin for place in unproven.values())
            most = max(held.values())
            ending = {number: place for number, place in unproven.items() if held[place.origin] == most}
        else:
            ending = {number: place for number, place in self._places.items() if not place.calls}
        if not ending:
            return None
        number = min(ending, key=lambda each: (ending[each].leaves, each))
        return number, ending[number].leaves
