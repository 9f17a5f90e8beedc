"""A fleet: many nodes, one database in PostgreSQL, which rules; each node serves without it.

A *node* is one `mcproxy server` with `database.url`. It has two databases: the fleet's, on the server, and its own copy
of it, a SQLite file (`database.cache`) with the same schema. Lists, exports and snapshots read the copy, so that they
need no server and cost it nothing.

    mutation on this node -> the fleet's database (commit) -> the copy -> the table in force -> a notification
    mutation on another   -> the notification, or the poll -> its revisions -> the copy -> the table in force

**Durable.** A mutation is one transaction (`turn.py`): it locks the row of `head`, which has the last generation, N; it
takes what this node lacks up to N; it decides on that table, and writes the mutation with its audit as N + 1. So all
nodes' mutations have one order, and others wait for their turn. One that named another generation than N is refused.
After the commit nothing undoes it: the copy may fail (a full disk), then it is written again as a whole later; the
table comes into force nevertheless. A connection that is lost during a commit leaves it unsure; the node looks whether
its row is there, and reports that it doesn't know if it can't.

**Following.** A notification only wakes. A node also asks for the generation every POLL seconds and whenever it has
connected, so nothing depends on notifications, and a pooler or a server without them only makes a node later. It reads
the audit's rows from its own generation on, five times a second at the most: however fast changes come, following them
costs little. Its own must be among them as the copy has it: a server that lost commits in a failover, or was restored
from a backup, has another past under the same number. In that case, and where there are too many rows, it loads
everything.

**Shares** (`share.py`). The database and the writer's table hold all listeners. A listener may name nodes; what serves
clients on a node gets the node's share of the table, and of each change, and knows nothing of other listeners. So
routes and certificates of others are not looked at here. A mutation is committed when it is valid for the fleet: an
address that a node can't take comes after the commit, also on the node where the mutation was made. It is that node's
warning, and is tried again at each poll; an address may be on its way from one node to another.

**States** (`standing.py`): following; alone, without the database; outdated, where a newer mcproxy has changed the
schema; stuck, where a row can't be read, since somebody has written it by hand; refused, where another node has the
name, as a clone does. All but the first refuse mutations. A node that is refused follows; the others serve the table
that they have, and answer what they can from the copy. They try again by themselves, with pauses that grow and differ
from node to node (`backoff.py`); one that is alone does so at once where a call asks for a change. A stuck one follows
again once it has read everything. A row of the audit that can't be read makes nobody stuck: the whole table is loaded
instead.

**Bounds.** Two connections for each node: one for statements, taken in turns, one that listens and polls. Waiting has a
limit for connecting, for a statement, for another node's lock and for an answer (store/postgres.py). A hung node's
transaction is ended by the server. The data path waits for none of it.

**Certificates.** One node orders for all, in a place that a row of the database gives (`lead.py`); accounts, orders,
answers to challenges and certificates are rows, which every node follows (`mirror.py`, `orderer.py`).

**Upgrades.** A new process of a node takes over from the one that runs, as the same node (`takeover/`): the old one
ends its connections and its copy, and keeps the name, the place of the one that orders, and its last table in memory,
so that it can go on (`fleet.again`) if the new one fails.

**Clocks.** Bans end by the database's clock (`clock.py`), which the start and each poll read. So nodes' clocks may
differ by anything; a ban may end earlier or later by half of a poll's round trip.

**Cuts.** `--kill` is asked for and answered in rows (`cutting.py`).

**Versions.** A schema only grows by what older versions can ignore; so they write while newer ones start. One that
finds a schema above its own is outdated until it is upgraded.
"""
