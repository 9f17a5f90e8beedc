"""The one writer: every mutation passes here, one at a time, and is durable before it is visible.

    decide on the table in force -> compile the next table -> take new addresses -> commit -> publish -> open and close

Steps that can fail come before the commit, and undo their work; after the commit nothing can be refused. So a failed
commit leaves memory as it was, a table that can't be compiled is never durable, and an address that can't be taken
leaves no row. If an address that was taken still doesn't accept, another mutation undoes the change.

Where other nodes write too, a mutation waits for its turn among theirs (fleet/turn.py). What they have written since is
read then, and comes into force with it. An address that can't be taken is only reported: other nodes may have it.

The lock is held over the disk and the hub on purpose: it puts mutations in order. Readers never take it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mcproxy.admin.errors import Busy, Overtaken, Refusal, Unready, bind_failure
from mcproxy.admin.mutations import Decision
from mcproxy.admin.plane import DataPlane
from mcproxy.change import Change, Provenance, Said, next_table
from mcproxy.fleet.cutting import Cutter
from mcproxy.fleet.nodes import NodeRow
from mcproxy.fleet.share import seen, share
from mcproxy.fleet.standing import Standing
from mcproxy.fleet.turn import Turn
from mcproxy.messages import PlaneBusy
from mcproxy.model import FirewallRule, Listener, Mode, Route, Tls
from mcproxy.store.errors import Conflict, StoreError
from mcproxy.store.postgres import once_more
from mcproxy.store.store import Store
from mcproxy.table import Table

LOCK_WAIT = 10.0  # seconds that a mutation waits for those before it, where the caller sets no shorter deadline

REACH = 3.0  # seconds for a database that is back; one that hangs takes longer, and is refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mutated:
    """The result of a mutation: the generation now in force, and its changes, if there was anything to do."""

    generation: int
    changes: Sequence[Change]


class Others(Protocol):
    """The other nodes of a fleet, which write to the same database. Every method may raise StoreError."""

    unbound: dict[str, str]  # addresses that this node can't take, and why
    cutter: Cutter

    @property
    def node(self) -> str:
        """The name of this node."""

    @property
    def standing(self) -> Standing:
        """Where this node stands."""

    def nodes(self, wait: float = 0.0) -> tuple[Sequence[NodeRow], float]:
        """All nodes, and the database's time; `wait` is as of `refuse_unless_following`."""

    def remove_node(self, name: str, wait: float = 0.0) -> bool:
        """Forget a node. Returns whether there was one; `wait` is as of `refuse_unless_following`."""

    def refuse_unless_following(self, wait: float = 0.0) -> None:
        """Raise StoreError where this node can't change anything now; one that is alone tries to connect first."""

    def turn(self, table: Table) -> AbstractContextManager[Turn]:
        """Decide and write while no other node does; `table` is the one in force here.

        Raises Conflict where this node has to follow first.
        """

    def newer(self, table: Table) -> tuple[Table, Sequence[Change]] | None:
        """The database's table, and the changes that lead to it from this one; None if it is this one."""

    def settle(self, table: Table) -> None:
        """Mend what this node keeps for itself; `table` is in force."""


