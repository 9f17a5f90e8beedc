"""Upgrade without a wait: a new server takes over from the one that runs, and no client notices.

`mcproxy server` looks for a server that runs with its database: that one listens on a UNIX socket beside it
(`seat.py`). If there is one, the new server (`successor.py`) asks it for its place, and the old one (`predecessor.py`)
gives it up in steps, so that one of them always accepts connections, and only one of them can write to the database:

    new                                                      old
    loads everything slow: configuration, GeoIP, table
    ask: who I am, my configuration, my database      ->     checks them
                                                             ends its control plane: admin API, writer, expiry, ACME,
                                                             noticing; closes the database. Its data path serves on
                                                      <-     sockets: every listening one, and this one
    opens the database, takes the admin API's address
    ready                                             ->     from here on it never writes again, unless the new one dies
                                                      <-     yours
    accepts on the sockets
    serving                                           ->     names the new one to the service manager, stops accepting
                                                      <-     bye
    answers the admin API; expiry, ACME, noticing            drains up to shutdown_timeout, ends with the usual status

Both hold the same sockets, so what is queued on one is reset by neither: whichever accepts it serves it.

**If the new one fails**, says so, dies or takes too long before `yours`, the old one opens the database and its control
plane again and goes on as before. It does so only once the new one has let go of the connection between them, which it
does after its database, or has ended; one that does neither is killed, so that it can't wake up and write. The same
holds where it dies between `yours` and `serving`. **If the old one dies**, the new one finds the end of the connection:
before it has the sockets it starts as if none had run; after that it goes on with them.

**A node of a fleet** is succeeded in the same way; its database is what is a node's own: the copy, with its lock. The
two are one node, so its place in the fleet passes on with the copy, which has the node's identities (fleet/nodes.py):

    its name, its row      the old one stops writing the row and doesn't give the name back; the new one writes the row
                           by the same identity. So nobody else can have the name in between, and the row never says
                           that the node has gone
    ordering certificates  the place that a row of the fleet's database gives belongs to that identity: it is not given
                           up, and the new one goes on with the order (fleet/lead.py)
    table, bans            the new one starts with the copy, which the old one has written up to its last generation,
                           and fetches what other nodes have written since. The old one's clients have the old one's
                           table until they end
    without the server     the new one serves the copy, and the old one goes on if the copy is older than the table in
                           force, because it could not be written
    another schema         the new one upgrades the copy and the fleet's database; nodes of the version before serve
                           their tables. An old one that goes on after that has its table in memory, and is outdated

If the new one fails, the old one opens the copy and its connections again. Its own table is still in force, whatever
the new one has written to the copy meanwhile: it follows the fleet's database from its own generation on, and mends the
copy. PostgreSQL finishes what a killed process has sent; before `yours` that is a new schema and the node's row, which
the old one could have written itself.

Who may ask: the same user (the socket's mode, and SO_PEERCRED on both sides), with the same configuration file and the
same database file, or as the same node. Others are refused, and so is a second one meanwhile, and any while the server
stops. They report that and end. The number of workers may differ: net/group.py has what becomes of the sockets.

Who begins the new one: somebody at a shell, or a reload (`renewal.py`), which is how a service manager upgrades. One
that can't follow another main process has a parent of the server to watch (`keeper.py`).

Letters are datagrams of JSON (`letters.py`), because the two are different versions of mcproxy: a field that is not
known is skipped, and `PROTOCOL` changes where an old server could not understand a new one at all.
"""
