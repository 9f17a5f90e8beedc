"""The rows of a fleet's nodes: who is there, and who may have a name.

Each node writes its own row, at its start and every BEAT seconds. A name belongs to the identity that its row has. A
node draws a new one at each start, and keeps it in its copy of the database with those of its last starts. So a node
that restarts has its name at once, and so has one that has lost its copy, if it ended clean: then its row has no
identity. A second node of that name is refused until the row has not been written for GONE seconds. By then the first
one is gone, or cut off, and is refused in turn when it comes back. Times are the database's.

A cloned machine has the name and the identities of another. Its start takes the name, and its new identity is one that
the other node doesn't know, which is refused from its next write on; or the clone is refused, if the other one has
started since it was copied. A node that is refused serves and follows, and takes no changes.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, extract, func, select, update

from mcproxy import __version__
from mcproxy.store.errors import NameTaken, StoreError
from mcproxy.store.records import ACME_HEAD, AUDIT, HEAD, NODES
from mcproxy.store.store import Store

BEAT = 10.0  # seconds between two writes of an idle node's row
SOONEST = 1.0  # seconds between two writes of a row whose generation changes
KEPT = 8  # identities: starts within GONE seconds of a node that the database doesn't see
ALIVE = 2.5 * BEAT  # seconds without a write after which a node isn't waited for
GONE = 60.0  # seconds without a write after which another node may have the name; a start takes less

# One statement, so that of two nodes of one name exactly one has it.
_CLAIM = f"""INSERT INTO nodes (name, identity, version, generation, connections, warnings, acme_version,
        started_at, seen_at)
    VALUES (%(name)s, %(identity)s, %(version)s, %(generation)s, %(connections)s, %(warnings)s, %(acme_version)s,
        extract(epoch FROM clock_timestamp()) - %(up)s, extract(epoch FROM clock_timestamp()))
    ON CONFLICT (name) DO UPDATE SET identity = excluded.identity, version = excluded.version,
        generation = excluded.generation, connections = excluded.connections, warnings = excluded.warnings,
        acme_version = excluded.acme_version,
        started_at = excluded.started_at, seen_at = excluded.seen_at
    WHERE nodes.identity = '' OR nodes.identity = ANY(string_to_array(%(known)s, ' '))
        OR nodes.seen_at < excluded.seen_at - {GONE}"""  # noqa: S608 - ours

RELEASE = "UPDATE nodes SET identity = '' WHERE name = $1 AND identity = $2"  # a node's name, when it ends


@dataclass(frozen=True, slots=True)
class Report:
    """What a node writes about itself."""

    name: str
    identity: str
    began: float  # by the monotonic clock
    generation: int = 0
    connections: int = 0
    warnings: Sequence[str] = ()
    formerly: Sequence[str] = ()  # its identities before
    acme_version: int = -1  # of ACME's rows, that its workers have


class Life(StrEnum):
    """What becomes of a node, as its row shows it."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"  # it has ended, and given its name back
    FAILED = "failed to start"  # before it followed
    SILENT = "silent"  # it was killed, it hangs, or it can't reach the database


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as the others see it."""

    name: str
    life: Life
    version: str
    generation: int
    behind: int  # generations
    lacking_for: float  # seconds since the first of them was written
    connections: int
    warnings: Sequence[str]
    started_at: float  # seconds since the epoch
    seen_at: float
    orders: bool  # the fleet's certificates


def claim(execute: Any, report: Report) -> None:
    """Write a node's row. `execute` takes a statement and values, and returns a result with a rowcount.

    Raises NameTaken.
    """
    values = {
        "name": report.name, "identity": report.identity, "known": " ".join([report.identity, *report.formerly]),
        "version": __version__, "generation": report.generation,
        "connections": report.connections, "warnings": "\n".join(report.warnings), "acme_version": report.acme_version,
        "up": time.monotonic() - report.began,
    }  # fmt: skip
    if not execute(_CLAIM, values).rowcount:
        raise NameTaken(
            f"the fleet has another node named {report.name}, seen within {GONE:g} s: set node.name to another name, "
            "here or there, as one "
            f"may be a clone of the other's machine; if it is this one, and has lost its cache, try again in {GONE:g} s"
        )


def identities(cache: Store, name: str, *, succeeds: bool = False) -> tuple[str, Sequence[str]]:
    """A new identity for the node that has this copy, which is kept there, and its former ones. Raises StoreError.

    One of another name has none of those. A copy that can't be written keeps the last one, and so does a process that
    `succeeds` another one of the node.
    """
    with cache.transaction() as database:
        found = [row["identity"] for row in database.query(select(NODES).where(NODES.c.name == name))]
    known = found[0].split() if found else []
    if known and succeeds:
        return known[0], known[1:]
    drawn = uuid.uuid4().hex
    try:
        keep_identities(cache, name, [drawn, *known][:KEPT])
    except StoreError:
        if not known:
            raise
        return known[0], known[1:]
    return drawn, known


def keep_identities(cache: Store, name: str, known: Sequence[str]) -> None:
    """Write a node's identities to its copy, the last one first. Raises StoreError."""
    row = {"name": name, "identity": " ".join(known), "version": __version__, "generation": 0, "connections": 0}
    with cache.transaction() as database:
        database.executable.execute(delete(NODES))
        database.executable.execute(NODES.insert(), [{**row, "warnings": "", "started_at": 0.0, "seen_at": 0.0}])


