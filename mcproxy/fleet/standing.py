"""Where a node stands towards its fleet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """The state of a node."""

    FOLLOWING = "following"  # the database answers; the table in force is its last, or is about to be
    ALONE = "alone"  # the database doesn't answer: the last table stays in force, mutations are refused
    REFUSED = "refused"  # another node has its name: it follows, and mutations are refused
    OUTDATED = "outdated"  # the schema is newer than this mcproxy: as if it were alone
    STUCK = "stuck"  # a row of the database can't be read: as if it were alone


@dataclass(frozen=True, slots=True)
class Standing:
    """A node at one moment."""

    node: str
    state: State
    since: float  # seconds since the epoch
    reason: str = ""  # why it doesn't follow, for operators
    generation: int = 0  # the database's last one that is known here
    cache_problem: str = ""  # why its own copy is older than the table in force
    unbound: Mapping[str, str] = field(default_factory=dict)  # addresses that it can't take, and why

    def behind(self, generation: int) -> int:
        """How many generations a table lacks, as far as this node knows."""
        return max(self.generation - generation, 0)