class Writer:
    """Owns the store and the table that the next mutation starts from. Any native thread may call `mutate`."""

    def __init__(
        self,
        store: Store,
        table: Table,
        plane: DataPlane,
        clock: Callable[[], float] = time.time,
        others: Others | None = None,
    ) -> None:
        """`table` is the store's contents, and the data plane's first table.

        In a fleet, the store is this node's copy.
        """
        self.store = store
        self.table = table  # the durable one; the data plane has it, or takes it before its next request
        self.clock = clock  # seconds since the epoch
        self.rules_changed = threading.Event()  # wakes expiry.py: a rule may end earlier than those before
        self._plane = plane
        self._others = others
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Writer generation={self.table.generation} busy={self._lock.locked()}>"

    @property
    def others(self) -> Others:
        """The other nodes. Raises Unready where this server is in no fleet."""
        if self._others is None:
            raise Unready("this server is in no fleet: its database is a file of its own")
        return self._others

    @property
    def standing(self) -> Standing | None:
        """Where this node stands in its fleet; None if it is in none."""
        return self._others.standing if self._others is not None else None

    @property
    def served(self) -> Table:
        """The part of the table that this node serves: all of it, but for listeners that name other nodes."""
        return self.share(self.table)

    def share(self, table: Table) -> Table:
        """The part of a table that this node would serve."""
        return table if self._others is None else share(table, self._others.node)

    def reach(self, wait: float) -> None:
        """Have a node that is alone connect now, since somebody asks; waits so many seconds at most, and REACH."""
        if self._others is not None:
            with suppress(StoreError):  # the mutation says why
                self._others.refuse_unless_following(min(wait, REACH))

    def plan(self, decide: Decision, expected: int = 0) -> Mutated:
        """Decide without changing anything: the generation in force, and the changes. Raises Refusal."""
        table = self.table
        _refuse_overtaken(table, expected)
        return Mutated(table.generation, decide(table, self.clock()))

    def mutate(
        self,
        who: str,
        action: str,
        decide: Decision,
        expected: int = 0,
        wait: float = LOCK_WAIT,
        said: Said = Said(),  # noqa: B008 - frozen
    ) -> Mutated:
        """Decide, commit, publish. `expected` is the generation that the caller has seen, 0 any.

        Raises Refusal and StoreError: then nothing has changed, neither on disk nor in memory.
        """
        end = time.monotonic() + wait
        if not self._lock.acquire(timeout=wait):
            raise Busy(f"other changes took longer than {wait:.1f} s: try again")
        try:
            if self._others is None:
                return self._mutate(who, action, decide, expected, said)
            self._others.refuse_unless_following()
            while True:
                with suppress(Conflict):  # an older node's came first, or there is too much to follow in one turn
                    # A connection may have been lost since its last use. That a commit was lost is Unsure: not again.
                    return once_more(partial(self._mutate_in_turn, self._others, who, action, decide, expected, said))
                self._follow(self._others)
                if time.monotonic() > end:
                    raise Busy(f"changes of other nodes came first for {wait:.1f} s: try again")
        finally:
            self._lock.release()

    def follow(self) -> None:
        """Put in force what other nodes have written. Raises StoreError."""
        if self._others is not None:
            with self._lock:
                self._follow(self._others)
                self._others.settle(self.table)
                self._try_unbound(self._others)

    def _follow(self, others: Others) -> None:
        if found := others.newer(self.table):
            following, changes = found
            self._enforce(others, following, changes)

    def _enforce(self, others: Others, following: Table, changes: Sequence[Change]) -> None:
        """Put in force what is durable already."""
        before, self.table = self.served, following
        ours = seen(changes, before, self.served)
        closed = _closed(ours)
        opened = [each for each in _opened(ours) if self._may_bind(others, each)]
        self._publish(self.served, ours)
        for listener in opened:
            self._start_bound(others, listener.addr)
        for addr in closed:
            others.unbound.pop(addr, None)
            self._close(addr)
        if closed:  # one of those may have had the place of a new one
            self._try_unbound(others)
        if any(isinstance(change.new, FirewallRule) for change in changes):
            self.rules_changed.set()

    def _may_bind(self, others: Others, listener: Listener) -> bool:
        try:
            self._plane.bind_listener(listener)
        except (OSError, PlaneBusy) as error:
            _leave_unbound(others, listener.addr, error)
            return False
        return True

    def _start_bound(self, others: Others, addr: str) -> None:
        try:
            self._plane.start_listener(addr)
        except (OSError, PlaneBusy) as error:
            _leave_unbound(others, addr, error)
        else:
            others.unbound.pop(addr, None)

    def _try_unbound(self, others: Others) -> None:
        served = self.served
        for addr in list(others.unbound):
            if addr not in served.listeners:
                del others.unbound[addr]
            elif self._may_bind(others, served.listeners[addr].listener):
                self._start_bound(others, addr)

    def _mutate(self, who: str, action: str, decide: Decision, expected: int, said: Said) -> Mutated:
        table = self.table
        _refuse_overtaken(table, expected)
        now = self.clock()
        changes = decide(table, now)
        if not changes:
            return Mutated(table.generation, ())
        following = next_table(table, changes, table.generation + 1)
        provenance = Provenance(who, action, now, said)
        self._adopt(changes)
        opened, closed = _opened(changes), _closed(changes)
        with self._bound(opened):
            self.store.apply(changes, provenance, following.generation)
        self.table = following
        self._publish(following, changes)
        for listener in opened:
            self._start(listener, changes)
        for addr in closed:
            self._close(addr)
        if any(isinstance(change.new, FirewallRule) for change in changes):
            self.rules_changed.set()
        return Mutated(following.generation, changes)

    def _mutate_in_turn(
        self, others: Others, who: str, action: str, decide: Decision, expected: int, said: Said
    ) -> Mutated:
        """The same, among nodes. What other nodes have written meanwhile comes into force with it."""
        table, early = self.table, None
        with suppress(Refusal):  # by a table that may be old: the turn decides
            _refuse_overtaken(table, expected)
            early = decide(table, self.clock())  # a long decision keeps no other node from its turn
            self._adopt(early)
        turn = None
        try:
            with others.turn(table) as turn:
                now = self.clock()
                changes = self._decided(turn, decide, expected, now) if early is None or turn.lacks else early
                if any(route not in _leaving_files(early or ()) for route in _leaving_files(changes)):
                    raise Conflict("files are adopted before a turn, since that writes rows too")
                if changes:
                    turn.decide(changes, Provenance(who, action, now, said))
                else:
                    turn.catch_up()
        finally:
            if turn is not None and turn.outcome is not None:
                self._enforce(others, *turn.outcome)
        return Mutated(self.table.generation, changes)

    def _decided(self, turn: Turn, decide: Decision, expected: int, now: float) -> Sequence[Change]:
        """What is decided on the turn's table. One that reads the copy, as a rollback does, is refused too early."""
        try:
            _refuse_overtaken(turn.table, expected)
            return decide(turn.table, now)
        except Refusal:
            if not turn.catch_up():
                raise
        _refuse_overtaken(turn.table, expected)
        return decide(turn.table, now)

    def _adopt(self, changes: Sequence[Change]) -> None:
        for route in _leaving_files(changes):
            self._plane.orders.adopt(route)

    def _publish(self, following: Table, changes: Sequence[Change]) -> None:
        try:
            self._plane.publish(following, changes)
        except PlaneBusy:
            log.warning("generation %d is durable; the data plane is busy and will take it next", following.generation)

    @contextmanager
    def _bound(self, listeners: Sequence[Listener]) -> Iterator[None]:
        """Take the addresses; give them back on any exception."""
        try:
            for listener in listeners:
                self._bind(listener)
            yield
        except BaseException:
            for listener in listeners:
                self._close(listener.addr)
            raise

    def _bind(self, listener: Listener) -> None:
        try:
            self._plane.bind_listener(listener)
        except OSError as error:
            raise Unready(bind_failure(listener.addr, error)) from error

    def _start(self, listener: Listener, changes: Sequence[Change]) -> None:
        try:
            self._plane.start_listener(listener.addr)
        except (OSError, PlaneBusy) as error:
            self._undo(changes)
            raise Unready(f"can't listen on {listener.addr}: {error}; the change is undone") from error

    def _undo(self, changes: Sequence[Change]) -> None:
        table = self.table
        back = [Change(change.key, change.new, change.old) for change in changes]
        following = next_table(table, back, table.generation + 1)
        self.store.apply(back, Provenance("undo", f"undo {table.generation}", self.clock()), following.generation)
        self.table = following
        self._publish(following, back)
        for addr in _closed(back):
            self._close(addr)

    def _close(self, addr: str) -> None:
        try:
            self._plane.close_listener(addr)
        except PlaneBusy:
            log.warning("the hub was too busy to close %s; it accepts no more connections", addr)


def _leave_unbound(others: Others, addr: str, error: Exception) -> None:
    reason = bind_failure(addr, error) if isinstance(error, OSError) else str(error)
    if others.unbound.get(addr) != reason:
        log.warning("%s; this node serves without it and tries again", reason)
    others.unbound[addr] = reason


def _refuse_overtaken(table: Table, expected: int) -> None:
    if expected and expected != table.generation:
        raise Overtaken(f"the generation is {table.generation}, not {expected}: look at the change and decide again")


def _leaving_files(changes: Sequence[Change]) -> list[Route]:
    """Routes as they were that have their certificate from ACME from now on, and had it from files."""
    return [
        change.old for change in changes
        if isinstance(change.new, Route) and change.new.tls is Tls.ACME
        and isinstance(change.old, Route) and change.old.mode is Mode.L7 and change.old.tls is Tls.FILES
    ]  # fmt: skip


def _opened(changes: Sequence[Change]) -> list[Listener]:
    return [change.new for change in changes if isinstance(change.new, Listener) and change.old is None]


def _closed(changes: Sequence[Change]) -> list[str]:
    return [change.old.addr for change in changes if isinstance(change.old, Listener) and change.new is None]
