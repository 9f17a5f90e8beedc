"""One node's part in its fleet: the two databases, and what its writer asks of them.

`Fleet` is what the writer knows of the other nodes (`admin/writer.py`, `Others`). Its methods block; the writer calls
them one at a time, with its lock in hand.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mcproxy.change import Change, Provenance, next_table, table_values
from mcproxy.fleet import nodes
from mcproxy.fleet.cache import Cache, open_cache
from mcproxy.fleet.following import NO_MARK, Mark, Mutation, mark_from, mark_of, mutations
from mcproxy.fleet.listening import Ear, Position, notification
from mcproxy.fleet.nodes import NodeRow, Report
from mcproxy.fleet.standing import Standing, State
from mcproxy.notation.server_url import ServerUrl
from mcproxy.store import history, postgres, schema
from mcproxy.store.diff import Seed
from mcproxy.store.errors import Conflict, NameTaken, NewerSchema, NotOurs, StoreError, Unavailable, Unsure
from mcproxy.store.records import Row
from mcproxy.store.store import Store
from mcproxy.table import Table

MAX_ROWS = 5_000  # of the audit that are followed one by one, some 0.3 s; a node further behind loads everything
KEPT_ROWS = 1_000  # of the audit that a whole load copies, for `history` without the database
MAX_WARNINGS = 20  # of a node that its row has: others see that there are many
_STATES = {NewerSchema: State.OUTDATED, NameTaken: State.REFUSED}
_STARTING = "it has not connected yet"

log = logging.getLogger(__name__)


class Fleet:
    """The fleet as one node has it."""

    def __init__(self, url: ServerUrl, node: str, cache: Path, *, notifies: bool = True) -> None:
        """`notifies` is false for a server without notifications. Raises StoreError."""
        self.unbound: dict[str, str] = {}  # addresses that this node can't take, and why
        self._server = postgres.Server(url)
        if notifies:
            self._server.notification = notification(node)
        self.truth = postgres.attach(self._server, f"mcproxy {node}")
        store, table = open_cache(cache)
        self._mark = self._found = _mark(store)
        self.cache = Cache(store, table)
        self._me = Report(node, nodes.identity(store, node), time.monotonic())
        self.connections: Callable[[], int] = lambda: 0  # how many this node has open
        self._standing = Standing(node, State.ALONE, time.time(), _STARTING, table.generation)
        self._clock_ahead = 0.0  # seconds by which the database's clock is ahead of ours

    def __repr__(self) -> str:
        return f"<Fleet {self._me.name} {self._standing.state} {self.truth.place}>"

    @property
    def generation(self) -> int:
        """The last one that this node has."""
        return self._mark[0]

    @property
    def standing(self) -> Standing:
        """Where this node stands now."""
        return replace(self._standing, cache_problem=self.cache.problem, unbound=dict(self.unbound))

    def clock(self) -> float:
        """The database's time, in seconds since the epoch, as far as it is known."""
        return time.time() + self._clock_ahead

    def begin(self, seed: Seed | None) -> Table:
        """The table to start with: the database's, which `seed` fills if it is empty, or else the copy's.

        Raises StoreError if there is neither, if the database is another program's, or another node has this name.
        """
        try:
            postgres.upgrade(self.truth)
            with self.truth.transaction() as database:
                nodes.claim(database.executable.exec_driver_sql, self.report())
            if seed is not None:
                self._seed(seed)
            found = self.newer(self.cache.began_with)
        except (NotOurs, NameTaken):
            raise
        except (Unavailable, NewerSchema) as error:
            self.lost(error)
            if not self.cache.began_with.generation:
                raise Unavailable(
                    f"{error}; and this node has no copy of the fleet's table yet in {self.cache.store.path}: "
                    "its first start needs the database"
                ) from error
            return self.cache.began_with
        self._stand(State.FOLLOWING)
        return found[0] if found else self.cache.began_with

    def _seed(self, seed: Seed) -> None:
        try:
            if self.truth.seed(*seed, time.time(), self._me.name):
                log.info("the fleet's database was empty and is seeded with the configuration file")
        except Conflict:
            log.info("another node has seeded the fleet's database at the same time")

    def close(self) -> None:
        """Give all connections back."""
        self.truth.close()
        self.cache.store.close()

    # What the writer asks.

    def apply(self, changes: Sequence[Change], provenance: Provenance, generation: int) -> None:
        """Make a mutation of this node durable. Raises Conflict if another one came first, and Unavailable."""
        mutation = Mutation(generation, replace(provenance, node=self._me.name), changes)
        try:
            self.truth.apply(changes, mutation.provenance, generation)
        except Unsure as error:
            self._find_out(mutation, error)
        self._take([mutation])

    def newer(self, table: Table) -> tuple[Table, Sequence[Change]] | None:
        """The database's table and the changes that lead to it, if it isn't this one. Raises StoreError."""
        generation, rows = history.tail(self.truth, self._mark[0], MAX_ROWS)
        try:
            found = mutations(rows, self._mark) if len(rows) < MAX_ROWS else None
            if found is not None and (found[-1].generation if found else self._mark[0]) == generation:
                return self._followed(table, found)
        except ValueError as error:
            log.warning("a change of another node can't be followed, so everything is loaded: %s", error)
        return self._whole(table)

    def nodes(self) -> tuple[list[NodeRow], float]:
        """All nodes, and the database's time. Raises StoreError."""
        self.refuse_unless_following()
        return nodes.rows(self.truth)

    def remove_node(self, name: str) -> bool:
        """Forget a node. Returns whether there was one. Raises StoreError."""
        self.refuse_unless_following()
        return nodes.remove(self.truth, name)

    def refuse_unless_following(self) -> None:
        """Raise Unavailable where the database doesn't answer."""
        standing = self._standing
        if standing.state is not State.FOLLOWING:
            since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(standing.since))
            raise Unavailable(
                f"node {self._me.name} is {standing.state} since {since} and takes no changes; "
                f"generation {self._mark[0]} stays in force: {standing.reason}"
            )

    def _find_out(self, mutation: Mutation, error: Unsure) -> None:
        """Return if a commit whose connection was lost has been done; raise otherwise."""
        try:
            _, rows = history.tail(self.truth, mutation.generation, 1)
        except StoreError:
            raise Unsure(f"{error}; it isn't known whether the change was made: look for it in the history") from error
        if not rows or mark_of(rows[0]) != mutation.mark:
            raise Unavailable(str(error)) from error

    def _followed(self, table: Table, found: Sequence[Mutation]) -> tuple[Table, Sequence[Change]] | None:
        if not found:
            return None
        for each in found:
            table = next_table(table, each.changes, each.generation)
        self._take(found)
        return table, [change for each in found for change in each.changes]

    def _take(self, found: Sequence[Mutation]) -> None:
        """Write mutations to the copy, as far as it can be written."""
        if not found:
            return
        self._mark = found[-1].mark
        try:
            self.cache.store.apply_all((each.changes, each.provenance, each.generation) for each in found)
        except StoreError as error:
            self.cache.failed(error)

    def _whole(self, table: Table) -> tuple[Table, Sequence[Change]]:
        """The database's whole table, and the changes that lead to it from this one."""
        loaded = self.truth.load()
        rows = [row for row in history.latest_rows(self.truth, KEPT_ROWS) if row["generation"] <= loaded.generation]
        log.info("loaded the fleet's whole table, generation %d", loaded.generation)
        last = rows[0] if rows else None
        self._mark = mark_from(last["generation"], last["at"], last["node"], last["who"]) if last else NO_MARK
        self._rewrite(loaded, rows)
        old, new = table_values(table), table_values(loaded)
        gone = [Change(key, value, None) for key, value in old.items() if key not in new]
        return loaded, [
            *gone,
            *(Change(key, old.get(key), value) for key, value in new.items() if old.get(key) != value),
        ]

    def settle(self, table: Table) -> None:
        """Write the copy again if it lacks something; `table` is in force. Raises StoreError of the database."""
        if self.cache.problem:
            self._rewrite(table, history.latest_rows(self.truth, KEPT_ROWS))

    def _rewrite(self, table: Table, rows: Sequence[Row]) -> None:
        try:
            self.cache.store.replace(table, [row for row in rows if row["generation"] <= table.generation])
            self.cache.is_whole()
        except StoreError as error:
            self.cache.failed(error)

    # What the follower says.

    def listen(self) -> Ear:
        """A connection that listens and polls. Raises StoreError."""
        ear = Ear(self._server, self._me.name, notifies=bool(self._server.notification))
        self._server.notification = notification(self._me.name) if ear.notifies else ""
        return ear

    def report(self) -> Report:
        """What this node writes about itself now."""
        warnings = [*self.unbound.values(), *([self.cache.problem] if self.cache.problem else [])][:MAX_WARNINGS]
        return replace(self._me, generation=self._mark[0], connections=self.connections(), warnings=warnings)

    def found(self, position: Position) -> None:
        """Take what a poll has found. Raises NewerSchema."""
        self._clock_ahead = position.clock_ahead
        schema.refuse_newer(position.schema_version)
        self._found = position.mark
        self._stand(State.FOLLOWING, generation=position.mark[0])

    def lost(self, error: StoreError) -> None:
        """The database doesn't answer, or it has been upgraded."""
        self._stand(_STATES.get(type(error), State.ALONE), str(error))

    def has_work(self) -> bool:
        """True if the last poll has found what this node has not, or if something is left to mend."""
        return self._found != self._mark or bool(self.cache.problem or self.unbound)

    def _stand(self, state: State, reason: str = "", generation: int | None = None) -> None:
        old = self._standing
        known = max(old.generation, self._mark[0]) if generation is None else generation
        since = old.since if old.state is state else time.time()
        self._standing = Standing(self._me.name, state, since, reason, known)
        if state is old.state and old.reason != _STARTING:
            return
        if state is State.FOLLOWING:
            log.info("node %s follows the fleet's database", self._me.name)
        else:
            log.warning(
                "node %s is %s: generation %d stays in force, and changes are refused: %s",
                self._me.name, state, self._mark[0], reason,
            )  # fmt: skip


def _mark(store: Store) -> Mark:
    rows = history.revisions(store, 1)
    return mark_of(rows[0]) if rows else NO_MARK
