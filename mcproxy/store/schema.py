"""The schema, as numbered migrations that only go forward.

Every start brings the database to `VERSION` in one transaction: either all missing migrations are in, or none. A
migration that has been released is never edited; a change of the schema is a new one at the end of the list. A database
that a newer mcproxy has written is refused before anything in it is touched.

The types are those that every dialect of SQLAlchemy has, with lengths, because MySQL wants them for keys. A text that
is part of a key is compared as bytes by SQLite and PostgreSQL; every such text is ASCII in canonical form.
"""

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
    false,
)

from mcproxy.model import MAX_CLAIM, MAX_COMMENT
from mcproxy.store.errors import NewerSchema
from mcproxy.store.operations import Operations

MAX_ADDR = 255  # characters of "HOST:PORT"
MAX_NAME = 255  # a host name has 253 at most (RFC 1035), a CIDR 43
MAX_KIND = 16
MAX_WHO = 255
MAX_ACTION = 64
MAX_URL = 2048
MAX_DIGEST = 64  # characters of a SHA-256 in hexadecimal
MAX_NODE = 255  # characters of a node's name

VERSION_TABLE: Final = "schema_version"


def _first(op: Operations) -> None:
    op.create_table(
        "listeners",
        Column("addr", String(MAX_ADDR), nullable=False),
        Column("proxy_protocol", Boolean, nullable=False),
        Column("trusted_proxies", Text, nullable=False),  # CIDRs, with a space between
        Column("max_connections", Integer, nullable=False),
        PrimaryKeyConstraint("addr"),
    )
    op.create_table(
        "routes",
        Column("listener", String(MAX_ADDR), nullable=False),
        Column("hostname", String(MAX_NAME), nullable=False),
        Column("backend", Text, nullable=False),
        Column("mode", String(MAX_KIND), nullable=False),
        Column("tls_cert", Text, nullable=False),
        Column("tls_key", Text, nullable=False),
        Column("backend_tls", Boolean, nullable=False),
        Column("backend_ca", Text, nullable=False),
        Column("backend_server_name", Text, nullable=False),
        Column("send_proxy_protocol", Boolean, nullable=False),
        PrimaryKeyConstraint("listener", "hostname"),
        ForeignKeyConstraint(["listener"], ["listeners.addr"]),
    )
    op.create_table(
        "firewall_rules",
        Column("kind", String(MAX_KIND), nullable=False),
        Column("value", String(MAX_NAME), nullable=False),
        Column("expires_at", Double),  # seconds since the epoch; NULL: permanent
        PrimaryKeyConstraint("kind", "value"),
        Index("firewall_rules_by_expiry", "expires_at"),
    )
    # One row for each changed value. Its key makes two writers of one generation impossible.
    op.create_table(
        "audit",
        Column("generation", BigInteger, nullable=False, autoincrement=False),
        Column("sequence", Integer, nullable=False, autoincrement=False),
        Column("at", Double, nullable=False),
        Column("who", String(MAX_WHO), nullable=False),
        Column("action", String(MAX_ACTION), nullable=False),
        Column("what", String(MAX_KIND), nullable=False),
        Column("scope", String(MAX_ADDR), nullable=False),  # a route's listener, a rule's kind
        Column("name", String(MAX_NAME), nullable=False),
        Column("old", Text),  # JSON
        Column("new", Text),  # JSON
        PrimaryKeyConstraint("generation", "sequence"),
        Index("audit_by_subject", "what", "scope", "name"),
    )


def _audit_says_why(op: Operations) -> None:
    op.add_column("audit", Column("claim", String(MAX_CLAIM), nullable=False, server_default=""))
    op.add_column("audit", Column("comment", String(MAX_COMMENT), nullable=False, server_default=""))


def _backends_speak_any_http(op: Operations) -> None:
    op.add_column("routes", Column("backend_protocol", String(MAX_KIND), nullable=False, server_default="auto"))
    op.add_column("routes", Column("max_backend_connections", Integer, nullable=False, server_default="64"))


