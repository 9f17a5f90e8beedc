"""One node's part in its fleet: the two databases, and what its writer asks of them.

`Fleet` is what the writer knows of the other nodes (`admin/writer.py`, `Others`). Its methods block; the writer calls
them one at a time, with its lock in hand. What this node has of the database is its `Replica`'s, and how it stands
towards the others its `Post`'s.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mcproxy.certificates.acme.contract import CaSettings, Holder
from mcproxy.change import Change
from mcproxy.fleet import nodes
from mcproxy.fleet.cache import Cache
from mcproxy.fleet.clock import Reading, ServerClock
from mcproxy.fleet.cutting import Cutter
from mcproxy.fleet.following import Mutation, mark_of
from mcproxy.fleet.lead import Lead
from mcproxy.fleet.listening import Ear, Position, Topic, notification
from mcproxy.fleet.mirror import Mirror
from mcproxy.fleet.nodes import NodeRow, Report
from mcproxy.fleet.orderer import Orderer
from mcproxy.fleet.post import Post
from mcproxy.fleet.replica import Replica
from mcproxy.fleet.standing import Standing, State
from mcproxy.fleet.turn import Turn, begin
from mcproxy.notation.server_url import ServerUrl
from mcproxy.store import history, postgres, schema
from mcproxy.store.diff import Seed
from mcproxy.store.errors import (
    Conflict,
    NameTaken,
    NewerSchema,
    NotOurs,
    StoreError,
    Unavailable,
    UnreadableRow,
    Unsure,
)
from mcproxy.table import Table

MAX_WARNINGS = 20  # of a node that its row has: others see that there are many
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())"

log = logging.getLogger(__name__)


class Fleet:
    """The fleet as one node has it."""

    def __init__(
        self, url: ServerUrl, node: str, cache: Path, *, notifies: bool = True,
        clock: Callable[[], float] = time.time, succeeds: bool = False, me: Report | None = None,
    ) -> None:  # fmt: skip
        """`notifies` is false for a server without notifications; `clock` is this machine's. Raises StoreError.

        A process that `succeeds` another one of this node has its identity; one that goes on itself knows it: `me`.
        """
        self._clock = ServerClock(clock)
        self.unbound: dict[str, str] = {}  # addresses that this node can't take, and why
        self._server = postgres.Server(url)
        if notifies:
            self._server.notification = notification(node)
        self.truth = postgres.attach(self._server, f"mcproxy {node}")
        self._replica = Replica(self.truth, cache)
        if me is None:
            identity, formerly = nodes.identities(self.cache.store, node, succeeds=succeeds)
            me = Report(node, identity, time.monotonic(), formerly=formerly)
        self._me = me
        self.hands_over = False  # to another process of this node, which is to have its place in the fleet
        self.cutter = Cutter(self.truth, node, lambda: self._notification(Topic.CUT))
        self.post = Post(node, lambda: self._replica.generation)
        self.connections: Callable[[], int] = lambda: 0  # how many this node has open
        self.problems: Callable[[], Sequence[str]] = lambda: ()  # what its routes lack here, such as files
        self.acme_version: Callable[[], int] = lambda: -1

    def __repr__(self) -> str:
        return f"<Fleet {self.post} {self.truth.place}>"

    @property
    def cache(self) -> Cache:
        """The copy of the database that this node has."""
        return self._replica.cache

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._me.name

    @property
    def generation(self) -> int:
        """The last one that this node has."""
        return self._replica.generation

    @property
    def standing(self) -> Standing:
        """Where this node stands now."""
        return replace(self.post.standing, cache_problem=self.cache.problem, unbound=dict(self.unbound))

    def clock(self) -> float:
        """The database's time, in seconds since the epoch, as far as it is known."""
        return self._clock.now()

    def begin(self, seed: Seed | None) -> Table:
        """The table to start with: the database's, which `seed` fills if it is empty, or else the copy's.

        Raises StoreError if there is neither, if the database is another program's, or another node has this name.
        """
        try:
            postgres.upgrade(self.truth, creates=not self.generation)
            with self.truth.transaction() as database:
                nodes.claim(database.executable.exec_driver_sql, self.report())
                asked = time.monotonic()
                clock = float(database.executable.exec_driver_sql(_CLOCK).scalar_one())
                self._clock.take(Reading.between(clock, asked, time.monotonic()))
            if seed is not None:
                self._seed(seed)
            found = self.newer(self.cache.began_with)
        except (NotOurs, NameTaken):
            raise
        except (Unavailable, NewerSchema, UnreadableRow) as error:
            self.lost(error)
            if not self.cache.began_with.generation:
                raise Unavailable(
                    f"{error}; and this node has no copy of the fleet's table yet in {self.cache.store.path}: "
                    "its first start needs the database"
                ) from error
            return self.cache.began_with
        self.post.stand(State.FOLLOWING)
        return found[0] if found else self.cache.began_with

    def _seed(self, seed: Seed) -> None:
        try:
            if self.truth.seed(*seed, self.clock(), self._me.name):
                log.info("the fleet's database was empty and is seeded with the configuration file")
        except Conflict:
            log.info("another node has seeded the fleet's database at the same time")

    def give_up(self) -> None:
        """Give the name back, so that the others see it, where this process ends before it has followed."""
        if not self.hands_over and self.post.standing.state is not State.ALONE:
            with suppress(StoreError):  # they see it later
                nodes.release(self.truth, self._me)

    def close(self) -> None:
        """Give all connections back."""
        self.truth.close()
        self._replica.close()

    # What the writer asks.

    @contextmanager
    def turn(self, table: Table) -> Iterator[Turn]:
        """Decide on the database's table, and write, while no other node does; `table` is the one in force.

        The mutation is durable at the end. Raises Conflict where this node has to follow first, and Unavailable.
        """
        turn = None
        try:
            with self.truth.transaction() as database:
                turn = begin(database, self._replica, table, self._me.name)
                yield turn
                if (made := turn.mutation) is not None:
                    self.truth.write(database, [(made.changes, made.provenance, made.generation)])
                    if statement := self._notification(Topic.TABLE, made.generation):
                        database.executable.exec_driver_sql(statement)
        except Unsure as error:
            if turn is None or turn.mutation is None:
                raise Unavailable(str(error)) from error
            self._find_out(turn.mutation, error)
        except (NewerSchema, UnreadableRow) as error:  # which the next poll would find
            self.lost(error)
            raise
        turn.end()

    def newer(self, table: Table) -> tuple[Table, Sequence[Change]] | None:
        """The database's table and the changes that lead to it, if it isn't this one. Raises StoreError."""
        try:
            return self._replica.newer(table)
        except UnreadableRow as error:
            self.lost(error)
            raise

    def settle(self, table: Table) -> None:
        """Write the copy again if it lacks something; `table` is in force. Raises StoreError of the database."""
        self._replica.settle(table)

    def nodes(self, wait: float = 0.0) -> tuple[list[NodeRow], float]:
        """All nodes, and the database's time. Raises StoreError; `wait` is as of `refuse_unless_following`."""
        if self.post.standing.state is State.ALONE:
            self.refuse_unless_following(wait)
        return postgres.once_more(lambda: nodes.rows(self.truth))

    def remove_node(self, name: str, wait: float = 0.0) -> bool:
        """Forget a node. Returns whether there was one. Raises StoreError; `wait` is as of `nodes`."""
        self.refuse_unless_following(wait)
        return postgres.once_more(lambda: nodes.remove(self.truth, name))

    def refuse_unless_following(self, wait: float = 0.0) -> None:
        """Raise Unavailable where the database doesn't answer; with `wait`, seconds, once it was tried again."""
        self.post.refuse_unless_following(wait)

    def _find_out(self, mutation: Mutation, error: Unsure) -> None:
        """Return if a commit whose connection was lost has been done; raise otherwise."""
        try:
            _, rows = history.tail(self.truth, mutation.generation, 1)
        except StoreError:
            raise Unsure(f"{error}; it isn't known whether the change was made: look for it in the history") from error
        if not rows or mark_of(rows[0]) != mutation.mark:
            raise Unavailable(str(error)) from error

    def _notification(self, topic: Topic, generation: int | None = None) -> str:
        return self._server.notification and notification(self._me.name, topic, generation)

    def orderer(self, holder: Holder, table: Callable[[], Table], settings: CaSettings | None) -> Orderer:
        """The part of this node in ordering certificates; its workers get what the copy has. Raises StoreError."""
        lead = Lead(self.truth, self._me.identity, lambda: self._notification(Topic.CERTIFICATES))
        mirror = Mirror(self.truth, self.cache.store, holder, self.clock)
        self.acme_version = lambda: mirror.version
        if self.post.follows_since:
            mirror.catch_up()  # a node without a copy is to serve them from its first connection on
        return Orderer(self.truth, lead, mirror, table, settings, lambda: self.post.follows_since, self.clock)

    # What the follower says.

    def listen(self) -> Ear:
        """A connection that listens and polls. Raises StoreError.

        Upgrades the schema first: a node may have started before its database, which is of the version before.
        """
        with suppress(NewerSchema):  # the poll finds it, after this node has written its row
            postgres.upgrade(self.truth, creates=not self.generation)
        ear = Ear(self._server, self._me.name, notifies=bool(self._server.notification))
        self._server.notification = notification(self._me.name) if ear.notifies else ""
        return ear

    def report(self) -> Report:
        """What this node writes about itself now."""
        copy = [self.cache.problem] if self.cache.problem else []
        standing = self.post.standing
        why = [standing.reason] if standing.state in {State.OUTDATED, State.STUCK} else []
        warnings = [*why, *self.unbound.values(), *copy, *self.problems()]
        return replace(
            self._me, generation=self.generation, connections=self.connections(), warnings=warnings[:MAX_WARNINGS],
            acme_version=self.acme_version(),
        )  # fmt: skip

    def found(self, position: Position, taken: NameTaken | None = None) -> None:
        """Take what a poll has found; `taken` is why the name isn't this node's.

        Raises NewerSchema, and Unavailable of a database that is another one.
        """
        self._clock.take(position.clock)
        schema.refuse_newer(position.schema_version)
        self._replica.refuse_another(position.mark)
        self._replica.found = position.mark
        standing = self.post.standing
        if standing.state is State.STUCK:  # until it has read everything
            self.post.stand(State.STUCK, standing.reason, known=position.mark[0])
        elif taken is None:
            self.post.stand(State.FOLLOWING, known=position.mark[0])
        else:
            self.post.lost(taken, known=position.mark[0])

    def lost(self, error: StoreError) -> None:
        """The database doesn't answer, or it can't be followed."""
        self.post.lost(error)

    def has_work(self) -> bool:
        """True if the last poll has found what this node has not, or if something is left to mend."""
        return self._replica.is_behind or bool(self.cache.problem or self.unbound)


def again(former: Fleet) -> Fleet:
    """The same node once more, which was closed for a successor that has failed. Raises StoreError.

    The table of its last generation is still in force; nothing is asked of the fleet's database here.
    """
    server, me = former._server, former._me
    fleet = Fleet(server.url, me.name, former.cache.store.path, notifies=bool(server.notification), me=me)
    with suppress(StoreError):  # the copy may be a new one; it is no reason not to go on
        nodes.keep_identities(fleet.cache.store, me.name, [me.identity, *me.formerly])
    fleet._clock, fleet.unbound = former._clock, former.unbound
    fleet._replica.go_on(former._replica.mark)
    return fleet
