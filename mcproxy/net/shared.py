"""The state that all sessions of a worker share, and the interfaces of an l7 session."""

import itertools
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from mcproxy.geoip import GeoIP
from mcproxy.model import Backend, Connection, End, Refused, Timeouts
from mcproxy.native import mypyc_attr
from mcproxy.net.backlog import Backlog
from mcproxy.net.crew import Crew
from mcproxy.net.dial import Outgoing
from mcproxy.net.facts import Facts
from mcproxy.net.pipes import Pipes
from mcproxy.net.raw import IoWatcher, RawSocket
from mcproxy.net.reach import Arrival
from mcproxy.net.read_guard import ReadGuard
from mcproxy.net.siblings import Siblings
from mcproxy.net.sweep import Sweeper
from mcproxy.net.thrown import Thrown
from mcproxy.net.turns import Turns
from mcproxy.policy.limits import Limits
from mcproxy.policy.shared_limits import SharedLimits
from mcproxy.stats import Account, Stats
from mcproxy.table import Live

# Kept when connections take the rest: three for each of the 64 connections of the admin API, one for each of the 48
# lookups and 16 files under way, and what the database, the log and a reload need.
RESERVED_DESCRIPTORS: Final = 288
CONNECTION_DESCRIPTORS: Final = 2  # its client's and its backend's
NEW: Final = -1  # in `Shared.awake`: not looked at yet


class Phase(StrEnum):
    """Where a session is."""

    ACCEPTED = "accepted"  # nothing is known but the peer's address
    PEEKING = "peeking"  # waiting for the PROXY header or the ClientHello
    DIALLING = "dialling"  # connecting to the backend
    RELAYING = "relaying"  # bytes pass both ways
    HALF_CLOSED = "half-closed"  # one side has ended, the other goes on
    FLUSHING = "flushing"  # one side was reset; the other one gets what came before
    TERMINATING = "terminating"  # l7: TLS ends here, and the carrier keeps the deadlines
    HANDED_OVER = "handed over"  # it goes on in another worker
    ENDED = "ended"


class Carrier(Protocol):
    """Moves an l7 session's bytes; `Shared.terminate` passes it to `hand_over`."""

    @property
    def received(self) -> int:
        """Bytes of plain HTTP from client to backend."""

    @property
    def sent(self) -> int:
        """The other way."""

    @property
    def detail(self) -> str:
        """The connection's failure, for its line in the log; "" if there was none."""

    @property
    def rests(self) -> bool:
        """True if it has given its greenlets back (net/slumber.py)."""

    def rest(self) -> bool:
        """Give the greenlets back, unless something is on its way; `OpenSession.wake` when there is something to do.

        Called on the hub. Returns whether it rests.
        """

    def go_on(self, cause: BaseException | None) -> End | None:
        """Go on after a rest, in a greenlet, until the end; None: until it rests again.

        A `cause` ends it: it is raised, and nothing waits, so that this may be called on the hub.
        """

    def overdue(self, now: float) -> float | None:
        """Come due; the session's `overdue` calls it."""

    def drain(self) -> None:
        """Finish what is under way, take nothing new, end soon. Called on the hub; must not wait."""

    def stop(self) -> None:
        """The session is about to be cut: stop what runs in other greenlets. Called on the hub; must not wait."""


@mypyc_attr(native_class=False)
class Cut(Thrown):
    """Thrown into a session to end it at once."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class OpenSession(Protocol):
    """A session as others see it: its carrier, the worker, the desk. They read, and call its methods."""

    deadline: float  # the sweeper's
    slot: int  # the sweeper's

    @property
    def phase(self) -> Phase:
        """Its phase, in the words of the log."""

    @property
    def facts(self) -> Facts:
        """The facts of it; only the session, its admission and its dial add to them."""

    @property
    def client(self) -> RawSocket:
        """The client's socket."""

    @property
    def readable(self) -> IoWatcher:
        """A watcher of that socket, for the carrier; the session closes it."""

    @property
    def carrier(self) -> Carrier | None:
        """The carrier of its bytes; None for l4."""

    @property
    def shared(self) -> "Shared":
        """The state that it shares with other sessions."""

    @property
    def admitted(self) -> bool:
        """True if it has a place among the connections of its client."""

    @property
    def received(self) -> int:
        """From client to backend so far."""

    @property
    def sent(self) -> int:
        """The other way."""

    @property
    def account(self) -> Account:
        """The counters that it is counted in."""

    def arrival(self) -> Arrival:
        """The facts that dialling its backend and l7 need."""

    def hand_over(self, carrier: Carrier, client: RawSocket | None = None) -> None:
        """Let `carrier` move the bytes and keep the deadlines; `client` is the socket, where it is a new one."""

    def move_to(self, phase: Phase) -> None:
        """The session is in this phase now."""

    def wake(self) -> None:
        """Go on after a rest, in a greenlet, from the hub's next round on."""

    def fail(self, failure: BaseException) -> None:
        """End by a failure that came while it rests. On the hub."""

    def reached(self, backend: Backend, took: float | None) -> None:
        """Count a dial that succeeded, in seconds; None: a connection that was there already was used."""

    def overdue(self, now: float) -> float | None:
        """Come due: see the sweeper."""

    def cut(self, cause: Refused | Cut) -> None:
        """End the session wherever it waits. To be called on the hub."""

    def connection(self) -> Connection:
        """Its record as of now."""


@dataclass(slots=True)
class Shared:
    """The state that all sessions of a worker share."""

    live: Live
    limits: Limits | SharedLimits
    timeouts: Timeouts
    ended: Callable[[Connection], None]  # called for every session that is over
    opened: Callable[[OpenSession], None] | None = None  # called for every session that has reached its backend
    sweeper: Sweeper = field(default_factory=Sweeper)
    turns: Turns = field(default_factory=Turns)
    read_guard: ReadGuard = field(default_factory=ReadGuard)
    stats: Stats = field(default_factory=Stats)
    pipes: Pipes = field(init=False)
    crew: Crew = field(default_factory=Crew)
    backlog: Backlog = field(default_factory=Backlog)
    outgoing: Outgoing = field(default_factory=Outgoing.make)
    geoip: GeoIP | None = None
    siblings: Siblings | None = None  # the other workers, if there are any
    terminate: Callable[[OpenSession], End | None] | None = None  # runs an l7 session; net does not import l7
    not_begun: int = 0  # sessions that wait for their turn to begin; acceptors wait while there are too many
    draining: bool = False  # connections are no longer accepted; l7 sessions end as soon as they can
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of sessions
    sessions: dict[int, OpenSession] = field(default_factory=dict)  # the open ones, by id
    awake: dict[OpenSession, int] = field(default_factory=dict)  # and the bytes that they had moved; see net/slumber.py
    max_descriptor: int = field(
        default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS
    )

    def __post_init__(self) -> None:
        self.pipes = Pipes(self.max_descriptor)

    def country(self, packed: bytes) -> str | None:
        """Where an address is, if there is a database that knows."""
        return self.geoip.country(packed) if self.geoip else None