def rows(truth: Store) -> tuple[list[NodeRow], float]:
    """All nodes by name, and the database's time. Raises StoreError."""
    lacked = select(func.min(AUDIT.c.at)).where(AUDIT.c.generation == NODES.c.generation + 1).scalar_subquery()
    clock = extract("epoch", func.clock_timestamp()).label("now")
    last = select(HEAD.c.generation).scalar_subquery()
    orders = (NODES.c.identity == select(ACME_HEAD.c.orderer).scalar_subquery()) & (NODES.c.identity != "")
    query = select(NODES, last.label("last"), lacked.label("lacked"), orders.label("orders"), clock)
    query = query.order_by(NODES.c.name)
    with truth.transaction() as database:
        found = list(database.query(query))
    return [_node(row) for row in found], float(found[0]["now"]) if found else 0.0


def _node(row: Any) -> NodeRow:
    behind = max(row["last"] - row["generation"], 0)
    lacking_for = max(float(row["now"]) - row["lacked"], 0.0) if behind and row["lacked"] else 0.0
    return NodeRow(
        row["name"], _life(row), row["version"], row["generation"], behind, lacking_for, row["connections"],
        row["warnings"].splitlines(), row["started_at"], row["seen_at"], row["orders"],
    )  # fmt: skip


def _life(row: Any) -> Life:
    # The first report of a node that follows has a version of ACME's rows. One of an old mcproxy has none.
    has_followed = row["acme_version"] >= 0 or row["seen_at"] - row["started_at"] > GONE
    if row["identity"] and float(row["now"]) - row["seen_at"] <= ALIVE:
        return Life.RUNNING if has_followed else Life.STARTING
    if not has_followed:
        return Life.FAILED
    return Life.SILENT if row["identity"] else Life.STOPPED


def release(truth: Store, report: Report) -> None:
    """Give the name of a node back that has not followed since its start. Raises StoreError."""
    its = (NODES.c.name == report.name) & (NODES.c.identity == report.identity) & (NODES.c.acme_version < 0)
    with truth.transaction() as database:
        database.executable.execute(update(NODES).where(its).values(identity=""))


def remove(truth: Store, name: str) -> bool:
    """Forget a node. Returns whether there was one. Raises StoreError."""
    with truth.transaction() as database:
        return bool(database.executable.execute(delete(NODES).where(NODES.c.name == name)).rowcount)
