"""Several workers: a parent with the control plane, and N processes that serve traffic.

    mcproxy server               the parent: database, admin API, expiry, ACME, reload, signals, service manager
      |- nursery                 imports the data path, then only forks: it has no thread, hub, gRPC or SQLite
           |- worker 1 .. N      a data path (datapath.py) with a hub, and a clerk on its channel

With one worker nothing of this is imported or runs.

**Channel.** Each worker has a stream socket to the parent, on which pickled values travel (`letters.py`). The parent
asks a request of messages.py; the worker's clerk (`clerk.py`) answers it through the same `ByDoor` that carries it in
one process. Besides answers a worker sends beats, which show that its hub turns, and connection events. Its log lines
and its standard error come through two pipes: the parent's log has whole lines and one writer, and a crash leaves its
traceback there. Pickle is safe here: both ends are the same program, of the same user, on a socket without a name.

**One truth.** The parent (`workers.py`) keeps what a worker must know: the table, settings, what ACME has, the sockets.
A new worker gets all of it, then every change in order, because both go through one lock and one channel. A publication
carries the changes, not the table; each worker makes the next table by the same function as the parent. It is answered
when every worker has it. A worker that takes longer than ACK_SECONDS is killed: then it serves nobody by an old table.

**One view.** `merging.py` has a pure function for each request: how the answers of many become one. What a worker had
counted is kept as a base, so no counter falls: it counts in memory that the parent reads when it has ended (ledger.py).

**Sockets.** The parent opens a socket for each worker and listener, in one SO_REUSEPORT group, and keeps it. A worker's
successor accepts on the same one, so connections that wait in its queue are not lost with the worker.
When a listener closes, the kernel lets nobody new in before the workers accept the last ones (net/group.py). Another
server gets the sockets too; for another number of workers there are more of them, or some workers have several.

**Limits.** The counts of connections are in memory that all workers map (`common.py`), and a connection that belongs to
another worker is handed over to it (net/siblings.py). So limits are those of all workers together, exactly.

**Deaths.** The channel's end means that a worker has ended, whatever the reason; it is replaced at once, or after a
pause that doubles if it didn't live for QUICK_DEATH seconds. A worker whose hub doesn't beat for `patience` seconds
gets SIGABRT, so that it leaves a traceback, then SIGKILL. When the parent dies, each worker drains and ends. A nursery
that dies is replaced; its workers go on.

    backing off -> starting -> serving -> (ended) -> starting ...
"""
