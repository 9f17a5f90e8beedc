"""What all sessions of a worker have in common, and what an l7 session is handed to."""

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mcproxy.geoip import GeoIP
from mcproxy.model import Connection, End
from mcproxy.net.crew import Crew
from mcproxy.net.pipes import Pipes
from mcproxy.net.sweep import Sweeper
from mcproxy.net.turns import Turns
from mcproxy.policy.limits import Limits
from mcproxy.stats import Stats
from mcproxy.table import Live

if TYPE_CHECKING:
    from mcproxy.net.session import Session

RESERVED_DESCRIPTORS = 64  # kept for the admin API, the database, the log and reloads when connections take the rest


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The [proxy] durations that sessions keep to, in seconds."""

    handshake: float
    connect: float
    idle: float
    half_close: float


class Carrier(Protocol):
    """What moves an l7 session's bytes: `Session.hand_over` is called with it by what `Shared.terminate` runs."""

    @property
    def bytes_up(self) -> int:
        """Of plain HTTP, from client to backend."""

    @property
    def bytes_down(self) -> int:
        """The other way."""

    @property
    def detail(self) -> str:
        """What went wrong with the connection, for its line in the log; "" is nothing."""

    def overdue(self, now: float) -> float | None:
        """As `Session.overdue`; it arms the sweeper with the session, and cuts that."""

    def drain(self) -> None:
        """Finish what is under way, take nothing new, end soon. Called on the hub; must not wait."""


@dataclass(slots=True)
class Shared:
    """What all sessions of a worker have in common."""

    live: Live
    limits: Limits
    timeouts: Timeouts
    ended: Callable[[Connection], None]  # told of every session that is over
    opened: Callable[["Session"], None] | None = None  # told of every session that has reached its backend
    sweeper: Sweeper = field(default_factory=Sweeper)
    turns: Turns = field(default_factory=Turns)
    stats: Stats = field(default_factory=Stats)
    pipes: Pipes = field(init=False)
    crew: Crew = field(default_factory=Crew)
    geoip: GeoIP | None = None
    terminate: Callable[["Session"], End] | None = None  # runs an l7 session; net does not know who that is
    draining: bool = False  # no more connections are accepted; l7 ones are to be brought to an end
    sessions: dict[int, "Session"] = field(default_factory=dict)  # the open ones, by id
    max_descriptor: int = field(
        default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS
    )

    def __post_init__(self) -> None:
        self.pipes = Pipes(self.max_descriptor)

    def country(self, packed: bytes) -> str | None:
        """Where an address is, if there is a database that knows."""
        return self.geoip.country(packed) if self.geoip else None
