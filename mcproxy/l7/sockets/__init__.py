"""The sockets of an l7 session: everything of l7 that waits, and nothing that knows HTTP.

| file | what it knows |
| --- | --- |
| drive.py | one session: reads, has a core judge, sends |
| side.py | one of its two sides: a channel and its watchers |
| backend_link.py | the way to the backend: none, a dial under way, or a side |
| its_turns.py | which sides wait for the session's turn |
| quiet.py | how long nothing has moved, and what is due then |
| departure.py | the end of the client's connection |
| waiting.py | the session's greenlet while it waits |
| channel.py | bytes of one connection, encrypted or not; the TLS handshakes |
| dialling.py | a backend connection in the making |
"""
