"""The sockets of l7: everything that waits, and nothing that knows HTTP but by which version a connection begins.

One session:

| file | what it knows |
| --- | --- |
| drive.py | one session: reads, has a core judge, sends |
| side.py | one of its two sides: a channel and its watchers |
| backend_link.py | the way to the backend of a relay: none, a dial under way, or a side |
| lines.py | the ways to the backend of a bridge: a line for each request, on connections of the route's pool |
| its_turns.py | which sides wait for the session's turn |
| lag.py | which peers still take what they were sent |
| quiet.py | how long nothing has moved, and what is due then |
| departure.py | the end of the client's connection |
| waiting.py | the session's greenlet while it waits |
| tls.py | a socket with TLS |
| channel.py | bytes of one connection, encrypted or not; the TLS handshakes |
| dialling.py | a backend connection in the making |

What all sessions of a worker share, by route:

| file | what it knows |
| --- | --- |
| pool.py | connections to the backend: who gets one, who waits, how many there may be |
| idle.py | those that wait for a request: which is taken, which has died, which is too old |
| pooled.py | one of them |
| backends.py | what the backend speaks, as it is remembered and doubted |
| probe.py | how that is found out |
"""
