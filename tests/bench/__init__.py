"""How fast, and how it grows: mcproxy beside other proxies, in one run. `make bench`; --help has more.

**What is measured.** plan.py has all of it as values: works, grouped into stages, times peers. A stage is one job for
every proxy and one kind of backend behind it:

    l4                          connections, ping-pong, bulk, memory of idle connections
    h2-h2, h2-h1, h1-h2, h1-h1  small answers, 16 MiB down and up; the client's version of HTTP, then the backend's
    grpc                        unary calls, messages of bidirectional streams
    websocket                   messages there and back
    tls                         new connections with one request each, with a full handshake and a resumed one

**How.** In each round every peer has its turn at every stage: it is started, measured work by work, and ended. So noise
hits all alike, and what differs from start to start is in the spread. The proxy has core 0, and load and backend have
the next core. The figure that counts is the CPU time that the proxy's processes used, divided by the work done (or its
resident memory, divided by idle connections): median, least and most of all rounds. Rate and latencies stand beside it:
load and backend share a core, and where they need more of it than the proxy needs of its own, they are the limit.
Only ratios within one run mean anything.

mcproxy has everything switched on: 10,000 firewall rules, limits, statistics, the admin API, a line for each connection
and request. Peers write lines too where they can, to /dev/null as mcproxy; they have no firewall.

**How cost grows.** growth.py measures mcproxy alone, at growing numbers of routes, firewall rules, open connections,
streams, workers and bytes of a body. A line that bends upwards is a defect.

**What comes of it.** docs/bench/bench.json has every figure of every round, docs/bench/README.md the tables, and
docs/bench/*.svg the plots (plots.py; they need matplotlib). A run that measured everything also puts its summary
between the two marks in README.md. `--report FILE` makes all that from a JSON file, without measuring.

    plan, figures          what is measured; medians, and who wins: values only, no I/O
    l4, l4_peers           loads for raw streams; the proxies' configurations; router.go is the smallest l4 router in Go
    l7, l7_peers           the same for HTTP, by h2load
    calls, echoes, shakes  gRPC; WebSocket; TLS handshakes
    growth                 how cost grows
    run                    proxies in turns
    report, plots          tables and pictures

Other programs, each with its own head: control, fleet, neighbours, workers.
"""