def _acme(op: Operations) -> None:
    op.add_column("routes", Column("tls", String(MAX_KIND), nullable=False, server_default="files"))
    # Keys: no list, audit, export or log has them.
    op.create_table(
        "acme_accounts",
        Column("directory", String(MAX_URL), nullable=False),
        Column("key", Text, nullable=False),  # PEM
        Column("url", Text, nullable=False),
        Column("paused_until", Double, nullable=False),  # seconds since the epoch, as all times
        Column("failures", Integer, nullable=False),
        Column("failure", Text, nullable=False),
        PrimaryKeyConstraint("directory"),
    )
    op.create_table(
        "acme_orders",
        Column("hostname", String(MAX_NAME), nullable=False),
        Column("state", String(MAX_KIND), nullable=False),
        Column("directory", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("key", Text, nullable=False),  # of the certificate that is ordered, PEM
        Column("next_at", Double, nullable=False),
        Column("began", Double, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("failure", Text, nullable=False),
        Column("failed_at", Double, nullable=False),
        PrimaryKeyConstraint("hostname"),
    )
    op.create_table(
        "acme_starts",  # of the orders of the last hour
        Column("hostname", String(MAX_NAME), nullable=False),
        Column("at", Double, nullable=False),
        PrimaryKeyConstraint("hostname", "at"),
    )
    op.create_table(
        "certificates",
        Column("hostname", String(MAX_NAME), nullable=False),
        Column("chain", Text, nullable=False),  # PEM
        Column("key", Text, nullable=False),  # PEM
        Column("not_after", Double, nullable=False),
        PrimaryKeyConstraint("hostname"),
    )


def _one_row_has_the_generation(op: Operations) -> None:
    # Every mutation updates it first: that is its turn. Two of PostgreSQL's clients wait for each other there.
    op.create_table("head", Column("generation", BigInteger, nullable=False))
    op.execute("INSERT INTO head (generation) SELECT coalesce(max(generation), 0) FROM audit")
    op.add_column("audit", Column("node", String(MAX_NODE), nullable=False, server_default=""))


def _nodes(op: Operations) -> None:
    # Of a fleet; a node's copy has one row, its own, from which it knows its identity.
    op.create_table(
        "nodes",
        Column("name", String(MAX_NODE), nullable=False),
        Column("identity", String(MAX_KIND * 2), nullable=False),  # drawn once: a second node of one name has another
        Column("version", String(MAX_ACTION), nullable=False),
        Column("generation", BigInteger, nullable=False),
        Column("connections", Integer, nullable=False),
        Column("warnings", Text, nullable=False),  # one a line
        Column("started_at", Double, nullable=False),
        Column("seen_at", Double, nullable=False),  # both by the database's clock
        PrimaryKeyConstraint("name"),
    )


def _listeners_of_some_nodes(op: Operations) -> None:
    op.add_column("listeners", Column("nodes", Text, nullable=False, server_default=""))  # with a blank between


def _acme_of_a_fleet(op: Operations) -> None:
    op.add_column("acme_orders", Column("challenge", String(MAX_URL), nullable=False, server_default=""))
    op.add_column("certificates", Column("digest", String(MAX_DIGEST), nullable=False, server_default=""))
    # Names that an operator wants ordered now: any node writes them, the one that orders takes them out.
    op.create_table(
        "acme_renewals",
        Column("hostname", String(MAX_NAME), nullable=False),
        PrimaryKeyConstraint("hostname"),
    )
    # One row: every transaction that writes any of ACME's rows moves the version. The orderer is a node's identity.
    op.create_table(
        "acme_head",
        Column("version", BigInteger, nullable=False),
        Column("orderer", String(MAX_KIND * 2), nullable=False),
    )
    op.execute("INSERT INTO acme_head (version, orderer) VALUES (0, '')")
    # The version of ACME's rows that a node's workers have.
    op.add_column("nodes", Column("acme_version", BigInteger, nullable=False, server_default="0"))


def _cuts(op: Operations) -> None:
    # For a moment each: connections that all nodes of a fleet are to cut, and how many each of them has cut.
    op.create_table(
        "cut_requests",
        Column("id", String(MAX_KIND * 2), nullable=False),
        Column("node", String(MAX_NODE), nullable=False),  # that asks
        Column("kind", String(MAX_KIND), nullable=False),  # of the rule that matches them
        Column("value", String(MAX_NAME), nullable=False),
        Column("generation", BigInteger, nullable=False),  # from which it is in force
        Column("asked_at", Double, nullable=False),
        PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "cut_answers",
        Column("request", String(MAX_KIND * 2), nullable=False),
        Column("node", String(MAX_NODE), nullable=False),
        Column("connections", Integer, nullable=False),
        PrimaryKeyConstraint("request", "node"),
    )


def _cuts_may_only_be_counted(op: Operations) -> None:
    op.add_column("cut_requests", Column("only_counts", Boolean, nullable=False, server_default=false()))


Migration = Callable[[Operations], None]

MIGRATIONS: Final[tuple[Migration, ...]] = (
    _first, _audit_says_why, _backends_speak_any_http, _acme, _one_row_has_the_generation, _nodes,
    _listeners_of_some_nodes, _acme_of_a_fleet, _cuts, _cuts_may_only_be_counted,
)  # fmt: skip
VERSION: Final = len(MIGRATIONS)
HEAD_SINCE: Final = 5  # the version that made `head`


def refuse_newer(found: int) -> None:
    """Raise NewerSchema where a newer mcproxy wrote this database."""
    if found > VERSION:
        raise NewerSchema(
            f"the database has schema version {found}, this mcproxy knows {VERSION}: "
            "run the newer mcproxy, or restore a snapshot of its time"
        )


def migrate(op: Operations, found: int | None, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Run the migrations above `found` (None: an empty database), in the caller's transaction."""
    if found is None:
        op.create_table(VERSION_TABLE, Column("version", Integer, nullable=False))
    elif found >= HEAD_SINCE:
        op.execute("UPDATE head SET generation = generation")  # mutations wait, and then find another version
    for version, migration in enumerate(migrations[found or 0 :], start=(found or 0) + 1):
        migration(op)
        op.execute(f"INSERT INTO {VERSION_TABLE} (version) VALUES ({version})")  # noqa: S608 - a number of ours
