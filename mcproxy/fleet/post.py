"""How one node stands towards its fleet, as it changes."""

import logging
import time
from collections.abc import Callable

from mcproxy.fleet.backoff import Tries
from mcproxy.fleet.standing import Standing, State
from mcproxy.store.errors import NameTaken, NewerSchema, StoreError, Unavailable, UnreadableRow
from mcproxy.words import moment

log = logging.getLogger("mcproxy.fleet")

_STATES = {NewerSchema: State.OUTDATED, NameTaken: State.REFUSED, UnreadableRow: State.STUCK}
_STARTING = "it has not connected yet"


class Post:
    """One node's standing as it changes. Each change is logged."""

    def __init__(self, node: str, generation: Callable[[], int]) -> None:
        """`generation` returns the one that is in force."""
        self._generation = generation
        self.tries = Tries()  # of this node to connect
        self.standing = Standing(node, State.ALONE, time.time(), _STARTING, generation())

    def __repr__(self) -> str:
        return f"{self.standing.node} {self.standing.state}"

    @property
    def follows_since(self) -> float:
        """When this node began to follow the database, in seconds since the epoch; 0.0: it doesn't."""
        return self.standing.since if self.standing.state is State.FOLLOWING else 0.0

    def lost(self, error: StoreError, known: int | None = None) -> None:
        """The database doesn't answer, or can't be followed, or the name is taken; `known` is as of `stand`."""
        self.stand(_STATES.get(type(error), State.ALONE), str(error), known)

    def refuse_unless_following(self, wait: float = 0.0) -> None:
        """Raise Unavailable where the database doesn't answer; with `wait`, seconds, once it was tried again."""
        if wait and self.standing.state is State.ALONE:
            self.tries.want(wait)
        standing = self.standing
        if standing.state is not State.FOLLOWING:
            since = moment(standing.since)
            raise Unavailable(
                f"node {standing.node} is {standing.state} since {since} and takes no changes{self._stays()}: "
                f"{standing.reason}"
            )

    def stand(self, state: State, reason: str = "", known: int | None = None) -> None:
        """Take a state; `known` is the database's generation, as far as it was just asked."""
        old = self.standing
        if known is None:
            known = max(old.generation, self._generation())
        since = old.since if old.state is state else time.time()
        self.standing = Standing(old.node, state, since, reason, known)
        is_news = state is not old.state or old.reason == _STARTING or (state is State.STUCK and reason != old.reason)
        if not is_news:
            return
        if state is State.FOLLOWING:
            log.info("node %s follows the fleet's database", old.node)
        else:
            log.warning("node %s is %s and takes no changes%s: %s", old.node, state, self._stays(), reason)

    def has_read_everything(self) -> None:
        """What the last poll has found is in force: a node that was stuck follows."""
        if self.standing.state is State.STUCK:
            self.stand(State.FOLLOWING)

    def _stays(self) -> str:
        """What else it doesn't do, to follow a sentence: only a node that is refused follows the others."""
        return "" if self.standing.state is State.REFUSED else f"; generation {self._generation()} stays in force"
